//! Which number has each question in each version, and what goes before it?

use super::{MultipartReply, MultipartRequest, StatsReply, StatsRequest};
use crate::bytes::{Put, Reader};
use crate::error::{NICIRA, ONF};
use crate::{ErrorCode, Version};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Desc,
    Flow,
    Aggregate,
    Table,
    Port,
    Queue,
    Group,
    GroupDesc,
    GroupFeatures,
    Meter,
    MeterConfig,
    MeterFeatures,
    TableFeatures,
    PortDesc,
    TableDesc,
    QueueDesc,
    FlowMonitor,
    FlowCounts,
    ControllerStatus,
    BundleFeatures,
    IpfixBridge,
    IpfixFlow,
}

/// Type of an experimenter's questions.
const OFPST_VENDOR: u16 = 0xffff;
/// Bit of the flags: more messages follow.
pub(super) const MORE: u16 = 1;

/// What a question has in the versions from `first` to `last`: a type, or an experimenter and a subtype.
struct Row {
    kind: Kind,
    first: Version,
    last: Version,
    number: u16,
    extension: Option<(u32, u32)>,
}

const fn std(kind: Kind, first: Version, number: u16) -> Row {
    Row { kind, first, last: Version::V15, number, extension: None }
}
const fn exp(kind: Kind, first: Version, last: Version, vendor: u32, subtype: u32) -> Row {
    Row { kind, first, last, number: OFPST_VENDOR, extension: Some((vendor, subtype)) }
}

use Version::*;
const ROWS: &[Row] = &[
    std(Kind::Desc, V10, 0),
    std(Kind::Flow, V10, 1),
    std(Kind::Aggregate, V10, 2),
    std(Kind::Table, V10, 3),
    std(Kind::Port, V10, 4),
    std(Kind::Queue, V10, 5),
    std(Kind::Group, V11, 6),
    std(Kind::GroupDesc, V11, 7),
    std(Kind::GroupFeatures, V12, 8),
    std(Kind::Meter, V13, 9),
    std(Kind::MeterConfig, V13, 10),
    std(Kind::MeterFeatures, V13, 11),
    std(Kind::TableFeatures, V13, 12),
    // Open vSwitch answers this in every version.
    std(Kind::PortDesc, V10, 13),
    std(Kind::TableDesc, V14, 14),
    std(Kind::QueueDesc, V14, 15),
    std(Kind::FlowMonitor, V14, 16),
    std(Kind::FlowCounts, V15, 17),
    std(Kind::ControllerStatus, V15, 18),
    std(Kind::BundleFeatures, V15, 19),
    exp(Kind::Flow, V10, V10, NICIRA, 0),
    exp(Kind::Aggregate, V10, V10, NICIRA, 1),
    exp(Kind::FlowMonitor, V10, V10, NICIRA, 2),
    exp(Kind::FlowMonitor, V13, V13, ONF, 1870),
    exp(Kind::IpfixBridge, V10, V15, NICIRA, 3),
    exp(Kind::IpfixFlow, V10, V15, NICIRA, 4),
    exp(Kind::Group, V10, V10, NICIRA, 7),
    exp(Kind::GroupDesc, V10, V10, NICIRA, 8),
    exp(Kind::GroupFeatures, V10, V11, NICIRA, 9),
];

impl Row {
    fn is_in(&self, version: Version) -> bool {
        self.first <= version && version <= self.last
    }
}

/// What stands before a question or an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    pub(super) kind: Kind,
    pub(super) more: bool,
    /// Nicira's form was chosen where there is one of the standard too.
    pub(super) nicira: bool,
}

impl Envelope {
    pub(super) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Envelope, ErrorCode> {
        let (number, flags) = (r.u16()?, r.u16()?);
        if version != V10 {
            r.skip(4)?;
        }
        let mut extension = None;
        if number == OFPST_VENDOR {
            let vendor = r.u32()?;
            if vendor != NICIRA && (vendor != ONF || version == V10) {
                return Err(ErrorCode::OFPBRC_BAD_VENDOR);
            }
            extension = Some((vendor, r.u32()?));
            if version == V10 {
                r.skip(4)?;
            }
        }
        let known = |row: &&Row| row.is_in(version) && row.number == number && row.extension == extension;
        let missing =
            if extension.is_some() { ErrorCode::OFPBRC_BAD_SUBTYPE } else { ErrorCode::OFPBRC_BAD_STAT };
        let kind = ROWS.iter().find(known).ok_or(missing)?.kind;
        let standard = |row: &Row| row.kind == kind && row.extension.is_none() && row.is_in(version);
        let nicira = extension.is_some() && ROWS.iter().any(standard);
        Ok(Envelope { kind, more: flags & MORE != 0, nicira })
    }

    /// Appends it. False: the version has no such question.
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) -> bool {
        let has = |row: &&Row| row.kind == self.kind && row.is_in(version);
        let wanted = |row: &&Row| has(row) && row.extension.is_some() == self.nicira;
        let Some(row) = ROWS.iter().find(wanted).or_else(|| ROWS.iter().find(has)) else { return false };
        out.u16(row.number);
        out.u16(if self.more { MORE } else { 0 });
        if version != V10 {
            out.zeros(4);
        }
        if let Some((vendor, subtype)) = row.extension {
            out.u32(vendor);
            out.u32(subtype);
            if version == V10 {
                out.zeros(4);
            }
        }
        true
    }
}

impl MultipartRequest {
    pub(super) fn envelope(&self) -> Envelope {
        let kind = match &self.body {
            StatsRequest::Desc => Kind::Desc,
            StatsRequest::Flow(_) => Kind::Flow,
            StatsRequest::Aggregate(_) => Kind::Aggregate,
            StatsRequest::Table => Kind::Table,
            StatsRequest::TableFeatures(_) => Kind::TableFeatures,
            StatsRequest::TableDesc => Kind::TableDesc,
            StatsRequest::Port(_) => Kind::Port,
            StatsRequest::PortDesc(_) => Kind::PortDesc,
            StatsRequest::Queue { .. } => Kind::Queue,
            StatsRequest::Group(_) => Kind::Group,
            StatsRequest::GroupDesc(_) => Kind::GroupDesc,
            StatsRequest::GroupFeatures => Kind::GroupFeatures,
            StatsRequest::Meter(_) => Kind::Meter,
            StatsRequest::MeterConfig(_) => Kind::MeterConfig,
            StatsRequest::MeterFeatures => Kind::MeterFeatures,
            StatsRequest::QueueDesc { .. } => Kind::QueueDesc,
            StatsRequest::FlowCounts(_) => Kind::FlowCounts,
            StatsRequest::FlowMonitor(_) => Kind::FlowMonitor,
            StatsRequest::ControllerStatus => Kind::ControllerStatus,
            StatsRequest::BundleFeatures => Kind::BundleFeatures,
            StatsRequest::IpfixBridge => Kind::IpfixBridge,
            StatsRequest::IpfixFlow => Kind::IpfixFlow,
        };
        Envelope { kind, more: self.more, nicira: self.nicira }
    }
}

impl MultipartReply {
    pub(super) fn envelope(&self) -> Envelope {
        let kind = match &self.body {
            StatsReply::Desc(_) => Kind::Desc,
            StatsReply::Flow(_) => Kind::Flow,
            StatsReply::Aggregate(_) => Kind::Aggregate,
            StatsReply::Table(_) => Kind::Table,
            StatsReply::TableFeatures(_) => Kind::TableFeatures,
            StatsReply::TableDesc(_) => Kind::TableDesc,
            StatsReply::Port(_) => Kind::Port,
            StatsReply::PortDesc(_) => Kind::PortDesc,
            StatsReply::Queue(_) => Kind::Queue,
            StatsReply::Group(_) => Kind::Group,
            StatsReply::GroupDesc(_) => Kind::GroupDesc,
            StatsReply::GroupFeatures(_) => Kind::GroupFeatures,
            StatsReply::Meter(_) => Kind::Meter,
            StatsReply::MeterConfig(_) => Kind::MeterConfig,
            StatsReply::MeterFeatures(_) => Kind::MeterFeatures,
            StatsReply::QueueDesc(_) => Kind::QueueDesc,
            StatsReply::FlowCounts(_) => Kind::FlowCounts,
            StatsReply::FlowMonitor(_) => Kind::FlowMonitor,
            StatsReply::ControllerStatus(_) => Kind::ControllerStatus,
            StatsReply::BundleFeatures(_) => Kind::BundleFeatures,
            StatsReply::IpfixBridge(_) => Kind::IpfixBridge,
            StatsReply::IpfixFlow(_) => Kind::IpfixFlow,
        };
        Envelope { kind, more: self.more, nicira: self.nicira }
    }
}
