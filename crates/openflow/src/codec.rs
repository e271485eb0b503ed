//! How do messages become bytes and bytes messages, in the version that two ends agreed on?

use crate::bytes::{Put, Reader};
use crate::error::{ErrorMessage, NICIRA};
use crate::experimenter;
use crate::frame::{HEADER_LEN, Header, MAX_MESSAGE};
use crate::lengths;
use crate::matches::fits_match10;
use crate::message::Message;
use crate::msg::bundle::{BundleAdd, BundleControl};
use crate::msg::control::{AsyncConfig, FlowFormat, RoleMessage};
use crate::msg::flow::FlowMod;
use crate::msg::flow_removed::FlowRemoved;
use crate::msg::group::GroupMod;
use crate::msg::handshake::{Features, Hello, SwitchConfig};
use crate::msg::meter::MeterMod;
use crate::msg::notify::{ControllerStatus, RoleStatus};
use crate::msg::packet_in::{PacketIn, PacketInFormat};
use crate::msg::port::{PortMod, PortStatus};
use crate::msg::queue::{self, QueueConfig};
use crate::msg::table::{TableMod, TableStatus};
use crate::spare::Spare;
use crate::stats::reply::flow_parts;
use crate::stats::{MultipartReply, MultipartRequest, TellFlow};
use crate::{ErrorCode, Version};

/// Message types, as OpenFlow 1.1 and later number them.
pub(crate) mod ofpt {
    pub(crate) const HELLO: u8 = 0;
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const ECHO_REQUEST: u8 = 2;
    pub(crate) const ECHO_REPLY: u8 = 3;
    pub(crate) const EXPERIMENTER: u8 = 4;
    pub(crate) const FEATURES_REQUEST: u8 = 5;
    pub(crate) const FEATURES_REPLY: u8 = 6;
    pub(crate) const GET_CONFIG_REQUEST: u8 = 7;
    pub(crate) const GET_CONFIG_REPLY: u8 = 8;
    pub(crate) const SET_CONFIG: u8 = 9;
    pub(crate) const PACKET_IN: u8 = 10;
    pub(crate) const FLOW_REMOVED: u8 = 11;
    pub(crate) const PORT_STATUS: u8 = 12;
    pub(crate) const PACKET_OUT: u8 = 13;
    pub(crate) const FLOW_MOD: u8 = 14;
    pub(crate) const GROUP_MOD: u8 = 15;
    pub(crate) const PORT_MOD: u8 = 16;
    pub(crate) const TABLE_MOD: u8 = 17;
    pub(crate) const MULTIPART_REQUEST: u8 = 18;
    pub(crate) const MULTIPART_REPLY: u8 = 19;
    pub(crate) const BARRIER_REQUEST: u8 = 20;
    pub(crate) const BARRIER_REPLY: u8 = 21;
    pub(crate) const QUEUE_GET_CONFIG_REQUEST: u8 = 22;
    pub(crate) const QUEUE_GET_CONFIG_REPLY: u8 = 23;
    pub(crate) const ROLE_REQUEST: u8 = 24;
    pub(crate) const ROLE_REPLY: u8 = 25;
    pub(crate) const GET_ASYNC_REQUEST: u8 = 26;
    pub(crate) const GET_ASYNC_REPLY: u8 = 27;
    pub(crate) const SET_ASYNC: u8 = 28;
    pub(crate) const METER_MOD: u8 = 29;
    pub(crate) const ROLE_STATUS: u8 = 30;
    pub(crate) const TABLE_STATUS: u8 = 31;
    pub(crate) const REQUESTFORWARD: u8 = 32;
    pub(crate) const BUNDLE_CONTROL: u8 = 33;
    pub(crate) const BUNDLE_ADD_MESSAGE: u8 = 34;
    pub(crate) const CONTROLLER_STATUS: u8 = 35;
}

/// A message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It would take more than 65,535 bytes.
    #[error("{0} would be longer than the 65535 bytes a message may have")]
    TooLong(&'static str),
    /// The version has no such message, nor an extension for it.
    #[error("{1} has no {0}")]
    NotInVersion(&'static str, Version),
}

/// Reads and writes messages of one version, as this connection's extensions are set.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// Version of every message but hellos.
    pub version: Version,
    /// How matches are written in OpenFlow 1.0.
    pub flow_format: FlowFormat,
    /// Whether the high byte of a flow-mod's command is a table in OpenFlow 1.0.
    pub table_ids: bool,
    /// How packet-ins are written.
    pub packet_in_format: PacketInFormat,
    /// What `SetAsync` with single properties changes.
    pub async_config: AsyncConfig,
}

impl Codec {
    /// A codec with no extension switched on.
    pub fn new(version: Version) -> Self {
        Codec {
            version,
            flow_format: FlowFormat::default(),
            table_ids: false,
            packet_in_format: PacketInFormat::default(),
            async_config: AsyncConfig::default(),
        }
    }

    /// The number of OpenFlow 1.1 for a type on the wire.
    fn canonical(&self, wire: u8) -> Option<u8> {
        use ofpt::*;
        if self.version == Version::V10 {
            return match wire {
                HELLO..=FLOW_MOD => Some(wire),
                15 => Some(PORT_MOD),
                16..=21 => Some(wire + 2),
                _ => None,
            };
        }
        let last = match self.version {
            Version::V10 | Version::V11 => QUEUE_GET_CONFIG_REPLY,
            Version::V12 => ROLE_REPLY,
            Version::V13 => METER_MOD,
            Version::V14 => BUNDLE_ADD_MESSAGE,
            Version::V15 => CONTROLLER_STATUS,
        };
        // Queues became a multipart question in 1.4.
        let queues = QUEUE_GET_CONFIG_REQUEST..=QUEUE_GET_CONFIG_REPLY;
        Some(wire).filter(|w| *w <= last && (self.version < Version::V14 || !queues.contains(w)))
    }

    fn wire_kind(&self, canonical: u8) -> Option<u8> {
        (0..=ofpt::CONTROLLER_STATUS).find(|wire| self.canonical(*wire) == Some(canonical))
    }

    /// Reads one whole message, header included.
    ///
    /// # Errors
    /// What an error message about it must say.
    pub fn decode(&self, bytes: &[u8]) -> Result<(u32, Message), ErrorCode> {
        self.decode_with(bytes, &mut Spare::default())
    }

    /// As [`Codec::decode`], into memory of messages that are done with.
    pub(crate) fn decode_with(&self, bytes: &[u8], spare: &mut Spare) -> Result<(u32, Message), ErrorCode> {
        let header = Header::parse(bytes)?;
        if usize::from(header.length) != bytes.len() {
            return Err(ErrorCode::OFPBRC_BAD_LEN);
        }
        let r = Reader::new(&bytes[HEADER_LEN..], ErrorCode::OFPBRC_BAD_LEN);
        // A hello has the highest version its sender speaks, and errors may answer it.
        if header.kind == ofpt::HELLO {
            return Ok((header.xid, Message::Hello(Hello::decode(r))));
        }
        // Echoes are alike in all versions, and answered whatever theirs.
        let echo = matches!(header.kind, ofpt::ECHO_REQUEST | ofpt::ECHO_REPLY);
        if header.version != self.version.wire() && !echo {
            return Err(ErrorCode::OFPBRC_BAD_VERSION);
        }
        let kind = self.canonical(header.kind).ok_or(ErrorCode::OFPBRC_BAD_TYPE)?;
        if !lengths::fits(self.version, kind, r.len()) {
            return Err(ErrorCode::OFPBRC_BAD_LEN);
        }
        Ok((header.xid, self.decode_body(kind, r, spare)?))
    }

    /// Whether a message is of a type that only switches send, and long enough for one: whatever else is wrong with it,
    /// a switch refuses it as `OFPBRC_BAD_TYPE`.
    pub(crate) fn is_of_switch(&self, message: &[u8]) -> bool {
        let (Ok(header), Some(body)) = (Header::parse(message), message.get(HEADER_LEN..)) else {
            return false;
        };
        let Some(kind) = self.canonical(header.kind) else { return false };
        if header.version != self.version.wire() {
            return false;
        }
        if kind != ofpt::EXPERIMENTER {
            return lengths::is_of_switch(kind) && lengths::fits(self.version, kind, body.len());
        }
        let mut r = Reader::new(body, ErrorCode::OFPBRC_BAD_LEN);
        let (Ok(vendor), Ok(subtype)) = (r.u32(), r.u32()) else { return false };
        let known = vendor == NICIRA && lengths::is_of_nicira(self.version, subtype);
        known && lengths::is_of_switch_nicira(subtype) && lengths::fits_nicira(subtype, r.len())
    }

    fn decode_body(&self, kind: u8, r: Reader<'_>, spare: &mut Spare) -> Result<Message, ErrorCode> {
        use ofpt::*;
        let v = self.version;
        let empty = |message| if r.is_empty() { Ok(message) } else { Err(ErrorCode::OFPBRC_BAD_LEN) };
        Ok(match kind {
            ERROR => Message::Error(ErrorMessage::decode(v, r)?),
            ECHO_REQUEST => Message::EchoRequest(r.rest().to_vec()),
            ECHO_REPLY => Message::EchoReply(r.rest().to_vec()),
            EXPERIMENTER => experimenter::decode(self, r, spare)?,
            FEATURES_REQUEST => empty(Message::FeaturesRequest)?,
            FEATURES_REPLY => Message::FeaturesReply(Features::decode(v, r)?),
            GET_CONFIG_REQUEST => empty(Message::GetConfigRequest)?,
            GET_CONFIG_REPLY => Message::GetConfigReply(SwitchConfig::decode(r)?),
            SET_CONFIG => Message::SetConfig(SwitchConfig::decode(r)?.checked(v)?),
            PACKET_IN => Message::PacketIn(Box::new(PacketIn::decode(v, r)?)),
            FLOW_REMOVED => Message::FlowRemoved(Box::new(FlowRemoved::decode(v, r)?)),
            PORT_STATUS => Message::PortStatus(Box::new(PortStatus::decode(v, r)?)),
            PACKET_OUT => Message::PacketOut(spare.packet_out(v, r)?),
            FLOW_MOD if v == Version::V10 => {
                Message::FlowMod(Box::new(FlowMod::decode10(self.table_ids, r)?))
            }
            FLOW_MOD => Message::FlowMod(spare.flow_mod(v, r)?),
            GROUP_MOD if v == Version::V15 => Message::GroupMod(Box::new(GroupMod::decode15(v, r)?)),
            GROUP_MOD => Message::GroupMod(Box::new(GroupMod::decode11(v, r)?)),
            PORT_MOD => Message::PortMod(PortMod::decode(v, r)?),
            TABLE_MOD => Message::TableMod(TableMod::decode(v, r)?),
            MULTIPART_REQUEST => Message::MultipartRequest(MultipartRequest::decode(v, r)?),
            MULTIPART_REPLY => Message::MultipartReply(MultipartReply::decode(v, r)?),
            BARRIER_REQUEST => empty(Message::BarrierRequest)?,
            BARRIER_REPLY => empty(Message::BarrierReply)?,
            ROLE_REQUEST => Message::RoleRequest(RoleMessage::decode(v, r)?),
            ROLE_REPLY => Message::RoleReply(RoleMessage::decode(v, r)?),
            GET_ASYNC_REQUEST => empty(Message::GetAsyncRequest)?,
            GET_ASYNC_REPLY => Message::GetAsyncReply(self.decode_async(r)?),
            SET_ASYNC => Message::SetAsync(self.decode_async(r)?),
            METER_MOD => Message::MeterMod(Box::new(MeterMod::decode(r)?)),
            QUEUE_GET_CONFIG_REQUEST => Message::QueueGetConfigRequest(queue::decode_request(v, r)?),
            QUEUE_GET_CONFIG_REPLY => Message::QueueGetConfigReply(QueueConfig::decode(v, r)?),
            ROLE_STATUS => Message::RoleStatus(RoleStatus::decode(r)?),
            TABLE_STATUS => Message::TableStatus(TableStatus::decode(r)?),
            REQUESTFORWARD => Message::RequestForward(forwarded(r)?),
            CONTROLLER_STATUS => Message::ControllerStatus(ControllerStatus::decode(&mut { r })?),
            BUNDLE_CONTROL if v >= Version::V14 => Message::BundleControl(BundleControl::decode(v, r)?),
            BUNDLE_ADD_MESSAGE if v >= Version::V14 => Message::BundleAdd(BundleAdd::decode(r)?),
            _ => return Err(ErrorCode::OFPBRC_BAD_TYPE),
        })
    }

    fn decode_async(&self, r: Reader<'_>) -> Result<AsyncConfig, ErrorCode> {
        if self.version >= Version::V14 {
            self.async_config.decode14(r)
        } else {
            self.async_config.decode13(r)
        }
    }

    /// Appends a message; a multipart reply may become several.
    ///
    /// # Errors
    /// Nothing was appended.
    pub fn encode(&self, xid: u32, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if let Message::MultipartReply(reply) = message {
            let kind = self.wire_kind(ofpt::MULTIPART_REPLY).unwrap_or(ofpt::MULTIPART_REPLY);
            let known = reply.parts(self.version, |body| {
                let length = (HEADER_LEN + body.len()) as u16;
                Header { version: self.version.wire(), kind, length, xid }.emit(out);
                out.extend_from_slice(body);
            });
            return if known { Ok(()) } else { Err(EncodeError::NotInVersion(message.name(), self.version)) };
        }
        let start = out.len();
        Header { version: self.version.wire(), kind: 0, length: 0, xid }.emit(out);
        let standard = self.encode_body(message, out);
        let extension = || experimenter::encode(self, message, out).then_some(ofpt::EXPERIMENTER);
        let Some(kind) = standard.or_else(extension).and_then(|kind| self.wire_kind(kind)) else {
            out.truncate(start);
            return Err(EncodeError::NotInVersion(message.name(), self.version));
        };
        let length = out.len() - start;
        if length > MAX_MESSAGE {
            out.truncate(start);
            return Err(EncodeError::TooLong(message.name()));
        }
        out[start + 1] = kind;
        out.patch_u16(start + 2, length);
        Ok(())
    }

    /// Appends an answer about rules, in as many messages as it takes: see [`Codec::encode`].
    pub(crate) fn encode_flows(
        &self,
        xid: u32,
        nicira: bool,
        tell: impl FnOnce(TellFlow<'_>) -> bool,
        out: &mut Vec<u8>,
    ) {
        let kind = self.wire_kind(ofpt::MULTIPART_REPLY).unwrap_or(ofpt::MULTIPART_REPLY);
        flow_parts(self.version, nicira, tell, |body| {
            let length = (HEADER_LEN + body.len()) as u16;
            Header { version: self.version.wire(), kind, length, xid }.emit(out);
            out.extend_from_slice(body);
        });
    }

    /// Appends the body and returns the type as OpenFlow 1.1 numbers it; `None`, and nothing appended, when the
    /// version has no such message.
    fn encode_body(&self, message: &Message, out: &mut Vec<u8>) -> Option<u8> {
        use ofpt::*;
        let v = self.version;
        Some(match message {
            Message::Hello(m) => {
                m.encode(out);
                HELLO
            }
            Message::Error(m) => {
                m.encode(v, out);
                ERROR
            }
            Message::EchoRequest(data) => {
                out.bytes(data);
                ECHO_REQUEST
            }
            Message::EchoReply(data) => {
                out.bytes(data);
                ECHO_REPLY
            }
            Message::FeaturesRequest => FEATURES_REQUEST,
            Message::FeaturesReply(m) => {
                m.encode(v, out);
                FEATURES_REPLY
            }
            Message::GetConfigRequest => GET_CONFIG_REQUEST,
            Message::GetConfigReply(m) => {
                m.encode(out);
                GET_CONFIG_REPLY
            }
            Message::SetConfig(m) => {
                m.encode(out);
                SET_CONFIG
            }
            Message::PacketIn(m) => return self.encode_packet_in(m, out),
            Message::FlowRemoved(m) => return self.encode_flow_removed(m, out),
            Message::PortStatus(m) => {
                m.encode(v, out);
                PORT_STATUS
            }
            Message::PacketOut(m) => {
                m.encode(v, out);
                PACKET_OUT
            }
            Message::FlowMod(m) => return self.encode_flow_mod(m, out),
            Message::GroupMod(m) if v == Version::V15 || v >= Version::V11 && m.fits11() => {
                m.encode(v, out);
                GROUP_MOD
            }
            Message::MeterMod(m) if v >= Version::V13 => {
                m.encode(out);
                METER_MOD
            }
            Message::PortMod(m) => {
                m.encode(v, out);
                PORT_MOD
            }
            Message::TableMod(m) if v >= Version::V11 => {
                m.encode(v, out);
                TABLE_MOD
            }
            Message::MultipartRequest(m) => {
                m.encode(v, out).then_some(())?;
                MULTIPART_REQUEST
            }
            Message::BarrierRequest => BARRIER_REQUEST,
            Message::BarrierReply => BARRIER_REPLY,
            Message::MultipartReply(_) | Message::TableMod(_) => return None,
            _ => return self.encode_control(message, out),
        })
    }

    fn encode_packet_in(&self, m: &PacketIn, out: &mut Vec<u8>) -> Option<u8> {
        if self.packet_in_format != PacketInFormat::Standard {
            return None;
        }
        m.encode(self.version, out);
        Some(ofpt::PACKET_IN)
    }

    fn encode_flow_removed(&self, m: &FlowRemoved, out: &mut Vec<u8>) -> Option<u8> {
        if self.version == Version::V10 && self.flow_format == FlowFormat::Nxm {
            return None;
        }
        m.encode(self.version, out);
        Some(ofpt::FLOW_REMOVED)
    }

    fn encode_flow_mod(&self, m: &FlowMod, out: &mut Vec<u8>) -> Option<u8> {
        if self.version != Version::V10 {
            m.encode11(self.version, out);
            return Some(ofpt::FLOW_MOD);
        }
        let plain = self.flow_format == FlowFormat::OpenFlow10
            && m.cookie_mask == 0
            && m.options.is_empty()
            && fits_match10(&m.matching);
        plain.then(|| m.encode10(self.table_ids, out))?;
        Some(ofpt::FLOW_MOD)
    }

    /// Queues, roles, asynchronous configuration, notices and bundles.
    fn encode_control(&self, message: &Message, out: &mut Vec<u8>) -> Option<u8> {
        use ofpt::*;
        let v = self.version;
        Some(match message {
            Message::RoleRequest(m) if v >= Version::V12 && m.generation_id.is_some() => {
                m.encode(v, out);
                ROLE_REQUEST
            }
            Message::RoleReply(m) if v >= Version::V12 && m.generation_id.is_some() => {
                m.encode(v, out);
                ROLE_REPLY
            }
            Message::QueueGetConfigRequest(port) if v < Version::V14 => {
                queue::encode_request(v, *port, out);
                QUEUE_GET_CONFIG_REQUEST
            }
            Message::QueueGetConfigReply(m) if v < Version::V14 => {
                m.encode(v, out);
                QUEUE_GET_CONFIG_REPLY
            }
            Message::RoleStatus(m) if v >= Version::V14 => {
                m.encode(out);
                ROLE_STATUS
            }
            Message::TableStatus(m) if v >= Version::V14 => {
                m.encode(out);
                TABLE_STATUS
            }
            Message::RequestForward(request) if v >= Version::V14 => {
                out.bytes(request);
                REQUESTFORWARD
            }
            Message::ControllerStatus(m) if v == Version::V15 => {
                m.encode(out);
                CONTROLLER_STATUS
            }
            Message::GetAsyncRequest if v >= Version::V13 => GET_ASYNC_REQUEST,
            Message::GetAsyncReply(m) if v >= Version::V13 => {
                m.encode(v, out);
                GET_ASYNC_REPLY
            }
            Message::SetAsync(m) if v >= Version::V13 => {
                m.encode(v, out);
                SET_ASYNC
            }
            Message::BundleControl(m) if v >= Version::V14 => {
                m.encode(out);
                BUNDLE_CONTROL
            }
            Message::BundleAdd(m) if v >= Version::V14 => {
                m.encode(out);
                BUNDLE_ADD_MESSAGE
            }
            _ => return None,
        })
    }
}

/// A request that is handed on: a whole message with its header.
pub(crate) fn forwarded(mut r: Reader<'_>) -> Result<Vec<u8>, ErrorCode> {
    let length = usize::from(Header::parse(r.rest())?.length);
    r.take(length).map(<[u8]>::to_vec)
}
