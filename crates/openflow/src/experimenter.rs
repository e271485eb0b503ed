//! Which messages do Nicira and the ONF add to those of the standard?
//!
//! Where a version has a message of its own for what an extension says, that one is written; both are read.

use crate::bytes::{Put, Reader};
use crate::codec::forwarded;
use crate::error::{NICIRA, ONF};
use crate::lengths;
use crate::message::Message;
use crate::msg::bundle::{BundleAdd, BundleControl};
use crate::msg::control::{FlowFormat, RoleMessage};
use crate::msg::ct_flush::CtFlush;
use crate::msg::flow::FlowMod;
use crate::msg::flow_removed::FlowRemoved;
use crate::msg::group::GroupMod;
use crate::msg::notify::RoleStatus;
use crate::msg::packet_in::{PacketIn, PacketInFormat};
use crate::msg::tlv::{TlvTableMod, TlvTableReply};
use crate::spare::Spare;
use crate::{Codec, ErrorCode, Version};

const NXT_ROLE_REQUEST: u32 = 10;
const NXT_ROLE_REPLY: u32 = 11;
const NXT_SET_FLOW_FORMAT: u32 = 12;
const NXT_FLOW_MOD: u32 = 13;
const NXT_FLOW_REMOVED: u32 = 14;
const NXT_FLOW_MOD_TABLE_ID: u32 = 15;
const NXT_SET_PACKET_IN_FORMAT: u32 = 16;
const NXT_PACKET_IN: u32 = 17;
const NXT_FLOW_AGE: u32 = 18;
const NXT_SET_ASYNC_CONFIG: u32 = 19;
const NXT_SET_CONTROLLER_ID: u32 = 20;
const NXT_FLOW_MONITOR_CANCEL: u32 = 21;
const NXT_FLOW_MONITOR_PAUSED: u32 = 22;
const NXT_FLOW_MONITOR_RESUMED: u32 = 23;
const NXT_TLV_TABLE_MOD: u32 = 24;
const NXT_TLV_TABLE_REQUEST: u32 = 25;
const NXT_TLV_TABLE_REPLY: u32 = 26;
const NXT_SET_ASYNC_CONFIG2: u32 = 27;
const NXT_RESUME: u32 = 28;
const NXT_CT_FLUSH_ZONE: u32 = 29;
const NXT_PACKET_IN2: u32 = 30;
const NXT_GROUP_MOD: u32 = 31;
const NXT_CT_FLUSH: u32 = 32;
const NXT_REQUESTFORWARD: u32 = 132;
const ONFT_FLOW_MONITOR_CANCEL: u32 = 1870;
const ONFT_FLOW_MONITOR_PAUSED: u32 = 1871;
const ONFT_FLOW_MONITOR_RESUMED: u32 = 1872;
const ONFT_ROLE_STATUS: u32 = 1911;
const ONFT_BUNDLE_CONTROL: u32 = 2300;
const ONFT_BUNDLE_ADD_MESSAGE: u32 = 2301;
const ONFT_REQUESTFORWARD: u32 = 2350;

/// Reads the body of an experimenter's message.
pub(crate) fn decode(codec: &Codec, mut r: Reader<'_>, spare: &mut Spare) -> Result<Message, ErrorCode> {
    let (experimenter, subtype) = (r.u32()?, r.u32()?);
    match experimenter {
        NICIRA => decode_nicira(codec, subtype, r, spare),
        ONF => decode_onf(subtype, r),
        _ => Err(ErrorCode::OFPBRC_BAD_VENDOR),
    }
}

fn decode_onf(subtype: u32, mut r: Reader<'_>) -> Result<Message, ErrorCode> {
    Ok(match subtype {
        ONFT_BUNDLE_CONTROL => Message::BundleControl(BundleControl::decode(Version::V13, r)?),
        ONFT_BUNDLE_ADD_MESSAGE => Message::BundleAdd(BundleAdd::decode(r)?),
        ONFT_ROLE_STATUS => Message::RoleStatus(RoleStatus::decode(r)?),
        ONFT_REQUESTFORWARD => Message::RequestForward(forwarded(r)?),
        ONFT_FLOW_MONITOR_CANCEL => Message::FlowMonitorCancel(r.u32()?),
        ONFT_FLOW_MONITOR_PAUSED => Message::FlowMonitorPaused,
        ONFT_FLOW_MONITOR_RESUMED => Message::FlowMonitorResumed,
        _ => return Err(ErrorCode::OFPBRC_BAD_SUBTYPE),
    })
}

fn decode_nicira(
    codec: &Codec,
    subtype: u32,
    mut r: Reader<'_>,
    spare: &mut Spare,
) -> Result<Message, ErrorCode> {
    let version = codec.version;
    let v10 = version == Version::V10;
    if !lengths::is_of_nicira(version, subtype) {
        return Err(ErrorCode::OFPBRC_BAD_SUBTYPE);
    }
    if !lengths::fits_nicira(subtype, r.len()) {
        return Err(ErrorCode::OFPBRC_BAD_LEN);
    }
    Ok(match subtype {
        NXT_ROLE_REQUEST => Message::RoleRequest(RoleMessage::decode_nxt(r)?),
        NXT_ROLE_REPLY => Message::RoleReply(RoleMessage::decode_nxt(r)?),
        NXT_SET_FLOW_FORMAT if v10 => Message::SetFlowFormat(FlowFormat::decode(r)?),
        NXT_FLOW_MOD if v10 => Message::FlowMod(Box::new(FlowMod::decode_nxt(codec.table_ids, r)?)),
        NXT_FLOW_REMOVED if v10 => Message::FlowRemoved(Box::new(FlowRemoved::decode_nxt(r)?)),
        NXT_FLOW_MOD_TABLE_ID => Message::FlowModTableId(r.u8()? != 0),
        NXT_SET_PACKET_IN_FORMAT => {
            let format = PacketInFormat::from_wire(r.u32()?);
            Message::SetPacketInFormat(format.ok_or(ErrorCode::OFPBRC_EPERM)?)
        }
        NXT_PACKET_IN => Message::PacketIn(Box::new(PacketIn::decode_nxt(r)?)),
        NXT_PACKET_IN2 => Message::PacketIn(spare.packet_in(version, r)?),
        NXT_RESUME => Message::Resume(Box::new(PacketIn::decode_nxt2(version, true, r)?)),
        NXT_FLOW_AGE => Message::FlowAge,
        NXT_FLOW_MONITOR_CANCEL if version < Version::V13 => Message::FlowMonitorCancel(r.u32()?),
        NXT_FLOW_MONITOR_PAUSED if version < Version::V13 => Message::FlowMonitorPaused,
        NXT_FLOW_MONITOR_RESUMED if version < Version::V13 => Message::FlowMonitorResumed,
        NXT_REQUESTFORWARD => Message::RequestForward(forwarded(r)?),
        NXT_SET_ASYNC_CONFIG => Message::SetAsync(codec.async_config.decode13(r)?),
        NXT_SET_ASYNC_CONFIG2 if version < Version::V14 => Message::SetAsync(codec.async_config.decode14(r)?),
        NXT_SET_CONTROLLER_ID => {
            if r.take(6)?.iter().any(|b| *b != 0) {
                return Err(ErrorCode::NXBRC_MUST_BE_ZERO);
            }
            Message::SetControllerId(r.u16()?)
        }
        NXT_TLV_TABLE_MOD => Message::TlvTableMod(TlvTableMod::decode(r)?),
        NXT_TLV_TABLE_REQUEST => Message::TlvTableRequest,
        NXT_TLV_TABLE_REPLY => Message::TlvTableReply(TlvTableReply::decode(r)?),
        NXT_CT_FLUSH_ZONE => {
            if r.take(6)?.iter().any(|b| *b != 0) {
                return Err(ErrorCode::NXBRC_MUST_BE_ZERO);
            }
            Message::CtFlushZone(r.u16()?)
        }
        NXT_CT_FLUSH => Message::CtFlush(Box::new(CtFlush::decode(r)?)),
        NXT_GROUP_MOD if v10 => Message::GroupMod(Box::new(GroupMod::decode15(version, r)?)),
        _ => return Err(ErrorCode::OFPBRC_BAD_SUBTYPE),
    })
}

/// Appends experimenter, subtype and body of a message that is an extension in this version. False: it has none.
pub(crate) fn encode(codec: &Codec, message: &Message, out: &mut Vec<u8>) -> bool {
    let version = codec.version;
    let v10 = version == Version::V10;
    match message {
        Message::PacketIn(m) if codec.packet_in_format == PacketInFormat::Nxt => {
            header(NICIRA, NXT_PACKET_IN, out);
            m.encode_nxt(version, out);
        }
        Message::PacketIn(m) => {
            header(NICIRA, NXT_PACKET_IN2, out);
            m.encode_nxt2(version, false, out);
        }
        Message::FlowRemoved(m) if v10 => {
            header(NICIRA, NXT_FLOW_REMOVED, out);
            m.encode_nxt(out);
        }
        Message::FlowMod(m) if v10 => {
            header(NICIRA, NXT_FLOW_MOD, out);
            m.encode_nxt(codec.table_ids, out);
        }
        Message::GroupMod(m) if v10 => {
            header(NICIRA, NXT_GROUP_MOD, out);
            m.encode(version, out);
        }
        Message::RoleRequest(m) => {
            header(NICIRA, NXT_ROLE_REQUEST, out);
            m.encode_nxt(out);
        }
        Message::RoleReply(m) => {
            header(NICIRA, NXT_ROLE_REPLY, out);
            m.encode_nxt(out);
        }
        Message::SetAsync(m) if version < Version::V14 => {
            header(NICIRA, NXT_SET_ASYNC_CONFIG, out);
            m.encode(version, out);
        }
        Message::RoleStatus(m) if version == Version::V13 => {
            header(ONF, ONFT_ROLE_STATUS, out);
            m.encode(out);
        }
        Message::RequestForward(request) if version < Version::V14 => {
            let onf = version == Version::V13;
            let (vendor, subtype) =
                if onf { (ONF, ONFT_REQUESTFORWARD) } else { (NICIRA, NXT_REQUESTFORWARD) };
            header(vendor, subtype, out);
            out.bytes(request);
        }
        Message::FlowMonitorCancel(id) if version < Version::V14 => {
            monitor(version, NXT_FLOW_MONITOR_CANCEL, ONFT_FLOW_MONITOR_CANCEL, out);
            out.u32(*id);
        }
        Message::FlowMonitorPaused if version < Version::V14 => {
            monitor(version, NXT_FLOW_MONITOR_PAUSED, ONFT_FLOW_MONITOR_PAUSED, out);
        }
        Message::FlowMonitorResumed if version < Version::V14 => {
            monitor(version, NXT_FLOW_MONITOR_RESUMED, ONFT_FLOW_MONITOR_RESUMED, out);
        }
        Message::BundleControl(m) => {
            header(ONF, ONFT_BUNDLE_CONTROL, out);
            m.encode(out);
        }
        Message::BundleAdd(m) => {
            header(ONF, ONFT_BUNDLE_ADD_MESSAGE, out);
            m.encode(out);
        }
        _ => return encode_own(codec, message, out),
    }
    true
}

/// What no version has in its standard.
fn encode_own(codec: &Codec, message: &Message, out: &mut Vec<u8>) -> bool {
    match message {
        Message::SetFlowFormat(format) => {
            header(NICIRA, NXT_SET_FLOW_FORMAT, out);
            format.encode(out);
        }
        Message::FlowModTableId(on) => {
            header(NICIRA, NXT_FLOW_MOD_TABLE_ID, out);
            out.u8(u8::from(*on));
            out.zeros(7);
        }
        Message::SetPacketInFormat(format) => {
            header(NICIRA, NXT_SET_PACKET_IN_FORMAT, out);
            out.u32(*format as u32);
        }
        Message::SetControllerId(id) => {
            header(NICIRA, NXT_SET_CONTROLLER_ID, out);
            out.zeros(6);
            out.u16(*id);
        }
        Message::FlowAge => header(NICIRA, NXT_FLOW_AGE, out),
        Message::Resume(m) => {
            header(NICIRA, NXT_RESUME, out);
            m.encode_nxt2(codec.version, true, out);
        }
        Message::TlvTableMod(m) => {
            header(NICIRA, NXT_TLV_TABLE_MOD, out);
            m.encode(out);
        }
        Message::TlvTableRequest => header(NICIRA, NXT_TLV_TABLE_REQUEST, out),
        Message::TlvTableReply(m) => {
            header(NICIRA, NXT_TLV_TABLE_REPLY, out);
            m.encode(out);
        }
        Message::CtFlushZone(zone) => {
            header(NICIRA, NXT_CT_FLUSH_ZONE, out);
            out.zeros(6);
            out.u16(*zone);
        }
        Message::CtFlush(m) => {
            header(NICIRA, NXT_CT_FLUSH, out);
            m.encode(out);
        }
        _ => return false,
    }
    true
}

/// Flow monitors are the ONF's in OpenFlow 1.3, and Nicira's before.
fn monitor(version: Version, nicira: u32, onf: u32, out: &mut Vec<u8>) {
    let (vendor, subtype) = if version == Version::V13 { (ONF, onf) } else { (NICIRA, nicira) };
    header(vendor, subtype, out);
}

/// Appends what an experimenter's message begins with.
fn header(vendor: u32, subtype: u32, out: &mut Vec<u8>) {
    out.u32(vendor);
    out.u32(subtype);
}
