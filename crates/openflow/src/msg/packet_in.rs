//! A packet goes to the controller: `OFPT_PACKET_IN` and Nicira's two forms of it.

use weft_flow::{
    CtKey, Field, FlowKey, FlowMask, MAX_OPTION, Match, OfPort, OptionValue, TlvTable, ToController,
    TunMetadata, TunnelKey,
};

use super::packet_in2::Continuation;
use super::packet_out::only_in_port;
use crate::bytes::{Put, Reader, round8};
use crate::matches::{
    Dialect, decode_match_options, decode_with_options, encode_match_options, encode_options, encode_tlvs,
    options_of,
};
use crate::{ErrorCode, Version};

/// Why a packet goes to the controller: values of [`PacketIn::reason`].
pub mod reason {
    /// No rule matched, or the table-miss rule sent it.
    pub const NO_MATCH: u8 = 0;
    /// An action sent it.
    pub const ACTION: u8 = 1;
    /// Its TTL ran out.
    pub const INVALID_TTL: u8 = 2;
    /// The action set sent it (OpenFlow 1.4).
    pub const ACTION_SET: u8 = 3;
    /// A group bucket sent it (OpenFlow 1.4).
    pub const GROUP: u8 = 4;
    /// A packet-out sent it (OpenFlow 1.4).
    pub const PACKET_OUT: u8 = 5;
}

/// How packet-ins are written; a controller may choose by `NXT_SET_PACKET_IN_FORMAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketInFormat {
    /// As the version has it.
    #[default]
    Standard,
    /// `NXT_PACKET_IN`.
    Nxt,
    /// `NXT_PACKET_IN2`.
    Nxt2,
}

impl PacketInFormat {
    /// The format with this number in `NXT_SET_PACKET_IN_FORMAT`.
    pub(crate) fn from_wire(n: u32) -> Option<Self> {
        [PacketInFormat::Standard, PacketInFormat::Nxt, PacketInFormat::Nxt2]
            .into_iter()
            .find(|f| *f as u32 == n)
    }
}

/// A packet for the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketIn {
    /// Where the switch keeps the packet.
    pub buffer_id: Option<u32>,
    /// Length of the whole frame in bytes.
    pub total_len: u32,
    /// One of [`reason`].
    pub reason: u8,
    /// Table whose rule sent it.
    pub table_id: u8,
    /// Cookie of that rule; all ones when unknown.
    pub cookie: u64,
    /// What the packet came with: `in_port`, tunnel fields, registers, metadata.
    pub metadata: Box<Match>,
    /// Tunnel options that it came with; see [`crate::options_of`].
    pub options: Vec<OptionValue>,
    /// The frame, or its start.
    pub data: Vec<u8>,
    /// Bytes that the rule sent with it (`NXT_PACKET_IN2` only).
    pub userdata: Vec<u8>,
    /// What the switch wants back to let the packet go on, if the rule paused it (`NXT_PACKET_IN2`, `NXT_RESUME`).
    pub continuation: Option<Box<Continuation>>,
}

impl Default for PacketIn {
    fn default() -> Self {
        PacketIn {
            buffer_id: None,
            total_len: 0,
            reason: 0,
            table_id: 0,
            cookie: u64::MAX,
            metadata: Box::new(Match::any()),
            options: Vec::new(),
            data: Vec::new(),
            userdata: Vec::new(),
            continuation: None,
        }
    }
}

const OFP_NO_BUFFER: u32 = u32::MAX;

pub(super) fn buffer_id(wire: u32) -> Option<u32> {
    Some(wire).filter(|id| *id != OFP_NO_BUFFER)
}
pub(super) fn put_buffer_id(id: Option<u32>, out: &mut Vec<u8>) {
    out.u32(id.unwrap_or(OFP_NO_BUFFER));
}

impl PacketIn {
    /// Forgets all that is said, and keeps the memory of the metadata.
    pub(crate) fn clear(&mut self) {
        let PacketIn { metadata, options, data, userdata, continuation, .. } = self;
        **metadata = Match::any();
        (*options, *data, *userdata, *continuation) = (Vec::new(), Vec::new(), Vec::new(), None);
        (self.buffer_id, self.total_len, self.reason, self.table_id) = (None, 0, 0, 0);
        self.cookie = u64::MAX;
    }

    /// The port the packet came in by.
    pub fn in_port(&self) -> OfPort {
        OfPort(self.metadata.key.pipeline.in_port)
    }

    /// What a packet-in tells of the walk that sent it: the input port, and tunnel, connection-tracking, register and
    /// metadata fields that are not zero.
    pub fn metadata_of(key: &FlowKey) -> Box<Match> {
        let mut m = Box::new(Match::any());
        Self::write_metadata(key, &mut m);
        m
    }

    /// As [`PacketIn::metadata_of`], into `m`, which matches everything.
    pub fn write_metadata(key: &FlowKey, m: &mut Match) {
        Field::InPort.set(&mut m.key, key.pipeline.in_port.into());
        Field::InPort.mask_add(&mut m.mask, u128::MAX);
        let mut tell = |field: Field| {
            let value = field.get(key);
            if value != 0 {
                field.set(&mut m.key, value);
                field.mask_add(&mut m.mask, u128::MAX);
            }
        };
        [Field::PacketType, Field::PktMark, Field::Metadata].into_iter().for_each(&mut tell);
        // Most packets have nothing in a whole section.
        if key.tunnel != TunnelKey::default() {
            ToController::TUNNEL.into_iter().for_each(&mut tell);
        }
        if key.ct != CtKey::default() {
            ToController::TRACKED.into_iter().for_each(&mut tell);
        }
        let registers = (0..16).zip(key.pipeline.regs).filter(|(_, value)| *value != 0);
        registers.filter_map(|(n, _)| Field::reg(n)).for_each(&mut tell);
    }

    /// The tunnel options that a packet came with, as far as the table maps them to fields.
    pub fn options_of_packet(key: &FlowKey, table: &TlvTable) -> Vec<OptionValue> {
        let present = key.tun_metadata.present;
        let of_packet = table.mappings().filter(|m| m.index < 64 && present >> m.index & 1 != 0);
        let mut whole = TunMetadata::default();
        for mapping in of_packet {
            table.set(usize::from(mapping.index), &mut whole, &[0xff; MAX_OPTION], &[0xff; MAX_OPTION]);
        }
        let mask = FlowKey { tun_metadata: whole, ..FlowKey::default() };
        options_of(&Match::new(key, FlowMask(mask)), table)
    }

    /// Reads the version's own form.
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let buffer_id = buffer_id(r.u32()?);
        let mut p = PacketIn { buffer_id, ..PacketIn::default() };
        match version {
            Version::V10 => {
                p.total_len = r.u16()?.into();
                *p.metadata = only_in_port(OfPort::from_u16(r.u16()?));
                p.reason = r.u8()?;
                r.skip(1)?;
            }
            Version::V11 => {
                *p.metadata = only_in_port(OfPort(r.u32()?));
                r.skip(4)?;
                (p.total_len, p.reason, p.table_id) = (r.u16()?.into(), r.u8()?, r.u8()?);
            }
            _ => {
                (p.total_len, p.reason, p.table_id) = (r.u16()?.into(), r.u8()?, r.u8()?);
                if version >= Version::V13 {
                    p.cookie = r.u64()?;
                }
                (*p.metadata, p.options) = decode_match_options(&mut r)?;
                r.skip(2)?;
            }
        }
        p.data = r.rest().to_vec();
        Ok(p)
    }

    /// Appends the version's own form.
    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let total = u16::try_from(self.total_len).unwrap_or(u16::MAX);
        let reason = self.wire_reason(version);
        put_buffer_id(self.buffer_id, out);
        match version {
            Version::V10 => {
                out.u16(total);
                out.u16(self.in_port().to_u16().unwrap_or(0xffff));
                out.u8(reason);
                out.u8(0);
            }
            Version::V11 => {
                out.u32(self.in_port().0);
                out.u32(self.in_port().0);
                out.u16(total);
                out.u8(reason);
                out.u8(self.table_id);
            }
            _ => {
                out.u16(total);
                out.u8(reason);
                out.u8(self.table_id);
                if version >= Version::V13 {
                    out.u64(self.cookie);
                }
                encode_match_options(version, &self.metadata, &self.options, out);
                out.zeros(2);
            }
        }
        out.bytes(&self.data);
    }

    pub(crate) fn wire_reason(&self, version: Version) -> u8 {
        if version < Version::V14 && self.reason > reason::INVALID_TTL { reason::ACTION } else { self.reason }
    }

    /// Reads `NXT_PACKET_IN`.
    pub(crate) fn decode_nxt(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let buffer_id = buffer_id(r.u32()?);
        let (total_len, reason, table_id, cookie) = (r.u16()?.into(), r.u8()?, r.u8()?, r.u64()?);
        let match_len = usize::from(r.u16()?);
        r.skip(6)?;
        let (metadata, options) = decode_with_options(r.take(match_len)?, None, false)?;
        r.skip(round8(match_len) - match_len + 2)?;
        let data = r.rest().to_vec();
        let p = PacketIn {
            buffer_id,
            total_len,
            reason,
            table_id,
            cookie,
            metadata: Box::new(metadata),
            options,
            ..PacketIn::default()
        };
        Ok(PacketIn { data, ..p })
    }

    /// Appends `NXT_PACKET_IN`.
    pub(crate) fn encode_nxt(&self, version: Version, out: &mut Vec<u8>) {
        put_buffer_id(self.buffer_id, out);
        out.u16(u16::try_from(self.total_len).unwrap_or(u16::MAX));
        out.u8(self.wire_reason(version));
        out.u8(self.table_id);
        out.u64(self.cookie);
        let at = out.len();
        out.zeros(8);
        let start = out.len();
        encode_tlvs(Dialect::Nxm, &self.metadata, None, out);
        encode_options(Dialect::Nxm, &self.options, out);
        out.patch_u16(at, out.len() - start);
        out.align8(start);
        out.zeros(2);
        out.bytes(&self.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, Message};
    use weft_flow::TlvMapping;

    #[test]
    fn tunnel_options_come_with_the_packet() {
        let mapping = TlvMapping { class: 0xffff, kind: 1, len: 4, index: 1 };
        let table = TlvTable::new().with(&[mapping]).unwrap();
        let mut key = FlowKey::default();
        assert!(PacketIn::options_of_packet(&key, &table).is_empty());
        assert!(table.set(1, &mut key.tun_metadata, &[0x12, 0x34], &[0xff; 4]));
        let options = PacketIn::options_of_packet(&key, &table);
        assert!(options.len() == 1 && options[0].value.ends_with(&[0, 0, 0x12, 0x34]), "{options:?}");
        for version in [Version::V12, Version::V13, Version::V14, Version::V15] {
            for format in [PacketInFormat::Standard, PacketInFormat::Nxt, PacketInFormat::Nxt2] {
                let codec = Codec { packet_in_format: format, ..Codec::new(version) };
                let packet = PacketIn { options: options.clone(), ..PacketIn::default() };
                let mut out = Vec::new();
                codec.encode(1, &Message::PacketIn(Box::new(packet)), &mut out).unwrap();
                let Ok((_, Message::PacketIn(back))) = codec.decode(&out) else {
                    panic!("{version} {format:?}")
                };
                assert_eq!(back.options, options, "{version} {format:?}");
            }
        }
    }
}
