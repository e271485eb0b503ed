//! What the embedded store promises its readers and writers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use weft_model::{
    Kind, Network, NetworkSpec, ObjectRef, Phase, Port, PortSpec, Resource, Subnet, SubnetSpec,
};
use weft_store::{
    Change, Embedded, Expect, Lease, LeaseWrite, Op, Options, Selector, Store, StoreError, Transaction,
};

fn open(dir: &Path) -> Embedded {
    Embedded::open(&dir.join("deep/er/store.redb"), &Options::default()).unwrap()
}

fn network(name: &str) -> Network {
    Network::new(name, NetworkSpec::default())
}

fn port(name: &str, ip: Option<&str>) -> Port {
    let addresses = ip.into_iter().map(|ip| ip.parse().unwrap()).collect();
    Port::new(name, PortSpec { network: "n".to_owned(), addresses, ..PortSpec::default() })
}

fn subnet(name: &str, cidr: &str) -> Subnet {
    Subnet::new(name, SubnetSpec::new("n", cidr.parse().unwrap()))
}

fn at(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef::new(kind, name)
}

#[tokio::test]
async fn identity_generation_and_versions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let made = store.commit(Transaction::put(network("n"), Expect::Absent)).await.unwrap();
    let first = made.resources[0].metadata().clone();
    assert_eq!((made.version, first.resource_version, first.generation), (1, 1, 1));
    assert!(first.uid.len() == 36 && first.creation_timestamp > 1_600_000_000);

    // The same again is no change.
    let same = store.commit(Transaction::put(network("n"), Expect::Any)).await.unwrap();
    assert_eq!((same.version, same.events.len()), (1, 0));
    assert_eq!(same.resources[0].metadata(), &first);

    let mut other = network("n");
    other.spec.mtu = Some(1400);
    other.metadata.uid = "forged".to_owned();
    let changed = store.commit(Transaction::put(other.clone(), Expect::Version(1))).await.unwrap();
    let second = changed.resources[0].metadata().clone();
    assert_eq!((second.resource_version, second.generation), (2, 2));
    assert_eq!((&second.uid, second.creation_timestamp), (&first.uid, first.creation_timestamp));

    let stale = store.commit(Transaction::put(other.clone(), Expect::Version(1))).await.unwrap_err();
    assert!(matches!(stale, StoreError::Conflict { expected: 1, found: 2, .. }), "{stale}");
    let there = store.commit(Transaction::put(other.clone(), Expect::Absent)).await.unwrap_err();
    assert!(matches!(there, StoreError::Conflict { expected: 0, found: 2, .. }), "{there}");

    // A status changes the version and not the generation, and putting the spec keeps it.
    other.status.phase = Phase::Ready;
    let told = store.commit(Transaction::put_status(other.clone(), Expect::Any)).await.unwrap();
    assert_eq!(told.resources[0].metadata().generation, 2);
    other.spec.mtu = Some(1300);
    other.status.phase = Phase::Error;
    store.commit(Transaction::put(other, Expect::Any)).await.unwrap();
    let now = store.get(&at(Kind::Network, "n")).await.unwrap().unwrap();
    assert_eq!(now.as_network().unwrap().status.phase, Phase::Ready);
    assert_eq!((now.metadata().resource_version, now.metadata().generation), (4, 3));
}

#[tokio::test]
async fn all_or_nothing_and_nothing_that_contradicts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let put = |r: Resource| Op::Put { resource: r, expect: Expect::Any };
    let ops = vec![
        put(network("n").into()),
        put(subnet("s", "10.0.0.0/24").into()),
        put(port("a", Some("10.0.0.5")).into()),
        put(port("b", Some("10.0.0.5")).into()),
    ];
    let twice = store.commit(Transaction { ops: ops.clone(), dry_run: false }).await.unwrap_err();
    assert!(twice.to_string().contains("10.0.0.5 belongs to Port/"), "{twice}");
    assert_eq!(store.version().await.unwrap(), 0);
    assert!(store.list(None, &Selector::all()).await.unwrap().items.is_empty());

    let three = Transaction { ops: ops[..3].to_vec(), dry_run: false };
    let dry = store.commit(Transaction { dry_run: true, ..three.clone() }).await.unwrap();
    assert_eq!(dry.events.len(), 3);
    assert_eq!(store.version().await.unwrap(), 0);
    assert_eq!(store.commit(three).await.unwrap().version, 1);

    let used = store.commit(Transaction::delete(at(Kind::Network, "n"), Expect::Any)).await.unwrap_err();
    assert_eq!(used.to_string(), "Network/n is used by Subnet/s, Port/a; delete them first");
    let used = store.commit(Transaction::delete(at(Kind::Subnet, "s"), Expect::Any)).await.unwrap_err();
    assert_eq!(used.to_string(), "Subnet/s is used by Port/a; delete them first");
    let moved = store.commit(Transaction::put(subnet("s", "10.9.0.0/24"), Expect::Any)).await.unwrap_err();
    assert!(moved.to_string().starts_with("Port/a: spec.addresses[0]: 10.0.0.5 is in no subnet"), "{moved}");
    let mut taken = subnet("s", "10.0.0.0/24");
    taken.spec.gateway = "10.0.0.5".parse().unwrap();
    let taken = store.commit(Transaction::put(taken, Expect::Any)).await.unwrap_err();
    assert!(taken.to_string().contains("Port/a: spec.addresses[0]: 10.0.0.5 is the gateway"), "{taken}");
    let mut bad = network("m");
    bad.spec.mtu = Some(1);
    let bad = store.commit(Transaction::put(bad, Expect::Any)).await.unwrap_err();
    assert!(bad.to_string().starts_with("Network/m: spec.mtu: "), "{bad}");
    let none = store.commit(Transaction::delete(at(Kind::Port, "zz"), Expect::Any)).await.unwrap_err();
    assert_eq!(none, StoreError::NotFound(at(Kind::Port, "zz")));

    let delete = |kind, name| Op::Delete { reference: at(kind, name), expect: Expect::Any };
    let all = vec![delete(Kind::Network, "n"), delete(Kind::Subnet, "s"), delete(Kind::Port, "a")];
    store.commit(Transaction { ops: all, dry_run: false }).await.unwrap();
    store.close().await;
    assert!(open(dir.path()).list(None, &Selector::all()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn reopened_it_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut n = network("n");
    n.metadata.labels = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
    store.commit(Transaction::put(n, Expect::Any)).await.unwrap();
    store.commit(Transaction::put(network("m"), Expect::Any)).await.unwrap();
    let busy = Embedded::open(&dir.path().join("deep/er/store.redb"), &Options::default());
    assert!(matches!(busy, Err(StoreError::Busy(_))), "{busy:?}");
    let before = store.list(None, &Selector::all()).await.unwrap();
    store.close().await;
    let store = open(dir.path());
    let after = store.list(None, &Selector::all()).await.unwrap();
    assert_eq!((before.version, &before.items), (after.version, &after.items));
    let web = store.list(Some(Kind::Network), &"tier=web".parse().unwrap()).await.unwrap();
    assert_eq!(web.items.iter().map(|r| r.name()).collect::<Vec<_>>(), ["n"]);
    // Watching goes on from the last version, and not from before the restart.
    assert!(store.watch(2).await.is_ok());
    assert!(matches!(store.watch(1).await, Err(StoreError::Compacted { after: 1, oldest: 2 })));
    assert!(matches!(store.watch(3).await, Err(StoreError::Future(3))));
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(dir.path().join("deep/er/store.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_see_every_change_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let follow = |after: u64| {
        let store = store.clone();
        async move {
            let mut watch = store.watch(after).await.unwrap();
            let mut seen: Vec<(u64, Change, String)> = Vec::new();
            while seen.last().is_none_or(|(_, _, name)| name != "end") {
                let event = watch.next().await.unwrap();
                seen.push((event.version, event.change, event.resource.name().to_owned()));
            }
            seen
        }
    };
    let early = tokio::spawn(follow(0));
    let mut writers = Vec::new();
    for w in 0..4 {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            for i in 0..50 {
                let name = format!("n-{w}-{i}");
                store.commit(Transaction::put(network(&name), Expect::Absent)).await.unwrap();
                if i % 2 == 0 {
                    store.commit(Transaction::delete(at(Kind::Network, &name), Expect::Any)).await.unwrap();
                }
            }
        }));
    }
    // Others join in the middle, each from a list.
    let mut late = Vec::new();
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let version = store.list(None, &Selector::all()).await.unwrap().version;
        late.push((version, tokio::spawn(follow(version))));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    store.commit(Transaction::put(network("end"), Expect::Absent)).await.unwrap();
    let all = early.await.unwrap();
    assert_eq!(all.len(), 4 * 75 + 1);
    assert!(all.windows(2).all(|w| w[0].0 + 1 == w[1].0), "versions have no hole and no repetition");
    for (version, task) in late {
        let want: Vec<_> = all.iter().filter(|(v, ..)| *v > version).cloned().collect();
        assert_eq!(task.await.unwrap(), want);
    }
    // What the events add up to is what is there.
    let mut names: Vec<String> = Vec::new();
    for (_, change, name) in all {
        match change {
            Change::Put => names.push(name),
            Change::Delete => names.retain(|n| *n != name),
        }
    }
    names.sort();
    let there = store.list(None, &Selector::all()).await.unwrap();
    assert_eq!(names, there.items.iter().map(|r| r.name().to_owned()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_slow_watch_is_told_that_it_missed_something() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { history: 10, ..Options::default() };
    let store = Embedded::open(&dir.path().join("s"), &options).unwrap();
    let mut slow = store.watch(0).await.unwrap();
    let mut quick = store.watch(0).await.unwrap();
    for i in 0..30 {
        store.commit(Transaction::put(network(&format!("n-{i}")), Expect::Any)).await.unwrap();
        assert_eq!(quick.next().await.unwrap().version, i + 1);
    }
    assert!(matches!(slow.next().await, Err(StoreError::Compacted { after: 0, oldest: 20 })));
    assert!(matches!(store.watch(19).await, Err(StoreError::Compacted { .. })));
    assert_eq!(store.watch(20).await.unwrap().next_batch(100).await.unwrap().len(), 10);
    let full =
        Embedded::open(&dir.path().join("t"), &Options { max_resources: 1, ..Options::default() }).unwrap();
    full.commit(Transaction::put(network("a"), Expect::Any)).await.unwrap();
    let refused = full.commit(Transaction::put(network("b"), Expect::Any)).await.unwrap_err();
    assert_eq!(refused, StoreError::Full(1));
    assert_eq!(full.list(None, &Selector::all()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn leases_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = |subnet: &str, ip: &str, value: &str| Lease {
        subnet: subnet.to_owned(),
        address: ip.parse().unwrap(),
        value: value.as_bytes().to_vec(),
    };
    let all = [lease("a", "10.0.0.1", "1"), lease("a", "fd00::1", "2"), lease("a-b", "10.0.0.1", "3")];
    store.write_leases(all.iter().cloned().map(LeaseWrite::Put).collect()).await.unwrap();
    let gone = LeaseWrite::Remove { subnet: "a".to_owned(), address: "10.0.0.1".parse().unwrap() };
    let newer = LeaseWrite::Put(lease("a-b", "10.0.0.1", "4"));
    store.write_leases(vec![gone, newer]).await.unwrap();
    store.close().await;
    let store = open(dir.path());
    assert_eq!(store.leases(Some("a")).await.unwrap(), [all[1].clone()]);
    assert_eq!(store.leases(None).await.unwrap(), [all[1].clone(), lease("a-b", "10.0.0.1", "4")]);
    assert_eq!(store.version().await.unwrap(), 0, "leases have no versions");
}

/// Whatever is moving from the journal to the file, leases are as they were written last: for readers, after a crash and
/// after a clean end.
#[tokio::test]
async fn leases_are_the_same_in_the_journal_and_in_the_file() {
    let options = Options { journal: 700, ..Options::default() };
    let dirs: Vec<_> = (0..40).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut store = Embedded::open(&dirs[0].path().join("s"), &options).unwrap();
    let mut model: BTreeMap<(String, IpAddr), Vec<u8>> = BTreeMap::new();
    let mut dice = 7_u32;
    let mut roll = |sides: u32| {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (dice >> 8) % sides
    };
    for (round, pair) in dirs.windows(2).enumerate() {
        for _ in 0..roll(12) {
            let writes = (0..1 + roll(300)).map(|_| {
                let (subnet, address) =
                    (["a", "a-b"][roll(2) as usize].to_owned(), Ipv4Addr::from(roll(2_000)).into());
                if roll(4) == 0 {
                    model.remove(&(subnet.clone(), address));
                    return LeaseWrite::Remove { subnet, address };
                }
                let value = vec![round as u8; roll(90) as usize];
                model.insert((subnet.clone(), address), value.clone());
                LeaseWrite::Put(Lease { subnet, address, value })
            });
            store.write_leases(writes.collect()).await.unwrap();
        }
        let read = |leases: Vec<Lease>| -> BTreeMap<_, _> {
            leases.into_iter().map(|l| ((l.subnet, l.address), l.value)).collect()
        };
        assert_eq!(read(store.leases(None).await.unwrap()), model, "round {round}");
        let a = store.leases(Some("a")).await.unwrap();
        assert_eq!(a.len(), model.keys().filter(|(subnet, _)| subnet == "a").count());
        // Nothing is written meanwhile: this is what a crash leaves.
        let files: Vec<_> = std::fs::read_dir(pair[0].path()).unwrap().map(|f| f.unwrap().path()).collect();
        assert_eq!(files.len(), 3, "{files:?}");
        let crashed = roll(3) > 0;
        if !crashed {
            store.clone().close().await;
        }
        for file in files.iter().filter(|f| f.exists()) {
            std::fs::copy(file, pair[1].path().join(file.file_name().unwrap())).unwrap();
        }
        assert!(crashed || std::fs::read_dir(pair[0].path()).unwrap().count() == 1, "the journal is gone");
        store = Embedded::open(&pair[1].path().join("s"), &options).unwrap();
        assert_eq!(read(store.leases(None).await.unwrap()), model, "opened after round {round}");
    }
}

/// A lease that is renewed again and again does not make the journal longer and longer.
#[tokio::test]
async fn the_journal_stays_short() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { journal: 100, ..Options::default() };
    let store = Embedded::open(&dir.path().join("s"), &options).unwrap();
    let lease =
        |n: u32| Lease { subnet: "s".to_owned(), address: Ipv4Addr::from(n % 7).into(), value: vec![7; 100] };
    for batch in 0..100 {
        let writes = (batch..batch + 300).map(|n| LeaseWrite::Put(lease(n)));
        store.write_leases(writes.collect()).await.unwrap();
    }
    assert_eq!(store.leases(None).await.unwrap().len(), 7);
    for file in std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap()) {
        let name = file.file_name().into_string().unwrap();
        let length = file.metadata().unwrap().len();
        assert!(name == "s" || length <= 1 << 20, "{name} has {length} bytes");
    }
}

/// 64 responders that each wait until a lease is durable, all at once; how fast that is `make bench` tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responders_write_leases_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut tasks = Vec::new();
    for t in 0..64_u8 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for i in 0..32_u8 {
                let address = std::net::Ipv4Addr::new(10, 0, t, i).into();
                let put = LeaseWrite::Put(Lease { subnet: "s".to_owned(), address, value: vec![7; 120] });
                store.write_leases(vec![put]).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.leases(Some("s")).await.unwrap().len(), 2_048);
}
