//! How many leases a second? perfdhcp asks Weft's agent, Kea and dnsmasq over a veth pair, each with durable leases.

use std::collections::HashMap;
use std::time::Duration;

use crate::agent::Node;
use crate::ns::{World, wait_for};
use crate::ovs;
use crate::report::{Table, cell, last_lines, median};
use crate::weft;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Weft,
    Kea,
    Dnsmasq,
}

/// Exchanges a second that are offered, by server: the best rate counts.
const OFFERED: [(Who, &[u32]); 3] = [
    (Who::Weft, &[4_000, 8_000, 12_000, 16_000, 20_000]),
    (Who::Kea, &[4_000, 8_000, 12_000, 16_000]),
    (Who::Dnsmasq, &[200, 400, 800]),
];
const NOTE: &str = "Four-way exchanges a second, perfdhcp as a relay over a veth pair, at the offered rate with most \
completed; drops are of all requests at that rate; CPU of the server, Weft's switch included. Weft waits for the disk \
(fsync) before it acknowledges, all that came meanwhile at once; Kea's memfile and dnsmasq's lease file are written, not synced.";

/// Every server, round by round.
pub(crate) fn table(rounds: usize, seconds: u64) -> Table {
    let mut samples: HashMap<&str, [Vec<f64>; 4]> = HashMap::new();
    let mut notes = vec![NOTE.to_owned()];
    for round in 1..=rounds {
        for (who, offered) in OFFERED {
            eprint!("\r\x1b[Kdhcp: round {round}/{rounds}: {who:?}");
            let runs: Vec<_> = offered.iter().map(|rate| one(who, *rate, seconds)).collect();
            for why in runs.iter().filter_map(|r| r.as_ref().err()) {
                notes.push(format!("{who:?}: {}", last_lines(why)));
            }
            let best = runs.into_iter().flatten().max_by(|a, b| a[0].total_cmp(&b[0]));
            let into = samples.entry(name(who)).or_default();
            best.into_iter().for_each(|best| into.iter_mut().zip(best).for_each(|(s, v)| s.push(v)));
        }
    }
    eprintln!("\r\x1b[Kdhcp: done");
    let of = |who, at: usize| samples.get(name(who)).and_then(|s| median(&s[at]));
    let row = |who: Who| {
        let ratio = of(Who::Weft, 0).zip(of(who, 0)).map(|(weft, peer)| weft / peer);
        let cells = [of(who, 0), ratio, of(who, 1), of(who, 2), of(who, 3)];
        [name(who).to_owned()].into_iter().chain(cells.map(cell)).collect()
    };
    let head = ["server", "leases/s", "Weft is faster by", "offered/s", "drops, %", "CPU, µs/lease"];
    let rows = OFFERED.iter().map(|(who, _)| row(*who)).collect();
    Table { title: "DHCP".into(), head: head.map(str::to_owned).to_vec(), rows, notes }
}

const fn name(who: Who) -> &'static str {
    match who {
        Who::Weft => "**Weft**",
        Who::Kea => "Kea 2.2, memfile",
        Who::Dnsmasq => "dnsmasq",
    }
}

/// Completed exchanges a second, the offered rate, percent of dropped requests, microseconds of CPU a lease.
fn one(who: Who, rate: u32, seconds: u64) -> Result<[f64; 4], String> {
    let (world, pids) = match who {
        Who::Weft => weft_server()?,
        Who::Kea => kea()?,
        Who::Dnsmasq => dnsmasq()?,
    };
    let cpu = || pids.iter().filter_map(|pid| weft::cpu_exact(*pid)).sum::<f64>();
    let before = cpu();
    let line = format!(
        "perfdhcp -4 -l 10.64.0.2 -L 67 -r {rate} -R 200000 -p {seconds} -b mac=0a:00:00:00:00:00 10.64.0.1 2>&1 || true"
    );
    let said = world.sh("c", &line)?;
    std::thread::sleep(Duration::from_millis(200));
    let used = cpu() - before;
    let after = |what: &str| {
        let values = said.lines().filter_map(|l| l.trim().strip_prefix(what));
        values
            .filter_map(|v| v.trim_start_matches([':', ' ']).split([' ', '%']).next()?.parse::<f64>().ok())
            .collect::<Vec<_>>()
    };
    let (done, sent) = (after("received packets"), after("sent packets"));
    let [.., acks] = done[..] else { return Err(format!("perfdhcp said: {said}")) };
    let (sent, received): (f64, f64) = (sent.iter().sum(), done.iter().sum());
    Ok([acks / seconds as f64, rate.into(), (sent - received) * 100.0 / sent, used * 1e6 / acks])
}

/// The client's side: namespace `c` with address 10.64.0.2, cabled to device `lan` of namespace `sw`.
fn cable(world: &mut World) -> Result<(), String> {
    world.add("c")?;
    world.sh("sw", "ip link add lan type veth peer name eth0 netns @c; ip link set lan up")?;
    world.sh("c", "ip link set eth0 address 02:00:00:00:00:02 up; ip addr add 10.64.0.2/14 dev eth0; ethtool -K eth0 tx off >/dev/null")?;
    Ok(())
}

const NETWORK: &str = "apiVersion: weft.dev/v1
kind: Network
metadata: {name: load}
spec: {mode: isolated, spoofGuard: false}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: load4}
spec: {network: load, cidr: 10.64.0.0/14, dhcp: {ranges: [{start: 10.64.1.0, end: 10.67.255.0}]}}
---
apiVersion: weft.dev/v1
kind: Port
metadata: {name: lan}
spec: {network: load, mac: '02:00:00:00:00:02', addresses: [10.64.0.2]}
";

fn weft_server() -> Result<(World, Vec<u32>), String> {
    let mut node = Node::new("d")?;
    let version = node.apply(NETWORK)?;
    cable(&mut node.world)?;
    node.settled(version)?;
    let plug = "add-port br-int lan -- set Interface lan external-ids:iface-id=lan";
    ovs::vsctl(&node.world, "sw", plug)?;
    wait_ping(&node.world)?;
    let pids = vec![node.switch, node.agent];
    Ok((node.world, pids))
}

fn wait_ping(world: &World) -> Result<(), String> {
    let ping =
        "for i in $(seq 100); do ping -c1 -W 0.2 10.64.0.1 >/dev/null && exit 0; sleep 0.1; done; exit 1";
    world.sh("c", ping).map(drop)
}

fn kea() -> Result<(World, Vec<u32>), String> {
    let mut world = peer()?;
    let dir = world.dir.display().to_string();
    let config = serde_json::json!({"Dhcp4": {
        "interfaces-config": {"interfaces": ["lan"]},
        "lease-database": {"type": "memfile", "persist": true, "name": format!("{dir}/leases.csv"), "lfc-interval": 0},
        "valid-lifetime": 3600,
        "subnet4": [{"subnet": "10.64.0.0/14", "pools": [{"pool": "10.64.1.0 - 10.67.255.0"}], "interface": "lan"}],
        "multi-threading": {"enable-multi-threading": true, "thread-pool-size": 2},
        "loggers": [{"name": "kea-dhcp4", "severity": "ERROR", "output_options": [{"output": "stderr"}]}],
    }});
    let file = format!("{dir}/kea.json");
    std::fs::write(&file, config.to_string()).map_err(|e| e.to_string())?;
    let places = ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR"].map(|k| (k.to_owned(), dir.clone()));
    let pid = world.spawn("sw", &HashMap::from(places), &["kea-dhcp4", "-c", &file], "kea.log")?;
    wait_for(&world.dir.join("leases.csv"), 10.0).map_err(|e| format!("{e}\n{}", world.output("kea.log")))?;
    std::thread::sleep(Duration::from_millis(500));
    Ok((world, vec![pid]))
}

fn dnsmasq() -> Result<(World, Vec<u32>), String> {
    let mut world = peer()?;
    let (lease, pid) = (world.dir.join("leases"), world.dir.join("dnsmasq.pid"));
    let (lease, pidfile) =
        (format!("--dhcp-leasefile={}", lease.display()), format!("--pid-file={}", pid.display()));
    let words = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=lan",
        "--user=root",
        "--dhcp-range=10.64.1.0,10.67.255.0,255.252.0.0,1h",
        "--dhcp-lease-max=1000000",
        "--dhcp-authoritative",
        "--no-ping",
        "--quiet-dhcp",
        &lease,
        &pidfile,
    ];
    let server = world.spawn("sw", &HashMap::new(), &words, "dnsmasq.log")?;
    wait_for(&pid, 10.0).map_err(|e| format!("{e}\n{}", world.output("dnsmasq.log")))?;
    Ok((world, vec![server]))
}

/// A namespace for a server at the other end of the client's cable.
fn peer() -> Result<World, String> {
    let mut world = World::new("d")?;
    world.add("sw")?;
    cable(&mut world)?;
    world.sh("sw", "ip addr add 10.64.0.1/14 dev lan")?;
    wait_ping(&world)?;
    Ok(world)
}
