//! Does the database survive every end?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::{Switch, check_killed_database};

/// Times the switch is killed.
const KILLS: u32 = 50;

/// Clients set `external_ids:seq` to ever greater numbers; what was acknowledged is there after each kill -9.
#[test]
fn kill_nine_fifty_times_under_load() {
    let mut s = Switch::start();
    s.vsctl("add-br br0");
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let load = {
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let socket = s.path("db.sock").display().to_string();
        std::thread::spawn(move || load(&socket, &stop, &acknowledged))
    };
    for round in 0..KILLS {
        // Moments spread over the whole of a transaction's life.
        std::thread::sleep(Duration::from_millis(u64::from(20 + round * 7 % 61)));
        s.kill();
        let known = acknowledged.load(Ordering::SeqCst);
        check_killed_database(&s.path("conf.db"));
        s.spawn();
        let text = s.vsctl("get bridge br0 external_ids:seq");
        let found: u64 = text.trim_matches('"').parse().unwrap_or_else(|_| panic!("round {round}: {text}"));
        assert!(found >= known, "round {round}: {known} was acknowledged, {found} is there");
    }
    stop.store(true, Ordering::SeqCst);
    let attempts = load.join().expect("the load ends");
    assert!(attempts > u64::from(KILLS), "only {attempts} transactions");
    assert_eq!(s.vsctl("list-br"), "br0");
}

/// Sends transactions as fast as they are answered; returns how many were acknowledged.
fn load(socket: &str, stop: &AtomicBool, acknowledged: &AtomicU64) -> u64 {
    use std::io::{Read, Write};
    let mut count = 0;
    let mut next = 1;
    while !stop.load(Ordering::SeqCst) {
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        loop {
            let request = format!(
                r#"{{"id":{next},"method":"transact","params":["Open_vSwitch",{{"op":"mutate","table":"Bridge","where":[["name","==","br0"]],"mutations":[["external_ids","delete",["set",["seq"]]],["external_ids","insert",["map",[["seq","{next}"]]]]]}}]}}"#
            );
            let mut answer = [0; 4096];
            let answered = stream.write_all(request.as_bytes()).and_then(|()| stream.read(&mut answer));
            match answered {
                Ok(n) if n > 0 => {
                    let text = String::from_utf8_lossy(&answer[..n]).into_owned();
                    assert!(text.contains(r#""count":1"#), "{text}");
                    acknowledged.store(next, Ordering::SeqCst);
                    count += 1;
                    next += 1;
                }
                // Killed. What was asked last may or may not be in.
                _ => {
                    next += 1;
                    break;
                }
            }
            if stop.load(Ordering::SeqCst) {
                break;
            }
        }
    }
    count
}

#[test]
fn a_torn_record_is_cut_and_damage_is_not_hidden() {
    use std::io::Write;
    let mut s = Switch::start();
    s.vsctl("add-br br0");
    s.vsctl("add-br br1");
    s.kill();
    let path = s.path("conf.db");
    let whole = std::fs::read(&path).expect("read the database");
    // Cut at any byte of the last record, the database is that of the record before.
    let last = whole.windows(11).rposition(|w| w == b"OVSDB JSON ").expect("a record");
    for cut in [last + 1, last + 30, last + 70, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).expect("write");
        s.spawn();
        assert!(s.vsctl("list-br").starts_with("br0"), "cut at {cut}");
        s.kill();
        check_killed_database(&path);
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
    file.write_all(b"OVSDB JSON 5 garbage").expect("write");
    drop(file);
    s.spawn();
    s.vsctl("add-br br2");
    s.kill();
    check_killed_database(&path);
}

#[test]
fn an_existing_database_of_open_vswitch_is_opened() {
    let mut s = Switch::prepare();
    let path = s.path("conf.db").display().to_string();
    s.ok(&format!("ovsdb-tool create {path} /usr/share/openvswitch/vswitch.ovsschema"));
    let insert = r#"'["Open_vSwitch",{"op":"insert","table":"Open_vSwitch","row":{"bridges":["named-uuid","b"],"external_ids":["map",[["hostname","x"]]]}},{"op":"insert","table":"Bridge","uuid-name":"b","row":{"name":"old0","fail_mode":"secure"}}]'"#;
    s.ok(&format!("ovsdb-tool transact {path} {insert}"));
    s.spawn();
    assert_eq!(s.vsctl("list-br"), "old0");
    assert_eq!(s.vsctl("get-fail-mode old0"), "secure");
    s.ok("ip link show old0");
    s.vsctl("add-br br1");
    s.ok("ovs-appctl exit");
    assert!(s.wait_end());
    s.check_database();
    // And Debian's server opens it again.
    let said = s.run(&format!("ovsdb-tool query {path} '[\"Open_vSwitch\",{{\"op\":\"select\",\"table\":\"Bridge\",\"where\":[],\"columns\":[\"name\"]}}]'"));
    assert!(said.out.contains("old0") && said.out.contains("br1"), "{said:?}");
}
