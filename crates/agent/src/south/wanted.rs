//! What has to be in the switch's database, and what is missing there?

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weft_ovsdb::Datum;
use weft_ovsdb::client::op;

use super::{Interface, View};

/// The integration bridge.
pub const BRIDGE: &str = "br-int";
/// Marks what the agent made in `external_ids`: nothing else is ever removed.
pub const OWNER: (&str, &str) = ("weft-owner", "agent");

/// A port that the agent makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Type of the interface: `internal`, `vxlan`, `geneve`, `gre`, …; empty: a device that exists.
    pub kind: String,
    /// Options of the interface.
    pub options: BTreeMap<String, String>,
    /// `external_ids`, the owner's mark left out.
    pub ids: BTreeMap<String, String>,
    /// MAC address of an internal port.
    pub mac: Option<String>,
    /// MTU asked for.
    pub mtu: Option<i64>,
}

/// Everything the agent wants in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Datapath of the integration bridge: empty for the switch's own, `netdev` for Open vSwitch in user space.
    pub datapath: String,
    /// Ports by name.
    pub ports: BTreeMap<String, Device>,
}

fn map(pairs: &BTreeMap<String, String>) -> Datum {
    Datum::map(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

impl Device {
    fn all_ids(&self) -> BTreeMap<String, String> {
        let mut ids = self.ids.clone();
        ids.insert(OWNER.0.into(), OWNER.1.into());
        ids
    }

    /// Whether an interface of ours is as it is to be.
    fn is_as(&self, there: &Interface) -> bool {
        there.kind == self.kind
            && there.options == self.options
            && there.mac == self.mac
            && there.mtu_request == self.mtu
            && there.ids == self.all_ids()
    }

    /// Its row; the name of one that is there already cannot be written.
    fn row(&self, name: Option<&str>) -> Value {
        let mut cells: Vec<_> = name.map(|name| ("name", Datum::scalar(name))).into_iter().collect();
        cells.extend([
            ("type", Datum::scalar(self.kind.as_str())),
            ("options", map(&self.options)),
            ("external_ids", map(&self.all_ids())),
        ]);
        if let Some(mac) = &self.mac {
            cells.push(("mac", Datum::set([mac.as_str()])));
        }
        if let Some(mtu) = self.mtu {
            cells.push(("mtu_request", Datum::set([mtu])));
        }
        op::row(&cells)
    }
}

impl Wanted {
    /// The operations that make the database hold this, of all ports or of those of some names `only`: empty when it does.
    pub fn operations(&self, view: &View, only: Option<&BTreeSet<String>>) -> Vec<Value> {
        let mut ops = Vec::new();
        let (mut added, mut gone) = (Vec::new(), Vec::new());
        let mut look = |name: &str| match (self.ports.get_key_value(name), view.interfaces.get(name)) {
            (Some((_, device)), Some(there)) => {
                // What somebody else plugged in is used as it is; so is which bridge has it.
                if there.bridge.as_deref() == Some(BRIDGE) && there.is_ours() && !device.is_as(there) {
                    let row = device.row(None);
                    ops.push(op::update("Interface", json!([["name", "==", name]]), row));
                }
            }
            (Some((name, device)), None) => added.push((name, device)),
            (None, Some(there)) => {
                let ours = there.bridge.as_deref() == Some(BRIDGE) && there.is_ours() && name != BRIDGE;
                gone.extend(there.port.filter(|_| ours).map(|uuid| json!(["uuid", uuid.to_string()])));
            }
            (None, None) => {}
        };
        match only.filter(|_| view.bridge.is_some()) {
            Some(only) => only.iter().for_each(|name| look(name)),
            None => {
                self.ports.keys().for_each(|name| look(name));
                let others = view.interfaces.keys().filter(|name| !self.ports.contains_key(*name));
                others.for_each(|name| look(name));
            }
        }
        let mut new_ports = Vec::new();
        for (number, (name, device)) in added.into_iter().enumerate() {
            let (interface, port) = (format!("interface{number}"), format!("port{number}"));
            ops.push(op::insert("Interface", Some(&interface), device.row(Some(name))));
            let ids = BTreeMap::from([(OWNER.0.to_owned(), OWNER.1.to_owned())]);
            let mut row = op::row(&[("name", Datum::scalar(name.as_str())), ("external_ids", map(&ids))]);
            row["interfaces"] = op::named(&interface);
            ops.push(op::insert("Port", Some(&port), row));
            new_ports.push(op::named(&port));
        }
        if view.bridge.is_none() {
            bridge(&mut ops, &self.datapath, new_ports);
        } else {
            let here = json!([["name", "==", BRIDGE]]);
            if !new_ports.is_empty() {
                ops.push(op::mutate("Bridge", here.clone(), "ports", "insert", json!(["set", new_ports])));
            }
            if !gone.is_empty() {
                ops.push(op::mutate("Bridge", here, "ports", "delete", json!(["set", gone])));
            }
        }
        if !ops.is_empty() {
            ops.push(op::mutate("Open_vSwitch", json!([]), "next_cfg", "+=", json!(1)));
            ops.push(op::comment("weft agent"));
        }
        ops
    }
}

/// The bridge itself. Without flows of ours it forwards nothing (`fail_mode` secure), so that nothing leaks between
/// networks while they are not there yet.
fn bridge(ops: &mut Vec<Value>, datapath: &str, mut ports: Vec<Value>) {
    let ids = Datum::map([OWNER]);
    let local = op::row(&[
        ("name", Datum::scalar(BRIDGE)),
        ("type", Datum::scalar("internal")),
        ("external_ids", ids.clone()),
    ]);
    ops.push(op::insert("Interface", Some("local_interface"), local));
    let mut port = op::row(&[("name", Datum::scalar(BRIDGE)), ("external_ids", ids.clone())]);
    port["interfaces"] = op::named("local_interface");
    ops.push(op::insert("Port", Some("local_port"), port));
    ports.push(op::named("local_port"));
    let mut row = op::row(&[
        ("name", Datum::scalar(BRIDGE)),
        ("fail_mode", Datum::set(["secure"])),
        ("datapath_type", Datum::scalar(datapath)),
        ("external_ids", ids),
    ]);
    row["ports"] = json!(["set", ports]);
    ops.push(op::insert("Bridge", Some("bridge"), row));
    ops.push(op::mutate(
        "Open_vSwitch",
        json!([]),
        "bridges",
        "insert",
        json!(["set", [op::named("bridge")]]),
    ));
}
