//! How is a bridge set up? What the switch compiles from its database for the pipeline.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_flow::{DpPort, OfPort, TunnelKind};
use weft_wire::Mac;

use crate::ports::Ports;

/// Seconds an entry of a MAC table lives without traffic, unless configured.
pub const DEFAULT_MAC_AGING_S: u32 = 300;
/// Entries of a MAC table, unless configured.
pub const DEFAULT_MAC_TABLE_SIZE: usize = 8192;

/// What a bridge does when no controller is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailMode {
    /// Acts as a learning switch.
    #[default]
    Standalone,
    /// Follows its flow tables only; packets that match nothing are dropped.
    Secure,
}

/// How rules see fragments of IP packets (`OFPC_FRAG_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FragMode {
    /// As packets without ports.
    #[default]
    Normal,
    /// They are dropped.
    Drop,
    /// First fragments with their ports, others as packets without (`OFPC_FRAG_NX_MATCH`).
    NxMatch,
}

/// Configuration of a bridge. Its flow tables are apart: [`crate::Snapshot::tables_mut`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Number by which everything else names the bridge; never reused for another one.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Ports.
    pub ports: Ports,
    /// What to do without a controller.
    pub fail_mode: FailMode,
    /// Whether a controller is connected.
    pub controller_connected: bool,
    /// Whether packets that match no rule go to the controller (what OpenFlow 1.0–1.2 controllers expect).
    pub miss_to_controller: bool,
    /// Milliseconds an entry of the MAC table lives without traffic.
    pub mac_aging_ms: u64,
    /// Entries the MAC table may hold.
    pub mac_table_size: usize,
    /// How rules see fragments.
    pub fragments: FragMode,
    /// Whether frames to reserved multicast addresses are forwarded by NORMAL.
    pub forward_bpdu: bool,
    /// VLANs without learning, where everything is flooded.
    pub flood_vlans: VlanSet,
    /// Which packets are exported.
    pub sampling: Arc<Sampling>,
}

/// Which packets of a bridge are exported (tables IPFIX and Flow_Sample_Collector_Set of the database).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// Of all packets, by themselves.
    pub bridge: Option<BridgeSampling>,
    /// Collector sets that rules may sample for, and whether they are told outer headers.
    pub sets: BTreeMap<u32, bool>,
}

/// How packets of a bridge are sampled without a rule that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeSampling {
    /// How many, out of 2^32 - 1.
    pub share: u32,
    /// Where they come in.
    pub input: bool,
    /// Where they go out.
    pub output: bool,
    /// Outer headers are told.
    pub tunnels: bool,
}

impl BridgeConfig {
    /// A bridge without ports, as `ovs-vsctl add-br` makes it.
    pub fn new(id: u32, name: &str) -> BridgeConfig {
        BridgeConfig {
            id,
            name: name.to_owned(),
            ports: Ports::default(),
            fail_mode: FailMode::Standalone,
            controller_connected: false,
            miss_to_controller: false,
            mac_aging_ms: u64::from(DEFAULT_MAC_AGING_S) * 1000,
            mac_table_size: DEFAULT_MAC_TABLE_SIZE,
            fragments: FragMode::Normal,
            forward_bpdu: false,
            flood_vlans: VlanSet::none(),
            sampling: Arc::default(),
        }
    }
}

/// What a port leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A device of the datapath: network device, TAP, pcap…
    Device,
    /// A device of the host's own stack on this bridge: the bridge's LOCAL port, and other `internal` ports.
    Internal {
        /// Addresses that the host has on the device: where native tunnels may end.
        addrs: Vec<IpAddr>,
    },
    /// A cable to another bridge, or to the same one. It has no datapath port.
    Patch {
        /// Bridge number and port of the other end; `None`: not plugged in.
        peer: Option<(u32, OfPort)>,
    },
    /// A tunnel.
    Tunnel(Arc<TunnelConfig>),
}

/// A port of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// OpenFlow number.
    pub ofport: OfPort,
    /// Datapath port; `None` for patch ports, and for ports the datapath could not open.
    pub dp_port: Option<DpPort>,
    /// Name.
    pub name: String,
    /// What it leads to.
    pub kind: PortKind,
    /// VLANs.
    pub vlan: VlanConfig,
    /// OpenFlow configuration and the like.
    pub flags: PortFlags,
    /// Bond that the port is a member of; members have the same number. NORMAL treats them as one port, and sends and
    /// receives by the first one whose link is up (active-backup).
    pub bond: Option<u32>,
    /// Link state. Nothing is sent to a port whose link is down.
    pub link_up: bool,
    /// Largest frame without the Ethernet header, bytes; 0: not known.
    pub mtu: u32,
    /// MAC address of the port itself.
    pub mac: Mac,
}

impl PortConfig {
    /// A port that is up and trunks every VLAN.
    pub fn new(ofport: OfPort, dp_port: Option<DpPort>, name: &str, kind: PortKind) -> PortConfig {
        PortConfig {
            ofport,
            dp_port,
            name: name.to_owned(),
            kind,
            vlan: VlanConfig::default(),
            flags: PortFlags::default(),
            bond: None,
            link_up: true,
            mtu: 0,
            mac: Mac::ZERO,
        }
    }
    /// The tunnel behind the port.
    pub fn tunnel(&self) -> Option<&Arc<TunnelConfig>> {
        match &self.kind {
            PortKind::Tunnel(config) => Some(config),
            _ => None,
        }
    }
}

/// Configuration bits of a port (`OFPPC_*`, and `protected` of the database).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFlags {
    /// Administratively down.
    pub down: bool,
    /// Drop what is received, but for spanning-tree frames.
    pub no_receive: bool,
    /// Drop spanning-tree frames that are received.
    pub no_receive_stp: bool,
    /// Not in FLOOD, nor flooded by NORMAL.
    pub no_flood: bool,
    /// Drop what is to be sent.
    pub no_forward: bool,
    /// No packet-in for packets from here that match no rule.
    pub no_packet_in: bool,
    /// Protected ports do not talk to each other by NORMAL.
    pub protected: bool,
}

/// How VLANs appear on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VlanMode {
    /// One VLAN, untagged.
    Access,
    /// Many VLANs, tagged; untagged frames are in VLAN 0.
    #[default]
    Trunk,
    /// A trunk; untagged frames are in the native VLAN, which is sent tagged.
    NativeTagged,
    /// A trunk; untagged frames are in the native VLAN, which is sent untagged.
    NativeUntagged,
    /// One service VLAN; tags of frames are the customer's.
    Dot1qTunnel,
}

/// When frames in VLAN 0 are sent with a tag that holds their priority only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriorityTags {
    /// Never.
    #[default]
    Never,
    /// When the priority is not zero.
    IfNonzero,
    /// Whenever the frame came with a tag.
    Always,
}

/// VLAN configuration of a port, as the `Port` table has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanConfig {
    /// Mode. The switch chooses access when `tag` is set and no mode given, else trunk.
    pub mode: VlanMode,
    /// VLAN of an access port, native VLAN, or service VLAN.
    pub tag: u16,
    /// VLANs of a trunk; the native VLAN is always among them.
    pub trunks: VlanSet,
    /// Customer VLANs of a dot1q-tunnel port.
    pub cvlans: VlanSet,
    /// TPID of service tags; 0 stands for 0x88a8.
    pub qinq_tpid: u16,
    /// Whether priority tags are sent.
    pub priority_tags: PriorityTags,
}

impl VlanConfig {
    /// An access port.
    pub fn access(tag: u16) -> VlanConfig {
        VlanConfig { mode: VlanMode::Access, tag, ..VlanConfig::default() }
    }
    /// A port of another mode with the VLAN `tag` and the trunks `trunks` (empty: all).
    pub fn new(mode: VlanMode, tag: u16, trunks: &[u16]) -> VlanConfig {
        let trunks = if trunks.is_empty() { VlanSet::all() } else { VlanSet::of(trunks) };
        VlanConfig { mode, tag, trunks, ..VlanConfig::default() }
    }
}

/// A set of VLANs. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanSet(Option<Arc<[u64; 64]>>);

impl VlanSet {
    /// Every VLAN.
    pub fn all() -> VlanSet {
        VlanSet(None)
    }
    /// No VLAN.
    pub fn none() -> VlanSet {
        VlanSet(Some(Arc::new([0; 64])))
    }
    /// These VLANs; numbers above 4095 are left out.
    pub fn of(vlans: &[u16]) -> VlanSet {
        let mut bits = [0u64; 64];
        for vlan in vlans.iter().filter(|v| **v < 4096) {
            bits[usize::from(vlan >> 6)] |= 1 << (vlan & 63);
        }
        VlanSet(Some(Arc::new(bits)))
    }
    /// Whether `vlan` is in the set.
    pub fn contains(&self, vlan: u16) -> bool {
        match &self.0 {
            None => true,
            Some(bits) => bits[usize::from(vlan >> 6) & 63] & (1 << (vlan & 63)) != 0,
        }
    }
}

/// An end of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TunnelAddr {
    /// Not given: any on receipt, the system's choice on output.
    #[default]
    Any,
    /// `flow`: any on receipt, from `tun_src` or `tun_dst` on output.
    Flow,
    /// This address.
    Addr(IpAddr),
}

/// A key (VNI) of a tunnel, for one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TunnelId {
    /// Not given, or 0: no key, or key 0.
    #[default]
    None,
    /// `flow`: any on receipt, from `tun_id` on output.
    Flow,
    /// This key.
    Key(u64),
}

/// TOS or TTL of the outer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelByte {
    /// Copied from the inner packet if it is IP.
    Inherit,
    /// This value.
    Value(u8),
}

/// What packets a tunnel port carries, and as what its bridge sees them (`packet_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PacketTypes {
    /// `legacy_l2`: frames.
    #[default]
    LegacyL2,
    /// `legacy_l3`: what frames have behind the Ethernet header; seen as frames with zero addresses.
    LegacyL3,
    /// `ptap`: both, seen as what they are.
    Any,
}

/// Options of a tunnel port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelConfig {
    /// Encapsulation.
    pub kind: TunnelKind,
    /// `remote_ip`.
    pub remote: TunnelAddr,
    /// `local_ip`.
    pub local: TunnelAddr,
    /// `in_key`, or `key`.
    pub in_key: TunnelId,
    /// `out_key`, or `key`.
    pub out_key: TunnelId,
    /// UDP destination port; 0 for GRE.
    pub dst_port: u16,
    /// `tos`; the ECN bits are always inherited (RFC 6040 §4.1).
    pub tos: TunnelByte,
    /// `ttl`.
    pub ttl: TunnelByte,
    /// `df_default`.
    pub df: bool,
    /// `csum`: fill in outer checksums.
    pub csum: bool,
    /// VXLAN `exts=gbp`.
    pub gbp: bool,
    /// VXLAN `exts=gpe`: a header that says what it carries.
    pub gpe: bool,
    /// `packet_type`.
    pub packets: PacketTypes,
    /// GRE `seq`: number outgoing packets.
    pub seq: bool,
}

impl TunnelConfig {
    /// A tunnel with the default options and port of its kind.
    pub fn new(kind: TunnelKind, remote: TunnelAddr) -> TunnelConfig {
        TunnelConfig {
            kind,
            remote,
            local: TunnelAddr::Any,
            in_key: TunnelId::None,
            out_key: TunnelId::None,
            dst_port: match kind {
                TunnelKind::Vxlan => 4789,
                TunnelKind::Geneve => 6081,
                TunnelKind::Gre => 0,
            },
            tos: TunnelByte::Value(0),
            ttl: TunnelByte::Value(64),
            df: true,
            csum: false,
            gbp: false,
            gpe: false,
            packets: PacketTypes::LegacyL2,
            seq: false,
        }
    }
}
