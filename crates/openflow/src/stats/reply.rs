//! How are answers read, and written in parts that fit messages?

use weft_flow::Instructions;

use super::envelope::{Envelope, Kind, MORE};
use super::flow::{AggregateStats, FlowStats, Form};
use super::group::{GroupDesc, GroupFeatures, GroupStats};
use super::meter::{MeterConfig, MeterFeatures, MeterStats};
use super::misc::{BundleFeatures, IpfixStats};
use super::port::{PortStats, QueueStats};
use super::table::{TableDesc, TableStats};
use super::table_features::TableFeatures;
use super::{MultipartReply, StatsReply, SwitchDesc, all};
use crate::bytes::{Put, Reader};
use crate::frame::{HEADER_LEN, MAX_MESSAGE};
use crate::matches::Alike;
use crate::msg::monitor::MonitorUpdate;
use crate::msg::notify::ControllerStatus;
use crate::msg::port::PortDesc;
use crate::msg::queue::QueueDesc;
use crate::{ErrorCode, Version};

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

impl MultipartReply {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let envelope = Envelope::decode(version, &mut r)?;
        let r = &mut r;
        let body = match envelope.kind {
            Kind::Desc => {
                let mut desc = SwitchDesc::default();
                for (text, len) in desc.texts() {
                    *text = r.text(len)?;
                }
                StatsReply::Desc(desc)
            }
            Kind::Flow if envelope.nicira => StatsReply::Flow(all(r, FlowStats::decode_nxst)?),
            Kind::Flow => StatsReply::Flow(all(r, |r| FlowStats::decode(version, r))?),
            Kind::Aggregate => StatsReply::Aggregate(AggregateStats::decode(version, r)?),
            Kind::Table => StatsReply::Table(all(r, |r| TableStats::decode(version, r))?),
            Kind::Port => StatsReply::Port(all(r, |r| PortStats::decode(version, r))?),
            Kind::Queue => StatsReply::Queue(all(r, |r| QueueStats::decode(version, r))?),
            Kind::PortDesc => StatsReply::PortDesc(all(r, |r| PortDesc::decode(version, r))?),
            Kind::TableFeatures => StatsReply::TableFeatures(TableFeatures::decode_all(version, r)?),
            Kind::TableDesc => StatsReply::TableDesc(all(r, TableDesc::decode)?),
            Kind::Group => StatsReply::Group(all(r, |r| GroupStats::decode(version, r))?),
            Kind::GroupDesc => StatsReply::GroupDesc(all(r, |r| GroupDesc::decode(version, r))?),
            Kind::GroupFeatures => StatsReply::GroupFeatures(GroupFeatures::decode(r)?),
            Kind::Meter => StatsReply::Meter(all(r, MeterStats::decode)?),
            Kind::MeterConfig => StatsReply::MeterConfig(all(r, MeterConfig::decode)?),
            Kind::QueueDesc => StatsReply::QueueDesc(all(r, QueueDesc::decode)?),
            Kind::FlowCounts => StatsReply::FlowCounts(all(r, FlowStats::decode_counts)?),
            Kind::FlowMonitor => StatsReply::FlowMonitor(all(r, |r| MonitorUpdate::decode(version, r))?),
            Kind::ControllerStatus => StatsReply::ControllerStatus(all(r, ControllerStatus::decode)?),
            Kind::BundleFeatures => StatsReply::BundleFeatures(BundleFeatures::decode(r)?),
            Kind::IpfixBridge => StatsReply::IpfixBridge(IpfixStats::decode(r)?),
            Kind::IpfixFlow => StatsReply::IpfixFlow(all(r, IpfixStats::decode)?),
            Kind::MeterFeatures => StatsReply::MeterFeatures(MeterFeatures::decode(r)?),
        };
        Ok(MultipartReply { more: envelope.more, nicira: envelope.nicira, body })
    }

    /// Calls `part` with the bodies of one or more messages, each with its envelope; the header goes before. False: the
    /// version has no such answer.
    ///
    /// An entry that no message can hold is left out.
    pub(crate) fn parts(&self, version: Version, mut part: impl FnMut(&[u8])) -> bool {
        let mut parts = Parts {
            envelope: self.envelope(),
            version,
            body: Vec::new(),
            scratch: Vec::new(),
            start: 0,
            emit: &mut part,
        };
        if !parts.begin() {
            return false;
        }
        match &self.body {
            StatsReply::Desc(desc) => parts.one(|out| {
                for (text, len) in desc.clone().texts() {
                    out.text(text, len);
                }
            }),
            StatsReply::Flow(list) => {
                parts.all(list, |f, out| f.encode_form(version, self.nicira, out));
            }
            StatsReply::Aggregate(a) => parts.one(|out| a.encode(version, out)),
            StatsReply::Table(list) => parts.all(list, |t, out| t.encode(version, out)),
            StatsReply::TableFeatures(list) => parts.all(list, |t, out| t.encode(version, out)),
            StatsReply::TableDesc(list) => parts.all(list, TableDesc::encode),
            StatsReply::Port(list) => parts.all(list, |p, out| p.encode(version, out)),
            StatsReply::PortDesc(list) => parts.all(list, |p, out| p.encode(version, out)),
            StatsReply::Queue(list) => parts.all(list, |q, out| q.encode(version, out)),
            StatsReply::Group(list) => parts.all(list, |g, out| g.encode(version, out)),
            StatsReply::GroupDesc(list) => parts.all(list, |g, out| g.encode(version, out)),
            StatsReply::GroupFeatures(g) => parts.one(|out| g.encode(out)),
            StatsReply::Meter(list) => parts.all(list, MeterStats::encode),
            StatsReply::MeterConfig(list) => parts.all(list, MeterConfig::encode),
            StatsReply::QueueDesc(list) => parts.all(list, QueueDesc::encode),
            StatsReply::FlowCounts(list) => parts.all(list, FlowStats::encode_counts),
            StatsReply::FlowMonitor(list) => parts.all(list, |u, out| u.encode(version, out)),
            StatsReply::ControllerStatus(list) => parts.all(list, ControllerStatus::encode),
            StatsReply::BundleFeatures(b) => parts.one(|out| b.encode(out)),
            StatsReply::IpfixBridge(s) => parts.one(|out| s.encode(out)),
            StatsReply::IpfixFlow(list) => parts.all(list, IpfixStats::encode),
            StatsReply::MeterFeatures(m) => parts.one(|out| m.encode(out)),
        }
        (parts.emit)(&parts.body);
        true
    }
}

/// Appends rules to an answer: each with what it does in place of [`FlowStats::instructions`], which is not looked at,
/// and whether it is known that its match has the same mask as the one before.
pub type TellFlow<'a> = &'a mut dyn FnMut(&FlowStats, &Instructions, bool);

/// Calls `part` with the bodies of an answer about rules, which `tell` names one by one; it returns whether others follow
/// in another call. With others to follow, and none named, there is nothing to say yet.
pub(crate) fn flow_parts(
    version: Version,
    nicira: bool,
    tell: impl FnOnce(TellFlow<'_>) -> bool,
    mut part: impl FnMut(&[u8]),
) {
    let envelope = Envelope { kind: Kind::Flow, more: false, nicira };
    let (body, scratch) = (Vec::with_capacity(MAX_MESSAGE), Vec::new());
    let mut parts = Parts { envelope, version, body, scratch, start: 0, emit: &mut part };
    parts.begin();
    let mut alike = Alike::default();
    let more = tell(&mut |flow, instructions, same| {
        let mut form = Form { version, nicira, alike: &mut alike, same };
        parts.one(|out| flow.encode_with(instructions, &mut form, out));
    });
    if more {
        parts.body.patch_u16(2, MORE.into());
    }
    if !more || parts.body.len() > parts.start {
        (parts.emit)(&parts.body);
    }
}

/// The message being filled.
struct Parts<'a> {
    envelope: Envelope,
    version: Version,
    body: Vec<u8>,
    scratch: Vec<u8>,
    /// Length of the envelope.
    start: usize,
    emit: &'a mut dyn FnMut(&[u8]),
}

impl Parts<'_> {
    fn begin(&mut self) -> bool {
        self.body.clear();
        let known = self.envelope.encode(self.version, &mut self.body);
        self.start = self.body.len();
        known
    }

    fn all<T>(&mut self, list: &[T], encode: impl Fn(&T, &mut Vec<u8>)) {
        list.iter().for_each(|entry| self.one(|out| encode(entry, out)));
    }

    fn one(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let before = self.body.len();
        encode(&mut self.body);
        if self.body.len() <= MAX_MESSAGE - HEADER_LEN {
            return;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.body[before..]);
        self.body.truncate(before);
        if self.start + self.scratch.len() > MAX_MESSAGE - HEADER_LEN {
            return;
        }
        self.body.patch_u16(2, MORE.into());
        (self.emit)(&self.body);
        self.begin();
        self.body.extend_from_slice(&self.scratch);
    }
}
