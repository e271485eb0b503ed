//! A controller has tracked connections forgotten: `NXT_CT_FLUSH_ZONE` and `NXT_CT_FLUSH`.

use std::net::{IpAddr, Ipv6Addr};

use super::prop::{PropertyKind, nested, next_property, property};
use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// One direction of a connection; what is `None` or 0 is any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtTuple {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// Source port; identifier of ICMP.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
}

/// Which connections go: those that agree in all that is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtFlush {
    /// Zone.
    pub zone: Option<u16>,
    /// IP protocol; 0: any.
    pub ip_proto: u8,
    /// As first sent.
    pub orig: CtTuple,
    /// As answered.
    pub reply: CtTuple,
    /// Mark and the bits that count.
    pub mark: Option<(u32, u32)>,
    /// Label and the bits that count.
    pub label: Option<(u128, u128)>,
}

const NXT_CT_ORIG_TUPLE: u16 = 0;
const NXT_CT_REPLY_TUPLE: u16 = 1;
const NXT_CT_ZONE_ID: u16 = 2;
const NXT_CT_MARK: u16 = 3;
const NXT_CT_MARK_MASK: u16 = 4;
const NXT_CT_LABELS: u16 = 5;
const NXT_CT_LABELS_MASK: u16 = 6;

const SRC: u16 = 0;
const DST: u16 = 1;
const SRC_PORT: u16 = 2;
const DST_PORT: u16 = 3;
const ICMP_ID: u16 = 4;
const ICMP_TYPE: u16 = 5;
const ICMP_CODE: u16 = 6;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// IPv4 addresses are written as IPv6 ones; all zeros is none.
fn address(r: &mut Reader<'_>) -> Result<Option<IpAddr>, ErrorCode> {
    let v6 = Ipv6Addr::from(r.array::<16>()?);
    Ok((!v6.is_unspecified()).then(|| v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)))
}

impl CtTuple {
    fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        r.skip(4)?;
        let mut t = CtTuple::default();
        while !r.is_empty() {
            let mut p = next_property(&mut r)?;
            match p.kind {
                PropertyKind::Standard(SRC) => t.src = address(&mut p.body)?,
                PropertyKind::Standard(DST) => t.dst = address(&mut p.body)?,
                PropertyKind::Standard(SRC_PORT | ICMP_ID) => t.src_port = p.body.u16()?,
                PropertyKind::Standard(DST_PORT) => t.dst_port = p.body.u16()?,
                PropertyKind::Standard(ICMP_TYPE) => t.icmp_type = p.body.u8()?,
                PropertyKind::Standard(ICMP_CODE) => t.icmp_code = p.body.u8()?,
                other => return Err(other.unknown()),
            }
        }
        Ok(t)
    }

    fn encode(&self, kind: u16, icmp: bool, out: &mut Vec<u8>) {
        if *self == CtTuple::default() && !icmp {
            return;
        }
        let v6 = |a: IpAddr| match a {
            IpAddr::V4(a) => a.to_ipv6_mapped(),
            IpAddr::V6(a) => a,
        };
        nested(out, kind, |out| {
            for (kind, address) in [(SRC, self.src), (DST, self.dst)] {
                if let Some(address) = address {
                    property(out, kind, |out| out.bytes(&v6(address).octets()));
                }
            }
            if icmp {
                property(out, ICMP_ID, |out| out.u16(self.src_port));
                property(out, ICMP_TYPE, |out| out.u8(self.icmp_type));
                property(out, ICMP_CODE, |out| out.u8(self.icmp_code));
                return;
            }
            for (kind, port) in [(SRC_PORT, self.src_port), (DST_PORT, self.dst_port)] {
                if port != 0 {
                    property(out, kind, |out| out.u16(port));
                }
            }
        });
    }

    fn family(&self) -> impl Iterator<Item = bool> {
        self.src.into_iter().chain(self.dst).map(|a| a.is_ipv4())
    }
}

impl CtFlush {
    /// Every connection of a zone.
    pub fn zone(zone: u16) -> CtFlush {
        CtFlush { zone: Some(zone), ..CtFlush::default() }
    }

    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let mut f = CtFlush { ip_proto: r.u8()?, ..CtFlush::default() };
        if r.take(7)?.iter().any(|b| *b != 0) {
            return Err(ErrorCode::NXBRC_MUST_BE_ZERO);
        }
        let (mut mark, mut mark_mask) = (None, u32::MAX);
        let (mut label, mut label_mask) = (None, u128::MAX);
        while !r.is_empty() {
            let mut p = next_property(&mut r)?;
            match p.kind {
                PropertyKind::Standard(NXT_CT_ORIG_TUPLE) => f.orig = CtTuple::decode(p.body)?,
                PropertyKind::Standard(NXT_CT_REPLY_TUPLE) => f.reply = CtTuple::decode(p.body)?,
                PropertyKind::Standard(NXT_CT_ZONE_ID) => f.zone = Some(p.body.u16()?),
                PropertyKind::Standard(NXT_CT_MARK) => mark = Some(p.body.u32()?),
                PropertyKind::Standard(NXT_CT_MARK_MASK) => mark_mask = p.body.u32()?,
                PropertyKind::Standard(NXT_CT_LABELS) => label = Some(p.body.number(16)?),
                PropertyKind::Standard(NXT_CT_LABELS_MASK) => label_mask = p.body.number(16)?,
                other => return Err(other.unknown()),
            }
        }
        f.mark = mark.map(|m| (m & mark_mask, mark_mask));
        f.label = label.map(|l| (l & label_mask, label_mask));
        let mut families = f.orig.family().chain(f.reply.family());
        let first = families.next();
        if families.any(|v4| Some(v4) != first) {
            return Err(ErrorCode::OFPBPC_BAD_VALUE);
        }
        Ok(f)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u8(self.ip_proto);
        out.zeros(7);
        let icmp = matches!(self.ip_proto, ICMP | ICMPV6);
        self.orig.encode(NXT_CT_ORIG_TUPLE, icmp, out);
        self.reply.encode(NXT_CT_REPLY_TUPLE, icmp, out);
        if let Some(zone) = self.zone {
            property(out, NXT_CT_ZONE_ID, |out| out.u16(zone));
        }
        if let Some((mark, mask)) = self.mark {
            property(out, NXT_CT_MARK, |out| out.u32(mark));
            property(out, NXT_CT_MARK_MASK, |out| out.u32(mask));
        }
        if let Some((label, mask)) = self.label {
            property(out, NXT_CT_LABELS, |out| out.number(label, 16));
            property(out, NXT_CT_LABELS_MASK, |out| out.number(mask, 16));
        }
    }
}
