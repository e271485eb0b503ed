//! How long do many ports take from documents to durable resources?

mod support;

use std::fmt::Write;
use std::time::Instant;

use support::{network, serve};
use weft_api::Limits;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_ports_at_once_and_one_more() {
    let served = serve(Limits::default()).await;
    let client = served.client.clone();
    let mut text = network("blue", "{}");
    text.push_str("---\napiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec: {network: blue, cidr: 10.0.0.0/16}\n");
    for i in 0..1_000 {
        let (high, low) = (1 + i / 250, 1 + i % 250);
        write!(text, "---\napiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: p-{i}}}\nspec: {{network: blue, addresses: [10.0.{high}.{low}]}}\n").unwrap();
    }
    let start = Instant::now();
    let done = client.apply(text.clone(), false, false).await.unwrap();
    let all = start.elapsed();
    assert_eq!((done.items.len(), done.resource_version), (1_002, 1));
    let start = Instant::now();
    let again = client.apply(text, false, false).await.unwrap();
    println!("1,002 resources: {all:?}, unchanged: {:?}", start.elapsed());
    assert_eq!(again.resource_version, 1);
    let start = Instant::now();
    for i in 0..20 {
        let one = format!(
            "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: q-{i}}}\nspec: {{network: blue}}\n"
        );
        client.apply(one, false, false).await.unwrap();
    }
    println!("one port beside 1,000: {:?}", start.elapsed() / 20);
    // Unoptimised, and beside other tests.
    assert!(all.as_secs() < 30);
}
