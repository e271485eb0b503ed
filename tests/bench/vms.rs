//! What do virtual machines get? TCP and pings between two of them, on TAPs and on vhost-user ports.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{self, Vm};
use crate::ns::World;
use crate::ovs::{self, Build};
use crate::report::{self, Table, cell, median};
use crate::setups::DPDK;
use crate::weft;

/// How the two machines are connected.
struct Setup {
    name: &'static str,
    peer: bool,
    vhost: bool,
    /// Words for the machines' network device.
    device: &'static str,
    /// Builds the switch of namespace `sw`, with the TAPs `t1` and `t2`, or with sockets at these paths.
    build: fn(&mut World, [&Path; 2]) -> Result<(), String>,
}

/// Without segmentation offload, OVS passes frames on as they are: none may be longer than the MTU, or wait for its
/// checksum.
const NO_OFFLOADS: &str = ",csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,\
host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off";
/// Memory for each port instead of a quarter of a million buffers for all of an MTU.
const PER_PORT: &str = "other_config:per-port-memory=true";

const TAPS: &str = "add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 t1 -- add-port br0 t2";

fn sockets(w: &World, paths: [&Path; 2]) -> Result<(), String> {
    let port = |n: usize| {
        let path = paths[n - 1].display();
        format!(
            " -- add-port br0 v{n} -- set interface v{n} type=dpdkvhostuserclient options:vhost-server-path={path}"
        )
    };
    let line = format!("add-br br0 -- set bridge br0 datapath_type=netdev{}{}", port(1), port(2));
    ovs::vsctl(w, "sw", &line).map(drop)
}

const SETUPS: [Setup; 6] = [
    Setup {
        name: "kernel bridge, TAP",
        peer: true,
        vhost: false,
        device: "",
        build: |w, _| {
            let line = "ip link add br0 type bridge; ip link set br0 up; ip link set t1 master br0; ip link set t2 master br0";
            w.sh("sw", line).map(drop)
        },
    },
    Setup {
        name: "OVS AF_PACKET, TAP",
        peer: true,
        vhost: false,
        device: NO_OFFLOADS,
        build: |w, _| {
            ovs::start(w, "sw", Build::Plain)?;
            ovs::vsctl(w, "sw", TAPS).map(drop)
        },
    },
    Setup {
        name: "OVS-DPDK TSO, vhost-user",
        peer: true,
        vhost: true,
        device: "",
        build: |w, paths| {
            ovs::start(w, "sw", Build::Dpdk(&[DPDK, PER_PORT]))?;
            sockets(w, paths)
        },
    },
    Setup {
        name: "OVS-DPDK TSO, TAP",
        peer: true,
        vhost: false,
        device: "",
        build: |w, _| {
            ovs::start(w, "sw", Build::Dpdk(&[DPDK]))?;
            ovs::vsctl(w, "sw", TAPS).map(drop)
        },
    },
    Setup {
        name: "Weft, TAP",
        peer: false,
        vhost: false,
        device: "",
        build: |w, _| {
            weft::start(w, "sw")?;
            ovs::vsctl(w, "sw", TAPS).map(drop)
        },
    },
    Setup {
        name: "Weft, vhost-user",
        peer: false,
        vhost: true,
        device: "",
        build: |w, paths| {
            weft::start(w, "sw")?;
            sockets(w, paths)
        },
    },
];

#[derive(Default)]
struct Samples {
    mbit: Vec<f64>,
    ping: Vec<f64>,
    failed: Option<String>,
}

/// Measures every set-up once a round and compares medians.
pub(crate) fn table(only: Option<&str>, rounds: usize, seconds: u64) -> Table {
    let setups: Vec<&Setup> = SETUPS.iter().filter(|s| only.is_none_or(|o| s.name.contains(o))).collect();
    let mut all: Vec<Samples> = setups.iter().map(|_| Samples::default()).collect();
    for round in 1..=rounds {
        for (setup, samples) in setups.iter().zip(&mut all) {
            eprint!("\r\x1b[Kvm: round {round}/{rounds}: {}", setup.name);
            if samples.failed.is_none() {
                // What a machine that does not come up says, it says by a panic.
                let measure = std::panic::AssertUnwindSafe(|| one(setup, samples, seconds));
                let done = std::panic::catch_unwind(measure)
                    .unwrap_or_else(|said| Err(said.downcast().map_or("a panic".into(), |text| *text)));
                samples.failed = done.err();
            }
        }
    }
    eprintln!("\r\x1b[Kvm: done");
    let base = all.first().map(|s| (median(&s.mbit), median(&s.ping))).unwrap_or_default();
    let ratio = |v: Option<f64>, b: Option<f64>| cell(v.zip(b).map(|(v, b)| v / b)) + " ×";
    let mut notes = vec![format!(
        "Two machines under emulation (TCG, no KVM), so that the guests are the slow part. Medians of {rounds} interleaved \
         rounds, one TCP stream of {seconds} s, {PINGS} pings; ratios are to {}.",
        setups.first().map_or("", |s| s.name)
    )];
    let mut rows = Vec::new();
    for (setup, s) in setups.iter().zip(&all) {
        let name = if setup.peer { setup.name.to_owned() } else { format!("**{}**", setup.name) };
        let (mbit, ping) = (median(&s.mbit), median(&s.ping));
        rows.push(vec![name, cell(mbit), ratio(mbit, base.0), cell(ping), ratio(ping, base.1)]);
        if let Some(e) = &s.failed {
            notes.push(format!("{} failed: {}", setup.name, report::last_lines(e)));
        }
    }
    let head = ["set-up", "TCP Mbit/s", "ratio", "ping average µs", "ratio"];
    Table { title: "Virtual machines".to_owned(), head: head.map(str::to_owned).to_vec(), rows, notes }
}

/// Pings whose average is taken.
const PINGS: usize = 200;

fn one(setup: &Setup, s: &mut Samples, seconds: u64) -> Result<(), String> {
    let mut w = World::new("v")?;
    w.add("sw")?;
    let paths: [PathBuf; 2] = ["v1", "v2"].map(|name| w.dir.join(name));
    if !setup.vhost {
        for tap in ["t1", "t2"] {
            w.sh("sw", &format!("ip tuntap add dev {tap} mode tap; ip link set {tap} up"))?;
        }
    }
    (setup.build)(&mut w, [&paths[0], &paths[1]])?;
    let mut vms: Vec<Vm> = (1..=2).map(|n| start(&w, setup, n, &paths[n - 1])).collect();
    for (n, vm) in vms.iter_mut().enumerate() {
        vm.booted();
        vm.ok(&format!("ip addr add 10.9.0.{}/24 dev eth0 && ip link set eth0 up", n + 1));
    }
    let [one, two] = &mut vms[..] else { return Err("two machines".into()) };
    one.wait_for("ping -c1 -W1 10.9.0.2");
    two.ok("iperf3 -s -D");
    let said = one.run(&format!("iperf3 -c 10.9.0.2 -t {seconds} -f m | grep receiver"));
    let words: Vec<&str> = said.out.split_whitespace().collect();
    let at = words.iter().position(|w| *w == "Mbits/sec").filter(|at| *at > 0);
    let mbit = at.and_then(|at| words[at - 1].parse().ok());
    s.mbit.push(mbit.ok_or_else(|| format!("iperf3 said {:?}", said.out))?);
    let said = one.run(&format!("ping -q -c {PINGS} -i 0.01 10.9.0.2"));
    // round-trip min/avg/max = 0.5/0.7/1.2 ms
    let average =
        said.out.split('=').nth(1).and_then(|t| t.split('/').nth(1)).and_then(|t| t.parse::<f64>().ok());
    s.ping.push(average.ok_or_else(|| format!("ping said {:?}", said.out))? * 1000.0);
    Ok(())
}

fn start(w: &World, setup: &Setup, n: usize, path: &Path) -> Vm {
    let mac = format!("02:00:00:00:09:{n:02x}");
    let mut words = if setup.vhost {
        machine::vhost_user(n, path, true, &mac, 1)
    } else {
        machine::tap(n, &format!("t{n}"), &mac, 1)
    };
    words.iter_mut().filter(|w| w.starts_with("virtio-net")).for_each(|w| w.push_str(setup.device));
    let tools = [PathBuf::from("/usr/bin/iperf3")];
    Vm::start_equipped(&w.dir, &format!("vm{n}"), &tools, &words, |words| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &w.full("sw")]).args(words);
        command
    })
}
