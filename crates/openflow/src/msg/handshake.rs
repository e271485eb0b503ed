//! Who are you, what can you do, how do you treat packets: hello, features, configuration.

use weft_wire::Mac;

use super::port::PortDesc;
use crate::bytes::{Put, Reader};
use crate::{ErrorCode, Version, VersionSet};

/// Hello element with a bitmap of versions (OpenFlow 1.3 §7.5.1).
const OFPHET_VERSIONBITMAP: u16 = 1;

/// `OFPT_HELLO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the bitmap, if there was one; else the sender speaks those up to its header's version.
    pub versions: Option<VersionSet>,
}

impl Hello {
    /// Elements that are unknown or malformed are ignored, as an old end must ignore new ones.
    pub(crate) fn decode(mut r: Reader<'_>) -> Hello {
        let mut versions = None;
        while let Ok(kind) = r.u16() {
            let Ok(length) = r.u16() else { break };
            let length = usize::from(length);
            if kind == OFPHET_VERSIONBITMAP && length >= 8 {
                versions = r.clone().u32().ok().map(VersionSet::from_bitmap);
            }
            if length < 4 || r.skip(length.next_multiple_of(8) - 4).is_err() {
                break;
            }
        }
        Hello { versions }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        if let Some(versions) = self.versions {
            out.u16(OFPHET_VERSIONBITMAP);
            out.u16(8);
            out.u32(versions.bitmap());
        }
    }
}

/// Bits of [`Features::capabilities`], as OpenFlow 1.3 numbers them unless said otherwise.
pub mod capability {
    /// Counts per flow.
    pub const FLOW_STATS: u32 = 1 << 0;
    /// Counts per table.
    pub const TABLE_STATS: u32 = 1 << 1;
    /// Counts per port.
    pub const PORT_STATS: u32 = 1 << 2;
    /// Counts per group; in OpenFlow 1.0 the bit means spanning tree and is not sent.
    pub const GROUP_STATS: u32 = 1 << 3;
    /// Can reassemble IP fragments.
    pub const IP_REASM: u32 = 1 << 5;
    /// Counts per queue.
    pub const QUEUE_STATS: u32 = 1 << 6;
    /// Matches addresses in ARP packets (OpenFlow 1.0 only).
    pub const ARP_MATCH_IP: u32 = 1 << 7;
    /// Blocks looping ports by itself.
    pub const PORT_BLOCKED: u32 = 1 << 8;
    /// Bundles (OpenFlow 1.4).
    pub const BUNDLES: u32 = 1 << 9;
    /// Flow monitors (OpenFlow 1.4).
    pub const FLOW_MONITORING: u32 = 1 << 10;
}

/// `OFPT_FEATURES_REPLY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Datapath identifier.
    pub datapath_id: u64,
    /// Packets the switch can buffer.
    pub n_buffers: u32,
    /// Flow tables.
    pub n_tables: u8,
    /// Auxiliary connection, 0 for the main one (OpenFlow 1.3).
    pub auxiliary_id: u8,
    /// [`capability`] bits.
    pub capabilities: u32,
    /// Supported actions as OpenFlow 1.0 numbers them; later versions say it per table.
    pub actions: u32,
    /// Ports, in OpenFlow 1.0 to 1.2; later versions have a multipart message for them.
    pub ports: Vec<PortDesc>,
}

impl Features {
    /// The datapath identifier that a MAC address gives: its 48 bits.
    pub fn datapath_id_of(mac: Mac) -> u64 {
        mac.to_u64()
    }

    /// Capability bits that a version has.
    fn capability_mask(version: Version) -> u32 {
        use capability::*;
        let all = FLOW_STATS | TABLE_STATS | PORT_STATS | IP_REASM | QUEUE_STATS;
        match version {
            Version::V10 => all | ARP_MATCH_IP,
            Version::V11 => all | GROUP_STATS | ARP_MATCH_IP,
            Version::V12 | Version::V13 => all | GROUP_STATS | PORT_BLOCKED,
            _ => all | GROUP_STATS | PORT_BLOCKED | BUNDLES | FLOW_MONITORING,
        }
    }

    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let mut out =
            Features { datapath_id: r.u64()?, n_buffers: r.u32()?, n_tables: r.u8()?, ..Features::default() };
        let auxiliary = r.u8()?;
        r.skip(2)?;
        out.capabilities = r.u32()? & Self::capability_mask(version);
        let actions = r.u32()?;
        if version == Version::V10 {
            out.actions = actions;
        }
        if version >= Version::V13 {
            out.auxiliary_id = auxiliary;
        } else {
            while !r.is_empty() {
                out.ports.push(PortDesc::decode(version, &mut r)?);
            }
        }
        Ok(out)
    }

    /// Ports beyond what a message can carry are left out; the multipart port description has them all.
    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        out.u64(self.datapath_id);
        out.u32(self.n_buffers);
        out.u8(self.n_tables);
        out.u8(if version >= Version::V13 { self.auxiliary_id } else { 0 });
        out.u16(0);
        out.u32(self.capabilities & Self::capability_mask(version));
        out.u32(if version == Version::V10 { self.actions } else { 0 });
        if version < Version::V13 {
            for port in &self.ports {
                if out.len() - start > crate::MAX_MESSAGE - 128 {
                    break;
                }
                port.encode(version, out);
            }
        }
    }
}

/// How fragments are treated: low two bits of [`SwitchConfig::flags`].
pub mod frag {
    /// No special treatment: later fragments have no ports.
    pub const NORMAL: u16 = 0;
    /// Dropped.
    pub const DROP: u16 = 1;
    /// Reassembled.
    pub const REASM: u16 = 2;
    /// First fragments have ports, later ones do not, `ip_frag` tells them apart (Nicira).
    pub const NX_MATCH: u16 = 3;
    /// The bits.
    pub const MASK: u16 = 3;
}

/// `OFPT_GET_CONFIG_REPLY` and `OFPT_SET_CONFIG`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchConfig {
    /// [`frag`] bits, and bit 2: tell the controller of packets whose TTL ran out (OpenFlow 1.1 and 1.2, Nicira).
    pub flags: u16,
    /// Bytes of a packet sent to the controller when a table misses; 0xffff: all.
    pub miss_send_len: u16,
}

/// Bit of [`SwitchConfig::flags`]: packets whose TTL ran out go to the controller.
pub const INVALID_TTL_TO_CONTROLLER: u16 = 1 << 2;

impl SwitchConfig {
    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        Ok(SwitchConfig { flags: r.u16()?, miss_send_len: r.u16()? })
    }
    /// Refuses flags that a version does not have; OpenFlow 1.3 dropped the one about expired TTLs.
    pub(crate) fn checked(self, version: Version) -> Result<Self, ErrorCode> {
        let ttl = if version < Version::V13 { INVALID_TTL_TO_CONTROLLER } else { 0 };
        if self.flags & !(frag::MASK | ttl) != 0 { Err(ErrorCode::OFPSCFC_BAD_FLAGS) } else { Ok(self) }
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u16(self.flags);
        out.u16(self.miss_send_len);
    }
}
