//! What does the database learn of reality?

use std::collections::BTreeMap;

use weft_ovsdb::{Datum, Edit, ErrorKind, Result, Uuid};

use super::numbers::for_database;
use super::{Bridge, Iface, World};
use crate::net::Links;
use crate::wanted::{self, Wanted};

/// Version of Open vSwitch whose behaviour, schema and formats this is.
pub(crate) const COMPATIBLE_WITH: &str = "3.1.0";

/// What does not change while the switch runs.
#[derive(Clone, Debug)]
pub(crate) struct Static {
    /// Version of the schema.
    pub db_version: String,
    /// `ID` of os-release(5).
    pub system_type: String,
    /// `VERSION_ID` of os-release(5).
    pub system_version: String,
}

impl Static {
    /// Reads os-release(5).
    pub(crate) fn read(db_version: &str) -> Static {
        let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
            line.map_or("unknown", |v| v.trim_matches('"')).to_owned()
        };
        Static {
            db_version: db_version.to_owned(),
            system_type: field("ID"),
            system_version: field("VERSION_ID"),
        }
    }
}

/// Writes what is different from what the database has. `traffic`: statistics too.
pub(crate) fn report(
    edit: &mut Edit<'_, '_>,
    world: &World,
    wanted: &Wanted,
    links: &Links,
    facts: &Static,
    traffic: bool,
) -> Result<()> {
    for bridge in world.bridges.values() {
        report_bridge(edit, bridge)?;
        for iface in bridge.ifaces.values() {
            if let Some(uuid) = iface.wanted.uuid {
                report_iface(edit, uuid, iface, bridge)?;
                if traffic && iface.ofport.is_some() {
                    let statistics = Datum::map(iface.counters(links).pairs());
                    put(edit, "Interface", uuid, "statistics", statistics)?;
                }
            }
        }
    }
    let Some(root) = wanted.root else { return Ok(()) };
    let mut set = |column, datum| put(edit, "Open_vSwitch", root, column, datum);
    set("cur_cfg", Datum::scalar(wanted.next_cfg))?;
    set("ovs_version", Datum::scalar(COMPATIBLE_WITH))?;
    set("db_version", Datum::scalar(facts.db_version.as_str()))?;
    set("system_type", Datum::scalar(facts.system_type.as_str()))?;
    set("system_version", Datum::scalar(facts.system_version.as_str()))?;
    set("iface_types", Datum::set(wanted::TYPES.iter().copied()))?;
    set("datapath_types", Datum::set(["netdev", "system"]))?;
    set("dpdk_initialized", Datum::scalar(false))
}

/// Sets a column; one that an older schema lacks is left out.
pub(crate) fn put(edit: &mut Edit<'_, '_>, table: &str, row: Uuid, column: &str, datum: Datum) -> Result<()> {
    match edit.set(table, row, column, datum) {
        Err(e) if e.kind == ErrorKind::UnknownColumn => Ok(()),
        done => done,
    }
}

fn report_bridge(edit: &mut Edit<'_, '_>, bridge: &Bridge) -> Result<()> {
    let mut set = |column, datum| put(edit, "Bridge", bridge.uuid, column, datum);
    set("datapath_id", Datum::scalar(format!("{:016x}", bridge.datapath_id).as_str()))?;
    set("datapath_version", Datum::scalar("<built-in>"))?;
    for port in bridge.wanted.ports.iter().filter(|p| p.bond.is_some()) {
        let mac = bridge.active_member(&port.name).and_then(|i| i.state.mac).map(|m| m.to_string());
        if let (Some(uuid), Some(mac)) = (port.uuid, mac) {
            put(edit, "Port", uuid, "bond_active_slave", Datum::scalar(mac.as_str()))?;
        }
    }
    Ok(())
}

fn report_iface(edit: &mut Edit<'_, '_>, uuid: Uuid, iface: &Iface, bridge: &Bridge) -> Result<()> {
    let mut set = |column, datum| put(edit, "Interface", uuid, column, datum);
    let open = iface.ofport.is_some();
    set("ofport", Datum::scalar(iface.ofport.map_or(-1, for_database)))?;
    set("error", optional(iface.error.as_deref()))?;
    let state = Some(&iface.state).filter(|_| open);
    let word = |up: bool| if up { "up" } else { "down" };
    set("admin_state", optional(state.map(|s| word(s.admin_up))))?;
    set("link_state", optional(state.map(|s| word(s.link_up))))?;
    set("link_resets", optional(state.map(|_| iface.link_resets)))?;
    set("ifindex", optional(state.map(|s| i64::from(s.ifindex))))?;
    set("mtu", optional(state.and_then(|s| s.mtu).map(i64::from)))?;
    let mac = state.map(|s| s.mac.unwrap_or_else(|| virtual_mac(iface, bridge)).to_string());
    set("mac_in_use", optional(mac.as_deref()))?;
    let bits = state.and_then(|s| s.speed_mbps).map(|m| i64::from(m) * 1_000_000);
    set("link_speed", optional(bits))?;
    let duplex = state.and_then(|s| s.full_duplex).map(|full| if full { "full" } else { "half" });
    set("duplex", optional(duplex))?;
    set("status", Datum::map(state.map(|_| status(iface)).unwrap_or_default()))
}

fn optional(value: Option<impl Into<weft_ovsdb::Atom>>) -> Datum {
    value.map_or_else(Datum::empty, Datum::scalar)
}

fn status(iface: &Iface) -> BTreeMap<&str, &str> {
    let mut status = BTreeMap::new();
    if iface.has_device() {
        status.insert("driver_name", iface.state.driver.as_deref().unwrap_or("unknown"));
    }
    if let Some(egress) = &iface.egress {
        status.insert("tunnel_egress_iface", &egress.device);
        status.insert("tunnel_egress_iface_carrier", if egress.carrier { "up" } else { "down" });
    }
    status
}

/// The address of a port without device: the bridge's, made its own by the port's number.
pub(crate) fn virtual_mac(iface: &Iface, bridge: &Bridge) -> weft_wire::Mac {
    let mut mac = bridge.mac;
    let number = iface.ofport.map_or(0, |n| n.0) as u16;
    let [hi, lo] = number.to_be_bytes();
    mac.0[0] = mac.0[0] & !1 | 2;
    mac.0[2] ^= 0x5a;
    mac.0[4] ^= hi;
    mac.0[5] ^= lo;
    mac
}
