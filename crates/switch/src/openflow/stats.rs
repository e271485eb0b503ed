//! How are controllers' questions answered?

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use weft_datapath::Datapath;
use weft_flow::{Meter, OfPort};
use weft_openflow::ErrorCode;
use weft_openflow::msg::handshake::{Features, capability};
use weft_openflow::session::{ReplyTo, SwitchSession};
use weft_openflow::stats::flow::{AggregateStats, FlowStatsRequest};
use weft_openflow::stats::misc::{BundleFeatures, bundle_capability};
use weft_openflow::stats::port::PortStats;
use weft_openflow::stats::table::TableStats;
use weft_openflow::stats::{StatsReply, StatsRequest, SwitchDesc};
use weft_pipeline::group::{GROUP_ALL, Group};
use weft_pipeline::meter::METER_ALL;
use weft_pipeline::{RuleCursor, RuleFilter, TableSet};

use super::dump::Cursor;
use super::{flows, groups, ports, queues, tables};
use crate::bridge::{Bridge, COMPATIBLE_WITH, Iface};
use crate::export::Export;
use crate::net::Links;

/// Tables that controllers see.
pub(super) const TABLES: u8 = 254;
/// Rules looked at together.
const RULES_AT_ONCE: usize = 512;
/// Actions of OpenFlow 1.0: output, VLAN, addresses, TOS, ports, enqueue.
const ACTIONS10: u32 = 0xfff;
/// A count that is not kept.
const UNKNOWN: u64 = u64::MAX;

/// What the switch is and can do.
pub(super) fn features(bridge: &Bridge) -> Features {
    Features {
        datapath_id: bridge.datapath_id,
        n_buffers: 0,
        n_tables: TABLES,
        auxiliary_id: 0,
        capabilities: capability::FLOW_STATS
            | capability::TABLE_STATS
            | capability::PORT_STATS
            | capability::QUEUE_STATS
            | capability::GROUP_STATS
            | capability::BUNDLES
            | capability::FLOW_MONITORING
            | capability::ARP_MATCH_IP,
        actions: ACTIONS10,
        ports: ports::describe(bridge),
    }
}

/// What an answer is made from.
pub(super) struct Sources<'a> {
    pub(super) bridge: &'a Bridge,
    pub(super) flow: &'a weft_pipeline::Bridge,
    pub(super) links: &'a Links,
    pub(super) datapath: &'a dyn Datapath,
    pub(super) export: &'a Export,
    pub(super) now: u64,
    /// What controllers call flow tables.
    pub(super) named: &'a BTreeMap<u8, String>,
}

impl Sources<'_> {
    /// Answers a question, or returns what is to be told part by part.
    pub(super) fn answer(
        &self,
        session: &mut SwitchSession,
        to: &ReplyTo,
        request: StatsRequest,
    ) -> Result<Option<Cursor>, ErrorCode> {
        let reply = match request {
            StatsRequest::Desc => StatsReply::Desc(self.description()),
            StatsRequest::Flow(request) => {
                self.datapath.refresh();
                let rules = RuleCursor::new(self.tables().clone(), flows::filter(&request, &self.flow.tlv)?);
                return Ok(Some(Cursor::Flows {
                    rules: Box::new(rules),
                    now: self.now,
                    tlv: self.flow.tlv.clone(),
                }));
            }
            StatsRequest::Aggregate(request) => StatsReply::Aggregate(self.aggregate(&request)?),
            StatsRequest::Table => StatsReply::Table(self.table_stats()),
            StatsRequest::TableFeatures(wanted) if wanted.is_empty() => {
                return Ok(Some(Cursor::TableFeatures {
                    next: 0,
                    names: self.names(),
                    tables: self.tables().clone(),
                }));
            }
            // Asked where names can be given.
            StatsRequest::TableFeatures(_) => return Err(ErrorCode::OFPTFFC_EPERM),
            StatsRequest::TableDesc => {
                StatsReply::TableDesc((0..TABLES).map(|t| tables::describe(self.tables(), t)).collect())
            }
            StatsRequest::Port(port) => StatsReply::Port(self.port_stats(port)?),
            StatsRequest::PortDesc(port) => {
                let mut all = ports::describe(self.bridge);
                all.retain(|p| port == OfPort::ANY || p.port_no == port);
                StatsReply::PortDesc(all)
            }
            StatsRequest::Queue { port, queue } => {
                StatsReply::Queue(queues::stats(self.bridge, port, queue)?)
            }
            StatsRequest::Group(id) => {
                self.datapath.refresh();
                let of = |g: &std::sync::Arc<Group>| {
                    groups::group_stats(g, self.tables().group_users(g.id), self.now)
                };
                StatsReply::Group(self.groups(id).map(of).collect())
            }
            StatsRequest::GroupDesc(id) => {
                StatsReply::GroupDesc(self.groups(id).map(|g| groups::describe(g)).collect())
            }
            StatsRequest::GroupFeatures => StatsReply::GroupFeatures(groups::group_features()),
            StatsRequest::Meter(id) => {
                let of = |m: &std::sync::Arc<Meter>| {
                    groups::meter_stats(m, self.tables().meter_users(m.id), self.now)
                };
                StatsReply::Meter(self.meters(id)?.into_iter().map(of).collect())
            }
            StatsRequest::MeterConfig(id) => {
                let list = self.meters(id)?;
                StatsReply::MeterConfig(list.into_iter().map(|m| groups::meter_config(m)).collect())
            }
            StatsRequest::MeterFeatures => StatsReply::MeterFeatures(groups::meter_features()),
            StatsRequest::FlowCounts(request) => {
                self.datapath.refresh();
                let rules = RuleCursor::new(self.tables().clone(), flows::filter(&request, &self.flow.tlv)?);
                return Ok(Some(Cursor::FlowCounts {
                    rules: Box::new(rules),
                    now: self.now,
                    tlv: self.flow.tlv.clone(),
                }));
            }
            StatsRequest::FlowMonitor(monitors) if monitors.is_empty() => StatsReply::FlowMonitor(Vec::new()),
            StatsRequest::FlowMonitor(monitors) => {
                let rules = RuleCursor::new(self.tables().clone(), RuleFilter::default());
                return Ok(Some(Cursor::Monitored {
                    rules: Box::new(rules),
                    monitors,
                    tlv: self.flow.tlv.clone(),
                }));
            }
            StatsRequest::QueueDesc { port, queue } => {
                StatsReply::QueueDesc(queues::describe(self.bridge, port, queue)?)
            }
            StatsRequest::BundleFeatures => StatsReply::BundleFeatures(BundleFeatures {
                capabilities: bundle_capability::ATOMIC | bundle_capability::ORDERED,
            }),
            // Answered where connections are known.
            StatsRequest::ControllerStatus => return Err(ErrorCode::OFPBRC_BAD_STAT),
            StatsRequest::IpfixBridge => {
                let stats = self.export.of_bridge(self.bridge.id);
                StatsReply::IpfixBridge(stats.ok_or(ErrorCode::NXST_NOT_CONFIGURED)?)
            }
            StatsRequest::IpfixFlow => {
                let stats = self.export.of_rules(self.bridge.id);
                if stats.is_empty() {
                    return Err(ErrorCode::NXST_NOT_CONFIGURED);
                }
                StatsReply::IpfixFlow(stats)
            }
        };
        session.reply_stats(to, reply, false);
        Ok(None)
    }

    fn tables(&self) -> &TableSet {
        &self.flow.tables
    }

    /// Groups that a question is about.
    fn groups(&self, id: u32) -> impl Iterator<Item = &std::sync::Arc<Group>> {
        self.flow.groups.iter().filter(move |g| id == GROUP_ALL || g.id == id)
    }

    /// Meters that a question is about.
    fn meters(&self, id: u32) -> Result<Vec<&std::sync::Arc<Meter>>, ErrorCode> {
        if id == METER_ALL {
            return Ok(self.flow.meters.iter().collect());
        }
        Ok(vec![self.flow.meters.get(id).ok_or(ErrorCode::OFPMMFC_UNKNOWN_METER)?])
    }

    fn description(&self) -> SwitchDesc {
        let weft = concat!("Weft ", env!("CARGO_PKG_VERSION"));
        SwitchDesc {
            manufacturer: "Weft".into(),
            hardware: "Open vSwitch".into(),
            software: format!("{COMPATIBLE_WITH} ({weft})"),
            serial: self.bridge.wanted.serial.clone().unwrap_or_else(|| "None".into()),
            datapath: self.bridge.wanted.description.clone().unwrap_or_else(|| "None".into()),
        }
    }

    /// Names of flow tables: the configuration's go before those that controllers gave.
    fn names(&self) -> BTreeMap<u8, String> {
        let mut names = self.named.clone();
        let configured = self.bridge.wanted.flow_tables.iter().filter(|(_, table)| !table.name.is_empty());
        names.extend(configured.map(|(number, table)| (*number, table.name.clone())));
        names
    }

    fn aggregate(&self, request: &FlowStatsRequest) -> Result<AggregateStats, ErrorCode> {
        self.datapath.refresh();
        let mut sum = AggregateStats::default();
        let mut rules = RuleCursor::new(self.tables().clone(), flows::filter(request, &self.flow.tlv)?);
        while !rules.is_done() {
            for rule in rules.next_page(RULES_AT_ONCE) {
                sum.packets += rule.stats.packets.load(Relaxed);
                sum.bytes += rule.stats.bytes.load(Relaxed);
                sum.flows += 1;
            }
        }
        Ok(sum)
    }

    fn table_stats(&self) -> Vec<TableStats> {
        self.datapath.refresh();
        let names = self.names();
        let of = |table_id| {
            let s = self.flow.tables.stats(table_id);
            TableStats {
                table_id,
                name: names.get(&table_id).cloned().unwrap_or_default(),
                max_entries: tables::max_entries(self.tables(), table_id),
                config: tables::miss_bits(self.tables(), table_id),
                active: u32::try_from(s.active).unwrap_or(u32::MAX),
                lookups: s.lookups,
                matched: s.matched,
            }
        };
        (0..TABLES).map(of).collect()
    }

    fn port_stats(&self, port: OfPort) -> Result<Vec<PortStats>, ErrorCode> {
        // A port that is not there is nothing to tell of, as on Open vSwitch.
        let open = self.bridge.open();
        Ok(open
            .filter(|i| port == OfPort::ANY || i.ofport == Some(port))
            .filter_map(|i| self.one_port(i))
            .collect())
    }

    fn one_port(&self, iface: &Iface) -> Option<PortStats> {
        let stats = iface.dp_port.and_then(|p| self.datapath.port_stats(p).ok()).unwrap_or_default();
        let device = self.links.by_index(iface.state.ifindex).filter(|_| iface.has_device()).map(|l| l.stats);
        let known = |n: u64| if device.is_some() { n } else { UNKNOWN };
        Some(PortStats {
            port_no: iface.ofport?,
            rx_packets: stats.rx_packets,
            tx_packets: stats.tx_packets,
            rx_bytes: stats.rx_bytes,
            tx_bytes: stats.tx_bytes,
            rx_dropped: known(stats.rx_dropped),
            tx_dropped: known(stats.tx_dropped),
            rx_errors: known(stats.rx_errors),
            tx_errors: known(stats.tx_errors),
            rx_frame_err: device.map_or(UNKNOWN, |d| d.rx_frame_errors),
            rx_over_err: device.map_or(UNKNOWN, |d| d.rx_over_errors),
            rx_crc_err: device.map_or(UNKNOWN, |d| d.rx_crc_errors),
            collisions: device.map_or(UNKNOWN, |d| d.collisions),
            duration: Some(Duration::from_millis(self.now.saturating_sub(iface.opened_ms))),
        })
    }
}
