//! Questions with long answers: multipart messages, called statistics up to OpenFlow 1.2.
//!
//! A reply is a list of entries; [`StatsReply::parts`] cuts it into messages of at most 64 KiB.

mod envelope;
pub mod flow;
pub mod group;
pub mod meter;
pub mod misc;
pub(crate) mod oxs;
pub mod port;
pub(crate) mod reply;
mod request;
pub mod table;
pub mod table_features;

pub use reply::TellFlow;
use weft_flow::OfPort;

use crate::ErrorCode;
use crate::bytes::Reader;
use crate::msg::monitor::{MonitorRequest, MonitorUpdate};
use crate::msg::notify::ControllerStatus;
use crate::msg::port::PortDesc;
use crate::msg::queue::QueueDesc;
use flow::{AggregateStats, FlowStats, FlowStatsRequest};
use group::{GroupDesc, GroupFeatures, GroupStats};
use meter::{MeterConfig, MeterFeatures, MeterStats};
use misc::{BundleFeatures, IpfixStats};
use port::{PortStats, QueueStats};
use table::{TableDesc, TableStats};
use table_features::TableFeatures;

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
    /// How much passed groups (OpenFlow 1.1, Nicira extension in 1.0)? [`crate::msg::group::GROUP_ALL`]: all.
    Group(u32),
    /// Which groups are there? [`crate::msg::group::GROUP_ALL`]: all; OpenFlow 1.1 to 1.4 always ask for all.
    GroupDesc(u32),
    /// What can groups do?
    GroupFeatures,
    /// How much did meters measure (OpenFlow 1.3)? [`crate::msg::meter::METER_ALL`]: all.
    Meter(u32),
    /// Which meters are there? [`crate::msg::meter::METER_ALL`]: all.
    MeterConfig(u32),
    /// What can meters do?
    MeterFeatures,
    /// Which queues are there (OpenFlow 1.4; a message of its own before)?
    QueueDesc {
        /// Port; [`OfPort::ANY`]: all.
        port: OfPort,
        /// Queue; [`QUEUE_ALL`]: all.
        queue: u32,
    },
    /// Which rules are there, without what they do (OpenFlow 1.5)?
    FlowCounts(Box<FlowStatsRequest>),
    /// Tell changes of rules from now on, and the rules that are there (Nicira, ONF, OpenFlow 1.4).
    FlowMonitor(Vec<MonitorRequest>),
    /// Which controllers are there (OpenFlow 1.5)?
    ControllerStatus,
    /// What can bundles do (OpenFlow 1.5)?
    BundleFeatures,
    /// How much was exported as IPFIX for the bridge (Nicira)?
    IpfixBridge,
    /// How much was exported as IPFIX for rules, by collector set (Nicira)?
    IpfixFlow,
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
    /// Counts of groups.
    Group(Vec<GroupStats>),
    /// Groups.
    GroupDesc(Vec<GroupDesc>),
    /// What groups can do.
    GroupFeatures(GroupFeatures),
    /// Counts of meters.
    Meter(Vec<MeterStats>),
    /// Meters.
    MeterConfig(Vec<MeterConfig>),
    /// What meters can do.
    MeterFeatures(MeterFeatures),
    /// Queues.
    QueueDesc(Vec<QueueDesc>),
    /// Rules without what they do.
    FlowCounts(Vec<FlowStats>),
    /// Rules, or changes of them.
    FlowMonitor(Vec<MonitorUpdate>),
    /// Controllers.
    ControllerStatus(Vec<ControllerStatus>),
    /// What bundles can do.
    BundleFeatures(BundleFeatures),
    /// Exported for the bridge.
    IpfixBridge(IpfixStats),
    /// Exported for rules.
    IpfixFlow(Vec<IpfixStats>),
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

/// Bytes of an entry after its length.
fn entry<'a>(r: &mut Reader<'a>) -> Result<Reader<'a>, ErrorCode> {
    let length = usize::from(r.u16()?);
    r.sub(length.checked_sub(2).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)
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
