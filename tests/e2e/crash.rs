//! `kill -9` at any moment: is every acknowledged change there after the restart, and does traffic return by itself?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::world::{TwoHosts, assert_ping, eventually};
use weft_lab::Lab;

const KILLS: u64 = 50;

/// Changes the database without end; returns the number of the last change that was acknowledged, and of the last
/// that was tried.
fn load(lab: &Lab, stop: &AtomicBool, acknowledged: &AtomicU64, tried: &AtomicU64) {
    let host = lab.host("a");
    while !stop.load(Ordering::Relaxed) {
        let n = tried.fetch_add(1, Ordering::SeqCst) + 1;
        let value = format!("external_ids:n={n}");
        let port = format!("load{}", n % 7);
        let change = ["ovs-vsctl", "--no-wait", "--timeout=2", "set", "bridge", "br0", &value, "--"];
        let rest: [&str; 4] = if n.is_multiple_of(2) {
            ["--may-exist", "add-port", "br0", &port]
        } else {
            ["--if-exists", "del-port", "br0", &port]
        };
        let out = host.exec(change.iter().chain(&rest));
        if out.success() {
            acknowledged.fetch_max(n, Ordering::SeqCst);
        }
    }
}

/// The number in the database.
fn stored(lab: &Lab) -> u64 {
    eventually("the database answers", || {
        let out = lab.host("a").exec(["ovs-vsctl", "--timeout=5", "get", "bridge", "br0", "external_ids:n"]);
        out.success().then(|| out.stdout.trim().trim_matches('"').parse().expect("a number"))
    })
}

/// Debian's tools read the file and find nothing wrong, up to a record that was being written: a signal ends a write
/// between two pages of the file, and the switch cuts such a record away when it starts.
fn verify(lab: &Lab) {
    const PAGE: usize = 4096;
    let file = lab.host("a").sh("echo $OVS_DBDIR/conf.db").ok();
    let mut bytes = std::fs::read(file.trim()).expect("read the database");
    if bytes.len().is_multiple_of(PAGE) {
        let last = bytes.windows(12).rposition(|w| w == b"\nOVSDB JSON ").expect("a record");
        bytes.truncate(last + 1);
    }
    let copy = format!("{}.copy", file.trim());
    std::fs::write(&copy, bytes).expect("write a copy");
    let script = format!(
        "ovsdb-tool db-version {copy} && ovsdb-tool show-log {copy} >/dev/null && ovsdb-tool compact {copy} && rm -f {copy}*"
    );
    let out = lab.host("a").sh(&script);
    let complaint = format!("{}{}", out.stdout, out.stderr);
    let version = out.ok();
    assert!(version.starts_with("8."), "{version}");
    assert!(!complaint.contains("error") && !complaint.contains("corrupt"), "{complaint}");
}

#[test]
fn fifty_kills_under_load_lose_nothing() {
    let lab = TwoHosts::default().up();
    lab.host("a").exec(["ovs-vsctl", "--timeout=10", "set", "bridge", "br0", "external_ids:n=0"]).ok();
    assert_ping(&lab);
    let (stop, acknowledged, tried) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Stops the load also when an assertion fails, or the scope would never end.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        scope.spawn(|| load(&lab, &stop, &acknowledged, &tried));
        for kill in 0..KILLS {
            // A moment that differs from kill to kill: 20 to 320 ms.
            std::thread::sleep(Duration::from_millis(20 + (kill * 7919) % 300));
            let least = acknowledged.load(Ordering::SeqCst);
            assert!(lab.signal("a", "switch", 9).expect("signal"), "kill {kill}: the switch was not running");
            eventually("the switch is gone", || lab.pid("a", "switch").is_none().then_some(()));
            verify(&lab);
            lab.start("a", "switch").unwrap_or_else(|e| panic!("kill {kill}: {e}"));
            let (now, most) = (stored(&lab), tried.load(Ordering::SeqCst));
            assert!(
                least <= now && now <= most,
                "kill {kill}: acknowledged {least}, stored {now}, tried {most}"
            );
            if kill % 10 == 9 {
                assert_ping(&lab);
            }
        }
    });
    assert!(acknowledged.load(Ordering::SeqCst) > KILLS, "the load did not run");
    assert_ping(&lab);
    let ports = lab.host("a").exec(["ovs-vsctl", "--timeout=5", "list-ports", "br0"]).ok();
    assert!(ports.contains("vnet0") && ports.contains("tun0"), "{ports}");
}
