//! Which bridge does a row of the Bridge table ask for?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weft_ovsdb::Uuid;
use weft_ovsdb::db::{Database, RowView};
use weft_pipeline::{DEFAULT_MAC_AGING_S, DEFAULT_MAC_TABLE_SIZE, FailMode, VlanSet};
use weft_wire::Mac;

use crate::openflow::packet_ins::{DEFAULT_QUEUE, Limits};

use super::flow_table::{FlowTable, flow_tables};
use super::ipfix::Exports;
use super::{Iface, Port, Ports, flag, max_backoff, number, probe, rows};

/// A bridge.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bridge {
    /// Row.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// `datapath_type`, as given.
    pub datapath_type: String,
    /// Ports. The local port is always among them.
    pub ports: Arc<Ports>,
    /// Fail mode.
    pub fail_mode: FailMode,
    /// OpenFlow controllers.
    pub controllers: Vec<Controller>,
    /// OpenFlow versions allowed (`OpenFlow10`…); empty: all.
    pub protocols: Vec<String>,
    /// `other_config:hwaddr`.
    pub hwaddr: Option<Mac>,
    /// `other_config:datapath-id`.
    pub datapath_id: Option<u64>,
    /// `other_config:dp-desc`.
    pub description: Option<String>,
    /// `other_config:dp-sn`.
    pub serial: Option<String>,
    /// Milliseconds an entry of the MAC table lives.
    pub mac_aging_ms: u64,
    /// Entries of the MAC table.
    pub mac_table_size: usize,
    /// Whether reserved multicast is forwarded.
    pub forward_bpdu: bool,
    /// VLANs without learning.
    pub flood_vlans: VlanSet,
    /// `other_config:weft-persist-flows`: flow tables outlive the process.
    pub persist_flows: bool,
    /// Flow tables that rows of Flow_Table are about.
    pub flow_tables: BTreeMap<u8, FlowTable>,
    /// Packets to export.
    pub exports: Exports,
}

/// A row of the Controller table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Controller {
    /// Row.
    pub uuid: Uuid,
    /// Connection string.
    pub target: String,
    /// Longest wait between attempts.
    pub max_backoff: Duration,
    /// Time without a word after which the peer is asked for one; `None`: the default, zero: never.
    pub probe: Option<Duration>,
    /// Whether packet-ins and the like are sent.
    pub async_messages: bool,
    /// A service controller has no part in the fail mode.
    pub service: bool,
    /// It is to be reached through the bridge itself (`connection_mode=in-band`).
    pub in_band: bool,
    /// How fast packets may go to it.
    pub limits: Option<Limits>,
}

impl Bridge {
    pub(super) fn read(db: &Database, row: &RowView<'_>) -> Bridge {
        let name = row.str("name").to_owned();
        let mut ports: Ports =
            rows(db, "Port", row, "ports").map(|port| Port::read(db, &port, &name)).collect();
        if ports.with(&name).next().is_none() {
            ports.insert(Port::local(Iface::local(&name)));
        }
        let aging = number(row, "mac-aging-time").unwrap_or(u64::from(DEFAULT_MAC_AGING_S));
        let size = number(row, "mac-table-size").map_or(DEFAULT_MAC_TABLE_SIZE, |n| n as usize);
        let floods: Vec<u16> =
            row.ints("flood_vlans").iter().filter_map(|v| u16::try_from(*v).ok()).collect();
        Bridge {
            uuid: row.uuid(),
            name,
            datapath_type: row.str("datapath_type").to_owned(),
            ports: Arc::new(ports),
            fail_mode: match row.str("fail_mode") {
                "secure" => FailMode::Secure,
                _ => FailMode::Standalone,
            },
            controllers: rows(db, "Controller", row, "controller").map(|c| Controller::read(&c)).collect(),
            protocols: row.strs("protocols").into_iter().map(str::to_owned).collect(),
            hwaddr: row.get("other_config", "hwaddr").and_then(|t| t.parse().ok()).filter(usable_mac),
            datapath_id: row.get("other_config", "datapath-id").and_then(datapath_id),
            description: row.get("other_config", "dp-desc").map(str::to_owned),
            serial: row.get("other_config", "dp-sn").map(str::to_owned),
            mac_aging_ms: aging.min(u64::from(u32::MAX)) * 1000,
            mac_table_size: size,
            forward_bpdu: flag(row, "forward-bpdu"),
            flood_vlans: VlanSet::of(&floods),
            persist_flows: flag(row, "weft-persist-flows"),
            flow_tables: flow_tables(db, row),
            exports: Exports::read(db, row),
        }
    }
}

impl Controller {
    fn read(row: &RowView<'_>) -> Controller {
        Controller {
            uuid: row.uuid(),
            target: row.str("target").to_owned(),
            max_backoff: max_backoff(row),
            probe: probe(row),
            async_messages: row.opt_bool("enable_async_messages").unwrap_or(true),
            service: row.str("type") == "service",
            in_band: row.str("connection_mode") == "in-band",
            limits: limits(row),
        }
    }
}

/// Limits of packets for a controller, if any are set.
fn limits(row: &RowView<'_>) -> Option<Limits> {
    let column = |name: &str| row.opt_int(name).and_then(|n| u32::try_from(n).ok());
    let rate = column("controller_rate_limit").filter(|r| *r > 0)?;
    Some(Limits {
        rate,
        burst: column("controller_burst_limit").unwrap_or(rate / 4).max(1),
        queue: column("controller_queue_size").map_or(DEFAULT_QUEUE, |n| n as usize).max(1),
    })
}

/// A MAC address a port may have.
pub(super) fn usable_mac(mac: &Mac) -> bool {
    *mac != Mac::ZERO && !mac.is_multicast()
}

/// Exactly 16 hexadecimal digits, or up to 16 after `0x`, not all zero.
fn datapath_id(text: &str) -> Option<u64> {
    let digits = match text.strip_prefix("0x") {
        Some(digits) if digits.len() <= 16 => digits,
        None if text.len() == 16 => text,
        _ => return None,
    };
    let all_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|id| all_hex && *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datapath_ids() {
        let cases = [
            ("0000e6739f0cd74c", Some(0xe673_9f0c_d74c)),
            ("0x1", Some(1)),
            ("1", None),
            ("0000000000000000", None),
            ("+000000000000001", None),
            ("00000000000000000", None),
        ];
        for (text, id) in cases {
            assert_eq!(datapath_id(text), id, "{text}");
        }
    }
}
