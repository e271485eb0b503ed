//! Do the DHCP clients that people run get on with the agent? ISC's dhclient, busybox's udhcpc, dhcpcd, PXE firmware,
//! clients behind ISC's relay; on Weft and on Open vSwitch.

use serde_json::{Value, json};
use weft_model::Kind;

use crate::agent::Agent;
use crate::hosts::{Service, Site};
use crate::support::Kind as Switch;

const NETWORKS: &str = "
apiVersion: weft.dev/v1
kind: Network
metadata: {name: blue}
spec: {mode: nat, domain: {name: blue.example}}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue4}
spec:
  network: blue
  cidr: 10.1.0.0/24
  dhcp:
    leaseSeconds: 600
    renewSeconds: 3
    rebindSeconds: 5
    ranges: [{start: 10.1.0.200, end: 10.1.0.220}]
    options:
      dns: [10.1.0.53]
      domain: told.example
      search: [one.example, two.example]
      ntp: [10.1.0.123]
      mtu: 1400
      routes: [{to: 172.20.0.0/16, via: 10.1.0.9}]
      tftpServer: boot.example
      nextServer: 10.1.0.66
      bootFile: bios.0
      pxe: [{arch: 7, bootFile: efi.bin}, {arch: 11, bootFile: arm.bin, nextServer: 10.1.0.67}]
      ipxe: {bootFile: 'http://10.1.0.66/menu.ipxe'}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue6}
spec:
  network: blue
  cidr: 'fd00:1::/64'
  dhcp: {options: {dns: ['fd00:1::53'], search: [six.example]}}
  ra: {rdnss: ['fd00:1::53'], mtu: 1400}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: behind}
spec:
  network: blue
  cidr: 10.9.0.0/24
  gateway: 10.9.0.1
  dhcp: {relayed: true, ranges: [{start: 10.9.0.100, end: 10.9.0.120}]}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: red}
spec: {mode: isolated}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: red4}
spec: {network: red, cidr: 10.2.0.0/24}
";

fn port(name: &str, network: &str, mac: &str, guard: bool) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: {name}}}\n\
         spec: {{network: {network}, mac: '{mac}', spoofGuard: {guard}, attachment: {{ifaceId: {name}}}}}\n---\n"
    )
}

/// A site whose hosts 1, 2 and 3 are on ports p1 (blue, guarded), p2 (blue, trusted) and p3 (red, with p1's MAC address).
struct Lan {
    site: Site,
    agent: Option<Agent>,
}

impl Lan {
    fn new(kind: Switch) -> Lan {
        let site = Site::unplugged(kind, 4);
        let agent = Agent::start(&site, &site.switch.path("agent.redb"));
        agent.apply(NETWORKS);
        site.on(3, &format!("ip link set eth0 address {}", Site::mac(1)));
        agent.apply(&port("p1", "blue", &Site::mac(1), true));
        agent.apply(&port("p2", "blue", &Site::mac(2), false));
        agent.apply(&port("p3", "red", &Site::mac(1), true));
        site.switch.wait_for("the bridge is there", |s| s.run("ovs-vsctl br-exists br-int").code == 0);
        for n in 1..=3 {
            let plug = format!("add-port br-int p{n} -- set Interface p{n} external-ids:iface-id=p{n}");
            site.switch.ok(&format!("ovs-vsctl {plug}"));
        }
        agent.ready(&site, &["p1", "p2", "p3"]);
        Lan { site, agent: Some(agent) }
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("it runs")
    }

    fn address(&self, port: &str, v6: bool) -> String {
        let status = self.agent().port(port).status;
        status.addresses.iter().find(|a| a.is_ipv6() == v6).expect("an address").to_string()
    }

    /// Sends a raw request from a host, and returns the answer or null.
    fn ask(&self, n: usize, request: &Value) -> Value {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/networks/dhcp_client.py");
        serde_json::from_str(&self.site.on(n, &format!("python3 {script} eth0 '{request}'"))).expect("JSON")
    }

    /// A script that clients run when something happens: it gives the device its address and writes down what was told.
    fn script(&self, told: &str) -> String {
        let (script, told) = (self.site.switch.path(&format!("script.{told}")), self.site.switch.path(told));
        let text = format!(
            "#!/bin/sh\ncase \"$reason$1\" in *PREINIT*|deconfig|leasefail|nak|*STOP*|*EXPIRE*|*RELEASE*|*FAIL*) exit 0;; esac\n\
             [ -n \"$new_ip_address\" ] && ip addr replace $new_ip_address/${{new_subnet_mask:-32}} dev eth0\n\
             [ -n \"$new_ip6_address\" ] && ip addr replace $new_ip6_address/64 dev eth0\n\
             [ -n \"$ip\" ] && ip addr replace $ip/${{mask:-32}} dev eth0\n\
             (env; echo \"reason=$reason$1\") >> {}\nexit 0\n",
            told.display()
        );
        std::fs::write(&script, text).expect("a script");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).expect("it can be run");
        script.display().to_string()
    }

    /// Waits until a client was told something, and returns all that it was told.
    fn told(&self, told: &str, part: &str, log: &Service) -> String {
        let read = || std::fs::read_to_string(self.site.switch.path(told)).unwrap_or_default();
        let mut last = String::new();
        let done = self.site.switch.eventually(|_| {
            last = read();
            last.contains(part)
        });
        assert!(done, "{part:?} was not told: {last}\n{}", log.log());
        last
    }

    fn dhclient(&self, family: &str, told: &str) -> Service {
        let (script, dir) = (self.script(told), self.site.switch.path(""));
        let conf = dir.join("dhclient.conf");
        let text = "option classless-routes code 121 = array of unsigned integer 8;\n\
                    option ntp-servers code 42 = array of ip-address;\n\
                    request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, domain-search, \
                    interface-mtu, ntp-servers, classless-routes, dhcp6.name-servers, dhcp6.domain-search;\n\
                    initial-interval 1; retry 2; timeout 10;\n";
        std::fs::write(&conf, text).expect("a file");
        let (conf, leases) =
            (conf.display(), dir.join(format!("dhclient{}.leases", family.replace(' ', ""))));
        let pid = dir.join(format!("{told}.pid"));
        let files = format!("-cf {conf} -lf {} -pf {} -sf {script}", leases.display(), pid.display());
        self.site.serve(1, &format!("dhclient {family} -d -v {files} eth0"))
    }

    /// dhcpcd keeps its files in places of its own, which are private here.
    fn dhcpcd(&self, arguments: &str, told: &str) -> String {
        let script = self.script(told);
        let places =
            "mount -t tmpfs none /run && mkdir -p /run/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd";
        format!(
            "unshare -m -p -f --kill-child --mount-proc sh -c '{places} && exec dhcpcd -B -d -f /dev/null -4 -c {script} -o domain_name_servers \
             -o domain_name -o domain_search -o interface_mtu -o ntp_servers -o classless_static_routes {arguments} eth0'"
        )
    }
}

/// What every client of network blue is told.
fn check_told(told: &str, address: &str, words: &[&str]) {
    for part in words.iter().chain(&[address]) {
        assert!(told.contains(part), "{part:?} was to be told: {told}");
    }
}

fn isc(lan: &mut Lan) {
    let own = lan.address("p1", false);
    let mut client = lan.dhclient("-4", "told.isc");
    let told = lan.told("told.isc", "reason=BOUND", &client);
    let words = [
        "new_routers=10.1.0.1",
        "new_domain_name_servers=10.1.0.53",
        "new_domain_name=told.example",
        "new_domain_search=one.example. two.example.",
        "new_interface_mtu=1400",
        "new_ntp_servers=10.1.0.123",
        "new_classless_routes=16 172 20 10 1 0 9",
        "new_dhcp_lease_time=600",
    ];
    check_told(&told, &format!("new_ip_address={own}"), &words);
    lan.told("told.isc", "reason=RENEW", &client);
    assert_eq!(lan.agent().lease_state(&own), "bound");
    // Without an agent the client asks anybody in the end, and a new agent knows it.
    lan.agent = None;
    let (site, asks) = (&lan.site, format!("DHCPREQUEST for {own} on eth0 to 255.255.255.255"));
    // The first time it asked so for the address that it was offered.
    site.switch.wait_for("it asks anybody", |_| client.log().matches(&asks).count() > 1);
    lan.agent = Some(Agent::start(site, &site.switch.path("agent.redb")));
    let answered = |log: String| log.rfind(&asks).is_some_and(|at| log[at..].contains("DHCPACK"));
    site.switch.wait_for("it is answered", |_| answered(client.log()));
    // Moved to another network, it is told that its address is wrong there, and gets another.
    client.end();
    lan.agent().delete(Kind::Port, "p3");
    lan.agent().delete(Kind::Port, "p1");
    lan.agent().apply(&port("p1", "red", &Site::mac(1), true));
    lan.agent().ready(&lan.site, &["p1"]);
    let mut client = lan.dhclient("-4", "told.moved");
    lan.told("told.moved", "new_ip_address=10.2.0.", &client);
    assert!(client.log().contains("DHCPNAK"), "{}", client.log());
    client.end();
    lan.agent().delete(Kind::Port, "p1");
    lan.agent().apply(&port("p1", "blue", &Site::mac(1), true));
    lan.agent().apply(&port("p3", "red", &Site::mac(1), true));
    lan.agent().ready(&lan.site, &["p1", "p3"]);
}

fn udhcpc(lan: &Lan) {
    let own = lan.address("p1", false);
    let script = lan.script("told.busybox");
    let options = "-O mtu -O search -O ntpsrv -O staticroutes -O domain";
    let client = lan.site.serve(1, &format!("busybox udhcpc -f -R -i eth0 {options} -T 1 -s {script}"));
    let told = lan.told("told.busybox", "reason=bound", &client);
    let words = [
        "router=10.1.0.1",
        "dns=10.1.0.53",
        "domain=told.example",
        "search=one.example two.example",
        "mtu=1400",
        "ntpsrv=10.1.0.123",
        "staticroutes=172.20.0.0/16 10.1.0.9",
        "lease=600",
    ];
    check_told(&told, &format!("ip={own}"), &words);
    client.signal("USR1");
    lan.told("told.busybox", "reason=renew", &client);
    client.signal("USR2");
    let site = &lan.site;
    site.switch.wait_for("the lease is given back", |_| lan.agent().lease_state(&own) == "released");
}

fn dhcpcd(lan: &Lan) {
    let own = lan.address("p1", false);
    let client = lan.site.serve(1, &lan.dhcpcd("-A", "told.dhcpcd"));
    let told = lan.told("told.dhcpcd", "reason=BOUND", &client);
    let words = [
        "new_domain_name_servers=10.1.0.53",
        "new_domain_name=told.example",
        "new_domain_search=one.example two.example",
        "new_interface_mtu=1400",
        "new_ntp_servers=10.1.0.123",
        "new_classless_static_routes=172.20.0.0/16 10.1.0.9",
    ];
    check_told(&told, &format!("new_ip_address={own}"), &words);
    lan.told("told.dhcpcd", "reason=RENEW", &client);
}

/// The address is used by another: the client finds that out, says so, and nobody is given it for a while.
fn conflict(lan: &Lan) {
    let own = lan.address("p1", false);
    lan.site.on(1, "ip addr flush dev eth0");
    lan.site.on(2, &format!("ip addr add {own}/24 dev eth0"));
    let script = lan.script("told.conflict");
    let client = lan.site.serve(1, &format!("busybox udhcpc -f -a -i eth0 -A 1 -T 1 -s {script}"));
    lan.site.switch.wait_for("the conflict is told", |_| lan.agent().lease_state(&own) == "declined");
    // Until then it has an address of the range.
    lan.told("told.conflict", "ip=10.1.0.2", &client);
    lan.site.on(2, &format!("ip addr del {own}/24 dev eth0"));
}

fn clients(kind: Switch) {
    let mut lan = Lan::new(kind);
    isc(&mut lan);
    udhcpc(&lan);
    dhcpcd(&lan);
    six(&lan);
    conflict(&lan);
}

fn six(lan: &Lan) {
    let own = lan.address("p1", true);
    let site = &lan.site;
    site.switch.wait_for("there is a link-local address", |_| {
        !site.on(1, "ip -6 addr show dev eth0 scope link -tentative").is_empty()
    });
    let mut client = lan.dhclient("-6", "told.six");
    let told = lan.told("told.six", "reason=BOUND6", &client);
    let words = ["new_dhcp6_name_servers=fd00:1::53", "new_dhcp6_domain_search=six.example."];
    check_told(&told, &format!("new_ip6_address={own}"), &words);
    assert_eq!(lan.agent().lease_state(&own), "bound");
    client.end();
    let mut stateless = lan.dhclient("-6 -S", "told.stateless");
    let told = lan.told("told.stateless", "new_dhcp6_name_servers=fd00:1::53", &stateless);
    assert!(!told.contains("new_ip6_address"), "{told}");
    stateless.end();
    let announced = site.announced(1);
    for part in ["fd00:1::/64", "fd00:1::53", "1400 bytes", "Stateful address conf.    :          Yes"] {
        assert!(announced.contains(part), "{part:?} was to be announced: {announced}");
    }
}

/// What no ordinary client sends.
fn messages(kind: Switch) {
    let lan = Lan::new(kind);
    let own = lan.address("p1", false);
    let mac = Site::mac(1);
    // Firmware: the boot file follows the architecture; iPXE gets its own.
    let wants = "0103060f42432b";
    let pxe = |arch: &str, ipxe: bool| {
        let class = "505845436c69656e74";
        let mut options =
            json!({"55": wants, "60": class, "93": arch, "97": "0000112233445566778899aabbccddeeff"});
        if ipxe {
            options["175"] = "010100".into();
        }
        lan.ask(1, &json!({"type": 1, "mac": mac, "options": options}))
    };
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    for (arch, ipxe, file, next) in [
        ("0000", false, "bios.0", "10.1.0.66"),
        ("0007", false, "efi.bin", "10.1.0.66"),
        ("000b", false, "arm.bin", "10.1.0.67"),
        ("0007", true, "http://10.1.0.66/menu.ipxe", "10.1.0.66"),
    ] {
        let offer = pxe(arch, ipxe);
        assert_eq!(offer["type"], 2, "{offer}");
        assert_eq!((&offer["file"], &offer["siaddr"]), (&json!(file), &json!(next)), "{offer}");
        assert_eq!(offer["options"]["67"], json!(hex(file)), "{offer}");
        assert_eq!(offer["options"]["66"], json!(hex("boot.example")), "{offer}");
        assert_eq!(offer["options"]["97"], json!("0000112233445566778899aabbccddeeff"), "{offer}");
        assert_eq!(offer["yiaddr"], json!(own), "{offer}");
    }
    // A wrong address is refused aloud; one that is used gets options and no lease.
    let wrong = lan.ask(1, &json!({"type": 3, "mac": mac, "options": {"50": "c0a80707"}}));
    assert_eq!(wrong["type"], 6, "{wrong}");
    let other = lan.ask(1, &json!({"type": 3, "mac": mac, "options": {"50": "0a010063"}}));
    assert_eq!(other["type"], 6, "{other}");
    let inform = json!({"type": 8, "mac": mac, "ciaddr": own, "src": own, "options": {"55": "03060f"}});
    let informed = lan.ask(1, &inform);
    assert_eq!((&informed["type"], &informed["yiaddr"]), (&json!(5), &json!("0.0.0.0")), "{informed}");
    assert_eq!(informed["options"]["6"], json!("0a010035"), "{informed}");
    assert!(informed["options"].get("51").is_none(), "{informed}");
    // One MAC address in two networks: two clients.
    let there = lan.ask(3, &json!({"type": 1, "mac": mac, "options": {}}));
    assert_eq!(there["yiaddr"], json!(lan.address("p3", false)), "{there}");
    // One in one network, behind two ports: one client, which is guarded to be at one of them.
    lan.site.on(2, &format!("ip link set eth0 address {mac}"));
    let twin = lan.ask(2, &json!({"type": 1, "mac": mac, "options": {"61": "ff0001"}}));
    assert_eq!(twin["yiaddr"], json!(own), "{twin}");
    lan.site.on(2, &format!("ip link set eth0 address {}", Site::mac(2)));
    rogue(&lan);
    relay(&lan);
}

/// A guarded port that plays DHCP server is not heard, and the flow that drops it says why.
fn rogue(lan: &Lan) {
    let said = json!({"type": 2, "op": 2, "mac": Site::mac(1), "sport": 67, "dport": 68, "src": "10.1.0.77",
                      "yiaddr": "10.1.0.66", "xid": 77, "wait": 0.5});
    let heard = lan.site.serve(2, "timeout 20 tcpdump -l -nn -i eth0 udp dst port 68");
    lan.site.switch.wait_for("tcpdump listens", |_| heard.log().contains("listening"));
    lan.ask(1, &said);
    let drops = || {
        let all = lan.site.switch.ok("ovs-ofctl -O OpenFlow15 dump-flows br-int");
        let flows = all.lines().filter(|l| l.contains("udp,") && l.contains("tp_src=67,tp_dst=68"));
        let counted = flows.filter(|l| l.contains("priority=200") && l.contains("actions=drop"));
        counted.filter(|l| !l.contains("n_packets=0,")).count()
    };
    lan.site.switch.wait_for("the guard dropped it", |_| drops() == 1);
    if lan.site.switch.kind == Switch::Weft {
        let why = lan.site.switch.ok(&format!(
            "{} why --rundir {} udp,tp_src=67,tp_dst=68",
            env!("CARGO_BIN_EXE_weft"),
            lan.site.switch.path("").display()
        ));
        assert!(why.contains("drop"), "{why}");
    }
    assert!(!heard.log().contains(".67 >"), "{}", heard.log());
}

/// A client behind ISC's relay: it gets an address of the relay's subnet, and what the relay adds comes back.
fn relay(lan: &Lan) {
    let site = &lan.site;
    let (there, here) = (format!("{}-h4", site.switch.ns), lan.address("p2", false));
    site.on(2, &format!("ip addr add {here}/24 dev eth0"));
    site.on(4, "ip link del eth0");
    site.on(2, &format!("ip link add lan type veth peer name eth0 netns {there}"));
    site.on(2, "ip addr add 10.9.0.1/24 dev lan");
    site.on(2, "ip link set lan up");
    site.on(4, "ip link set eth0 up");
    let capture = site.serve(2, "timeout 30 tcpdump -l -nn -v -i eth0 udp port 67");
    site.switch.wait_for("tcpdump listens", |_| capture.log().contains("listening"));
    let relay = site.serve(2, "dhcrelay -4 -d --no-pid -a -id lan -iu eth0 10.1.0.1");
    site.switch.wait_for("the relay listens", |_| relay.log().contains("Sending on"));
    let script = lan.script("told.relayed");
    let client = site.serve(4, &format!("busybox udhcpc -f -i eth0 -T 1 -s {script}"));
    let told = lan.told("told.relayed", "reason=bound", &client);
    assert!(told.contains("ip=10.9.0.1") && told.contains("router=10.9.0.1\n"), "{told}\n{}", relay.log());
    site.switch.wait_for("the answer is seen", |_| capture.log().matches("Agent-Information").count() >= 4);
    assert!(lan.agent().leases().iter().any(|(a, l)| a.starts_with("10.9.0.1") && l["state"] == "bound"));
}

#[test]
fn clients_on_weft() {
    clients(Switch::Weft);
}

#[test]
fn clients_on_open_vswitch() {
    clients(Switch::Ovs);
}

#[test]
fn messages_on_weft() {
    messages(Switch::Weft);
}

#[test]
fn messages_on_open_vswitch() {
    messages(Switch::Ovs);
}
