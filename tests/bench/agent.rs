//! What does the agent cost? Time from a declaration to traffic, and what one port's change costs beside many others.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use weft_agent::south::{Database, SouthError};
use weft_api::Client;
use weft_model::{Kind, ObjectRef, Phase, Resource};

use crate::ns::World;
use crate::ovs;
use crate::report::{Table, cell, median};
use crate::weft;

/// Changes of one port that a sample is the mean of.
const CHANGES: u32 = 200;
/// Ports plugged in and out that a sample is the mean of.
const PLUGS: u32 = 40;
/// Questions of which the cost of one is taken.
const QUESTIONS: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(120);

/// A switch with the agent beside it, in namespace `sw`.
pub(crate) struct Node {
    pub(crate) world: World,
    pub(crate) switch: u32,
    pub(crate) agent: u32,
    runtime: Runtime,
    client: Client,
    database: Database,
    /// Questions that waiting asked.
    asked: Cell<u32>,
}

impl Node {
    /// Starts both.
    pub(crate) fn new(label: &str) -> Result<Node, String> {
        let mut world = World::new(label)?;
        world.add("sw")?;
        let switch = weft::start_with(&mut world, "sw", &["--lanes=1"])?;
        let dir = world.dir.join("sw").display().to_string();
        let (rundir, socket) = (format!("--rundir={dir}"), format!("--socket={dir}/api.sock"));
        let store = format!("--store={dir}/agent.redb");
        let words = [env!("CARGO_BIN_EXE_weft"), "agent", &rundir, &socket, &store];
        let env = ovs::env(&world, "sw");
        let agent = world.spawn("sw", &env, &words, "agent.log")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let client = Client::unix(format!("{dir}/api.sock"));
        let database = runtime.block_on(async { Database::start(world.dir.join("sw/db.sock")).0 });
        let node = Node { world, switch, agent, runtime, client, database, asked: Cell::new(0) };
        node.until("the agent answers", || node.runtime.block_on(node.client.health()).is_ok())?;
        Ok(node)
    }

    /// Has this come true, and returns the version that it has then.
    pub(crate) fn apply(&self, text: &str) -> Result<u64, String> {
        let answer = self.runtime.block_on(self.client.apply(text.to_owned(), false, false));
        answer.map(|a| a.resource_version).map_err(|e| e.to_string())
    }

    /// The version that the bridge is programmed for.
    fn programmed(&self) -> u64 {
        self.asked.set(self.asked.get() + 1);
        let node = self.runtime.block_on(self.client.node());
        node.ok().filter(|n| n.switch_connected).map_or(0, |n| n.programmed_version)
    }

    /// Waits until the bridge is programmed for a version.
    pub(crate) fn settled(&self, version: u64) -> Result<(), String> {
        self.until("the bridge is programmed", || self.programmed() >= version)
    }

    /// Waits until nothing is written any more.
    fn quiet(&self) -> Result<(), String> {
        let mut last = 0;
        self.until("nothing changes", || {
            let now = self.runtime.block_on(self.client.health()).map_or(0, |h| h.resource_version);
            let same = now == std::mem::replace(&mut last, now) && self.programmed() >= now;
            std::thread::sleep(Duration::from_millis(300));
            same
        })
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !done() {
            if Instant::now() > end {
                return Err(format!("{what}: not in {PATIENCE:?}\n{}", self.world.output("agent.log")));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    /// CPU seconds of the agent and of the switch.
    pub(crate) fn cpu(&self) -> (f64, f64) {
        (weft::cpu_exact(self.agent).unwrap_or(f64::NAN), weft::cpu_exact(self.switch).unwrap_or(f64::NAN))
    }

    /// Does something in the switch's database; the results.
    fn transact(&self, operations: &[Value]) -> Result<Value, String> {
        self.runtime.block_on(async {
            for _ in 0..100 {
                match self.database.transact(operations.to_vec()).await {
                    // The connection is not there yet.
                    Err(SouthError::Disconnected(_)) => {}
                    done => return done.map_err(|e| e.to_string()),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err("no connection to the database".into())
        })
    }

    /// Plugs a port in that is a sink, and out again; waits for the agent to have seen either.
    fn replug(&self, n: usize) -> Result<(), String> {
        self.transact(&sinks(&[n]))?;
        self.until("the port is ready", || self.phase(n) == Some(Phase::Ready))?;
        let row = json!({"op": "select", "table": "Port", "where": [["name", "==", format!("n{n}")]], "columns": ["_uuid"]});
        let row = &self.transact(&[row])?[0]["rows"][0]["_uuid"];
        let gone = json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", "br-int"]],
            "mutations": [["ports", "delete", row]]});
        self.transact(&[gone])?;
        self.until("the port is gone", || self.phase(n) == Some(Phase::Pending))
    }

    fn phase(&self, n: usize) -> Option<Phase> {
        self.asked.set(self.asked.get() + 1);
        let port = self.runtime.block_on(self.client.get(&ObjectRef::new(Kind::Port, format!("n{n}"))));
        port.ok()?.as_ref().and_then(Resource::as_port).map(|p| p.status.phase)
    }

    /// Plugs ports in that are sinks, and the two that are hosts `c1` and `c2`.
    fn plug(&mut self, ports: usize) -> Result<(), String> {
        self.until("the bridge is there", || ovs::vsctl(&self.world, "sw", "br-exists br-int").is_ok())?;
        // What the switch counts now and then is none of a change's cost.
        ovs::vsctl(&self.world, "sw", "set Open_vSwitch . other_config:stats-update-interval=3600000")?;
        let names: Vec<usize> = (2..ports).collect();
        for chunk in names.chunks(1_000) {
            self.transact(&sinks(chunk))?;
        }
        for n in 0..2 {
            let host = format!("c{n}");
            self.world.add(&host)?;
            self.world.sh(
                "sw",
                &format!("ip link add n{n} type veth peer name eth0 netns @{host}; ip link set n{n} up"),
            )?;
            self.world.sh(&host, &format!("ip addr add {}/15 dev eth0; ip link set eth0 address {} up; ethtool -K eth0 tx off >/dev/null", address(n, 0), mac(n)))?;
            let id = format!("external-ids:iface-id=n{n}");
            ovs::vsctl(&self.world, "sw", &format!("add-port br-int n{n} -- set Interface n{n} {id}"))?;
        }
        Ok(())
    }
}

/// The operations that add ports which are sinks.
fn sinks(ports: &[usize]) -> Vec<Value> {
    let insert = |table: &str, name: String, row: Value| json!({"op": "insert", "table": table, "uuid-name": name, "row": row});
    let mut operations = Vec::new();
    for n in ports {
        let ids = json!(["map", [["iface-id", format!("n{n}")]]]);
        let row = json!({"name": format!("n{n}"), "type": "null", "external_ids": ids});
        operations.push(insert("Interface", format!("i{n}"), row));
        let row = json!({"name": format!("n{n}"), "interfaces": ["named-uuid", format!("i{n}")]});
        operations.push(insert("Port", format!("p{n}"), row));
    }
    let rows: Vec<Value> = ports.iter().map(|n| json!(["named-uuid", format!("p{n}")])).collect();
    let mutations = json!([["ports", "insert", ["set", rows]]]);
    operations.push(json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", "br-int"]], "mutations": mutations}));
    operations
}

fn mac(n: usize) -> String {
    format!("02:00:00:{:02x}:{:02x}:{:02x}", n >> 16, n >> 8 & 255, n & 255)
}

/// The address of a port; it differs by turn.
fn address(n: usize, turn: u32) -> String {
    format!("10.{}.{}.{}", 100 + turn % 2, n / 100 + 1, n % 100 + 1)
}

/// Ports of a network. A packet for all of them is copied to all.
const TOGETHER: usize = 1_000;

/// The networks of so many ports.
fn networks(ports: usize) -> String {
    let network = |n: usize| {
        format!(
            "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: bench{n}}}\nspec: {{mode: isolated}}\n---\n\
             apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {{name: bench{n}}}\n\
             spec: {{network: bench{n}, cidr: 10.100.0.0/15}}\n---\n"
        )
    };
    (0..=ports / TOGETHER).map(network).collect()
}

/// A port as it is declared; its address differs by turn.
fn port(n: usize, turn: u32) -> String {
    let (address, network) = (address(n, turn), n / TOGETHER);
    format!(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: n{n}}}\n\
         spec: {{network: bench{network}, mac: '{}', addresses: [{address}], attachment: {{ifaceId: n{n}}}}}\n---\n",
        mac(n)
    )
}

/// Every row, round by round.
pub(crate) fn table(only: Option<&str>, rounds: usize) -> Table {
    let mut ports = vec![10, 1_000, 10_000];
    ports.retain(|n: &usize| only.is_none_or(|o| n.to_string() == o));
    let mut samples: Vec<[Vec<f64>; 7]> = ports.iter().map(|_| Default::default()).collect();
    let mut notes = vec![format!(
        "Ports are sinks but for two veth pairs, in networks of {TOGETHER}. A change is a new address of one port, applied \
         through the API; latency: until the bridge is programmed for it. A plug is a declared port's interface added to \
         br-int until the port is ready, and taken away until it is pending again. What waiting asks the agent is \
         subtracted. Means of {CHANGES} changes and {PLUGS} plugs, medians of {rounds} interleaved rounds."
    )];
    for round in 1..=rounds {
        for (&ports, into) in ports.iter().zip(&mut samples) {
            eprint!("\r\x1b[Kagent: {ports} ports, round {round}/{rounds}");
            match one(ports) {
                Ok(sample) => into.iter_mut().zip(sample).for_each(|(s, v)| s.push(v)),
                Err(why) => notes.push(format!("{ports} ports: {}", crate::report::last_lines(&why))),
            }
        }
    }
    eprintln!("\r\x1b[Kagent: done");
    let rows = ports.iter().zip(&samples).map(|(ports, samples)| {
        [ports.to_string()].into_iter().chain(samples.iter().map(|s| cell(median(s)))).collect()
    });
    let head = [
        "ports",
        "apply of all to traffic, s",
        "a change: latency, ms",
        "agent CPU, ms",
        "switch CPU, ms",
        "a plug: latency, ms",
        "agent CPU, ms",
        "switch CPU, ms",
    ];
    Table { title: "Agent".into(), head: head.map(str::to_owned).to_vec(), rows: rows.collect(), notes }
}

/// Seconds until traffic; then of one change, and of one plug: latency, CPU of the agent and of the switch in milliseconds.
fn one(ports: usize) -> Result<[f64; 7], String> {
    let mut node = Node::new("a")?;
    node.apply(&networks(ports))?;
    node.plug(ports)?;
    node.quiet()?;
    let ping = format!("ping -c1 -W 0.2 {} >/dev/null", address(1, 0));
    // One more is declared than is plugged in.
    let all: String = (0..=ports).map(|n| port(n, 0)).collect();
    let start = Instant::now();
    node.apply(&all)?;
    node.until("traffic", || node.world.sh("c0", &ping).is_ok())?;
    let traffic = start.elapsed().as_secs_f64();
    let costs = |times: u32, work: &mut dyn FnMut(&Node, u32) -> Result<(), String>| {
        node.quiet()?;
        // What a question costs the agent: waiting is to be none of a change's cost.
        let before = node.cpu().0;
        for _ in 0..QUESTIONS {
            node.programmed();
        }
        let question = (node.cpu().0 - before) / f64::from(QUESTIONS);
        node.asked.set(0);
        let (before, start, each) = (node.cpu(), Instant::now(), 1e3 / f64::from(times));
        (1..=times).try_for_each(|turn| work(&node, turn))?;
        let (after, latency) = (node.cpu(), start.elapsed().as_secs_f64());
        let agent = after.0 - before.0 - f64::from(node.asked.get()) * question;
        Ok::<_, String>([latency, agent, after.1 - before.1].map(|seconds| seconds * each))
    };
    let change = costs(CHANGES, &mut |node, turn| node.settled(node.apply(&port(5, turn))?))?;
    let plug = costs(PLUGS, &mut |node, _| node.replug(ports))?;
    let [a, b, c] = change;
    let [d, e, f] = plug;
    Ok([traffic, a, b, c, d, e, f])
}
