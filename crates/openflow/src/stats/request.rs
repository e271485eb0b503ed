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
        let port = OfPort::from_u16(r.u16()?);
        r.skip(2)?;
        port
    } else {
        OfPort(r.u32()?)
    };
    Ok((port, r.u32()?))
}

fn put_queue(version: Version, port: OfPort, queue: u32, out: &mut Vec<u8>) {
    if version == Version::V10 {
        out.u16(port.to_u16().unwrap_or(0xffff));
        out.u16(0);
    } else {
        out.u32(port.0);
    }
    out.u32(queue);
}

impl MultipartRequest {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let envelope = Envelope::decode(version, &mut r)?;
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
        Ok(MultipartRequest { more: envelope.more, nicira: envelope.nicira, body })
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
