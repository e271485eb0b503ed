//! What the server asks of those who know about the node.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use weft_api::{
    App, Client, FlowOwner, LeaseView, Limits, ListQuery, NodeInfo, NodeStatus, bind_unix, router, serve_unix,
};
use weft_model::{Kind, ObjectRef, Resource};

struct Node;

impl NodeInfo for Node {
    fn leases<'a>(
        &'a self,
        network: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Vec<LeaseView>> + Send + 'a>> {
        let lease = |network: &str, address: &str| LeaseView {
            network: network.to_owned(),
            subnet: "s".to_owned(),
            address: address.parse().unwrap(),
            mac: "52:54:00:00:00:01".parse().ok(),
            client_id: None,
            hostname: Some("web".to_owned()),
            port: None,
            state: "bound".to_owned(),
            expires: 1_700_000_000,
        };
        let all = [lease("blue", "10.0.0.5"), lease("green & co", "fd00::5")];
        let some = all.into_iter().filter(move |l| network.is_none_or(|n| n == l.network)).collect();
        Box::pin(async move { some })
    }

    fn see(&self, mut resources: Vec<Resource>) -> Pin<Box<dyn Future<Output = Vec<Resource>> + Send + '_>> {
        for resource in &mut resources {
            if let Resource::Subnet(subnet) = resource {
                subnet.status.leases = 2;
            }
        }
        Box::pin(async move { resources })
    }

    fn status(&self) -> Pin<Box<dyn Future<Output = NodeStatus> + Send + '_>> {
        let node =
            NodeStatus { node: "n1".to_owned(), flows: 7, switch_connected: true, ..NodeStatus::default() };
        Box::pin(async move { node })
    }

    fn flows(&self, cookies: Vec<u64>) -> Pin<Box<dyn Future<Output = Vec<FlowOwner>> + Send + '_>> {
        let owner = |cookie: u64| FlowOwner {
            cookie: format!("{cookie:#x}"),
            object: Some(ObjectRef::new(Kind::Port, "p1")),
            purpose: "leads on".to_owned(),
            drops: false,
        };
        let ours = cookies.into_iter().filter(|c| c >> 56 == 0x57).map(owner).collect();
        Box::pin(async move { ours })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_status_come_from_the_agent() {
    let served = support::serve(Limits::default()).await;
    let socket = served.dir.path().join("node.sock");
    let app = App::new(served.store.clone()).with_node(Arc::new(Node));
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(serve_unix(bind_unix(&socket, 0o600).unwrap(), router(app), Limits::default(), stopped));
    let client = Client::unix(&socket);
    assert_eq!(client.leases(None).await.unwrap().len(), 2);
    let some = client.leases(Some("green & co")).await.unwrap();
    assert_eq!(some.iter().map(|l| l.address.to_string()).collect::<Vec<_>>(), ["fd00::5"]);
    let node = client.node().await.unwrap();
    assert_eq!((node.node.as_str(), node.flows, node.switch_connected), ("n1", 7, true));
    let flows = client.flows(&[0x5703_0000_0000_0001, 7]).await.unwrap();
    assert_eq!(flows.iter().map(|f| f.cookie.as_str()).collect::<Vec<_>>(), ["0x5703000000000001"]);
    assert!(client.flows(&[]).await.unwrap_err().to_string().contains("is no cookie"));
    assert!(client.flows(&[1; 2_000]).await.is_err());
    // What is counted when somebody asks is in what is read, one by one and in lists.
    let text = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: blue}\nspec: {mode: isolated}\n---\n\
                apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec: {network: blue, cidr: 10.0.0.0/24}\n";
    client.apply(text.to_owned(), false, false).await.unwrap();
    let leases = |resource: &Resource| match resource {
        Resource::Subnet(subnet) => subnet.status.leases,
        _ => 0,
    };
    let one = client.get(&ObjectRef::new(Kind::Subnet, "s")).await.unwrap().unwrap();
    let all = client.list(Some(Kind::Subnet), &ListQuery::default()).await.unwrap();
    assert_eq!((leases(&one), all.items.iter().map(leases).sum::<u64>()), (2, 2));
    // A server that is nobody's agent says so.
    assert!(served.client.node().await.unwrap_err().to_string().contains("not the agent"));
}
