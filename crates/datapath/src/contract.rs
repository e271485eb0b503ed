//! What does the switch ask of a datapath, whichever it is?
//!
//! A datapath carries frames between ports as the pipeline decides, and caches those decisions. The trait leans
//! neither to the lanes of the user datapath nor to the maps of the eBPF one: every call is about ports, flows,
//! packets and counters.

use std::net::IpAddr;
use std::sync::Arc;

use weft_conntrack::Conntrack;
use weft_flow::{
    DpAction, DpPort, DropReason, Match, PacketKey, RuleRef, SampleTo, ToController, TunnelKey, TunnelKind,
};
use weft_wire::Mac;

use crate::police::Policing;

/// The result of a control call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a control call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host refused.
    #[error(transparent)]
    Host(#[from] weft_host::Error),
    /// A system call of the datapath itself failed.
    #[error("{what}: {source}")]
    Os {
        /// The deed.
        what: String,
        /// The kernel's reason.
        #[source]
        source: std::io::Error,
    },
    /// There is a port of that number or name already.
    #[error("port {0} exists already")]
    PortExists(String),
    /// There is no such port.
    #[error("no port {0}")]
    NoPort(DpPort),
    /// All port numbers are taken.
    #[error("no port number is free (limit {0})")]
    TooManyPorts(u32),
    /// This datapath cannot carry that kind of port.
    #[error("this datapath has no ports of kind {0}")]
    Unsupported(&'static str),
    /// A pcap file that is none.
    #[error("{0}: {1}")]
    Pcap(String, crate::ports::PcapError),
    /// A flow with that match is not there.
    #[error("no such flow")]
    NoFlow,
    /// The frame given to [`Datapath::execute`] does not fit a buffer.
    #[error("frame of {0} bytes is too long")]
    FrameTooLong(usize),
    /// The datapath's threads are gone.
    #[error("the datapath is stopped")]
    Stopped,
}

impl Error {
    pub(crate) fn os(what: impl Into<String>, source: std::io::Error) -> Self {
        Error::Os { what: what.into(), source }
    }
}

/// A port to add.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// Name, unique in the datapath; for device kinds the network device's name.
    pub name: String,
    /// The number wanted; `None` takes one that is free.
    pub number: Option<DpPort>,
    /// What it is.
    pub kind: PortKind,
}

impl PortSpec {
    /// A port of any number.
    pub fn new(name: impl Into<String>, kind: PortKind) -> Self {
        PortSpec { name: name.into(), number: None, kind }
    }
}

/// What a port is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PortKind {
    /// A network device that exists (veth, NIC). Its frames are kept from the host's own stack.
    Device,
    /// A TAP whose device end stays with the host: the bridge's own interface.
    Internal {
        /// Address of the device end; `None` leaves what the kernel chose.
        mac: Option<Mac>,
        /// MTU of the device end; `None` leaves 1500.
        mtu: Option<u32>,
    },
    /// A TAP whose device end is for a VM, or to be moved into another network namespace.
    Tap,
    /// A tunnel over the host's own IP stack; the outer header comes with each output.
    Tunnel(TunnelSpec),
    /// The memory of a virtual machine, shared by vhost-user.
    Vhost(VhostSpec),
    /// Frames replayed from memory, for rigs and tests.
    Pcap(PcapSpec),
    /// Takes everything and counts it, for rigs and tests.
    Null,
}

impl PortKind {
    /// The name the Interface table uses.
    pub fn name(&self) -> &'static str {
        match self {
            PortKind::Device => "system",
            PortKind::Internal { .. } => "internal",
            PortKind::Tap => "tap",
            PortKind::Tunnel(t) => match t.kind {
                TunnelKind::Vxlan => "vxlan",
                TunnelKind::Geneve => "geneve",
                TunnelKind::Gre => "gre",
            },
            PortKind::Vhost(VhostSpec { mode: VhostMode::Client, .. }) => "dpdkvhostuserclient",
            PortKind::Vhost(VhostSpec { mode: VhostMode::Server, .. }) => "dpdkvhostuser",
            PortKind::Pcap(_) => "pcap",
            PortKind::Null => "null",
        }
    }
}

/// The part of a tunnel's options that concerns how its datagrams are read and written.
///
/// Addresses, keys, TOS and TTL are the pipeline's: they come with `SetTunnel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSpec {
    /// Encapsulation.
    pub kind: TunnelKind,
    /// UDP port to listen on and to send to (not for GRE).
    pub dst_port: u16,
    /// Accept VXLAN group policy bits (`exts=gbp`).
    pub gbp: bool,
    /// Say in VXLAN headers what they carry (`exts=gpe`).
    pub gpe: bool,
    /// Send a GRE checksum, or a UDP checksum over IPv4, whatever the flags of the outer header say.
    pub csum: bool,
    /// Send GRE sequence numbers.
    pub seq: bool,
    /// Listen on this address only; `None` listens on all of both families.
    pub local: Option<IpAddr>,
    /// Firewall mark of what is sent (`egress_pkt_mark`).
    pub mark: Option<u32>,
}

impl TunnelSpec {
    /// A tunnel of this kind on its well-known port, all else at its default.
    pub fn new(kind: TunnelKind) -> Self {
        let dst_port = match kind {
            TunnelKind::Vxlan => 4789,
            TunnelKind::Geneve => 6081,
            TunnelKind::Gre => 0,
        };
        TunnelSpec {
            kind,
            dst_port,
            gbp: false,
            gpe: false,
            csum: false,
            seq: false,
            local: None,
            mark: None,
        }
    }
}

/// Who of the two connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VhostMode {
    /// This side, again and again: it may be started anew while the machine runs.
    Client,
    /// The machine's process.
    Server,
}

/// A vhost-user port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhostSpec {
    /// Who connects.
    pub mode: VhostMode,
    /// The socket.
    pub path: std::path::PathBuf,
    /// Largest layer-3 packet that is not to be cut, in bytes.
    pub mtu: u32,
}

/// Told by a thread of the datapath that a port is no longer what [`Datapath::port_info`] said; must not block.
pub type PortChanged = Arc<dyn Fn(DpPort) + Send + Sync>;

/// Frames to replay.
#[derive(Clone, Debug)]
pub struct PcapSpec {
    /// The frames, in order.
    pub frames: Arc<[Box<[u8]>]>,
    /// How often to send them all; `None` for ever.
    pub loops: Option<u64>,
}

impl PcapSpec {
    /// The frames of a pcap file (classic format, Ethernet).
    pub fn open(path: &std::path::Path, loops: Option<u64>) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| Error::os(format!("read {name}"), e))?;
        let frames = crate::ports::parse_pcap(&bytes).map_err(|e| Error::Pcap(name, e))?;
        Ok(PcapSpec { frames: frames.into(), loops })
    }
}

/// What is known of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Number in the datapath.
    pub number: DpPort,
    /// Name.
    pub name: String,
    /// Kind, as the Interface table names it.
    pub kind: &'static str,
    /// Index of the network device, if there is one in this namespace.
    pub ifindex: Option<u32>,
    /// Address of the device.
    pub mac: Option<Mac>,
    /// Largest layer-3 packet, in bytes.
    pub mtu: Option<u32>,
    /// The device is set up.
    pub admin_up: bool,
    /// The device has a carrier.
    pub link_up: bool,
    /// Whether segmentation and checksums are left to the port.
    pub offloads: bool,
    /// The kernel driver of the device, if known.
    pub driver: Option<String>,
    /// What else there is to tell, in the words of the Interface table's `status`.
    pub status: Vec<(String, String)>,
}

/// Traffic of a port since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received (a GSO frame counts once).
    pub rx_packets: u64,
    /// Bytes received, without offload headers.
    pub rx_bytes: u64,
    /// Frames received and not forwarded because of what they are.
    pub rx_errors: u64,
    /// Frames the port lost before the datapath saw them.
    pub rx_missed: u64,
    /// Frames dropped by decision.
    pub rx_dropped: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames the kernel refused.
    pub tx_errors: u64,
    /// Frames that found the queue full or were too long.
    pub tx_dropped: u64,
}

/// Drops by reason; index with [`DropReason`] as a number.
pub type DropCounts = [u64; DropReason::COUNT];

/// A cached flow.
#[derive(Clone, Debug)]
pub struct FlowEntry {
    /// What it matches, in the cached sections of the key.
    pub matching: Box<Match>,
    /// What is done.
    pub actions: Vec<DpAction>,
    /// Why packets die, if they do.
    pub drop: Option<DropReason>,
    /// Packets that hit it.
    pub packets: u64,
    /// Bytes that hit it.
    pub bytes: u64,
    /// Milliseconds since the last hit; `None`: never hit after the packet that made it.
    pub idle_ms: Option<u64>,
    /// TCP flags seen, ORed.
    pub tcp_flags: u16,
    /// Cookies of the rules it came from, in the order they matched.
    pub cookies: Vec<u64>,
    /// Put by hand: neither expires nor is revalidated.
    pub pinned: bool,
}

/// A packet to send without looking it up.
#[derive(Clone, Debug)]
pub struct Execute {
    /// The frame, its checksums complete.
    pub frame: Vec<u8>,
    /// If it has no Ethernet header, the EtherType it begins with; else 0.
    pub bare: u16,
    /// The port it counts as received by; `DpPort(u32::MAX)` for none.
    pub in_port: DpPort,
    /// What to do with it.
    pub actions: Vec<DpAction>,
}

/// A packet for the controller.
#[derive(Clone, Debug)]
pub struct PacketIn {
    /// Who wants it and why.
    pub context: Arc<ToController>,
    /// The datapath port it came in by.
    pub in_port: DpPort,
    /// Its first bytes, checksums complete; at most `context.max_len`.
    pub frame: Vec<u8>,
    /// Length of the whole frame.
    pub total_len: usize,
}

/// Takes packets for the controller; returns false when it has no room, and then the packet is dropped as
/// [`DropReason::ControllerRateLimited`]. Called from the threads that forward, so it must not block.
pub type ControllerSink = Arc<dyn Fn(PacketIn) -> bool + Send + Sync>;

/// A frame, or packets of one, that were sampled.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// What for.
    pub to: Arc<SampleTo>,
    /// Its headers as they were then; `in_port` is the datapath port it came in by.
    pub key: PacketKey,
    /// The outer header it came in with, if any.
    pub tunnel: Option<TunnelKey>,
    /// Packets: of a GSO frame those segments that were chosen.
    pub packets: u32,
    /// Their lengths from the Ethernet header on, in bytes: of the shortest, of the longest, of all together, and the sum
    /// of their squares.
    pub lengths: [u64; 4],
    /// They go nowhere.
    pub dropped: bool,
}

/// Takes samples; returns false when it has no room, and then they are lost. Called from the threads that forward, so it
/// must not block.
pub type SampleSink = Arc<dyn Fn(Box<Sampled>) -> bool + Send + Sync>;

/// What a datapath can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// GSO frames cross whole.
    pub gso: bool,
    /// `TunnelPush` and `TunnelPop`.
    pub native_tunnels: bool,
    /// Deepest stack of VLAN tags it sees.
    pub max_vlan_headers: u8,
    /// `Trunc`.
    pub trunc: bool,
    /// Nesting of `Clone` it executes.
    pub clone_depth: u8,
    /// Largest number of ports.
    pub max_ports: u32,
}

/// Totals of the caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatapathStats {
    /// Packets found in a cache.
    pub hits: u64,
    /// Packets that walked the tables.
    pub misses: u64,
    /// Packets lost before they could be looked up.
    pub lost: u64,
    /// Cached flows.
    pub flows: u64,
    /// Distinct masks among them.
    pub masks: u64,
    /// Masks looked at in megaflow look-ups, in total.
    pub masks_looked_at: u64,
}

/// Packets that were dropped because a rule said so, or led to where none did.
#[derive(Clone, Debug)]
pub struct RuleDrop {
    /// The rule that matched last.
    pub rule: RuleRef,
    /// Why they were dropped.
    pub reason: DropReason,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How the caches and tunnels work, as `upcall/*`, `revalidator/*` and `tnl/egress_port_range` change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Cached flows there may be, in all lanes together.
    pub flow_limit: usize,
    /// Whether a flow stands for all packets that are decided about alike; otherwise each is for one kind of packet.
    pub megaflows: bool,
    /// Whether cached flows are looked after while no packet hits them. Without it they neither expire nor are credited
    /// by themselves; those that a change made wrong are still walked again before they forward anything.
    pub sweep: bool,
    /// Milliseconds without a hit after which a cached flow goes.
    pub max_idle_ms: u64,
    /// VLAN tags that headers are read behind, at most [`weft_flow::MAX_VLANS`]: further ones are payload. Cached flows
    /// go when it changes.
    pub vlan_limit: usize,
    /// First and last UDP source port of tunnels; `None`: the host's choice, or from 49152 to 65535 where outer headers
    /// are built here (RFC 7348 §5).
    pub egress_ports: Option<(u16, u16)>,
}

/// A datapath, as the switch uses it. All calls may block for as long as a system call or a batch takes.
pub trait Datapath: Send + Sync {
    /// Name, for people: `user` or `ebpf`.
    fn name(&self) -> &'static str;
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Adds a port. It forwards nothing before the pipeline's snapshot knows its number.
    fn add_port(&self, spec: &PortSpec) -> Result<PortInfo>;
    /// Removes a port; a device the datapath made goes with it. Frames on their way to it are dropped.
    fn del_port(&self, port: DpPort) -> Result<()>;
    /// All ports, by number.
    fn ports(&self) -> Vec<PortInfo>;
    /// What is known of a port now; asks the kernel anew.
    fn port_info(&self, port: DpPort) -> Result<PortInfo>;
    /// Has a function told of ports that changed by themselves, of those that are added from now on. The kernel tells
    /// of devices; this is about ports that it does not know.
    fn on_port_change(&self, changed: PortChanged);
    /// Limits what a port takes in, from now on, with full buckets. Tunnel ports are not limited.
    fn police(&self, port: DpPort, policing: Policing) -> Result<()>;
    /// Says whether a device queues what leaves by it: frames then name the class of their queue as
    /// [`weft_host::netlink::class_of`] does.
    fn queueing(&self, port: DpPort, queues: bool) -> Result<()>;
    /// Gives samples to a function; the first that is given is kept.
    fn on_sample(&self, sink: SampleSink);
    /// Traffic of a port.
    fn port_stats(&self, port: DpPort) -> Result<PortStats>;
    /// Drops of frames that came in by a port, or were to leave by it.
    fn port_drops(&self, port: DpPort) -> Result<DropCounts>;

    /// All cached flows, their counters as of now.
    fn flows(&self) -> Vec<FlowEntry>;
    /// Forgets all cached flows, also those put by hand.
    fn flush_flows(&self);
    /// Puts a flow by hand, in place of one with the same match. It takes precedence over no other, so matches
    /// must not overlap with cached ones that act otherwise.
    fn put_flow(&self, matching: &Match, actions: &[DpAction]) -> Result<()>;
    /// Removes the flow with exactly this match.
    fn del_flow(&self, matching: &Match) -> Result<()>;
    /// How the caches work.
    fn tuning(&self) -> Tuning;
    /// Changes how the caches work, from now on; flows that are cached stay, unless there are too many.
    fn tune(&self, tuning: Tuning);

    /// Applies actions to a frame, soon: [`Datapath::sync`] returns when it is done. Frames from one port stay in order.
    fn execute(&self, packet: Execute) -> Result<()>;

    /// The connections of packets that pass [`DpAction::Ct`].
    fn conntrack(&self) -> &Conntrack;

    /// Drops of all ports and of the datapath itself, since it began.
    fn drops(&self) -> DropCounts;
    /// Drops by rule, of rules that are there; traffic of cached flows counts when it is credited.
    fn rule_drops(&self) -> Vec<RuleDrop>;
    /// Totals of the caches.
    fn stats(&self) -> DatapathStats;
    /// Named event counters, for `coverage/show`.
    fn coverage(&self) -> Vec<(&'static str, u64)>;

    /// Returns when no packet is forwarded any more by anything published before the call: the barrier.
    fn sync(&self);
    /// Credits cached flows' traffic to their rules and MAC table entries now.
    fn refresh(&self);
}
