//! What does the database learn of reality?

use std::collections::BTreeMap;

use weft_flow::OfPort;
use weft_ovsdb::{Datum, Edit, ErrorKind, Result, Uuid};
use weft_wire::Mac;

use super::numbers::for_database;
use super::{Bridge, Egress, Iface, State, World};
use crate::net::Links;
use crate::wanted::{self, Wanted};

/// Version of Open vSwitch whose behaviour, schema and formats this is.
pub(crate) const COMPATIBLE_WITH: &str = "3.1.0";

/// What the datapath can do, for the Datapath table.
const CAPABILITIES: [(&str, &str); 26] = [
    ("check_pkt_len", "true"),
    ("clone", "true"),
    ("ct_clear", "true"),
    ("ct_eventmask", "false"),
    ("ct_label", "true"),
    ("ct_mark", "true"),
    ("ct_orig_tuple", "true"),
    ("ct_orig_tuple6", "true"),
    ("ct_state", "true"),
    ("ct_state_nat", "true"),
    ("ct_timeout", "true"),
    ("ct_zero_snat", "true"),
    ("ct_zone", "true"),
    ("dp_hash_alg", "1"),
    ("explicit_drop_action", "false"),
    ("lb_output_action", "false"),
    ("masked_set_action", "true"),
    ("max_hash_alg", "1"),
    ("max_vlan_headers", "2"),
    ("max_mpls_depth", "3"),
    ("nd_ext", "true"),
    ("recirc", "true"),
    ("sample_nesting", "10"),
    ("tnl_push_pop", "true"),
    ("trunc", "true"),
    ("ufid", "false"),
];

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

/// Writes what is different from what the database has. `traffic`: statistics too, of all interfaces.
pub(crate) fn report(
    edit: &mut Edit<'_, '_>,
    world: &mut World,
    wanted: &Wanted,
    links: &Links,
    facts: &Static,
    traffic: bool,
) -> Result<()> {
    for bridge in world.bridges.values_mut() {
        report_bridge(edit, bridge)?;
        let mac = bridge.mac;
        if traffic {
            bridge.ifaces.books().try_for_each(|iface| report_iface(edit, iface, mac, links, traffic))?;
        } else {
            let names: Vec<String> = bridge.ifaces.unreported.iter().cloned().collect();
            for name in names {
                bridge.ifaces.book(&name).map_or(Ok(()), |i| report_iface(edit, i, mac, links, traffic))?;
            }
        }
        bridge.ifaces.unreported.clear();
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
    set("dpdk_initialized", Datum::scalar(false))?;
    for row in &wanted.datapath.rows {
        put(edit, "Datapath", *row, "capabilities", Datum::map(CAPABILITIES))?;
        put(edit, "Datapath", *row, "datapath_version", Datum::scalar("<built-in>"))?;
    }
    Ok(())
}

/// Sets a column; one that an older schema lacks is left out.
pub(crate) fn put(edit: &mut Edit<'_, '_>, table: &str, row: Uuid, column: &str, datum: Datum) -> Result<()> {
    match edit.set(table, row, column, datum) {
        Err(e) if e.kind == ErrorKind::UnknownColumn => Ok(()),
        done => done,
    }
}

fn report_iface(
    edit: &mut Edit<'_, '_>,
    iface: &mut Iface,
    bridge_mac: Mac,
    links: &Links,
    traffic: bool,
) -> Result<()> {
    let Some(row) = iface.wanted.uuid else { return Ok(()) };
    let is_new = iface.told.as_ref().is_none_or(|old| old.row != row);
    if iface.told.as_ref().is_none_or(|told| !told.is_of(iface, bridge_mac)) {
        let told = Told::of(iface, row, bridge_mac);
        told.write(edit)?;
        iface.told = Some(told);
    }
    if (traffic || is_new) && iface.ofport.is_some() {
        let statistics = Datum::map(iface.counters(links).pairs());
        put(edit, "Interface", row, "statistics", statistics)?;
    }
    Ok(())
}

fn report_bridge(edit: &mut Edit<'_, '_>, bridge: &Bridge) -> Result<()> {
    let mut set = |column, datum| put(edit, "Bridge", bridge.uuid, column, datum);
    set("datapath_id", Datum::scalar(format!("{:016x}", bridge.datapath_id).as_str()))?;
    set("datapath_version", Datum::scalar("<built-in>"))?;
    for (port, _) in bridge.bonds() {
        let mac = bridge.active_member(&port.name).and_then(|i| i.state.mac).map(|m| m.to_string());
        if let (Some(uuid), Some(mac)) = (port.uuid, mac) {
            put(edit, "Port", uuid, "bond_active_slave", Datum::scalar(mac.as_str()))?;
        }
    }
    Ok(())
}

/// What an Interface row says, and what of the interface that follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    row: Uuid,
    ofport: Option<OfPort>,
    error: Option<String>,
    /// Absent when the interface could not be opened.
    state: Option<State>,
    mac: Option<Mac>,
    link_resets: i64,
    egress: Option<Egress>,
    status: BTreeMap<String, String>,
}

impl Told {
    fn of(iface: &Iface, row: Uuid, bridge_mac: Mac) -> Told {
        let open = iface.ofport.is_some();
        Told {
            row,
            ofport: iface.ofport,
            error: iface.error.clone(),
            state: open.then(|| iface.state.clone()),
            mac: open.then(|| iface.state.mac.unwrap_or_else(|| virtual_mac(iface, bridge_mac))),
            link_resets: iface.link_resets,
            egress: iface.egress.clone(),
            status: if open { status(iface) } else { BTreeMap::new() },
        }
    }

    /// Whether [`Told::of`] would give the same. All interfaces are asked whenever statistics are told.
    fn is_of(&self, iface: &Iface, bridge_mac: Mac) -> bool {
        let open = iface.ofport.is_some();
        let mac = || iface.state.mac.unwrap_or_else(|| virtual_mac(iface, bridge_mac));
        Some(self.row) == iface.wanted.uuid
            && self.ofport == iface.ofport
            && self.link_resets == iface.link_resets
            && self.error == iface.error
            && self.state.as_ref() == open.then_some(&iface.state)
            && self.mac == open.then(mac)
            && self.egress == iface.egress
    }

    fn write(&self, edit: &mut Edit<'_, '_>) -> Result<()> {
        let mut set = |column, datum| put(edit, "Interface", self.row, column, datum);
        let state = self.state.as_ref();
        let word = |up: bool| if up { "up" } else { "down" };
        set("ofport", Datum::scalar(self.ofport.map_or(-1, for_database)))?;
        set("error", optional(self.error.as_deref()))?;
        set("admin_state", optional(state.map(|s| word(s.admin_up))))?;
        set("link_state", optional(state.map(|s| word(s.link_up))))?;
        set("link_resets", optional(state.map(|_| self.link_resets)))?;
        set("ifindex", optional(state.map(|s| i64::from(s.ifindex))))?;
        set("mtu", optional(state.and_then(|s| s.mtu).map(i64::from)))?;
        let mac = self.mac.map(|m| m.to_string());
        set("mac_in_use", optional(mac.as_deref()))?;
        let bits = state.and_then(|s| s.speed_mbps).map(|m| i64::from(m) * 1_000_000);
        set("link_speed", optional(bits))?;
        let duplex = state.and_then(|s| s.full_duplex).map(|full| if full { "full" } else { "half" });
        set("duplex", optional(duplex))?;
        set("status", Datum::map(self.status.iter().map(|(k, v)| (k.as_str(), v.as_str()))))
    }
}

fn optional(value: Option<impl Into<weft_ovsdb::Atom>>) -> Datum {
    value.map_or_else(Datum::empty, Datum::scalar)
}

fn status(iface: &Iface) -> BTreeMap<String, String> {
    let mut status: BTreeMap<String, String> = iface.state.status.iter().cloned().collect();
    if iface.has_device() {
        status.insert("driver_name".into(), iface.state.driver.clone().unwrap_or_else(|| "unknown".into()));
    }
    if let Some(egress) = &iface.egress {
        let carrier = if egress.carrier { "up" } else { "down" };
        status.insert("tunnel_egress_iface".into(), egress.device.clone());
        status.insert("tunnel_egress_iface_carrier".into(), carrier.into());
        if let Some(source) = egress.source {
            status.insert("source_ip".into(), source.to_string());
        }
    }
    status
}

/// The address of a port without device: the bridge's, made its own by the port's number.
pub(crate) fn virtual_mac(iface: &Iface, bridge_mac: Mac) -> Mac {
    let mut mac = bridge_mac;
    let number = iface.ofport.map_or(0, |n| n.0) as u16;
    let [hi, lo] = number.to_be_bytes();
    mac.0[0] = mac.0[0] & !1 | 2;
    mac.0[2] ^= 0x5a;
    mac.0[4] ^= hi;
    mac.0[5] ^= lo;
    mac
}
