//! `kill -9` at any moment loses nothing that was acknowledged.
//!
//! A child process writes resources and leases and says on its standard output what was acknowledged. It is killed, the
//! file is opened again, and everything it said must be there; again and again on the same file.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weft_model::{Kind, Network, NetworkSpec, ObjectRef, Resource};
use weft_store::{Embedded, Expect, Lease, LeaseWrite, Op, Options, Selector, Store, Transaction};

const ROUNDS: u64 = 25;
const FILE: &str = "WEFT_STORE_KILL_TEST_FILE";

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// The child: without the name of a file it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(file) = std::env::var_os(FILE) else { return };
    // Leases move from the journal all the time.
    let options = Options { journal: 40, ..Options::default() };
    let store = Embedded::open(&PathBuf::from(file), &options).unwrap();
    let start = store.version().await.unwrap();
    say(&format!("\nopen {start}"));
    let mut tasks = Vec::new();
    for w in 0..4_u32 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for i in 0_u32.. {
                // Two resources in one transaction: both or none.
                let ops = ["x", "y"].map(|half| Op::Put {
                    resource: Network::new(format!("n-{start}-{w}-{i}-{half}"), NetworkSpec::default())
                        .into(),
                    expect: Expect::Absent,
                });
                let done = store.commit(Transaction { ops: ops.into(), dry_run: false }).await.unwrap();
                say(&format!("put n-{start}-{w}-{i} {}", done.version));
                if i % 3 == 0 {
                    let name = format!("n-{start}-{w}-{i}");
                    let ops = ["x", "y"].map(|half| Op::Delete {
                        reference: ObjectRef::new(Kind::Network, format!("{name}-{half}")),
                        expect: Expect::Any,
                    });
                    let done = store.commit(Transaction { ops: ops.into(), dry_run: false }).await.unwrap();
                    say(&format!("del {name} {}", done.version));
                }
                let address = std::net::Ipv4Addr::from(i * 4 + w);
                let value = format!("{start}").into_bytes();
                let lease = Lease { subnet: "s".to_owned(), address: address.into(), value };
                store.write_leases(vec![LeaseWrite::Put(lease)]).await.unwrap();
                say(&format!("lease {address} {start}"));
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// What was acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    version: u64,
    networks: HashMap<String, bool>,
    leases: HashMap<String, u64>,
    count: usize,
}

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["put" | "del", name, version] => {
                self.networks.insert((*name).to_owned(), words[0] == "put");
                self.version = self.version.max(version.parse().unwrap());
            }
            ["lease", address, value] => {
                self.leases.insert((*address).to_owned(), value.parse().unwrap());
            }
            _ => return,
        }
        self.count += 1;
    }
}

fn run_child(file: &Path, life: Duration, heard: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (begun, begins) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        for line in lines.map_while(Result::ok) {
            if line.starts_with("open ") {
                let _ = begun.send(());
            }
            all.push(line);
        }
        all
    });
    begins.recv_timeout(Duration::from_secs(30)).expect("the child opens the store");
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    for line in reader.join().unwrap() {
        heard.hear(&line);
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    let mut heard = Acknowledged::default();
    let begin = Instant::now();
    for round in 0..ROUNDS {
        run_child(&file, Duration::from_millis(3 + round * 37 % 150), &mut heard);
        let store = Embedded::open(&file, &Options::default()).unwrap();
        let version = store.version().await.unwrap();
        assert!(version >= heard.version, "{version} < {}", heard.version);
        let all = store.list(None, &Selector::all()).await.unwrap().items;
        let mut halves: HashMap<&str, u8> = HashMap::new();
        for resource in &all {
            let resource: &Resource = resource;
            assert!(resource.metadata().resource_version <= version);
            let (name, _) = resource.name().rsplit_once('-').unwrap();
            *halves.entry(name).or_default() += 1;
        }
        assert!(halves.values().all(|n| *n == 2), "a transaction is there by half");
        for (name, there) in &heard.networks {
            let found = halves.contains_key(name.as_str());
            // What was put may have been deleted without the acknowledgement having been heard; not the other way round.
            let third = name.rsplit('-').next().unwrap().parse::<u32>().unwrap() % 3 == 0;
            assert!(found == *there || (*there && third), "round {round}: {name} there: {found}");
        }
        let leases: HashMap<String, u64> = store
            .leases(None)
            .await
            .unwrap()
            .into_iter()
            .map(|l| (l.address.to_string(), String::from_utf8(l.value).unwrap().parse().unwrap()))
            .collect();
        for (address, value) in &heard.leases {
            assert!(leases.get(address).is_some_and(|v| v >= value), "round {round}: lease {address}");
        }
        store.close().await;
        if begin.elapsed() > Duration::from_secs(60) && round >= 9 {
            break;
        }
    }
    println!("{} acknowledgements", heard.count);
    assert!(heard.count > 200, "{}", heard.count);
}
