//! How many questions for names does an agent answer beside dnsmasq, and what does each cost?
//!
//! Two networks of one switch: in one the agent answers, in the other dnsmasq at the gateway's address of the host's
//! device, as libvirt has it. dnsperf asks from two hosts of each.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::ns::World;
use crate::report::{Table, cell, last_lines, median};
use crate::{ovs, weft};

/// Names of the zone, and names that the forwarder has.
const NAMES: u32 = 1000;

const NOTE: &str = "dnsperf on two hosts at once, 100 questions under way each, 1,000 names; over veth through one Weft \
switch. dnsmasq listens on the network's host device; the agent answers packets that flows send it. CPU: of the server \
alone, and of server and switch.";

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Dnsmasq,
    Weft,
}

/// A server's pid, the network it serves, and the hosts that ask.
struct Side {
    server: Server,
    pid: u32,
    gateway: &'static str,
    hosts: [&'static str; 2],
}

/// Rates and costs of all rounds.
#[derive(Default)]
struct Samples([[Vec<f64>; 3]; 2]);

/// Every row, round by round.
pub(crate) fn table(rounds: usize, seconds: u64) -> Table {
    let mut rows = Vec::new();
    let mut notes = vec![NOTE.to_owned()];
    match measure(rounds, seconds) {
        Ok(found) => {
            for (name, samples) in found {
                let units =
                    [("questions/s", true), ("µs CPU a question", false), ("µs CPU with the switch", false)];
                for (i, (unit, more)) in units.into_iter().enumerate() {
                    let [d, w] = [median(&samples.0[0][i]), median(&samples.0[1][i])];
                    let ratio = d.zip(w).map(|(d, w)| if more { w / d } else { d / w });
                    let ratio = ratio.map_or_else(String::new, |r| cell(Some(r)) + " ×");
                    rows.push(vec![name.to_owned(), unit.to_owned(), cell(d), cell(w), ratio]);
                }
            }
        }
        Err(e) => notes.push(format!("failed: {}", last_lines(&e))),
    }
    let head = ["row", "unit", "dnsmasq", "Weft", "Weft is better by"].map(str::to_owned).to_vec();
    Table { title: "Names".to_owned(), head, rows, notes }
}

fn measure(rounds: usize, seconds: u64) -> Result<Vec<(&'static str, Samples)>, String> {
    let mut world = World::new("names")?;
    let switch = prepare(&mut world)?;
    let sides = servers(&mut world)?;
    let mut found = vec![("from the zone", Samples::default()), ("from the cache", Samples::default())];
    for (file, domain) in [("zone", "bench.example"), ("cache", "far.example")] {
        let lines: String = (0..NAMES).map(|n| format!("n{n}.{domain} A\n")).collect();
        std::fs::write(world.dir.join(file), lines).map_err(|e| e.to_string())?;
    }
    for side in &sides {
        // What is asked once is in the cache then.
        ask(&mut world, side, "cache", 2)?;
    }
    for round in 1..=rounds {
        for (file, (name, samples)) in ["zone", "cache"].into_iter().zip(&mut found) {
            for side in &sides {
                eprint!("\r\x1b[KNames: round {round}/{rounds}: {name}");
                let cpu = || (weft::cpu_exact(side.pid), weft::cpu_exact(switch));
                let before = cpu();
                let (rate, count) = ask(&mut world, side, file, seconds)?;
                let after = cpu();
                let spent = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| (b - a) * 1e6 / count);
                let (own, shared) = (spent(before.0, after.0), spent(before.1, after.1));
                let of = &mut samples.0[side.server as usize];
                of[0].push(rate);
                of[1].extend(own);
                of[2].extend(own.zip(shared).map(|(a, b)| a + b));
            }
        }
    }
    eprintln!("\r\x1b[KNames: done");
    Ok(found)
}

/// The switch's pid; namespaces, cables and the network outside.
fn prepare(world: &mut World) -> Result<u32, String> {
    world.add("sw")?;
    let switch = weft::start(world, "sw")?;
    world.add("up")?;
    world.sh("sw", "ip link add up0 type veth peer name eth0 netns @up; ip addr add 192.0.2.1/24 dev up0; ip link set up0 up")?;
    world.sh("up", "ip addr add 192.0.2.99/24 dev eth0; ip link set eth0 up")?;
    for (n, net) in [(1, 7), (2, 7), (3, 8), (4, 8)] {
        let host = format!("h{n}");
        world.add(&host)?;
        world.sh(
            "sw",
            &format!("ip link add p{n} type veth peer name eth0 netns @{host}; ip link set p{n} up"),
        )?;
        world.sh(
            &host,
            &format!(
                "ip link set eth0 address 02:00:00:00:02:0{n} up; ip addr add 10.{net}.0.1{n}/24 dev eth0; \
                 ethtool -K eth0 tx off >/dev/null"
            ),
        )?;
    }
    Ok(switch)
}

/// What the agent is to make of it.
fn wanted() -> String {
    let mut text = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: agent}\nspec:\n  mode: isolated\n  \
        domain: {name: bench.example, localOnly: true}\n  dns:\n    forwarders: [{address: 192.0.2.99}]\n    hosts:\n"
        .to_owned();
    for n in 0..NAMES {
        let _ = writeln!(text, "    - {{ip: 10.7.{}.{}, names: [n{n}]}}", 1 + n / 250, n % 250);
    }
    text += "---\napiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: plain}\n\
        spec: {mode: isolated, dns: {enabled: false}}\n";
    for (name, net) in [("agent", 7), ("plain", 8)] {
        let _ = write!(
            text,
            "---\napiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {{name: {name}}}\n\
             spec: {{network: {name}, cidr: 10.{net}.0.0/24}}\n"
        );
    }
    for (n, net, name) in [(1, 7, "agent"), (2, 7, "agent"), (3, 8, "plain"), (4, 8, "plain")] {
        let _ = write!(
            text,
            "---\napiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: h{n}}}\nspec: {{network: {name}, \
             mac: '02:00:00:00:02:0{n}', addresses: [10.{net}.0.1{n}], attachment: {{ifaceId: h{n}}}}}\n"
        );
    }
    text
}

/// Starts the forwarder, the agent with its networks, and dnsmasq.
fn servers(world: &mut World) -> Result<[Side; 2], String> {
    let none = HashMap::new();
    let records = |domain: &str| -> String {
        (0..NAMES).map(|n| format!("host-record=n{n}.{domain},10.9.{}.{}\n", n / 250, 1 + n % 250)).collect()
    };
    let common =
        "no-resolv\nno-hosts\nuser=root\nbind-interfaces\nlocal-ttl=3600\ncache-size=10000\npid-file=\n";
    let conf = |world: &World, name: &str, text: String| {
        let path = world.dir.join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string()).map_err(|e| e.to_string())
    };
    let up =
        conf(world, "up.conf", format!("{common}listen-address=192.0.2.99\n{}", records("far.example")))?;
    world.spawn("up", &none, &["dnsmasq", "-k", "-C", &up], "up.log")?;

    let dir = world.dir.join("sw").display().to_string();
    let (store, socket) = (format!("{dir}/agent.redb"), format!("{dir}/api.sock"));
    let env = ovs::env(world, "sw");
    let binary = env!("CARGO_BIN_EXE_weft");
    let agent = world.spawn(
        "sw",
        &env,
        &[binary, "agent", "--rundir", &dir, "--store", &store, "--socket", &socket],
        "agent.log",
    )?;
    let file = conf(world, "wanted.yaml", wanted())?;
    until(|| world.exec("sw", &env, &[binary, "apply", "-f", &file, "--socket", &socket]))?;
    until(|| ovs::vsctl(world, "sw", "br-exists br-int"))?;
    for n in 1..=4 {
        let plug = format!("add-port br-int p{n} -- set interface p{n} external-ids:iface-id=h{n}");
        ovs::vsctl(world, "sw", &plug)?;
    }
    until(|| world.sh("sw", "ip -br addr show dev wn-plain | grep -q 10.8.0.1"))?;
    let text = format!("{common}listen-address=10.8.0.1\nserver=192.0.2.99\n{}", records("bench.example"));
    let text = conf(world, "plain.conf", text)?;
    let dnsmasq = world.spawn("sw", &none, &["dnsmasq", "-k", "-C", &text], "plain.log")?;
    for (host, gateway) in [("h1", "10.7.0.1"), ("h2", "10.7.0.1"), ("h3", "10.8.0.1"), ("h4", "10.8.0.1")] {
        let question = format!("dig +tries=1 +time=1 +short @{gateway} n7.bench.example | grep -q 10");
        until(|| world.sh(host, &question))?;
    }
    Ok([
        Side { server: Server::Dnsmasq, pid: dnsmasq, gateway: "10.8.0.1", hosts: ["h3", "h4"] },
        Side { server: Server::Weft, pid: agent, gateway: "10.7.0.1", hosts: ["h1", "h2"] },
    ])
}

/// Tries for some seconds.
fn until(mut done: impl FnMut() -> Result<String, String>) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..100 {
        match done() {
            Ok(_) => return Ok(()),
            Err(e) => last = e,
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err(last)
}

/// Questions a second, and how many were answered.
fn ask(world: &mut World, side: &Side, file: &str, seconds: u64) -> Result<(f64, f64), String> {
    let (data, time) = (world.dir.join(file).display().to_string(), seconds.to_string());
    let mut running = Vec::new();
    for host in side.hosts {
        let out = format!("{host}.dnsperf");
        let argv = ["dnsperf", "-s", side.gateway, "-d", &data, "-l", &time, "-q", "100", "-c", "4"];
        running.push((world.spawn(host, &HashMap::new(), &argv, &out)?, out));
    }
    let (mut rate, mut count) = (0.0, 0.0);
    for (pid, out) in running {
        world.wait(pid, seconds as f64 + 20.0);
        let text = world.output(&out);
        let number = |head: &str| -> Option<f64> {
            text.lines().find_map(|l| l.trim().strip_prefix(head)?.split_whitespace().next()?.parse().ok())
        };
        let (second, done) =
            number("Queries per second:").zip(number("Queries completed:")).ok_or(text.clone())?;
        (rate, count) = (rate + second, count + done);
    }
    Ok((rate, count))
}
