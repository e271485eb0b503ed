//! How are questions read and written?

use weft_flow::OfPort;

use super::envelope::{Envelope, Kind};
use super::flow::FlowStatsRequest;
use super::table_features::TableFeatures;
use super::{MultipartRequest, StatsRequest};
use crate::bytes::{Put, Reader};
use crate::msg::group::{GROUP_ALL, has_bucket_ids};
use crate::msg::monitor::MonitorRequest;
use crate::msg::queue::{padded_port, put_padded_port};
use crate::{ErrorCode, Version};

/// A number and four bytes of nothing.
fn padded(r: &mut Reader<'_>) -> Result<u32, ErrorCode> {
    let number = r.u32()?;
    r.skip(4)?;
    Ok(number)
}

fn put_padded(number: u32, out: &mut Vec<u8>) {
    out.u32(number);
    out.u32(0);
}

fn queue(version: Version, r: &mut Reader<'_>) -> Result<(OfPort, u32), ErrorCode> {
    let port = if version == Version::V10 {
        let port = r.u16()?;
        r.skip(2)?;
        // All ports are OFPP_ALL here, and OFPP_NONE is none.
        match port {
            PORTS_ALL10 => OfPort::ANY,
            PORT_NONE10 => OfPort::ALL,
            port => OfPort::from_u16(port),
        }
    } else {
        OfPort(r.u32()?)
    };
    Ok((port, r.u32()?))
}

/// All ports, and none, in OpenFlow 1.0.
const PORTS_ALL10: u16 = 0xfffc;
const PORT_NONE10: u16 = 0xffff;

/// Whether what follows the envelope of a question may be so long.
fn length_fits(version: Version, envelope: Envelope, bytes: usize) -> bool {
    let (fixed, entry) = match envelope.kind {
        Kind::Flow | Kind::Aggregate if envelope.nicira => (8, 8),
        Kind::Flow | Kind::Aggregate if version == Version::V10 => (44, 0),
        Kind::Flow | Kind::Aggregate | Kind::FlowCounts => (32, 8),
        Kind::PortDesc if version == Version::V15 => (8, 0),
        Kind::GroupDesc if has_bucket_ids(version) => (8, 0),
        Kind::Port | Kind::Queue | Kind::QueueDesc | Kind::Group | Kind::Meter | Kind::MeterConfig => (8, 0),
        Kind::TableFeatures | Kind::FlowMonitor => (0, 8),
        Kind::BundleFeatures => (8, 8),
        Kind::Desc
        | Kind::Table
        | Kind::PortDesc
        | Kind::GroupDesc
        | Kind::GroupFeatures
        | Kind::MeterFeatures
        | Kind::TableDesc
        | Kind::ControllerStatus
        | Kind::IpfixBridge
        | Kind::IpfixFlow => (0, 0),
    };
    match bytes.checked_sub(fixed) {
        Some(0) => true,
        Some(more) => entry != 0 && more.is_multiple_of(entry),
        None => false,
    }
}

fn put_queue(version: Version, port: OfPort, queue: u32, out: &mut Vec<u8>) {
    if version == Version::V10 {
        let all = port == OfPort::ANY;
        out.u16(if all { PORTS_ALL10 } else { port.to_u16().unwrap_or(PORT_NONE10) });
        out.u16(0);
    } else {
        out.u32(port.0);
    }
    out.u32(queue);
}

impl MultipartRequest {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let envelope = Envelope::decode(version, &mut r)?;
        if !length_fits(version, envelope, r.len()) {
            return Err(ErrorCode::OFPBRC_BAD_LEN);
        }
        let r = &mut r;
        let flow = |r: &mut Reader<'_>| match envelope.nicira {
            true => FlowStatsRequest::decode_nxst(r).map(Box::new),
            false => FlowStatsRequest::decode(version, r).map(Box::new),
        };
        let body = match envelope.kind {
            Kind::Desc => StatsRequest::Desc,
            Kind::Flow => StatsRequest::Flow(flow(r)?),
            Kind::Aggregate => StatsRequest::Aggregate(flow(r)?),
            Kind::Table => StatsRequest::Table,
            Kind::Port => StatsRequest::Port(padded_port(version, r)?),
            Kind::Queue => {
                let (port, queue) = queue(version, r)?;
                StatsRequest::Queue { port, queue }
            }
            // Before 1.5 it always asks for all ports, and for all groups.
            Kind::PortDesc if version == Version::V15 => StatsRequest::PortDesc(padded_port(version, r)?),
            Kind::PortDesc => StatsRequest::PortDesc(OfPort::ANY),
            Kind::Group => StatsRequest::Group(padded(r)?),
            Kind::GroupDesc if has_bucket_ids(version) => StatsRequest::GroupDesc(padded(r)?),
            Kind::GroupDesc => StatsRequest::GroupDesc(GROUP_ALL),
            Kind::GroupFeatures => StatsRequest::GroupFeatures,
            Kind::Meter => StatsRequest::Meter(padded(r)?),
            Kind::MeterConfig => StatsRequest::MeterConfig(padded(r)?),
            Kind::MeterFeatures => StatsRequest::MeterFeatures,
            Kind::TableFeatures => StatsRequest::TableFeatures(TableFeatures::decode_all(version, r)?),
            Kind::TableDesc => StatsRequest::TableDesc,
            Kind::QueueDesc => {
                let (port, queue) = queue(version, r)?;
                StatsRequest::QueueDesc { port, queue }
            }
            Kind::FlowCounts => StatsRequest::FlowCounts(flow(r)?),
            Kind::FlowMonitor => {
                StatsRequest::FlowMonitor(super::all(r, |r| MonitorRequest::decode(version, r))?)
            }
            Kind::ControllerStatus => StatsRequest::ControllerStatus,
            Kind::BundleFeatures => {
                r.skip(8)?;
                StatsRequest::BundleFeatures
            }
            Kind::IpfixBridge => StatsRequest::IpfixBridge,
            Kind::IpfixFlow => StatsRequest::IpfixFlow,
        };
        // Questions have several messages from OpenFlow 1.3 on; before, the bit means nothing.
        let more = envelope.more && version >= Version::V13;
        Ok(MultipartRequest { more, nicira: envelope.nicira, body })
    }

    /// Appends it. False: the version has no such question.
    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> bool {
        if !self.envelope().encode(version, out) {
            return false;
        }
        match &self.body {
            StatsRequest::Flow(f) | StatsRequest::Aggregate(f) if self.nicira => f.encode_nxst(out),
            StatsRequest::Flow(f) | StatsRequest::Aggregate(f) => f.encode(version, out),
            StatsRequest::FlowCounts(f) => f.encode(version, out),
            StatsRequest::FlowMonitor(list) => list.iter().for_each(|m| m.encode(version, out)),
            StatsRequest::BundleFeatures => out.zeros(8),
            StatsRequest::TableFeatures(list) => list.iter().for_each(|t| t.encode(version, out)),
            StatsRequest::Port(port) => put_padded_port(version, *port, out),
            StatsRequest::PortDesc(port) if version == Version::V15 => put_padded_port(version, *port, out),
            StatsRequest::Queue { port, queue } | StatsRequest::QueueDesc { port, queue } => {
                put_queue(version, *port, *queue, out)
            }
            StatsRequest::GroupDesc(group) if has_bucket_ids(version) => put_padded(*group, out),
            StatsRequest::Group(id) | StatsRequest::Meter(id) | StatsRequest::MeterConfig(id) => {
                put_padded(*id, out);
            }
            StatsRequest::PortDesc(_)
            | StatsRequest::GroupDesc(_)
            | StatsRequest::Desc
            | StatsRequest::Table
            | StatsRequest::TableDesc
            | StatsRequest::GroupFeatures
            | StatsRequest::MeterFeatures
            | StatsRequest::ControllerStatus
            | StatsRequest::IpfixBridge
            | StatsRequest::IpfixFlow => {}
        }
        true
    }
}
