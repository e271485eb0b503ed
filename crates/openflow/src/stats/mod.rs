//! Questions with long answers: multipart messages, called statistics up to OpenFlow 1.2.
//!
//! A reply is a list of entries; [`StatsReply::parts`] cuts it into messages of at most 64 KiB.

pub mod flow;
pub(crate) mod oxs;
pub mod port;
pub mod table;
pub mod table_features;

use weft_flow::OfPort;

use crate::bytes::{Put, Reader};
use crate::error::NICIRA;
use crate::frame::{HEADER_LEN, MAX_MESSAGE};
use crate::msg::port::PortDesc;
use crate::{ErrorCode, Version};
use flow::{AggregateStats, FlowStats, FlowStatsRequest};
use port::{PortStats, QueueStats};
use table::{TableDesc, TableStats};
use table_features::TableFeatures;

const OFPST_DESC: u16 = 0;
const OFPST_FLOW: u16 = 1;
const OFPST_AGGREGATE: u16 = 2;
const OFPST_TABLE: u16 = 3;
const OFPST_PORT: u16 = 4;
const OFPST_QUEUE: u16 = 5;
const OFPST_TABLE_FEATURES: u16 = 12;
const OFPST_PORT_DESC: u16 = 13;
const OFPST_TABLE_DESC: u16 = 14;
const OFPST_VENDOR: u16 = 0xffff;

const NXST_FLOW: u32 = 0;
const NXST_AGGREGATE: u32 = 1;

/// Bit of the flags: more messages follow.
const MORE: u16 = 1;
/// A queue number that stands for all.
pub const QUEUE_ALL: u32 = u32::MAX;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsRequest {
    /// Who made the switch?
    Desc,
    /// Which rules are there?
    Flow(Box<FlowStatsRequest>),
    /// How much did they match together?
    Aggregate(Box<FlowStatsRequest>),
    /// How full are the tables?
    Table,
    /// What can the tables do? With entries (OpenFlow 1.3): make them so.
    TableFeatures(Vec<TableFeatures>),
    /// How are the tables configured (OpenFlow 1.4)?
    TableDesc,
    /// How much did ports carry? [`OfPort::ANY`]: all.
    Port(OfPort),
    /// Which ports are there? [`OfPort::ANY`]: all.
    PortDesc(OfPort),
    /// How much did queues carry?
    Queue {
        /// Port; [`OfPort::ANY`]: all.
        port: OfPort,
        /// Queue; [`QUEUE_ALL`]: all.
        queue: u32,
    },
}

/// A question with its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartRequest {
    /// Further messages belong to the same question.
    pub more: bool,
    /// It was asked in Nicira's form, and so must be the answer.
    pub nicira: bool,
    /// The question.
    pub body: StatsRequest,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsReply {
    /// Who made the switch.
    Desc(SwitchDesc),
    /// Rules.
    Flow(Vec<FlowStats>),
    /// Sum over rules.
    Aggregate(AggregateStats),
    /// Counts of tables.
    Table(Vec<TableStats>),
    /// What tables can do.
    TableFeatures(Vec<TableFeatures>),
    /// How tables are configured.
    TableDesc(Vec<TableDesc>),
    /// Counts of ports.
    Port(Vec<PortStats>),
    /// Ports.
    PortDesc(Vec<PortDesc>),
    /// Counts of queues.
    Queue(Vec<QueueStats>),
}

/// An answer with its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartReply {
    /// Further messages belong to the same answer.
    pub more: bool,
    /// In Nicira's form.
    pub nicira: bool,
    /// The answer.
    pub body: StatsReply,
}

/// Who made the switch: texts of at most 255 bytes (serial number 31).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchDesc {
    /// Manufacturer.
    pub manufacturer: String,
    /// Hardware.
    pub hardware: String,
    /// Software.
    pub software: String,
    /// Serial number.
    pub serial: String,
    /// Description of the datapath.
    pub datapath: String,
}

impl SwitchDesc {
    fn texts(&mut self) -> [(&mut String, usize); 5] {
        [
            (&mut self.manufacturer, 256),
            (&mut self.hardware, 256),
            (&mut self.software, 256),
            (&mut self.serial, 32),
            (&mut self.datapath, 256),
        ]
    }
}

/// Type, flags and, with a vendor's type, the vendor's number.
struct Envelope {
    kind: u16,
    flags: u16,
    nicira: Option<u32>,
}

impl Envelope {
    fn decode(version: Version, r: &mut Reader<'_>) -> Result<Envelope, ErrorCode> {
        let (kind, flags) = (r.u16()?, r.u16()?);
        if version != Version::V10 {
            r.skip(4)?;
        }
        let mut nicira = None;
        if kind == OFPST_VENDOR {
            if r.u32()? != NICIRA {
                return Err(ErrorCode::OFPBRC_BAD_VENDOR);
            }
            nicira = Some(r.u32()?);
            if version == Version::V10 {
                r.skip(4)?;
            }
        }
        Ok(Envelope { kind, flags, nicira })
    }
    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.u16(self.kind);
        out.u16(self.flags);
        if version != Version::V10 {
            out.zeros(4);
        }
        if let Some(subtype) = self.nicira {
            out.u32(NICIRA);
            out.u32(subtype);
            if version == Version::V10 {
                out.zeros(4);
            }
        }
    }
}

fn request_port(version: Version, r: &mut Reader<'_>) -> Result<OfPort, ErrorCode> {
    if version == Version::V10 {
        let port = OfPort::from_u16(r.u16()?);
        r.skip(6)?;
        return Ok(port);
    }
    let port = OfPort(r.u32()?);
    r.skip(4)?;
    Ok(port)
}

fn put_request_port(version: Version, port: OfPort, out: &mut Vec<u8>) {
    if version == Version::V10 {
        out.u16(port.to_u16().unwrap_or(0xffff));
        out.zeros(6);
    } else {
        out.u32(port.0);
        out.zeros(4);
    }
}

impl MultipartRequest {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let envelope = Envelope::decode(version, &mut r)?;
        let body = match (envelope.kind, envelope.nicira) {
            (OFPST_DESC, _) => StatsRequest::Desc,
            (OFPST_FLOW, _) => StatsRequest::Flow(Box::new(FlowStatsRequest::decode(version, &mut r)?)),
            (OFPST_AGGREGATE, _) => {
                StatsRequest::Aggregate(Box::new(FlowStatsRequest::decode(version, &mut r)?))
            }
            (OFPST_TABLE, _) => StatsRequest::Table,
            (OFPST_PORT, _) => StatsRequest::Port(request_port(version, &mut r)?),
            (OFPST_QUEUE, _) => {
                let port = if version == Version::V10 {
                    let port = OfPort::from_u16(r.u16()?);
                    r.skip(2)?;
                    port
                } else {
                    OfPort(r.u32()?)
                };
                StatsRequest::Queue { port, queue: r.u32()? }
            }
            // Open vSwitch answers this in every version; before 1.5 it always asks for all ports.
            (OFPST_PORT_DESC, _) => StatsRequest::PortDesc(match version {
                Version::V15 => request_port(version, &mut r)?,
                _ => OfPort::ANY,
            }),
            (OFPST_TABLE_FEATURES, _) if version >= Version::V13 => {
                StatsRequest::TableFeatures(TableFeatures::decode_all(version, &mut r)?)
            }
            (OFPST_TABLE_DESC, _) if version >= Version::V14 => StatsRequest::TableDesc,
            (OFPST_VENDOR, Some(NXST_FLOW)) => {
                StatsRequest::Flow(Box::new(FlowStatsRequest::decode_nxst(&mut r)?))
            }
            (OFPST_VENDOR, Some(NXST_AGGREGATE)) => {
                StatsRequest::Aggregate(Box::new(FlowStatsRequest::decode_nxst(&mut r)?))
            }
            (OFPST_VENDOR, _) => return Err(ErrorCode::OFPBRC_BAD_SUBTYPE),
            _ => return Err(ErrorCode::OFPBRC_BAD_STAT),
        };
        Ok(MultipartRequest { more: envelope.flags & MORE != 0, nicira: envelope.nicira.is_some(), body })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let (kind, nicira) = match &self.body {
            StatsRequest::Desc => (OFPST_DESC, None),
            StatsRequest::Flow(_) if self.nicira => (OFPST_VENDOR, Some(NXST_FLOW)),
            StatsRequest::Flow(_) => (OFPST_FLOW, None),
            StatsRequest::Aggregate(_) if self.nicira => (OFPST_VENDOR, Some(NXST_AGGREGATE)),
            StatsRequest::Aggregate(_) => (OFPST_AGGREGATE, None),
            StatsRequest::Table => (OFPST_TABLE, None),
            StatsRequest::TableFeatures(_) => (OFPST_TABLE_FEATURES, None),
            StatsRequest::TableDesc => (OFPST_TABLE_DESC, None),
            StatsRequest::Port(_) => (OFPST_PORT, None),
            StatsRequest::PortDesc(_) => (OFPST_PORT_DESC, None),
            StatsRequest::Queue { .. } => (OFPST_QUEUE, None),
        };
        Envelope { kind, flags: u16::from(self.more), nicira }.encode(version, out);
        match &self.body {
            StatsRequest::Desc | StatsRequest::Table | StatsRequest::TableDesc => {}
            StatsRequest::Flow(f) | StatsRequest::Aggregate(f) if self.nicira => f.encode_nxst(out),
            StatsRequest::Flow(f) | StatsRequest::Aggregate(f) => f.encode(version, out),
            StatsRequest::TableFeatures(list) => list.iter().for_each(|t| t.encode(version, out)),
            StatsRequest::Port(port) => put_request_port(version, *port, out),
            StatsRequest::PortDesc(port) if version == Version::V15 => put_request_port(version, *port, out),
            StatsRequest::PortDesc(_) => {}
            StatsRequest::Queue { port, queue } => {
                if version == Version::V10 {
                    out.u16(port.to_u16().unwrap_or(0xffff));
                    out.u16(0);
                } else {
                    out.u32(port.0);
                }
                out.u32(*queue);
            }
        }
    }
}

/// Reads entries until the end.
fn all<T>(
    r: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, ErrorCode>,
) -> Result<Vec<T>, ErrorCode> {
    let mut out = Vec::new();
    while !r.is_empty() {
        out.push(one(r)?);
    }
    Ok(out)
}

impl MultipartReply {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let envelope = Envelope::decode(version, &mut r)?;
        let r = &mut r;
        let body = match (envelope.kind, envelope.nicira) {
            (OFPST_DESC, _) => {
                let mut desc = SwitchDesc::default();
                for (text, len) in desc.texts() {
                    *text = r.text(len)?;
                }
                StatsReply::Desc(desc)
            }
            (OFPST_FLOW, _) => StatsReply::Flow(all(r, |r| FlowStats::decode(version, r))?),
            (OFPST_AGGREGATE, _) => StatsReply::Aggregate(AggregateStats::decode(version, r)?),
            (OFPST_TABLE, _) => StatsReply::Table(all(r, |r| TableStats::decode(version, r))?),
            (OFPST_PORT, _) => StatsReply::Port(all(r, |r| PortStats::decode(version, r))?),
            (OFPST_QUEUE, _) => StatsReply::Queue(all(r, |r| QueueStats::decode(version, r))?),
            (OFPST_PORT_DESC, _) => StatsReply::PortDesc(all(r, |r| PortDesc::decode(version, r))?),
            (OFPST_TABLE_FEATURES, _) if version >= Version::V13 => {
                StatsReply::TableFeatures(TableFeatures::decode_all(version, r)?)
            }
            (OFPST_TABLE_DESC, _) if version >= Version::V14 => {
                StatsReply::TableDesc(all(r, TableDesc::decode)?)
            }
            (OFPST_VENDOR, Some(NXST_FLOW)) => StatsReply::Flow(all(r, FlowStats::decode_nxst)?),
            (OFPST_VENDOR, Some(NXST_AGGREGATE)) => {
                StatsReply::Aggregate(AggregateStats::decode(Version::V10, r)?)
            }
            (OFPST_VENDOR, _) => return Err(ErrorCode::OFPBRC_BAD_SUBTYPE),
            _ => return Err(ErrorCode::OFPBRC_BAD_STAT),
        };
        Ok(MultipartReply { more: envelope.flags & MORE != 0, nicira: envelope.nicira.is_some(), body })
    }

    /// Calls `part` with the bodies of one or more messages, each with its envelope; the header goes before.
    ///
    /// An entry that no message can hold is left out.
    pub(crate) fn parts(&self, version: Version, mut part: impl FnMut(&[u8])) {
        let mut parts = Parts {
            envelope: self.envelope(),
            version,
            body: Vec::new(),
            scratch: Vec::new(),
            start: 0,
            more: self.more,
        };
        parts.begin();
        let emit: &mut dyn FnMut(&[u8]) = &mut part;
        match &self.body {
            StatsReply::Desc(desc) => parts.entry(emit, |out| {
                for (text, len) in desc.clone().texts() {
                    out.text(text, len);
                }
            }),
            StatsReply::Flow(list) => {
                list.iter().for_each(|f| parts.entry(emit, |out| f.encode_form(version, self.nicira, out)));
            }
            StatsReply::Aggregate(a) => {
                parts.entry(emit, |out| a.encode(if self.nicira { Version::V10 } else { version }, out));
            }
            StatsReply::Table(list) => {
                list.iter().for_each(|t| parts.entry(emit, |out| t.encode(version, out)));
            }
            StatsReply::TableFeatures(list) => {
                list.iter().for_each(|t| parts.entry(emit, |out| t.encode(version, out)));
            }
            StatsReply::TableDesc(list) => list.iter().for_each(|t| parts.entry(emit, |out| t.encode(out))),
            StatsReply::Port(list) => {
                list.iter().for_each(|p| parts.entry(emit, |out| p.encode(version, out)))
            }
            StatsReply::PortDesc(list) => {
                list.iter().for_each(|p| parts.entry(emit, |out| p.encode(version, out)));
            }
            StatsReply::Queue(list) => {
                list.iter().for_each(|q| parts.entry(emit, |out| q.encode(version, out)))
            }
        }
        emit(&parts.body);
    }

    fn envelope(&self) -> (u16, Option<u32>) {
        match &self.body {
            StatsReply::Desc(_) => (OFPST_DESC, None),
            StatsReply::Flow(_) if self.nicira => (OFPST_VENDOR, Some(NXST_FLOW)),
            StatsReply::Flow(_) => (OFPST_FLOW, None),
            StatsReply::Aggregate(_) if self.nicira => (OFPST_VENDOR, Some(NXST_AGGREGATE)),
            StatsReply::Aggregate(_) => (OFPST_AGGREGATE, None),
            StatsReply::Table(_) => (OFPST_TABLE, None),
            StatsReply::TableFeatures(_) => (OFPST_TABLE_FEATURES, None),
            StatsReply::TableDesc(_) => (OFPST_TABLE_DESC, None),
            StatsReply::Port(_) => (OFPST_PORT, None),
            StatsReply::PortDesc(_) => (OFPST_PORT_DESC, None),
            StatsReply::Queue(_) => (OFPST_QUEUE, None),
        }
    }
}

/// The message being filled.
struct Parts {
    envelope: (u16, Option<u32>),
    version: Version,
    body: Vec<u8>,
    scratch: Vec<u8>,
    /// Length of the envelope.
    start: usize,
    /// Whether the last message too has others after it.
    more: bool,
}

impl Parts {
    fn begin(&mut self) {
        let (kind, nicira) = self.envelope;
        self.body.clear();
        Envelope { kind, flags: u16::from(self.more), nicira }.encode(self.version, &mut self.body);
        self.start = self.body.len();
    }

    fn entry(&mut self, emit: &mut dyn FnMut(&[u8]), encode: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        encode(&mut self.scratch);
        if self.start + self.scratch.len() > MAX_MESSAGE - HEADER_LEN {
            return;
        }
        if self.body.len() + self.scratch.len() > MAX_MESSAGE - HEADER_LEN {
            self.body.patch_u16(2, MORE.into());
            emit(&self.body);
            self.begin();
        }
        self.body.extend_from_slice(&self.scratch);
    }
}
