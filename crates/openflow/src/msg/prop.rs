//! How are properties read and written, the type-length-value structures of OpenFlow 1.4 and of Nicira's messages?

use crate::ErrorCode;
use crate::bytes::{Put, Reader, round8};

/// Type of a property that an experimenter defines: its number and type follow.
const EXPERIMENTER: u16 = 0xffff;
/// Experimenter number of Netronome, and the one it used at first.
pub(crate) const NETRONOME: [u32; 2] = [0x154d, 0x1540];

/// A property: what it is, and the bytes after what says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Property<'a> {
    pub(crate) kind: PropertyKind,
    pub(crate) body: Reader<'a>,
}

/// What a property is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PropertyKind {
    /// A number of the structure it stands in.
    Standard(u16),
    /// An experimenter and a number of its.
    Experimenter(u32, u32),
}

/// Takes the next property and its padding. Padding that the end of the message cuts off is not missed.
pub(crate) fn next_property<'a>(r: &mut Reader<'a>) -> Result<Property<'a>, ErrorCode> {
    let bad = |_| ErrorCode::OFPBPC_BAD_LEN;
    let (kind, length) = (r.u16().map_err(bad)?, usize::from(r.u16().map_err(bad)?));
    let body = length.checked_sub(4).filter(|n| *n <= r.len()).ok_or(ErrorCode::OFPBPC_BAD_LEN)?;
    let mut body = Reader::new(r.take(body)?, ErrorCode::OFPBPC_BAD_LEN);
    r.skip((round8(length) - length).min(r.len()))?;
    let kind = match kind {
        EXPERIMENTER => PropertyKind::Experimenter(body.u32()?, body.u32()?),
        _ => PropertyKind::Standard(kind),
    };
    Ok(Property { kind, body })
}

impl PropertyKind {
    /// The error for a property that is not known.
    pub(crate) fn unknown(self) -> ErrorCode {
        match self {
            PropertyKind::Standard(_) => ErrorCode::OFPBPC_BAD_TYPE,
            PropertyKind::Experimenter(..) => ErrorCode::OFPBPC_BAD_EXP_TYPE,
        }
    }
}

/// Appends a property: its length counts the header and not the padding.
pub(crate) fn property(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.u16(kind);
    out.u16(0);
    body(out);
    out.patch_u16(start + 2, out.len() - start);
    out.align8(start);
}

/// Appends a property that holds properties: four zeros go before them.
pub(crate) fn nested(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    property(out, kind, |out| {
        out.zeros(4);
        body(out);
    });
}

/// Appends a property of an experimenter.
pub(crate) fn experimenter(out: &mut Vec<u8>, vendor: u32, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    property(out, EXPERIMENTER, |out| {
        out.u32(vendor);
        out.u32(kind);
        body(out);
    });
}
