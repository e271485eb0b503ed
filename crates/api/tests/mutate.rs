//! Broken documents sent to a real server: an error that names the place, or all of it; never a part of it, never a crash.

#[path = "../../model/tests/support/mutator.rs"]
mod mutator;
mod support;

use mutator::{Random, mutate};
use support::serve;
use weft_api::{ClientError, Limits};

const LAB: &str = include_str!("../../model/tests/data/lab.yaml");
const ROUNDS: u32 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_documents_are_refused_whole() {
    let limits = Limits { requests_per_second: 1_000_000, burst: 1_000_000, ..Limits::default() };
    let served = serve(limits).await;
    let client = served.client.clone();
    client.apply(LAB.to_owned(), false, false).await.unwrap();
    let documents: Vec<&str> = LAB.split("---\n").collect();
    let mut random = Random(0x5eed_0002);
    let (mut version, mut done, mut refused) = (1, 0, 0);
    for round in 0..ROUNDS {
        // Two documents, one of them broken, so that a half could be applied.
        let (a, b) = (documents[random.below(documents.len())], documents[random.below(documents.len())]);
        let text = match round % 4 {
            0 => format!("{a}---\n{}", mutate(b, &mut random)),
            1 => format!("{}---\n{b}", mutate(a, &mut random)),
            2 => mutate(b, &mut random),
            _ => mutate(LAB, &mut random),
        };
        match client.apply(text.clone(), round % 3 == 0, false).await {
            Ok(answer) => {
                version = answer.resource_version;
                assert_eq!(answer.items.len(), answer.results.len());
                let problems = served.store.with_catalog(weft_model::Catalog::problems);
                assert_eq!(problems, [], "{text}");
                done += 1;
            }
            Err(ClientError::Refused(error)) => {
                assert!(matches!(error.status, 400 | 409 | 422), "{error:?}\n{text}");
                assert!(!error.body.message.is_empty());
                if error.status == 422 {
                    let placed = |p: &weft_model::Problem| p.line.is_some() || p.object.is_some();
                    assert!(
                        !error.body.problems.is_empty() && error.body.problems.iter().all(placed),
                        "{error:?}"
                    );
                }
                refused += 1;
            }
            Err(error) => panic!("{error}\n{text}"),
        }
        assert_eq!(client.health().await.unwrap().resource_version, version, "{text}");
    }
    assert!(done > 50 && refused > 500, "{done} done, {refused} refused");
}
