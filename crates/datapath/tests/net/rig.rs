//! Namespaces, links, switches and traffic for the tests.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_datapath::{Datapath, PortKind, PortSpec, UserDatapath, UserOptions};
use weft_flow::{DpPort, DropReason, OfPort};
use weft_host::netlink::{Netlink, VethEnd};
use weft_host::netns::NetNs;
use weft_pipeline::{BridgeConfig, Pipeline, PortConfig};

/// A namespace with its loopback up and no IPv6 of its own making.
pub(crate) fn namespace(label: &str) -> NetNs {
    let ns = NetNs::unnamed(label).expect("network namespace (root needed)");
    let _ = ns.sysctl("net.ipv6.conf.default.accept_dad", "0");
    let _ = ns.sysctl("net.ipv6.conf.default.autoconf", "0");
    ns.run(|| up("lo")).expect("namespace");
    ns
}

/// Sets a device up, in this thread's namespace.
pub(crate) fn up(name: &str) {
    let mut netlink = Netlink::open().expect("netlink");
    let index = netlink.index_of(name).expect(name);
    netlink.set_up(index, true).expect(name);
}

/// Adds an address, in this thread's namespace.
pub(crate) fn address(name: &str, ip: &str, prefix: u8) {
    let mut netlink = Netlink::open().expect("netlink");
    let index = netlink.index_of(name).expect(name);
    netlink.add_address(index, ip.parse().expect(ip), prefix).expect(ip);
}

/// A host with a device `eth0` of that address; the other end is `peer` in `to`.
pub(crate) fn host(label: &str, to: &NetNs, peer: &str, ip: &str, prefix: u8) -> NetNs {
    let ns = namespace(label);
    veth(&ns, "eth0", to, peer);
    ns.run(|| address("eth0", ip, prefix)).expect("host");
    ns
}

/// A cable between two namespaces, both ends up.
pub(crate) fn veth(a: &NetNs, a_name: &str, b: &NetNs, b_name: &str) {
    let ends = (
        VethEnd { ns: Some(a), ..VethEnd::named(a_name) },
        VethEnd { ns: Some(b), ..VethEnd::named(b_name) },
    );
    let mut netlink = Netlink::open_in(a).expect("netlink");
    netlink.add_veth(&ends.0, &ends.1).expect("veth");
    a.run(|| up(a_name)).expect("end");
    b.run(|| up(b_name)).expect("end");
}

/// A datapath in a namespace, with one bridge that acts as a learning switch.
pub(crate) struct Switch {
    pub(crate) ns: NetNs,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) datapath: UserDatapath,
    bridge: std::sync::Mutex<BridgeConfig>,
}

pub(crate) const BRIDGE: u32 = 1;

impl Switch {
    pub(crate) fn new(ns: NetNs) -> Self {
        let lanes = std::env::var("WEFT_LANES").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
        Self::with_lanes(ns, lanes)
    }

    pub(crate) fn with_lanes(ns: NetNs, lanes: usize) -> Self {
        let pipeline = Arc::new(Pipeline::new());
        let options = UserOptions { lanes: Some(lanes), ..UserOptions::default() };
        let made = ns.run(|| UserDatapath::new(pipeline.clone(), Arc::new(|_| true), &options));
        let datapath = made.expect("namespace").expect("datapath");
        let this = Switch { ns, pipeline, datapath, bridge: BridgeConfig::new(BRIDGE, "br0").into() };
        this.change(|_| ());
        this
    }

    /// Changes the bridge's configuration and publishes it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut BridgeConfig)) {
        let mut bridge = self.bridge.lock().unwrap();
        change(&mut bridge);
        let publish = |snapshot: &mut weft_pipeline::Snapshot| {
            snapshot.set_bridge(bridge.clone());
            Ok::<_, ()>(())
        };
        self.pipeline.update(publish).unwrap();
    }

    /// Adds a port to datapath and bridge.
    pub(crate) fn port(&self, name: &str, kind: PortKind, of_kind: weft_pipeline::PortKind) -> DpPort {
        let spec = PortSpec::new(name, kind);
        let info = self.ns.run(|| self.datapath.add_port(&spec)).expect("namespace").expect(name);
        let number = info.number;
        self.change(|bridge| {
            bridge.ports.insert(PortConfig::new(OfPort(number.0), Some(number), name, of_kind));
        });
        number
    }

    pub(crate) fn device(&self, name: &str) -> DpPort {
        self.port(name, PortKind::Device, weft_pipeline::PortKind::Device)
    }

    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.datapath.drops()[reason as usize]
    }

    /// All drops that are not zero, for messages.
    pub(crate) fn why(&self) -> String {
        let drops = self.datapath.drops();
        let some = DropReason::ALL.iter().filter(|r| drops[**r as usize] > 0);
        some.map(|r| format!("{r}={} ", drops[*r as usize])).collect()
    }
}

/// Runs a command in a namespace; its output, and whether it succeeded.
pub(crate) fn run(ns: &NetNs, command: &[&str]) -> (bool, String) {
    let output = ns.run(|| Command::new(command[0]).args(&command[1..]).output()).expect("namespace");
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

pub(crate) fn ping(ns: &NetNs, to: &str) -> bool {
    run(ns, &["ping", "-c", "3", "-i", "0.1", "-W", "2", to]).0
}

/// Bits per second that every stream of these tests gets through on the busiest machine. One whose checksums, segments
/// or sizes are wrong crawls along by retransmissions, or stands still; how fast a right one is `make bench` tells.
pub(crate) const FLOWING: f64 = 1e7;

/// Bits per second that a TCP stream of so many seconds gets through, as the receiver counted.
pub(crate) fn iperf(from: &NetNs, to: &NetNs, address: &str, options: &[&str]) -> f64 {
    let server = to.run(|| {
        Command::new("iperf3")
            .args(["-s", "-1", "-p", "5301"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    });
    let mut server = server.expect("namespace").expect("iperf3");
    let mut command = vec!["iperf3", "-c", address, "-p", "5301", "-f", "k"];
    command.extend(options);
    let (mut ok, mut text) = (false, String::new());
    soon(|| {
        (ok, text) = run(from, &command);
        ok || !text.contains("Connection refused")
    });
    if !ok {
        let _ = server.kill();
    }
    let _ = server.wait();
    let line = text.lines().rfind(|line| line.contains("receiver")).unwrap_or_else(|| panic!("{text}"));
    let words: Vec<_> = line.split_whitespace().collect();
    let at = words.iter().position(|w| *w == "Kbits/sec").expect("rate");
    words[at - 1].parse::<f64>().expect("rate") * 1e3
}

/// Processor seconds of this process: of the lanes, while all else waits.
pub(crate) fn cpu_time() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("tasks").flatten();
    let all = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    all.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

/// A TCP stream of two seconds: bits per second, and processor seconds of the lanes per gigabyte.
pub(crate) fn stream(from: &NetNs, to: &NetNs, address: &str) -> (f64, f64) {
    let cpu = cpu_time();
    let rate = iperf(from, to, address, &["-t", "2"]);
    (rate, (cpu_time() - cpu) / (rate * 2.0 / 8e9))
}

/// Waits up to half a minute for something to become true.
pub(crate) fn soon(mut what: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
