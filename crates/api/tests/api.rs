//! The server on real sockets, asked by its own client and by hand.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::{network, raw, serve};
use weft_api::{ClientError, Limits, ListQuery, WatchEventType, WatchQuery};
use weft_model::{Kind, ObjectRef, Phase, Resource};

const LAB: &str = "\
apiVersion: weft.dev/v1
kind: Port
metadata: {name: web}
spec: {network: blue, addresses: [10.20.0.5]}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue-v4}
spec: {network: blue, cidr: 10.20.0.0/24}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: blue, labels: {tier: web}}
spec: {mode: nat, mtu: 1400}
";

fn at(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef::new(kind, name)
}

fn refused(error: ClientError) -> weft_api::ApiError {
    match error {
        ClientError::Refused(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_get_list_delete() {
    let served = serve(Limits::default()).await;
    let client = served.client.clone();
    let dry = client.apply(LAB.to_owned(), false, true).await.unwrap();
    assert_eq!(dry.results.iter().map(|r| r.name()).collect::<Vec<_>>(), ["created"; 3]);
    assert_eq!(client.list(None, &ListQuery::default()).await.unwrap().items.len(), 0);

    let done = client.apply(LAB.to_owned(), false, false).await.unwrap();
    assert_eq!(done.resource_version, 1);
    let names: Vec<String> = done.items.iter().map(|r| r.reference().to_string()).collect();
    assert_eq!(names, ["Port/web", "Subnet/blue-v4", "Network/blue"]);
    let again = client.apply(LAB.to_owned(), false, false).await.unwrap();
    assert_eq!(again.results.iter().map(|r| r.name()).collect::<Vec<_>>(), ["unchanged"; 3]);
    assert_eq!(again.resource_version, 1);
    let changed = client.apply(LAB.replace("1400", "1300"), false, false).await.unwrap();
    assert_eq!(
        changed.results.iter().map(|r| r.name()).collect::<Vec<_>>(),
        ["unchanged", "unchanged", "configured"]
    );
    assert_eq!(changed.before[2].as_ref().unwrap().as_network().unwrap().spec.mtu, Some(1400));

    let got = client.get(&at(Kind::Network, "blue")).await.unwrap().unwrap();
    assert_eq!(got.metadata().generation, 2);
    assert_eq!(got.metadata().managed_fields[0].manager, "tester");
    assert!(client.get(&at(Kind::Network, "red")).await.unwrap().is_none());
    let query = ListQuery { label_selector: Some("tier in (web,db), !old".to_owned()) };
    assert_eq!(client.list(None, &query).await.unwrap().items.len(), 1);
    assert_eq!(client.list(Some(Kind::Port), &ListQuery::default()).await.unwrap().items.len(), 1);

    let error = refused(client.delete(&[at(Kind::Network, "blue")], false).await.unwrap_err());
    assert_eq!((error.status, error.body.code.as_str(), error.body.users.len()), (409, "InUse", 2));
    let all: Vec<ObjectRef> = done.items.iter().map(Resource::reference).collect();
    assert_eq!(client.delete(&all, true).await.unwrap().deleted.len(), 3);
    assert_eq!(client.delete(&all, false).await.unwrap().deleted.len(), 3);
    assert_eq!(refused(client.delete(&all, false).await.unwrap_err()).status, 404);
    assert_eq!(client.health().await.unwrap().resource_version, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_conflict_by_name() {
    let served = serve(Limits::default()).await;
    let client = served.client.clone();
    client.apply(network("blue", "{mode: nat, mtu: 1400}"), false, false).await.unwrap();
    let other = client.clone().with_manager("other");
    other.apply(network("blue", "{portIsolation: true}"), false, false).await.unwrap();
    let error = refused(other.apply(network("blue", "{mtu: 1200}"), false, false).await.unwrap_err());
    assert_eq!(error.status, 409);
    assert_eq!(error.body.conflicts.len(), 1);
    let conflict = &error.body.conflicts[0];
    assert_eq!((conflict.field.as_str(), conflict.manager.as_str()), ("spec.mtu", "tester"));
    let forced = other.apply(network("blue", "{mtu: 1200}"), true, false).await.unwrap();
    let spec = &forced.items[0].as_network().unwrap().spec;
    // What `other` said before and does not say now is as if nobody had said it.
    assert_eq!((spec.mtu, spec.port_isolation), (Some(1200), false));

    // A replacement from a stale copy is refused; from the present one, it is done.
    let mut stale = forced.items[0].clone();
    client.apply(network("green", "{}"), false, false).await.unwrap();
    other.apply(network("blue", "{mtu: 1201}"), false, false).await.unwrap();
    let Resource::Network(n) = &mut stale else { panic!("a network") };
    n.spec.mtu = Some(1100);
    assert_eq!(refused(client.put(&stale, false).await.unwrap_err()).status, 409);
    stale.metadata_mut().resource_version = 0;
    let put = client.put(&stale, false).await.unwrap();
    assert_eq!(put.as_network().unwrap().spec.mtu, Some(1100));
    let owner = put.metadata().managed_fields.iter().find(|m| m.fields.contains(&"/spec/mtu".to_owned()));
    assert_eq!(owner.unwrap().manager, "tester");
}

/// Many apply to the same resource at once: nobody's field is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_applies_all_count() {
    let served = serve(Limits::default()).await;
    let client = served.client.clone();
    let mut tasks = Vec::new();
    for i in 0..8 {
        let client = client.clone().with_manager(format!("m{i}"));
        tasks.push(tokio::spawn(async move {
            let text =
                network("blue", "{}").replace("name: blue", &format!("name: blue, labels: {{l{i}: x}}"));
            client.apply(text, false, false).await
        }));
    }
    let mut done = 0;
    for task in tasks {
        done += usize::from(task.await.unwrap().is_ok());
    }
    let labels = client.get(&at(Kind::Network, "blue")).await.unwrap().unwrap().metadata().labels.len();
    assert_eq!((done, labels), (8, 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_have_line_field_and_mend_and_nothing_is_half_applied() {
    let served = serve(Limits::default()).await;
    let client = served.client.clone();
    let cases = [
        (LAB.replace("mtu: 1400", "mtuu: 1400"), "line 14", "spec.mtuu", "did you mean `mtu`?"),
        (LAB.replace("10.20.0.5", "10.21.0.5"), "line 1", "spec.addresses[0]", "10.20.0.0/24"),
        (
            LAB.replace("network: blue, cidr", "network: bleu, cidr"),
            "line 6",
            "spec.network",
            "did you mean `blue`?",
        ),
        (LAB.replace("name: blue-v4", "name: Blue"), "line 6", "metadata.name", "\"Blue\" has characters"),
        (LAB.replace("cidr: 10.20.0.0/24", "gateway: none"), "line 9", "spec.cidr", "add it"),
        (format!("{LAB}---\n{}", network("blue", "{}")), "line 16", "Network/blue", "keep one"),
        ("x: [".to_owned(), "line 1", "", "correct"),
    ];
    for (text, line, path, mend) in cases {
        let error = refused(client.apply(text.clone(), false, false).await.unwrap_err());
        let message = error.body.message.clone();
        assert_eq!(error.status, 422, "{message}");
        assert!(message.contains(path) && message.contains(mend), "{text}\n{message}");
        assert!(!error.body.problems.is_empty() && message.contains(line), "{line}: {message}");
    }
    assert_eq!(client.list(None, &ListQuery::default()).await.unwrap().items.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_begin_with_what_is_there_and_go_on() {
    let limits = Limits { bookmark: Duration::from_millis(50), watches: 3, ..Limits::default() };
    let served = serve(limits).await;
    let client = served.client.clone();
    client.apply(LAB.to_owned(), false, false).await.unwrap();
    let mut all = client.watch(&WatchQuery::default()).await.unwrap();
    let mut first = BTreeSet::new();
    loop {
        let event = all.next().await.unwrap().unwrap();
        match event.kind {
            WatchEventType::Put => assert!(first.insert(event.object.unwrap().reference().to_string())),
            _ => break assert_eq!((event.kind, event.resource_version), (WatchEventType::Bookmark, 1)),
        }
    }
    assert_eq!(first.into_iter().collect::<Vec<_>>(), ["Network/blue", "Port/web", "Subnet/blue-v4"]);
    let only = WatchQuery {
        kind: Some("net".to_owned()),
        label_selector: Some("tier=web".to_owned()),
        resource_version: Some(1),
        ..WatchQuery::default()
    };
    let mut web = client.watch(&only).await.unwrap();
    client.apply(network("green", "{}"), false, false).await.unwrap();
    client.apply(LAB.replace("tier: web", "tier: db").replace("1400", "1401"), false, false).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let event = web.next().await.unwrap().unwrap();
        if event.kind != WatchEventType::Bookmark {
            kinds.push((event.kind, event.resource_version, event.object.unwrap().name().to_owned()));
        }
    }
    // Networks that do not fit are told as deleted: they may have fitted.
    let gone = |version, name: &str| (WatchEventType::Delete, version, name.to_owned());
    assert_eq!(kinds, [gone(2, "green"), gone(3, "blue")]);
    let mut versions = Vec::new();
    while versions.len() < 2 {
        let event = all.next().await.unwrap().unwrap();
        if event.kind == WatchEventType::Put {
            versions.push(event.resource_version);
        }
    }
    assert_eq!(versions, [2, 3]);
    assert_eq!(all.next().await.unwrap().unwrap().kind, WatchEventType::Bookmark);

    let future = WatchQuery { resource_version: Some(99), ..WatchQuery::default() };
    assert_eq!(refused(client.watch(&future).await.unwrap_err()).status, 410);
    let _third = client.watch(&WatchQuery::default()).await.unwrap();
    assert_eq!(refused(client.watch(&WatchQuery::default()).await.unwrap_err()).status, 429);
    drop(web);
    for _ in 0..100 {
        if client.watch(&WatchQuery::default()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a watch that was dropped still counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_written_apart() {
    let served = serve(Limits::default()).await;
    let (client, socket) = (served.client.clone(), served.socket.clone());
    client.apply(network("blue", "{}"), false, false).await.unwrap();
    let mut resource = client.get(&at(Kind::Network, "blue")).await.unwrap().unwrap();
    let Resource::Network(n) = &mut resource else { panic!("a network") };
    n.status.phase = Phase::Ready;
    n.spec.mtu = Some(1000);
    // By PUT, the status is not taken; at /status, nothing else is.
    let body = resource.to_value().to_string();
    let (status, _) = raw(&socket, "PUT", "/apis/weft.dev/v1/networks/blue/status", &body).await;
    assert_eq!(status, 200);
    let now = client.get(&at(Kind::Network, "blue")).await.unwrap().unwrap();
    let now = now.as_network().unwrap();
    assert_eq!((now.status.phase, now.spec.mtu, now.metadata.generation), (Phase::Ready, None, 1));
    assert_eq!(weft_api::describe(&now.clone().into()), ["Phase: Ready"]);
    assert_eq!(weft_api::row(&now.clone().into()).len(), weft_api::columns(Kind::Network).len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_and_strange_requests() {
    let limits = Limits { requests_per_second: 1, burst: 40, ..Limits::default() };
    let served = serve(limits).await;
    let socket = served.socket.clone();
    let blue = "/apis/weft.dev/v1/networks/blue";
    let large = format!("{}# {}", network("blue", "{}"), "x".repeat(1 << 20));
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("GET", "/", "", 404, "openapi.json"),
        ("POST", blue, "", 405, "POST is not possible"),
        ("GET", "/apis/weft.dev/v1/networks/Blue", "", 400, "a-z"),
        ("GET", "/apis/weft.dev/v1/networks?labelselector=x", "", 400, "labelSelector"),
        ("GET", "/apis/weft.dev/v1/networks?labelSelector=a%20b", "", 400, "key=value"),
        ("GET", "/apis/weft.dev/v1/watch?kind=nets", "", 400, "kind"),
        ("GET", "/apis/weft.dev/v1/leases", "", 404, "agent"),
        ("PUT", blue, &large, 413, "longer than 1048576"),
        ("PATCH", blue, &large, 413, "longer than 1048576"),
        ("PUT", blue, "{", 422, "line 1"),
        ("PUT", blue, &network("red", "{}"), 400, "Network/red and not Network/blue"),
        ("PUT", blue, "", 400, "one resource"),
        ("PUT", "/apis/weft.dev/v1/networks/blue?dryRun=maybe", &network("blue", "{}"), 400, "dryRun"),
        ("PUT", "/apis/weft.dev/v1/networks/blue?dryRun=true", &network("blue", "{}"), 201, "\"blue\""),
        ("DELETE", blue, "", 404, "no Network/blue"),
        ("PUT", blue, &network("blue", "{mtu: 1400}"), 201, "managedFields"),
        (
            "PATCH",
            "/apis/weft.dev/v1/networks/blue?fieldManager=x",
            &network("blue", "{portIsolation: true}"),
            200,
            "\"manager\":\"x\"",
        ),
        ("DELETE", "/apis/weft.dev/v1/networks/blue?resourceVersion=7", "", 409, "version 2 and not 7"),
        ("DELETE", "/apis/weft.dev/v1/networks/blue?resourceVersion=2", "", 200, "Network"),
    ];
    for (method, path, body, want, says) in cases {
        let (status, text) = raw(&socket, method, path, body).await;
        assert_eq!(status, *want, "{method} {path}: {text}");
        assert!(text.contains(says), "{method} {path}: {text}");
    }
    // A body without announced length is counted as it comes.
    let chunk = format!("100000\r\n{}\r\n", "#".repeat(1 << 20));
    let head = "PUT /apis/weft.dev/v1/networks/b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let (status, text) = support::send(&socket, &format!("{head}{chunk}{chunk}0\r\n\r\n")).await;
    assert_eq!(status, 413, "{text}");
    for (bytes, want) in [("nonsense\r\n\r\n", 400), ("GET / HTTP/1.0\r\n\r\n", 404)] {
        assert_eq!(support::send(&socket, bytes).await.0, want, "{bytes}");
    }
    let mut last = 0;
    for _ in 0..60 {
        last = raw(&socket, "GET", "/healthz", "").await.0;
    }
    assert_eq!(last, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_lists_every_route() {
    let served = serve(Limits::default()).await;
    let (client, socket) = (served.client.clone(), served.socket.clone());
    let document = client.openapi().await.unwrap();
    let parsed: utoipa::openapi::OpenApi = serde_json::from_value(document.clone()).unwrap();
    assert!(parsed.paths.paths.len() >= 8 + 3 * Kind::ALL.len());
    // Every reference leads somewhere.
    let mut stack = vec![&document];
    let mut references = 0;
    while let Some(value) = stack.pop() {
        match value {
            serde_json::Value::Object(map) => {
                if let Some(reference) = map.get("$ref") {
                    let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some_and(|v| !v.is_null()), "{pointer}");
                    references += 1;
                }
                stack.extend(map.values());
            }
            serde_json::Value::Array(items) => stack.extend(items),
            _ => {}
        }
    }
    assert!(references > 100, "{references}");
    // Fields are described from their documentation.
    let mtu = &document["components"]["schemas"]["NetworkSpec"]["properties"]["mtu"];
    assert!(mtu["description"].as_str().unwrap().contains("Largest IP packet"), "{mtu}");
    // Every method of every path is answered, and methods that are not listed are not.
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let real = path.replace("{name}", "zz");
        for method in ["get", "put", "post", "patch", "delete"] {
            let listed = item.get(method);
            if path.ends_with("/watch") && listed.is_some() {
                continue;
            }
            let (status, text) = raw(&socket, &method.to_uppercase(), &real, "").await;
            assert_eq!(status == 405, listed.is_none(), "{method} {path}: {status} {text}");
            if let Some(operation) = listed {
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()));
                assert!(!text.contains("see /openapi.json"), "{text}");
            }
        }
    }
}
