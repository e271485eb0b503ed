//! `encap(...)` and `decap(...)`: headers put in front and taken off.

use weft_flow::{Action, Encap};
use weft_wire::EtherType;

use super::put_nicira;
use super::table::nxast;
use crate::ErrorCode;
use crate::bytes::{Put, Reader, round8};

/// Packet types: namespace (high 16 bits) and type.
const PT_ETH: u32 = 0;
const PT_NSH: u32 = 0x0001_894f;
const PT_MPLS: u32 = 0x0001_8847;
const PT_MPLS_MC: u32 = 0x0001_8848;
/// Whatever the header that is taken off says.
const PT_USE_NEXT_PROTO: u32 = 0xfffe;

/// Class of properties of a network service header, and its properties.
const OFPPPC_NSH: u16 = 4;
const NSH_MD_TYPE: u8 = 1;
const NSH_TLV: u8 = 2;

/// Reads the body of `encap`.
pub(super) fn decode_encap(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    r.skip(2)?;
    let kind = r.u32()?;
    let (mut md_type, mut tlvs) = (1, Vec::new());
    if ![PT_ETH, PT_NSH, PT_MPLS, PT_MPLS_MC].contains(&kind) {
        return Err(ErrorCode::NXBAC_BAD_HEADER_TYPE);
    }
    while !r.is_empty() {
        let (class, property, len) = (r.u16()?, r.u8()?, usize::from(r.u8()?));
        let body = len.checked_sub(4).ok_or(ErrorCode::OFPBAC_BAD_LEN)?;
        if r.len() < round8(len) - 4 {
            return Err(ErrorCode::OFPBAC_BAD_LEN);
        }
        let mut body = r.sub(round8(len) - 4)?.sub(body)?;
        match (class, property) {
            (OFPPPC_NSH, NSH_MD_TYPE) => {
                md_type = body.u8().map_err(|_| ErrorCode::NXBAC_BAD_ED_PROP)?;
                if !matches!(md_type, 1 | 2) {
                    return Err(ErrorCode::NXBAC_BAD_ED_PROP);
                }
            }
            (OFPPPC_NSH, NSH_TLV) => tlvs.push(decode_tlv(&mut body)?),
            _ => return Err(ErrorCode::NXBAC_UNKNOWN_ED_PROP),
        }
    }
    Ok(Action::Encap(match kind {
        PT_ETH => Encap::Ethernet,
        PT_NSH => Encap::Nsh { md_type, tlvs },
        _ => Encap::Mpls(EtherType(kind as u16)),
    }))
}

fn decode_tlv(r: &mut Reader<'_>) -> Result<(u16, u8, Vec<u8>), ErrorCode> {
    let bad = |_| ErrorCode::NXBAC_BAD_ED_PROP;
    let (class, kind, len) = (r.u16().map_err(bad)?, r.u8().map_err(bad)?, usize::from(r.u8().map_err(bad)?));
    Ok((class, kind, r.take(len).map_err(bad)?.to_vec()))
}

/// Appends `encap`.
pub(super) fn encap(encap: &Encap, out: &mut Vec<u8>) {
    put_nicira(out, nxast::ENCAP, |out| {
        out.u16(0);
        match encap {
            Encap::Ethernet => out.u32(PT_ETH),
            Encap::Mpls(kind) => out.u32(0x1_0000 | u32::from(kind.0)),
            Encap::Nsh { md_type, tlvs } => {
                out.u32(PT_NSH);
                if *md_type != 1 || !tlvs.is_empty() {
                    out.u16(OFPPPC_NSH);
                    out.u8(NSH_MD_TYPE);
                    out.u8(5);
                    out.u8(*md_type);
                    out.zeros(3);
                }
                for (class, kind, data) in tlvs {
                    let data = &data[..data.len().min(240)];
                    out.u16(OFPPPC_NSH);
                    out.u8(NSH_TLV);
                    out.u8((8 + round8(data.len())) as u8);
                    out.u16(*class);
                    out.u8(*kind);
                    out.u8(data.len() as u8);
                    out.bytes(data);
                    out.zeros(round8(data.len()) - data.len());
                }
            }
        }
    });
}

/// Reads the body of `decap`.
pub(super) fn decode_decap(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    r.skip(2)?;
    let kind = r.u32()?;
    if !r.is_empty() {
        return Err(ErrorCode::NXBAC_UNKNOWN_ED_PROP);
    }
    Ok(Action::Decap(Some(kind).filter(|kind| *kind != PT_USE_NEXT_PROTO)))
}

/// Appends `decap`.
pub(super) fn decap(kind: Option<u32>, out: &mut Vec<u8>) {
    put_nicira(out, nxast::DECAP, |out| {
        out.u16(0);
        out.u32(kind.unwrap_or(PT_USE_NEXT_PROTO));
    });
}
