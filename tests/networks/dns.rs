//! Are names answered as resolvers expect it, over UDP and TCP, from the network's names and from forwarders, and only
//! to whom they concern? Asked with ISC's dig; the forwarder is dnsmasq; on Weft and on Open vSwitch.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};

use weft_host::netns::NetNs;

use crate::hosts::{Service, Site};
use crate::support::{Dice, Kind, Said};

const NETWORKS: &str = "
apiVersion: weft.dev/v1
kind: Network
metadata: {name: blue}
spec:
  domain: {name: blue.example, localOnly: true}
  dns:
    hosts: [{ip: 10.1.0.9, names: [printer, www.outside.example]}]
    srv: [{service: ldap, protocol: tcp, target: printer, port: 389, priority: 1, weight: 2}]
    txt: [{name: about, value: what it is}, {name: long, value: LONG}]
    forwarders: [{address: 192.0.2.99}]
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue4}
spec: {network: blue, cidr: 10.1.0.0/24}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue6}
spec: {network: blue, cidr: 'fd00:1::/64'}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: red}
spec: {mode: isolated, domain: {name: red.example}}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: red4}
spec: {network: red, cidr: 10.2.0.0/24}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: grey}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: grey4}
spec: {network: grey, cidr: 10.3.0.0/24}
---
";

/// A switch and an agent; hosts 1 and 2 are of network blue, 3 of red, 4 of grey; host 5 is outside and has a forwarder.
struct Scene {
    site: Site,
}

fn port(name: &str, network: &str, n: usize, addresses: &str) -> String {
    let mac = Site::mac(n);
    format!(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: {name}}}\nspec: {{network: {network}, mac: '{mac}', \
         addresses: [{addresses}], attachment: {{ifaceId: vm-{n}}}}}\n---\n"
    )
}

impl Scene {
    fn start(kind: Kind) -> Scene {
        let site = Site::unplugged(kind, 5);
        site.switch.ok("ip addr add 192.0.2.1/24 dev p5");
        site.on(5, "ip addr add 192.0.2.99/24 dev eth0");
        let mut scene = Scene { site };
        let dir = scene.site.switch.path("");
        std::fs::write(dir.join("resolv.conf"), "nameserver 192.0.2.98\n").expect("a file");
        let datapath = if kind == Kind::Ovs { "netdev" } else { "" };
        scene.site.switch.daemon(&[
            env!("CARGO_BIN_EXE_weft"),
            "agent",
            &format!("--rundir={}", dir.display()),
            &format!("--store={}", dir.join("agent.redb").display()),
            &format!("--socket={}", dir.join("api.sock").display()),
            &format!("--resolv-conf={}", dir.join("resolv.conf").display()),
            &format!("--datapath-type={datapath}"),
        ]);
        scene.site.switch.wait_for("the agent answers", |_| scene.weft("status").code == 0);
        let mut text = NETWORKS.replace("LONG", &"0123456789".repeat(300));
        for (n, network, address) in [
            (1, "blue", "10.1.0.11"),
            (2, "blue", "10.1.0.12"),
            (3, "red", "10.2.0.13"),
            (4, "grey", "10.3.0.14"),
        ] {
            let six = if network == "blue" { format!(", 'fd00:1::1{n}'") } else { String::new() };
            text += &port(&format!("p{n}"), network, n, &format!("{address}{six}"));
            let gateway = address.rsplit_once('.').expect("an address").0;
            scene.site.on(n, "sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.accept_ra=0");
            scene.site.on(n, &format!("ip addr add {address}/24 dev eth0"));
            scene.site.on(n, &format!("ip route add default via {gateway}.1"));
            if network == "blue" {
                scene.site.on(n, &format!("ip addr add fd00:1::1{n}/64 dev eth0 nodad"));
            }
        }
        scene.apply(&text);
        scene
            .site
            .switch
            .wait_for("the integration bridge is there", |s| s.run("ovs-vsctl br-exists br-int").code == 0);
        for n in 1..=4 {
            // A switch in user space leaves frames to the host as well, which would answer ARP by this device.
            scene.site.switch.ok(&format!("sysctl -qw net.ipv4.conf.p{n}.arp_ignore=8"));
            let ids = format!("external-ids:iface-id=vm-{n}");
            scene.site.switch.ok(&format!("ovs-vsctl add-port br-int p{n} -- set Interface p{n} {ids}"));
        }
        for n in 1..=4 {
            scene
                .site
                .switch
                .wait_for("ports are ready", |_| scene.weft(&format!("get port p{n}")).out.contains("Ready"));
        }
        scene
    }

    fn weft(&self, words: &str) -> Said {
        let socket = self.site.switch.path("api.sock");
        self.site.switch.run(&format!("{} {words} --socket {}", env!("CARGO_BIN_EXE_weft"), socket.display()))
    }

    fn apply(&self, text: &str) {
        let file = self.site.switch.path("wanted.yaml");
        std::fs::write(&file, text).expect("a file");
        let said = self.weft(&format!("apply -f {}", file.display()));
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    }

    /// What dig says on host `n` to these words.
    fn dig(&self, n: usize, words: &str) -> String {
        let said = self.site.try_on(n, &format!("dig +tries=2 +time=8 {words}"));
        format!("{}{}", said.out, said.err)
    }

    /// The answer alone, a record on a line.
    fn short(&self, n: usize, words: &str) -> String {
        self.dig(n, &format!("{words} +short")).trim().to_owned()
    }

    /// Waits for an answer that has this part.
    fn wait(&self, n: usize, words: &str, part: &str) {
        let mut last = String::new();
        let done = |_: &crate::support::Switch| {
            last = self.dig(n, words);
            last.contains(part)
        };
        self.site.switch.wait_for(&format!("{words} is answered with {part:?}"), done);
    }

    fn forwarder(&self) -> Service {
        let mut long = String::from("--txt-record=long.example.net");
        for _ in 0..10 {
            let _ = write!(long, ",{}", "abcdefghij".repeat(20));
        }
        let forwarder = self.site.serve(
            5,
            &format!(
                "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file= \
                 --listen-address=192.0.2.99 --bind-interfaces --log-queries --log-facility=- --local=/#/ --local-ttl=300 \
                 --host-record=far.example.net,198.51.100.7,2001:db8::7 --cname=alias.example.net,far.example.net \
                 --host-record=other.example.net,198.51.100.8 {long}"
            ),
        );
        self.site.switch.wait_for("the forwarder listens", |_| {
            self.site
                .try_on(5, "dig +tries=1 +time=1 @192.0.2.99 far.example.net +short")
                .out
                .contains("198.51.100.7")
        });
        forwarder
    }
}

/// What the network itself knows.
fn names(scene: &Scene) {
    let at = "@10.1.0.1";
    scene.wait(1, "@10.1.0.1 p2.blue.example", "10.1.0.12");
    scene.wait(1, "@fd00:1::1 p2.blue.example AAAA", "fd00:1::12");
    scene.wait(1, "@10.1.0.1 p2.blue.example +tcp", "10.1.0.12");
    scene.wait(3, "@10.2.0.1 p3.red.example +tcp", "10.2.0.13");
    for (question, answer) in [
        ("P2.Blue.Example A", "10.1.0.12"),
        ("p2 A", "10.1.0.12"),
        ("-x 10.1.0.12", "p2.blue.example."),
        ("-x fd00:1::12", "p2.blue.example."),
        ("gateway.blue.example A", "10.1.0.1"),
        ("-x 10.1.0.1", "gateway.blue.example."),
        ("printer.blue.example A", "10.1.0.9"),
        ("www.outside.example A", "10.1.0.9"),
        ("_ldap._tcp.blue.example SRV", "1 2 389 printer.blue.example."),
        ("about.blue.example TXT", "\"what it is\""),
        ("blue.example NS", "ns.blue.example."),
    ] {
        for how in ["", "+tcp", "+noedns", "+bufsize=4096", "+cookie"] {
            assert_eq!(scene.short(1, &format!("{at} {question} {how}")), answer, "{question} {how}");
        }
    }
    let known = scene.dig(1, &format!("{at} p2.blue.example"));
    assert!(known.contains("status: NOERROR") && known.contains(" aa "), "{known}");
    let unknown = scene.dig(1, &format!("{at} nobody.blue.example"));
    assert!(unknown.contains("status: NXDOMAIN") && unknown.contains("SOA\tns.blue.example."), "{unknown}");
    let other = scene.dig(1, &format!("{at} p2.blue.example MX"));
    assert!(
        other.contains("status: NOERROR") && other.contains("ANSWER: 0") && other.contains("SOA"),
        "{other}"
    );

    // What does not fit is cut, said to be, and whole by TCP.
    let cut = scene.dig(1, &format!("{at} long.blue.example TXT +bufsize=1400 +ignore"));
    assert!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{cut}");
    for how in ["", "+tcp", "+noedns"] {
        let whole = scene.short(1, &format!("{at} long.blue.example TXT {how}"));
        assert!(whole.matches("0123456789").count() >= 280, "{how}: {whole}");
    }
}

/// What others know.
fn forwarders(scene: &Scene, forwarder: Service) {
    let at = "@10.1.0.1";
    assert_eq!(scene.short(1, &format!("{at} far.example.net")), "198.51.100.7");
    assert_eq!(scene.short(1, &format!("{at} far.example.net AAAA")), "2001:db8::7");
    assert_eq!(scene.short(1, &format!("{at} alias.example.net")), "far.example.net.\n198.51.100.7");
    assert!(scene.dig(1, &format!("{at} none.example.net")).contains("status: NXDOMAIN"));
    let long = scene.dig(1, &format!("{at} long.example.net TXT"));
    assert!(long.contains("retrying in TCP mode") && long.matches("abcdefghij").count() >= 180, "{long}");

    // Names of a domain that is only here are never asked about, nor reverse names of private addresses.
    scene.dig(1, &format!("{at} nobody.blue.example"));
    scene.dig(1, &format!("{at} -x 10.77.0.1"));
    let log = forwarder.log().to_lowercase();
    assert!(
        log.contains("far.example.net") && !log.contains("blue.example") && !log.contains("77.10.in-addr"),
        "{log}"
    );

    // Others are asked whom the node asks: what its file says, and says from now on.
    std::fs::write(scene.site.switch.path("resolv.conf"), "nameserver 192.0.2.99\n").expect("a file");
    scene.wait(4, "@10.3.0.1 far.example.net", "198.51.100.7");

    // Networks do not see each other's names; isolated ones do not see the world.
    assert!(scene.dig(4, "@10.3.0.1 p2.blue.example").contains("ANSWER: 0"));
    for name in ["p2.blue.example", "far.example.net"] {
        let said = scene.dig(3, &format!("@10.2.0.1 {name}"));
        assert!(said.contains("status: REFUSED") && said.contains("ANSWER: 0"), "{said}");
    }
    assert!(!scene.dig(3, "@10.1.0.1 p2.blue.example +tries=1 +time=1").contains("10.1.0.12"));
    assert_eq!(scene.short(3, "@10.2.0.1 p3.red.example"), "10.2.0.13");
    assert_eq!(scene.short(3, "@10.2.0.1 p3.red.example +tcp"), "10.2.0.13");

    // What was asked once is known when nobody is there to be asked.
    drop(forwarder);
    let kept = scene.dig(1, &format!("{at} far.example.net"));
    assert!(kept.contains("198.51.100.7") && !kept.contains(" aa "), "{kept}");
    let gone = scene.dig(1, &format!("{at} other.example.net"));
    assert!(gone.contains("status: SERVFAIL"), "{gone}");
}

/// Names come and go with what has them.
fn changes(scene: &Scene) {
    let lasting = scene.dig(1, "@10.1.0.1 p2.blue.example");
    scene.apply(&port("late", "blue", 9, "10.1.0.99"));
    scene.wait(1, "@10.1.0.1 late.blue.example", "10.1.0.99");
    assert!(scene.weft("delete port late").out.contains("deleted"));
    scene.wait(1, "@10.1.0.1 late.blue.example", "status: NXDOMAIN");
    scene.wait(1, "@10.1.0.1 -x 10.1.0.99", "status: NXDOMAIN");
    assert!(lasting.contains("10.1.0.12") && scene.short(1, "@10.1.0.1 p2.blue.example") == "10.1.0.12");
    // A name cannot be taken from the one who has it by a lease.
    let told = scene.site.try_on(2, "busybox udhcpc -i eth0 -n -q -t 10 -T 1 -x hostname:p1 -s /bin/true");
    assert!(told.err.contains("10.1.0.12"), "{told:?}");
    assert_eq!(scene.short(2, "@10.1.0.1 p1.blue.example"), "10.1.0.11");
}

/// Hosts are told where to ask.
fn announced(scene: &Scene) {
    let script = scene.site.switch.path("told");
    std::fs::write(
        &script,
        "#!/bin/sh\n[ \"$1\" = bound ] && echo \"told: dns=$dns domain=$domain\"\nexit 0\n",
    )
    .expect("a script");
    scene.site.on(1, &format!("chmod +x {}", script.display()));
    let told = scene.site.on(1, &format!("busybox udhcpc -i eth0 -n -q -t 10 -T 1 -s {}", script.display()));
    assert!(told.contains("dns=10.1.0.1 domain=blue.example"), "{told}");
    let told = scene.site.announced(1);
    assert!(told.contains("Recursive DNS server     : fd00:1::1"), "{told}");
    // A network without DNS tells nothing, and answers nothing.
    scene.apply(
        "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: grey}\nspec: {dns: {enabled: false}}\n",
    );
    scene.site.switch.wait_for("nobody is told of a server", |_| {
        let told =
            scene.site.try_on(4, &format!("busybox udhcpc -i eth0 -n -q -t 10 -T 1 -s {}", script.display()));
        told.out.contains("dns= domain=")
    });
    assert!(!scene.dig(4, "@10.3.0.1 p4 +tries=1 +time=1").contains("10.3.0.14"));
}

/// A question for `p1.blue.example`.
fn question(id: u16) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    out.extend(b"\x02p1\x04blue\x07example\x00\x00\x01\x00\x01");
    // EDNS with a cookie (RFC 7873).
    out.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    out
}

/// Nonsense and floods from one port harm nobody else.
fn hostile(scene: &Scene) {
    let ns = NetNs::open(&format!("{}-h2", scene.site.switch.ns)).expect("the host's namespace");
    let server: SocketAddr = "10.1.0.1:53".parse().expect("an address");
    let held = ns.run(move || {
        let socket = UdpSocket::bind("10.1.0.12:0").expect("a socket");
        let mut dice = Dice(1);
        for round in 0..20_000 {
            let mut bytes = question(round as u16);
            for _ in 0..=dice.below(6) {
                let at = dice.below(bytes.len() as u64) as usize;
                match dice.below(4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes.extend([dice.next() as u8; 40]),
                    _ => bytes[at] = dice.next() as u8,
                }
            }
            // A full queue of the device is no matter here.
            let _ = socket.send_to(&bytes, server);
        }
        // Streams that say nothing, half of something, or nonsense.
        let streams: Vec<TcpStream> = (0..40)
            .filter_map(|i| {
                let mut stream = TcpStream::connect(server).ok()?;
                let _ = match i % 4 {
                    0 => Ok(()),
                    1 => stream.write_all(&[0]),
                    2 => stream.write_all(&[0xff, 0xff, 1, 2, 3]),
                    _ => stream.write_all(&[0, 0, 0, 5, 9, 9, 9, 9, 9]),
                };
                Some(stream)
            })
            .collect();
        assert!(!streams.is_empty());
        streams
    });
    let held = held.expect("the namespace");
    for how in ["", "+tcp"] {
        scene.wait(1, &format!("@10.1.0.1 p2.blue.example {how}"), "10.1.0.12");
    }
    drop(held);
    for how in ["", "+tcp"] {
        scene.wait(2, &format!("@10.1.0.1 p1.blue.example {how}"), "10.1.0.11");
    }
    assert_eq!(scene.weft("status").code, 0, "{}", scene.site.switch.logs());
    assert!(!scene.site.switch.logs().contains("panicked"), "{}", scene.site.switch.logs());
}

fn check(kind: Kind) {
    let scene = Scene::start(kind);
    names(&scene);
    let forwarder = scene.forwarder();
    forwarders(&scene, forwarder);
    changes(&scene);
    hostile(&scene);
    announced(&scene);
}

on_both!(check);
