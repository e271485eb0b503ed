//! What is known of a port, that it changed, and how a controller changes it.

use weft_flow::OfPort;
use weft_wire::Mac;

use super::prop::{PropertyKind, next_property};
use crate::bytes::{Put, Reader};
use crate::{ErrorCode, Version};

/// Bits of [`PortDesc::config`].
pub mod port_config {
    /// Administratively down.
    pub const PORT_DOWN: u32 = 1 << 0;
    /// No spanning tree (OpenFlow 1.0).
    pub const NO_STP: u32 = 1 << 1;
    /// Drop what comes in.
    pub const NO_RECV: u32 = 1 << 2;
    /// Drop spanning-tree packets that come in (OpenFlow 1.0).
    pub const NO_RECV_STP: u32 = 1 << 3;
    /// Not a member of floods (OpenFlow 1.0).
    pub const NO_FLOOD: u32 = 1 << 4;
    /// Drop what would go out.
    pub const NO_FWD: u32 = 1 << 5;
    /// No packet-in for what comes in.
    pub const NO_PACKET_IN: u32 = 1 << 6;
    /// The bits of OpenFlow 1.0.
    pub const ALL10: u32 = 0x7f;
    /// The bits of later versions.
    pub const ALL11: u32 = PORT_DOWN | NO_RECV | NO_FWD | NO_PACKET_IN;
}

/// Bits of [`PortDesc::state`].
pub mod port_state {
    /// No carrier.
    pub const LINK_DOWN: u32 = 1 << 0;
    /// Blocked by a protocol outside OpenFlow.
    pub const BLOCKED: u32 = 1 << 1;
    /// Live for fast failover.
    pub const LIVE: u32 = 1 << 2;
}

/// Bits of [`PortDesc::curr`] and its neighbours, as OpenFlow 1.1 numbers them.
pub mod port_feature {
    /// 10 Mbit/s half duplex; the next bits are 10 full, 100 half, 100 full, 1G half, 1G full, 10G full.
    pub const MB10_HD: u32 = 1 << 0;
    /// 100 Mbit/s full duplex.
    pub const MB100_FD: u32 = 1 << 3;
    /// 1 Gbit/s full duplex.
    pub const GB1_FD: u32 = 1 << 5;
    /// 10 Gbit/s full duplex.
    pub const GB10_FD: u32 = 1 << 6;
    /// 40 Gbit/s full duplex; not in OpenFlow 1.0, as the next three.
    pub const GB40_FD: u32 = 1 << 7;
    /// 100 Gbit/s full duplex.
    pub const GB100_FD: u32 = 1 << 8;
    /// Another rate.
    pub const OTHER: u32 = 1 << 10;
    /// Copper; the next bits are fibre, auto-negotiation, pause, asymmetric pause.
    pub const COPPER: u32 = 1 << 11;
    /// Fibre.
    pub const FIBER: u32 = 1 << 12;
    /// Auto-negotiation.
    pub const AUTONEG: u32 = 1 << 13;
    /// Pause frames; the next bit is asymmetric ones.
    pub const PAUSE: u32 = 1 << 14;
}

/// A port (`ofp_port`, in OpenFlow 1.0 `ofp_phy_port`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortDesc {
    /// Number.
    pub port_no: OfPort,
    /// Address.
    pub hw_addr: Mac,
    /// Name, at most 15 bytes.
    pub name: String,
    /// [`port_config`] bits.
    pub config: u32,
    /// [`port_state`] bits.
    pub state: u32,
    /// Current [`port_feature`]s.
    pub curr: u32,
    /// Advertised features.
    pub advertised: u32,
    /// Supported features.
    pub supported: u32,
    /// Features the peer advertises.
    pub peer: u32,
    /// Current rate, kbit/s (OpenFlow 1.1).
    pub curr_speed: u32,
    /// Highest rate, kbit/s (OpenFlow 1.1).
    pub max_speed: u32,
}

const NAME_LEN: usize = 16;
/// Property of OpenFlow 1.4: an Ethernet port.
const OFPPDPT_ETHERNET: u16 = 0;
const PROPERTY_LEN: u16 = 32;
const LENGTH14: usize = 40;

/// Features that OpenFlow 1.0 numbers 5 bits lower because it has no rates above 10 Gbit/s.
const LOW: u32 = 0x7f;

fn features_to10(f: u32) -> u32 {
    f & LOW | (f >> 11 & 0x1f) << 7
}
fn features_from10(f: u32) -> u32 {
    f & LOW | (f >> 7 & 0x1f) << 11
}

impl PortDesc {
    pub(crate) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut p = PortDesc::default();
        if version == Version::V10 {
            p.port_no = OfPort::from_u16(r.u16()?);
            p.hw_addr = Mac(r.array()?);
            p.name = r.text(NAME_LEN)?;
            p.config = r.u32()?;
            p.state = r.u32()? & port_state::LINK_DOWN;
            for f in [&mut p.curr, &mut p.advertised, &mut p.supported, &mut p.peer] {
                *f = features_from10(r.u32()?);
            }
            return Ok(p);
        }
        p.port_no = OfPort(r.u32()?);
        let length = usize::from(r.u16()?);
        r.skip(2)?;
        p.hw_addr = Mac(r.array()?);
        r.skip(2)?;
        p.name = r.text(NAME_LEN)?;
        (p.config, p.state) = (r.u32()?, r.u32()?);
        if version < Version::V14 {
            p.decode_ethernet(r)?;
            return Ok(p);
        }
        let mut properties = r.sub(length.checked_sub(LENGTH14).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
        while !properties.is_empty() {
            let (kind, length) = (properties.u16()?, usize::from(properties.u16()?));
            let padded = length.next_multiple_of(8).checked_sub(4).ok_or(ErrorCode::OFPBPC_BAD_LEN)?;
            let mut body = properties.sub(padded)?;
            if kind == OFPPDPT_ETHERNET {
                body.skip(4)?;
                p.decode_ethernet(&mut body)?;
            }
        }
        Ok(p)
    }

    fn decode_ethernet(&mut self, r: &mut Reader<'_>) -> Result<(), ErrorCode> {
        for f in [&mut self.curr, &mut self.advertised, &mut self.supported, &mut self.peer] {
            *f = r.u32()?;
        }
        (self.curr_speed, self.max_speed) = (r.u32()?, r.u32()?);
        Ok(())
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let features = [self.curr, self.advertised, self.supported, self.peer];
        if version == Version::V10 {
            out.u16(self.port_no.to_u16().unwrap_or(0xffff));
            out.bytes(&self.hw_addr.0);
            out.text(&self.name, NAME_LEN);
            out.u32(self.config & port_config::ALL10);
            out.u32(self.state & port_state::LINK_DOWN);
            features.iter().for_each(|f| out.u32(features_to10(*f)));
            return;
        }
        out.u32(self.port_no.0);
        out.u16(if version >= Version::V14 { LENGTH14 as u16 + PROPERTY_LEN } else { 0 });
        out.u16(0);
        out.bytes(&self.hw_addr.0);
        out.u16(0);
        out.text(&self.name, NAME_LEN);
        out.u32(self.config & port_config::ALL11);
        out.u32(self.state);
        if version >= Version::V14 {
            out.u16(OFPPDPT_ETHERNET);
            out.u16(PROPERTY_LEN);
            out.zeros(4);
        }
        features.iter().for_each(|f| out.u32(*f));
        out.u32(self.curr_speed);
        out.u32(self.max_speed);
    }
}

/// What happened to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortReason {
    /// It was added.
    Add,
    /// It was removed.
    Delete,
    /// Its state or configuration changed.
    Modify,
}

/// `OFPT_PORT_STATUS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// What happened.
    pub reason: PortReason,
    /// The port as it is now, or was.
    pub port: PortDesc,
}

impl PortStatus {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let reason = match r.u8()? {
            0 => PortReason::Add,
            1 => PortReason::Delete,
            2 => PortReason::Modify,
            _ => return Err(ErrorCode::NXBRC_BAD_REASON),
        };
        r.skip(7)?;
        Ok(PortStatus { reason, port: PortDesc::decode(version, &mut r)? })
    }
    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.u8(self.reason as u8);
        out.zeros(7);
        self.port.encode(version, out);
    }
}

/// A number of a port, as OpenFlow 1.1 and later write it.
///
/// # Errors
/// It is one of those that stand for nothing: ports have 16 bits, and the reserved ones the last 256 numbers.
pub(crate) fn port(wire: u32) -> Result<OfPort, ErrorCode> {
    let none = (FIRST_NONE..FIRST_RESERVED).contains(&wire);
    if none { Err(ErrorCode::OFPBAC_BAD_OUT_PORT) } else { Ok(OfPort(wire)) }
}

/// The first number that no port has, and the first of the reserved ones.
const FIRST_NONE: u32 = 0xff00;
const FIRST_RESERVED: u32 = 0xffff_ff00;

/// `OFPT_PORT_MOD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortMod {
    /// Port.
    pub port_no: OfPort,
    /// Its address, which must be right.
    pub hw_addr: Mac,
    /// New [`port_config`] bits.
    pub config: u32,
    /// Which of them to change.
    pub mask: u32,
    /// Features to advertise; 0: unchanged.
    pub advertise: u32,
}

const OFPPMPT_ETHERNET: u16 = 0;

impl PortMod {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let mut p = PortMod::default();
        if version == Version::V10 {
            p.port_no = OfPort::from_u16(r.u16()?);
            p.hw_addr = Mac(r.array()?);
            (p.config, p.mask) = (r.u32()? & port_config::ALL10, r.u32()? & port_config::ALL10);
            p.advertise = features_from10(r.u32()?);
            r.skip(4)?;
            return Ok(p);
        }
        p.port_no = port(r.u32()?)?;
        r.skip(4)?;
        p.hw_addr = Mac(r.array()?);
        r.skip(2)?;
        (p.config, p.mask) = (r.u32()? & port_config::ALL11, r.u32()? & port_config::ALL11);
        if version < Version::V14 {
            p.advertise = r.u32()?;
            r.skip(4)?;
            return Ok(p);
        }
        while !r.is_empty() {
            let mut property = next_property(&mut r)?;
            match property.kind {
                PropertyKind::Standard(OFPPMPT_ETHERNET) if property.body.len() == 4 => {
                    p.advertise = property.body.u32()?;
                }
                PropertyKind::Standard(OFPPMPT_ETHERNET) => return Err(ErrorCode::OFPBPC_BAD_LEN),
                other => return Err(other.unknown()),
            }
        }
        Ok(p)
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V10 {
            out.u16(self.port_no.to_u16().unwrap_or(0xffff));
            out.bytes(&self.hw_addr.0);
            out.u32(self.config & port_config::ALL10);
            out.u32(self.mask & port_config::ALL10);
            out.u32(features_to10(self.advertise));
            out.zeros(4);
            return;
        }
        out.u32(self.port_no.0);
        out.zeros(4);
        out.bytes(&self.hw_addr.0);
        out.zeros(2);
        out.u32(self.config & port_config::ALL11);
        out.u32(self.mask & port_config::ALL11);
        if version >= Version::V14 {
            out.u16(OFPPMPT_ETHERNET);
            out.u16(8);
            out.u32(self.advertise);
        } else {
            out.u32(self.advertise);
            out.zeros(4);
        }
    }
}
