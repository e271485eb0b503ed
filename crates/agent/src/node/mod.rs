//! What does the agent do all day? It brings the node in line with what is wanted, a change at a time.
//!
//! ```text
//!  store ──watch──▶ ┐                          ┌──▶ database: bridge and ports
//!  database ─view─▶ ├─▶ dirty names ─▶ settle ─┼──▶ flows: one bundle
//!  flows ──events─▶ ┘                          ├──▶ links: addresses of the host's ends
//!      │                                       ├──▶ responders: DHCP, router advertisements; names
//!      └──punts──▶ responders, names           └──▶ store: status
//! ```
//! One task owns all of it but connections and responders. What fails is tried again.

mod contests;
mod host;
mod intake;
mod mend;
mod neighbours;
mod report;
mod services;
mod settle;

use host::{Host, Look, Stirred};
use services::Services;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use weft_compile::Compiler;
use weft_model::{Catalog, Kind, Network, Port};
use weft_store::{Store, StoreError, Watch};

use crate::heal::Told;
use crate::ipam::Ipam;
use crate::resolve::Resolver;
use crate::respond::dns::{self, Dns};
use crate::respond::{self, Tell};
use crate::south::{BRIDGE, Database, Device, Event, Flows, Punts, View, Views, Wanted};

/// Wait before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often the kernel is looked at for what it does not tell of: settings, and namespaces that come.
const LOOK: Duration = Duration::from_secs(1);
/// The fault of a port that gets no address.
const NO_ADDRESS: &str = "NoAddress";
/// The fault of a port whose address somebody else has.
const ADDRESS_IN_USE: &str = "AddressInUse";
/// The fault of a port whose machine has another MAC address than the port.
const WRONG_MAC: &str = "WrongMac";
/// Changes taken in before the node is brought in line.
const BATCH: usize = 4096;

/// What a node's agent is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, which ports name.
    pub node: String,
    /// Run directory of the switch: its database's socket and the integration bridge's are there.
    pub rundir: PathBuf,
    /// Datapath of the integration bridge; see [`Wanted::datapath`].
    pub datapath: String,
    /// Largest IP packet between nodes, in bytes.
    pub underlay_mtu: u16,
    /// File that tells what kernel settings were before they were changed, for a cleanup; none: it is not kept.
    pub settings: Option<PathBuf>,
}

/// How far a node has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The store's version that the switch is programmed for.
    pub version: u64,
    /// The integration bridge is connected and has its flows.
    pub connected: bool,
    /// Where the switch is.
    pub switch: String,
    /// Flows of ours.
    pub flows: u64,
    /// What was put right on the host, and what is wrong there.
    pub host: Told,
}

/// Who has this number on this node, and who wants to know?
#[derive(Debug)]
pub struct Question {
    /// A network, or a port.
    pub kind: Kind,
    /// Its number: the key in cookies of flows.
    pub key: u32,
    /// Gets its name; `None`: it is gone.
    pub answer: oneshot::Sender<Option<String>>,
}

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store fails.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// Leases could not be read or kept.
    #[error("no lease can be kept, so none is given: {0}")]
    Leases(StoreError),
    /// The thread that answers packets cannot be started.
    #[error("no thread for DHCP and names: {0}")]
    Thread(#[from] io::Error),
    /// A task of ours ended.
    #[error("{0} ended")]
    Ended(&'static str),
}

/// A node's agent.
pub struct Node<S> {
    config: Config,
    store: Arc<S>,
    watch: Watch,
    catalog: Catalog,
    resolver: Resolver,
    ipam: Ipam,
    compiler: Compiler,
    database: Database,
    views: Views,
    view: View,
    flows: Flows,
    events: mpsc::Receiver<Event>,
    responders: mpsc::Sender<Tell>,
    /// Why the responders ended.
    unkept: oneshot::Receiver<StoreError>,
    names: Dns,
    /// Where all that answers packets runs.
    _services: Services,
    /// Networks and ports to be looked at.
    nets: BTreeSet<String>,
    ports: BTreeSet<String>,
    /// Networks of which only what is told may have changed.
    counted: BTreeSet<String>,
    /// Subnets that are gone.
    lost: Vec<String>,
    /// What is wanted of the database.
    wanted: Wanted,
    /// Of that, what is wanted for networks.
    shared: BTreeMap<String, Device>,
    /// Ports of the bridge to be looked at; `None`: all.
    unmade: Option<BTreeSet<String>>,
    /// Ports by what they are plugged in by.
    anchors: BTreeMap<String, BTreeSet<String>>,
    /// Networks by the devices that they have on the bridge.
    joints: BTreeMap<String, BTreeSet<String>>,
    connected: bool,
    /// The groups that the bridge had, when it has to be told everything.
    whole: Option<Vec<u32>>,
    faults: BTreeMap<String, (&'static str, String)>,
    /// Addresses that somebody else has.
    contests: contests::Contests,
    host: Host,
    /// What somebody changed on the bridge.
    mends: mend::Mends,
    /// Somebody changed devices, addresses or nftables.
    stirred: Stirred,
    /// The store's version that was taken in last.
    version: u64,
    progress: Option<watch::Sender<Progress>>,
    questions: Option<mpsc::Receiver<Question>>,
    /// The bridge holds what is compiled, as was told last.
    in_line: bool,
    again: Option<Instant>,
    look: Instant,
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl<S: Store> Node<S> {
    /// Starts the connections and reads what is wanted.
    ///
    /// # Errors
    /// The store fails.
    pub async fn new(store: Arc<S>, config: Config) -> Result<Node<S>, NodeError> {
        let (database, views) = Database::start(config.rundir.join("db.sock"));
        let services = Services::start()?;
        let (flows, events, names, (responders, unkept), contests) = services.within(|| {
            let ((questions, asked), (packets, punts)) = (Punts::new(), Punts::new());
            let bridge = config.rundir.join(format!("{BRIDGE}.mgmt"));
            let (flows, events) = Flows::start(bridge, respond::sort(questions, packets));
            let names = dns::start(flows.clone(), asked);
            let (tell, contests) = contests::start();
            let told = respond::start(Arc::clone(&store), flows.clone(), punts, names.teller(), tell);
            (flows, events, names, told, contests)
        });
        let (catalog, version) = store.catalog().await?;
        let watch = store.watch(version).await?;
        let mut node = Node {
            resolver: Resolver {
                node: config.node.clone(),
                underlay_mtu: config.underlay_mtu,
                ..Resolver::default()
            },
            ipam: Ipam::default(),
            compiler: Compiler::new().0,
            view: View::default(),
            nets: catalog.networks().map(|n| n.name().to_owned()).collect(),
            ports: catalog.ports().map(|p| p.name().to_owned()).collect(),
            counted: BTreeSet::new(),
            lost: Vec::new(),
            wanted: Wanted { datapath: config.datapath.clone(), ..Wanted::default() },
            shared: BTreeMap::new(),
            unmade: None,
            anchors: BTreeMap::new(),
            joints: BTreeMap::new(),
            connected: false,
            whole: None,
            faults: BTreeMap::new(),
            contests,
            host: Host::new(&config),
            mends: mend::Mends::new(),
            stirred: host::listen(),
            version,
            progress: None,
            questions: None,
            in_line: false,
            again: None,
            look: Instant::now(),
            config,
            store,
            watch,
            catalog,
            database,
            views,
            flows,
            events,
            responders,
            unkept,
            names,
            _services: services,
        };
        let ports: Vec<Port> = node.catalog.ports().cloned().collect();
        ports.iter().for_each(|port| node.anchor(port, true));
        let networks: Vec<Network> = node.catalog.networks().cloned().collect();
        networks.iter().for_each(|network| node.joint(network, true));
        node.remember_contests().await?;
        Ok(node)
    }

    /// The same node, that tells how far it has come.
    #[must_use]
    pub fn telling(self, progress: watch::Sender<Progress>) -> Node<S> {
        Node { progress: Some(progress), ..self }
    }

    /// The same node, that answers questions.
    #[must_use]
    pub fn answering(self, questions: mpsc::Receiver<Question>) -> Node<S> {
        Node { questions: Some(questions), ..self }
    }

    /// The same node, that reads in this file instead of `/etc/resolv.conf` whom the machine asks for names.
    pub async fn with_resolv_conf(self, path: PathBuf) -> Node<S> {
        let _ = self.names.teller().send(dns::Tell::ResolvConf(path)).await;
        self
    }

    /// Works until the store or a task of ours ends.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn run(mut self) -> Result<(), NodeError> {
        loop {
            let wake = self.again.unwrap_or(self.look).min(self.look);
            tokio::select! {
                event = self.watch.next() => {
                    self.take_resource(event?);
                    for _ in 0..BATCH {
                        let Some(event) = self.watch.try_next()? else { break };
                        self.take_resource(event);
                    }
                }
                more = self.views.changed() => {
                    if !more {
                        return Err(NodeError::Ended("the connection to the database"));
                    }
                    self.take_view();
                }
                event = self.events.recv() => {
                    self.take_event(event.ok_or(NodeError::Ended("the connection to the bridge"))?);
                }
                why = &mut self.unkept => {
                    // Nobody can be promised an address any more. The switch forwards on.
                    return Err(why.map_or(NodeError::Ended("the responders"), NodeError::Leases));
                }
                Some(contest) = self.contests.heard.recv() => self.contest(&contest),
                question = next(&mut self.questions) => {
                    self.tell_name(question);
                    continue;
                }
                () = sleep_until(wake) => {
                    if self.again.take().is_none() {
                        self.host(Look::Tick).await;
                        self.follow_mtus();
                        if self.is_quiet() {
                            continue;
                        }
                    }
                }
                Some(()) = self.stirred.bell.recv() => {
                    let look = self.stir();
                    self.host(look).await;
                    if self.is_quiet() {
                        continue;
                    }
                }
            }
            self.settle().await?;
        }
    }
}

/// The next question; never if nobody can ask.
async fn next(questions: &mut Option<mpsc::Receiver<Question>>) -> Question {
    if let Some(receiver) = questions {
        if let Some(question) = receiver.recv().await {
            return question;
        }
        *questions = None;
    }
    std::future::pending().await
}
