//! Which tunnel options are which fields: Nicira's TLV table (`NXT_TLV_TABLE_*`, `ovs-ofctl(8)` "add-tlv-map").

use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// Tunnel metadata fields: `tun_metadata0` to `tun_metadata63`.
pub const TLV_FIELDS: u16 = 64;
/// Bytes of options that all fields may hold together.
pub const TLV_SPACE: u32 = 256;
/// The longest option, bytes.
pub const TLV_MAX_LEN: u8 = 124;

/// A tunnel option and its field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlvMap {
    /// Option class.
    pub class: u16,
    /// Option type.
    pub kind: u8,
    /// Bytes of its value, a multiple of 4.
    pub len: u8,
    /// Which `tun_metadata` field.
    pub index: u16,
}

/// What to do with the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlvCommand {
    /// Add the entries.
    #[default]
    Add,
    /// Delete the entries.
    Delete,
    /// Delete all entries.
    Clear,
}

/// `NXT_TLV_TABLE_MOD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlvTableMod {
    /// What to do.
    pub command: TlvCommand,
    /// Entries.
    pub maps: Vec<TlvMap>,
}

/// `NXT_TLV_TABLE_REPLY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlvTableReply {
    /// Bytes of options that the fields may hold together.
    pub max_space: u32,
    /// How many fields there are.
    pub max_fields: u16,
    /// Entries.
    pub maps: Vec<TlvMap>,
}

fn decode_maps(r: &mut Reader<'_>) -> Result<Vec<TlvMap>, ErrorCode> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let map = TlvMap { class: r.u16()?, kind: r.u8()?, len: r.u8()?, index: r.u16()? };
        r.skip(2)?;
        if map.len > TLV_MAX_LEN || !map.len.is_multiple_of(4) {
            return Err(ErrorCode::NXTTMFC_BAD_OPT_LEN);
        }
        if map.index >= TLV_FIELDS {
            return Err(ErrorCode::NXTTMFC_BAD_FIELD_IDX);
        }
        out.push(map);
    }
    Ok(out)
}

fn encode_maps(maps: &[TlvMap], out: &mut Vec<u8>) {
    for map in maps {
        out.u16(map.class);
        out.u8(map.kind);
        out.u8(map.len);
        out.u16(map.index);
        out.zeros(2);
    }
}

impl TlvTableMod {
    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let command = match r.u16()? {
            0 => TlvCommand::Add,
            1 => TlvCommand::Delete,
            2 => TlvCommand::Clear,
            _ => return Err(ErrorCode::NXTTMFC_BAD_COMMAND),
        };
        r.skip(6)?;
        Ok(TlvTableMod { command, maps: decode_maps(&mut r)? })
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u16(self.command as u16);
        out.zeros(6);
        encode_maps(&self.maps, out);
    }
}

impl TlvTableReply {
    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let (max_space, max_fields) = (r.u32()?, r.u16()?);
        r.skip(10)?;
        Ok(TlvTableReply { max_space, max_fields, maps: decode_maps(&mut r)? })
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.max_space);
        out.u16(self.max_fields);
        out.zeros(10);
        encode_maps(&self.maps, out);
    }
}
