//! What a walk decides: datapath actions, and the mask of what was looked at.
//!
//! Datapaths know nothing but these: they apply the actions and cache them under the mask.

use std::sync::Arc;

use weft_wire::Mac;
use weft_wire::nsh::NshRepr;

use crate::{DpPort, DropReason, Field, FlowMask, Meter, Nat, RuleRef, RuleStats, SampleTo, TunnelKey};

/// A change to one header field. Datapaths keep checksums right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetField {
    /// Ethernet source.
    EthSrc(Mac),
    /// Ethernet destination.
    EthDst(Mac),
    /// TCI of the outermost tag (PCP, DEI, VID as on the wire).
    VlanTci(u16),
    /// Label stack entry at the top.
    Mpls(u32),
    /// IPv4 source, or ARP sender protocol address in an ARP packet.
    Ipv4Src(u32),
    /// IPv4 destination, or ARP target protocol address in an ARP packet.
    Ipv4Dst(u32),
    /// IPv6 source.
    Ipv6Src([u8; 16]),
    /// IPv6 destination.
    Ipv6Dst([u8; 16]),
    /// IPv6 flow label.
    Ipv6Label(u32),
    /// DSCP and ECN.
    IpTos(u8),
    /// TTL or hop limit.
    IpTtl(u8),
    /// TCP, UDP or SCTP source port, or ICMP type.
    TpSrc(u16),
    /// TCP, UDP or SCTP destination port, or ICMP code.
    TpDst(u16),
    /// ARP operation.
    ArpOp(u16),
    /// ARP sender hardware address.
    ArpSha(Mac),
    /// ARP target hardware address.
    ArpTha(Mac),
    /// ND target.
    NdTarget([u8; 16]),
    /// ND source link-layer address option.
    NdSll(Mac),
    /// ND target link-layer address option.
    NdTll(Mac),
    /// ND reserved field: flags of a neighbour advertisement.
    NdReserved(u32),
    /// Type of the ND option.
    NdOptionsType(u8),
    /// Priority that chooses a queue; 0: the default.
    Priority(u32),
    /// Packet mark.
    Mark(u32),
    /// Network service header: flags, TTL, metadata type and next protocol, 8 bits each, under a mask.
    NshBase {
        /// New bits.
        value: u32,
        /// Bits to change; of flags and TTL.
        mask: u32,
    },
    /// Network service header: path identifier (24 bits) and index (8 bits), under a mask.
    NshPath {
        /// New bits.
        value: u32,
        /// Bits to change.
        mask: u32,
    },
    /// Network service header: one of the four context words, under a mask.
    NshContext {
        /// Which one, from 0.
        index: u8,
        /// New bits.
        value: u32,
        /// Bits to change.
        mask: u32,
    },
}

/// Outer header for the tunnel ports that follow in the action list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelOut {
    /// Addresses, identifier, TOS, TTL, flags, group policy.
    pub key: TunnelKey,
    /// Geneve options as they go on the wire (multiple of 4 bytes).
    pub options: Vec<u8>,
}

/// A native encapsulation: the outer headers are built here, and the result walks on as a frame of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncapHeader {
    /// Outer Ethernet, IP, UDP or GRE and tunnel headers, lengths and checksums left zero.
    pub bytes: Vec<u8>,
    /// Which tunnel: decides where the length, hash and checksum fields are.
    pub kind: TunnelKind,
    /// Offset of the outer IP header in `bytes`.
    pub ip_offset: usize,
}

/// Encapsulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
    /// RFC 2784 and RFC 2890, carrying Ethernet.
    Gre,
}

/// Context of a packet for the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToController {
    /// Bridge, as the switch numbers them.
    pub bridge: u32,
    /// Controller identifier (0: all).
    pub controller_id: u16,
    /// Bytes of the packet to send; 65535: all.
    pub max_len: u16,
    /// `OFPR_*` reason.
    pub reason: u8,
    /// Table of the rule that sent it.
    pub table: u8,
    /// Cookie of the rule that sent it.
    pub cookie: u64,
    /// What the packet-in tells besides the frame: pipeline, tunnel and connection-tracking fields when it was sent.
    pub key: Box<crate::FlowKey>,
    /// Bytes the rule sends with it.
    pub userdata: Vec<u8>,
    /// The rest of the walk, when the packet waits for the controller to resume it.
    pub paused: Option<Opaque>,
    /// Meter the packet passes before it is sent.
    pub meter: Option<Arc<Meter>>,
}

impl ToController {
    /// Fields of the outer header that a packet-in tells of a packet that came by a tunnel.
    pub const TUNNEL: [Field; 7] = [
        Field::TunId,
        Field::TunSrc,
        Field::TunDst,
        Field::TunIpv6Src,
        Field::TunIpv6Dst,
        Field::TunGbpId,
        Field::TunGbpFlags,
    ];
    /// Fields of connection tracking that a packet-in tells.
    pub const TRACKED: [Field; 4] = [Field::CtState, Field::CtZone, Field::CtMark, Field::CtLabel];
}

/// Something of the pipeline's that others only hold, and give back. Equal when it is the same thing.
#[derive(Clone, Debug)]
pub struct Opaque(pub Arc<dyn std::any::Any + Send + Sync>);

impl PartialEq for Opaque {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for Opaque {}

/// A frozen walk that a packet resumes by being looked up again with this identifier as its `recirc_id`.
#[derive(Clone, Debug)]
pub struct Recirc {
    /// Identifier, never zero and never reused.
    pub id: u32,
    /// Keeps the frozen walk alive for as long as something may resume it.
    pub frozen: Opaque,
}

impl PartialEq for Recirc {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
impl Eq for Recirc {}

/// What connection tracking is asked to do with a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CtSpec {
    /// Zone.
    pub zone: u16,
    /// Enter the connection in the table.
    pub commit: bool,
    /// Take the packet's direction as original.
    pub force: bool,
    /// New mark and the bits to set; of committed connections only.
    pub mark: Option<(u32, u32)>,
    /// New label and the bits to set, as numbers in the order of [`crate::CtKey::label`]'s bytes.
    pub label: Option<(u128, u128)>,
    /// Translation.
    pub nat: Option<Nat>,
    /// Application helper by port, 0: none, 21: FTP, 69: TFTP.
    pub alg: u16,
}

/// One step a datapath takes with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DpAction {
    /// Send by a port. Tunnel ports use the last [`DpAction::SetTunnel`].
    Output(DpPort),
    /// Outer header for the tunnel ports that follow.
    SetTunnel(Arc<TunnelOut>),
    /// Cut the packet to this many bytes for the next output only.
    Trunc(u32),
    /// Push an outermost tag.
    PushVlan {
        /// 0x8100 or 0x88a8.
        tpid: u16,
        /// PCP, DEI, VID as on the wire.
        tci: u16,
    },
    /// Remove the outermost tag.
    PopVlan,
    /// Change a field.
    Set(SetField),
    /// Encapsulate a copy natively and apply `actions` to it.
    TunnelPush {
        /// Outer headers.
        header: Arc<EncapHeader>,
        /// What to do with the encapsulated copy.
        actions: Arc<[DpAction]>,
    },
    /// Remove the outer headers of a copy and look it up again as received by this tunnel port.
    TunnelPop(DpPort),
    /// Apply `actions` to a copy.
    Clone(Arc<[DpAction]>),
    /// Send to a controller.
    Controller(Arc<ToController>),
    /// Pass connection tracking: fills in the key's `ct` section, and may translate or hold back the packet.
    Ct(Arc<CtSpec>),
    /// Forget what connection tracking said.
    CtClear,
    /// Hash the packet's layer 3 and 4 headers into the key's `dp_hash` ([`crate::PacketKey::dp_hash`]).
    Hash {
        /// Perturbs the hash.
        basis: u32,
        /// The same in both directions of a connection.
        symmetric: bool,
    },
    /// Look a copy up again; the last of a list may take the packet itself.
    Recirc(Recirc),
    /// Pass a meter: it may drop the packet for the rest of the list, or change its DSCP.
    Meter(Arc<Meter>),
    /// Export some of the packets that pass.
    Sample {
        /// How many, out of 2^32 - 1.
        share: u32,
        /// What for.
        to: Arc<SampleTo>,
    },
    /// Push an MPLS label stack entry under this EtherType, before the layer-3 header.
    PushMpls {
        /// The entry.
        lse: u32,
        /// 0x8847 or 0x8848.
        ethertype: u16,
    },
    /// Pop the outermost MPLS label stack entry; the EtherType becomes this one.
    PopMpls(u16),
    /// Copy the TTL between the outermost header that has one and the next: label stack entries and the IP header
    /// beneath, or an IP header and the one that it carries. Nothing is done where there is no second header.
    CopyTtl {
        /// From the inner header to the outer one, otherwise from the outer to the inner.
        outwards: bool,
    },
    /// Put an Ethernet header in front of a packet that has none.
    PushEth {
        /// Source.
        src: Mac,
        /// Destination.
        dst: Mac,
    },
    /// Remove the Ethernet header of a frame without tags.
    PopEth,
    /// Put a network service header in front of what there is, which has no Ethernet header after.
    PushNsh(Arc<NshRepr>),
    /// Remove the network service header of a packet without an Ethernet header. What is beneath is what it says.
    PopNsh,
    /// Put a label stack entry in front of what there is, which has no Ethernet header after.
    AddMpls {
        /// The entry.
        lse: u32,
        /// 0x8847 or 0x8848.
        ethertype: u16,
    },
    /// One list of actions or the other, by the length of the frame.
    CheckPktLen {
        /// Bytes from the Ethernet header on; segments of a large frame count each.
        len: u16,
        /// When it is longer.
        greater: Arc<[DpAction]>,
        /// When it is not.
        not_greater: Arc<[DpAction]>,
    },
}

impl DpAction {
    /// Whether a list sends a packet nowhere: it does nothing, or has it exported only.
    pub fn send_nothing(actions: &[DpAction]) -> bool {
        actions.iter().all(|action| matches!(action, DpAction::Sample { .. }))
    }
}

/// Bits of a Bloom filter over what a verdict rests on besides the tables: MAC table entries, routes, neighbours.
///
/// A change of such a thing marks its bits; cached flows that share a bit are walked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DepTags(pub u64);

impl DepTags {
    /// Adds what hashes to `hash`: two bits.
    pub fn add(&mut self, hash: u64) {
        let h = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 |= (1 << (h >> 58)) | (1 << ((h >> 52) & 63));
    }
    /// The tag of one thing.
    pub fn of(hash: u64) -> DepTags {
        let mut tags = DepTags::default();
        tags.add(hash);
        tags
    }
    /// Whether something of `changed` may be among these. False positives are possible, false negatives are not.
    pub fn touched_by(self, changed: DepTags) -> bool {
        self.0 & changed.0 != 0
    }
}

/// An entry of a MAC table that traffic keeps alive: refreshed when a cached flow is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbRef {
    /// Bridge, as the switch numbers them.
    pub bridge: u32,
    /// VLAN of the entry.
    pub vlan: u16,
    /// Learned address.
    pub mac: Mac,
    /// OpenFlow port it was learned on.
    pub port: crate::OfPort,
}

/// What a walk returns.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What to do, in order. Empty, or nothing but samples: drop, for the reason in `drop`.
    pub actions: Vec<DpAction>,
    /// Every bit of the key that had a part in the decision. Only the cached sections matter to caches.
    pub mask: Box<FlowMask>,
    /// Why the packet goes nowhere, if it does.
    pub drop: Option<DropReason>,
    /// Whether this may be cached. False: every packet of the flow must walk (a learning step, a controller…).
    pub cacheable: bool,
    /// What besides the tables the decision rests on.
    pub deps: DepTags,
    /// Rules that matched, whose statistics the flow's traffic counts for.
    pub rules: Vec<RuleRef>,
    /// MAC table entries to refresh as long as the flow is used.
    pub refresh: Vec<FdbRef>,
    /// Groups and buckets that the packet passed, whose statistics the flow's traffic counts for.
    pub counters: Vec<Arc<RuleStats>>,
    /// What else the flow's traffic brings about again, for the pipeline to know: learned rules, for instance.
    pub effects: Vec<Opaque>,
}
