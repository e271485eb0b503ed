//! What do the larger actions hold? Connection tracking, learning, choosing among links, sampling.

use std::net::IpAddr;

use weft_wire::EtherType;

use crate::{Action, Field, OfPort, Subfield};

/// What a packet for a controller is sent with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerAction {
    /// Bytes to send.
    pub max_len: u16,
    /// Controller identifier.
    pub id: u16,
    /// `OFPR_*`.
    pub reason: u8,
    /// Bytes for the controller.
    pub userdata: Vec<u8>,
    /// Stop here until the controller resumes the packet.
    pub pause: bool,
    /// Meter in place of the controller's own.
    pub meter: Option<u32>,
}

/// Most bytes that a tunnel option may have (RFC 8926 §3.5).
pub const MAX_OPTION: usize = 124;

/// A value for a tunnel option. Made by [`OptionValue::whole`] and [`OptionValue::masked`], which give it its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionValue {
    /// `tun_metadata0` to `tun_metadata63`.
    pub field: Field,
    /// Value, in wire order, right aligned in the option, as long as `mask`; at most 124 bytes.
    pub value: Vec<u8>,
    /// Bits to set. When all 124 bytes are ones, all of the option is set, however long it is.
    pub mask: Vec<u8>,
}

impl OptionValue {
    /// Sets all of an option. What the value lacks on its left is zero; of what is longer than 124 bytes, the end counts.
    pub fn whole(field: Field, value: &[u8]) -> Self {
        OptionValue { field, value: right_aligned(value, MAX_OPTION), mask: vec![0xff; MAX_OPTION] }
    }

    /// Sets bits of an option. Leading bytes of which no bit is set are left out.
    pub fn masked(field: Field, value: &[u8], mask: &[u8]) -> Self {
        let mask = right_aligned(mask, MAX_OPTION);
        let start = mask.iter().position(|b| *b != 0).unwrap_or(MAX_OPTION - 1);
        let value = right_aligned(value, MAX_OPTION);
        let value = value.iter().zip(&mask).map(|(v, m)| v & m).skip(start).collect();
        OptionValue { field, value, mask: mask[start..].to_vec() }
    }

    /// Whether all of the option is set.
    pub fn is_whole(&self) -> bool {
        self.mask.len() == MAX_OPTION && self.mask.iter().all(|b| *b == 0xff)
    }

    /// The value without leading zero bytes, but at least one byte.
    pub fn digits(&self) -> &[u8] {
        let start = self.value.iter().position(|b| *b != 0).unwrap_or(self.value.len().saturating_sub(1));
        &self.value[start..]
    }
}

/// The last `len` bytes, with zeros in front where there are fewer.
fn right_aligned(bytes: &[u8], len: usize) -> Vec<u8> {
    let bytes = &bytes[bytes.len().saturating_sub(len)..];
    let mut out = vec![0; len - bytes.len()];
    out.extend_from_slice(bytes);
    out
}

/// Which header fields a hash is over (`NX_HASH_FIELDS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFields {
    /// Ethernet source.
    EthSrc,
    /// Ethernet, VLAN, IP and ports, the same in both directions (`symmetric_l4`).
    SymmetricL4,
    /// IP and ports, the same in both directions (`symmetric_l3l4`).
    SymmetricL3L4,
    /// As `SymmetricL3L4`, ports of UDP included (`symmetric_l3l4+udp`).
    SymmetricL3L4Udp,
    /// IPv4 or IPv6 source (`nw_src`).
    NwSrc,
    /// IPv4 or IPv6 destination (`nw_dst`).
    NwDst,
    /// IP addresses, the same in both directions (`symmetric_l3`).
    SymmetricL3,
}

/// How one link of several is found (`NX_MP_ALG_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultipathAlgorithm {
    /// `hash(flow) % n`.
    ModuloN,
    /// `hash(flow) / (MAX / n)`.
    HashThreshold,
    /// Highest random weight.
    Hrw,
    /// Iterated hash.
    IterHash,
}

/// `multipath(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipath {
    /// What to hash.
    pub fields: HashFields,
    /// Perturbs the hash.
    pub basis: u16,
    /// How to choose.
    pub algorithm: MultipathAlgorithm,
    /// Number of links less one.
    pub max_link: u16,
    /// Argument of the algorithm.
    pub arg: u32,
    /// Where the number of the link goes.
    pub dst: Subfield,
}

/// How a bundle chooses (`NX_BD_ALG_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleAlgorithm {
    /// The first member that is up.
    ActiveBackup,
    /// Highest random weight among those that are up.
    Hrw,
}

/// `bundle(...)` and `bundle_load(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What to hash.
    pub fields: HashFields,
    /// Perturbs the hash.
    pub basis: u16,
    /// How to choose.
    pub algorithm: BundleAlgorithm,
    /// Ports to choose from.
    pub members: Vec<OfPort>,
    /// Where the number goes; `None`: output to the port.
    pub dst: Option<Subfield>,
}

/// Where a learned value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LearnSrc {
    /// A subfield of the packet.
    Field(Subfield),
    /// A value; as many bits as the destination has.
    Value(u128),
}

/// What a learned value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnDst {
    /// The learned rule matches it.
    Match(Subfield),
    /// The learned rule loads it.
    Load(Subfield),
    /// The learned rule outputs to it; this many bits.
    Output(u16),
}

/// One part of a learned rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnSpec {
    /// Where the value comes from.
    pub src: LearnSrc,
    /// What it is for.
    pub dst: LearnDst,
}

/// `learn(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learn {
    /// Idle timeout of the learned rule, seconds; 0: none.
    pub idle_timeout: u16,
    /// Hard timeout of the learned rule, seconds; 0: none.
    pub hard_timeout: u16,
    /// Its priority.
    pub priority: u16,
    /// Its table.
    pub table: u8,
    /// Its cookie.
    pub cookie: u64,
    /// Its `fin_timeout`: idle and hard, seconds; 0: none.
    pub fin_timeout: (u16, u16),
    /// Tell controllers when it goes (`send_flow_rem`).
    pub send_flow_rem: bool,
    /// It goes when this rule goes (`delete_learned`).
    pub delete_learned: bool,
    /// Learn no more once as many rules with its cookie are in its table; 0: no limit.
    pub limit: u32,
    /// One bit that says whether the limit let it be learned.
    pub result: Option<Subfield>,
    /// Its match and actions.
    pub specs: Vec<LearnSpec>,
}

/// Which way a sample counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleDirection {
    /// Not said.
    #[default]
    Default,
    /// As received.
    Ingress,
    /// As sent.
    Egress,
}

/// `sample(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Of 65536 packets, how many to take; not 0.
    pub probability: u16,
    /// Collector set.
    pub collector_set_id: u32,
    /// Observation domain.
    pub obs_domain_id: u32,
    /// Observation point.
    pub obs_point_id: u32,
    /// Port the sample is taken at; [`OfPort::NONE`]: none.
    pub sampling_port: OfPort,
    /// Direction.
    pub direction: SampleDirection,
}

/// Where the zone of a `ct` action comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtZone {
    /// A number.
    Number(u16),
    /// 16 bits of a field.
    Field(Subfield),
}

/// `ct(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ct {
    /// Enter the connection in the table.
    pub commit: bool,
    /// Take the packet's direction as original, throwing out an entry of the other direction.
    pub force: bool,
    /// Zone.
    pub zone: CtZone,
    /// Table in which the packet goes on once tracked, in a copy; `None`: it does not.
    pub table: Option<u8>,
    /// Application helper by port, 0: none, 21: FTP, 69: TFTP.
    pub alg: u16,
    /// Translate addresses.
    pub nat: Option<Nat>,
    /// Actions that set `ct_mark` and `ct_label` (`exec(...)`), all of them [`Action::SetField`] or [`Action::Move`].
    pub exec: Vec<Action>,
}

/// Which address a translation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NatSide {
    /// The source of the original direction (SNAT).
    Src,
    /// The destination of the original direction (DNAT).
    Dst,
}

/// `nat(...)`. Without a side it only applies the translation of a connection that has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nat {
    /// What to change.
    pub side: Option<NatSide>,
    /// First and last address to choose from; `None`: the address stays.
    pub addrs: Option<(IpAddr, IpAddr)>,
    /// First and last port to choose from; `None`: any.
    pub ports: Option<(u16, u16)>,
    /// The same address for a host each time.
    pub persistent: bool,
    /// Choose the port by a hash of the connection.
    pub hash: bool,
    /// Choose the port at random.
    pub random: bool,
}

/// A header that `encap` puts in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encap {
    /// Ethernet, in front of a layer-3 packet.
    Ethernet,
    /// Network service header (RFC 8300): metadata type, 1 or 2, and its TLVs (class, type, data).
    Nsh {
        /// Metadata type; 0: not said.
        md_type: u8,
        /// Context headers of metadata type 2.
        tlvs: Vec<(u16, u8, Vec<u8>)>,
    },
    /// MPLS label stack entry under this EtherType.
    Mpls(EtherType),
}
