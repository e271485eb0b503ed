//! Do the database's other remotes work: TCP, TLS, listening and reaching out?

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use crate::harness::Switch;

/// A CA in `dir`, and a key and certificate signed by it under `name`.
fn certificates(s: &Switch, names: &[&str]) {
    let openssl = |args: &[&str]| {
        let output =
            Command::new("openssl").args(args).current_dir(s.dir.path()).output().expect("run openssl");
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let subject = |name: &str| format!("/C=XX/O=weft/CN={name}");
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        &subject("ca"),
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ]);
    for name in names {
        let (key, request, cert) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        std::fs::write(s.path("ext"), format!("subjectAltName=DNS:{name}\n")).expect("write");
        openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            &subject(name),
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "ext",
            "-out",
            &cert,
        ]);
    }
}

#[test]
fn tls_both_ways() {
    let s = Switch::start();
    certificates(&s, &["switch", "client"]);
    let file = |name: &str| s.path(name).display().to_string();
    s.vsctl("add-br br0");
    s.vsctl(&format!("set-ssl {} {} {}", file("switch.key"), file("switch.pem"), file("ca.pem")));
    s.vsctl("set-manager pssl:16640:127.0.0.1 -- set-controller br0 pssl:16653:127.0.0.1");
    let keys = format!("-p {} -c {} -C {}", file("client.key"), file("client.pem"), file("ca.pem"));
    assert_eq!(s.ok(&format!("ovs-vsctl --timeout=10 {keys} --db=ssl:127.0.0.1:16640 list-br")), "br0");
    assert!(s.ok(&format!("ovs-ofctl {keys} show ssl:127.0.0.1:16653")).contains("n_tables"));
    // Somebody whom our CA does not know is refused.
    let other = Switch::prepare();
    certificates(&other, &["stranger"]);
    let theirs = |name: &str| other.path(name).display().to_string();
    let keys = format!("-p {} -c {} -C {}", theirs("stranger.key"), theirs("stranger.pem"), file("ca.pem"));
    assert_ne!(s.run(&format!("ovs-vsctl --timeout=3 {keys} --db=ssl:127.0.0.1:16640 list-br")).code, 0);
    // The switch reaches out, and learns the CA from the first peer.
    let keys = format!("-p {} -c {} -C {}", file("client.key"), file("client.pem"), file("ca.pem"));
    s.vsctl(&format!(
        "--bootstrap set-ssl {} {} {}",
        file("switch.key"),
        file("switch.pem"),
        file("learned.pem")
    ));
    s.vsctl("set-manager ssl:127.0.0.1:16641");
    let listed = s.ok(&format!("ovs-vsctl --timeout=15 {keys} --db=pssl:16641:127.0.0.1 list-br"));
    assert_eq!(listed, "br0");
    let pem = |name: &str| std::fs::read_to_string(s.path(name)).expect("read").replace('\n', "");
    assert_eq!(pem("learned.pem"), pem("ca.pem"));
}

#[test]
fn managers_by_tcp_both_ways() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- set-manager tcp:127.0.0.1:16642 ptcp:16643:[::1]");
    assert_eq!(s.ok("ovs-vsctl --timeout=15 --db=ptcp:16642:127.0.0.1 list-br"), "br0");
    assert_eq!(s.ok("ovs-vsctl --timeout=10 --db=tcp:[::1]:16643 list-br"), "br0");
    s.wait_for("the active manager's state is told", || {
        let status = s.vsctl("--columns=status find manager target='\"tcp:127.0.0.1:16642\"'");
        status.contains("state=BACKOFF") || status.contains("state=CONNECTING")
    });
}

#[test]
fn clients_go_with_their_manager() {
    let s = Switch::start();
    let socket = s.path("manager.sock");
    s.vsctl(&format!("set-manager punix:{}", socket.display()));
    s.wait_for("the socket is there", || socket.exists());
    let mut client = UnixStream::connect(&socket).expect("connect");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("set the time-out");
    let mut echo = || {
        client.write_all(br#"{"id":1,"method":"echo","params":[]}"#).expect("send");
        client.read(&mut [0; 256]).expect("an answer")
    };
    assert_ne!(echo(), 0);
    // With other options it is still the same manager.
    s.vsctl("set manager . inactivity_probe=0");
    std::thread::sleep(Duration::from_millis(2500));
    assert_ne!(echo(), 0);
    s.vsctl("del-manager");
    assert_eq!(client.read(&mut [0; 256]).expect("the end"), 0);
}

#[test]
fn bridges_stay_in_their_directory() {
    let s = Switch::start();
    s.vsctl("add-br ../weft-outside -- add-br br0");
    s.wait_for("the other bridge is there", || s.path("br0.mgmt").exists());
    assert!(!s.path("../weft-outside.mgmt").exists());
}

/// Peers that say nonsense, hang up in the middle or never read cost nothing that stays.
#[test]
fn rude_peers_leave_nothing_behind() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let s = Switch::start();
    s.vsctl("add-br br0");
    let sockets = ["db.sock", "br0.mgmt"].map(|name| s.path(name));
    let nonsense: [&[u8]; 5] = [
        b"{\"id\":1,\"method\":\"get_schema\",\"params\":[\"Open_vSwitch\"]}",
        b"{\"id\":1,\"nonsense\":true}",
        b"]]]]",
        b"\x04\x00\x00\x08\x00\x00\x00\x01\x04\x05\x00\x08\x00\x00\x00\x02",
        b"\x04\xff\xff\xff\x00\x00",
    ];
    for round in 0..1500usize {
        let mut stream = UnixStream::connect(&sockets[round % 2]).expect("connect");
        stream.set_nonblocking(true).expect("not to wait");
        for piece in 0..round % 9 {
            // A peer that was cut off in the meantime is what this is about.
            let _ = stream.write_all(nonsense[(round + piece * 7) % nonsense.len()]);
        }
        let _ = stream.read(&mut [0; 64]);
    }
    // Every listener still takes more connections than it has slots.
    let held: Vec<_> = (0..200).map(|_| UnixStream::connect(&sockets[0]).expect("connect")).collect();
    assert_eq!(s.vsctl("list-br"), "br0");
    assert!(s.ok("ovs-ofctl show br0").contains("n_tables"));
    drop(held);
}

#[test]
fn a_removed_remote_takes_its_clients_along() {
    let s = Switch::start();
    s.ok("ovs-appctl -t ovsdb-server ovsdb-server/add-remote punix:other.sock");
    let mut client = std::os::unix::net::UnixStream::connect(s.path("other.sock")).expect("connect");
    client.set_read_timeout(Some(crate::harness::PATIENCE)).expect("set a time-out");
    std::io::Write::write_all(&mut client, b"{\"id\":1,\"method\":\"list_dbs\",\"params\":[]}")
        .expect("write");
    let mut answer = [0; 256];
    assert!(std::io::Read::read(&mut client, &mut answer).expect("an answer") > 0);
    s.ok("ovs-appctl -t ovsdb-server ovsdb-server/remove-remote punix:other.sock");
    assert_eq!(std::io::Read::read(&mut client, &mut answer).expect("the end"), 0);
    s.wait_for("the session is gone", || {
        s.ok("ovs-appctl -t ovsdb-server memory/show").contains("sessions:0")
    });
}

#[test]
fn clients_of_the_database() {
    let s = Switch::start();
    assert_eq!(s.ok("ovsdb-client list-dbs"), "Open_vSwitch\n_Server");
    assert_eq!(s.ok("ovsdb-client get-schema-version"), "8.3.1");
    assert!(s.ok("ovsdb-client list-tables").contains("Interface"));
    assert!(s.ok("ovsdb-client dump Open_vSwitch").contains("Open_vSwitch table"));
    assert_eq!(s.ok("ovsdb-client needs-conversion /usr/share/openvswitch/vswitch.ovsschema"), "no");
    s.ok("ovsdb-client backup");
    assert!(s.run("ovsdb-client -t 2 lock weft").out.contains("{\"locked\":true}"));
    // A file that another process has open is not opened twice.
    let said = s.run(&format!("ovsdb-tool compact {}", s.path("conf.db").display()));
    assert_ne!(said.code, 0, "{said:?}");
}
