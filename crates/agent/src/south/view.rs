//! What of the switch's database matters to the agent, and what changed of it?
//!
//! A change of one row costs that row: [`Watcher`] follows the rows and tells which interfaces differ, [`View`] takes that
//! in, and who looks after it is told their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;
use weft_ovsdb::Uuid;
use weft_ovsdb::client::{Replica, ReplicaError};
use weft_ovsdb::db::RowView;
use weft_ovsdb::schema::DatabaseSchema;

use super::{BRIDGE, OWNER};

/// An interface of the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Bridge that has it.
    pub bridge: Option<String>,
    /// Row of its port.
    pub port: Option<Uuid>,
    /// Type.
    pub kind: String,
    /// Options.
    pub options: BTreeMap<String, String>,
    /// `external_ids`.
    pub ids: BTreeMap<String, String>,
    /// MAC address asked for.
    pub mac: Option<String>,
    /// MAC address it has.
    pub mac_in_use: Option<String>,
    /// MTU asked for.
    pub mtu_request: Option<i64>,
    /// Its OpenFlow number, once it has one.
    pub ofport: Option<u32>,
    /// Why it does not work.
    pub error: Option<String>,
}

impl Interface {
    /// Whether the agent made it.
    pub fn is_ours(&self) -> bool {
        self.ids.get(OWNER.0).map(String::as_str) == Some(OWNER.1)
    }

    /// By what a port resource finds it.
    fn id(&self) -> Option<&str> {
        let here = self.bridge.as_deref() == Some(BRIDGE);
        self.ids.get("iface-id").filter(|_| here).map(String::as_str)
    }
}

/// What the database holds that matters to the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Row of the integration bridge.
    pub bridge: Option<Uuid>,
    /// The agent made it.
    pub bridge_is_ours: bool,
    /// Interfaces of all bridges, by name.
    pub interfaces: BTreeMap<String, Interface>,
    /// Names of interfaces of the integration bridge by their `iface-id`.
    plugged: HashMap<String, BTreeSet<String>>,
}

/// What a view did not hold before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// The integration bridge came, went, or is another one.
    pub bridge: bool,
    /// Interfaces that came, went or changed: with what they were before.
    pub interfaces: BTreeMap<String, Option<Interface>>,
}

/// What changed of a database, or all that it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// What is not mentioned is not there.
    whole: bool,
    /// Row of the integration bridge, and whether it is ours.
    bridge: (Option<Uuid>, bool),
    /// Interfaces by name; `None`: gone.
    interfaces: BTreeMap<String, Option<Interface>>,
}

impl News {
    /// What there is to take in; nothing is left but how the bridge is.
    pub(super) fn take(&mut self) -> News {
        News {
            whole: std::mem::take(&mut self.whole),
            bridge: self.bridge,
            interfaces: std::mem::take(&mut self.interfaces),
        }
    }

    /// Adds what came later.
    pub(super) fn add(&mut self, later: News) {
        if later.whole {
            *self = later;
        } else {
            self.bridge = later.bridge;
            self.interfaces.extend(later.interfaces);
        }
    }
}

impl View {
    /// The interface of the integration bridge with this `iface-id`; of several the first by name.
    pub fn plugged(&self, id: &str) -> Option<&str> {
        self.plugged.get(id)?.first().map(String::as_str)
    }

    /// Takes in what changed.
    pub fn take(&mut self, mut news: News) -> Touched {
        if news.whole {
            let gone: Vec<String> =
                self.interfaces.keys().filter(|name| !news.interfaces.contains_key(*name)).cloned().collect();
            news.interfaces.extend(gone.into_iter().map(|name| (name, None)));
        }
        let mut touched = Touched { bridge: self.bridge != news.bridge.0, ..Touched::default() };
        (self.bridge, self.bridge_is_ours) = news.bridge;
        for (name, new) in news.interfaces {
            if self.interfaces.get(&name) != new.as_ref() {
                let old = self.put(&name, new);
                touched.interfaces.insert(name, old);
            }
        }
        touched
    }

    fn put(&mut self, name: &str, new: Option<Interface>) -> Option<Interface> {
        let old = self.interfaces.remove(name);
        if let Some(id) = old.as_ref().and_then(Interface::id)
            && let Some(names) = self.plugged.get_mut(id)
        {
            names.remove(name);
            if names.is_empty() {
                self.plugged.remove(id);
            }
        }
        if let Some(new) = new {
            if let Some(id) = new.id() {
                self.plugged.entry(id.to_owned()).or_default().insert(name.to_owned());
            }
            self.interfaces.insert(name.to_owned(), new);
        }
        old
    }
}

/// Notes that a row refers to others than before: to each of these it came to refer, or no longer does.
fn relate(
    owners: &mut HashMap<Uuid, BTreeSet<Uuid>>,
    row: Uuid,
    differ: &[Uuid],
    refers: impl Fn(Uuid) -> bool,
) {
    for other in differ {
        if refers(*other) {
            owners.entry(*other).or_default().insert(row);
        } else if let Some(rows) = owners.get_mut(other) {
            rows.remove(&row);
            if rows.is_empty() {
                owners.remove(other);
            }
        }
    }
}

/// Follows the rows of a database.
#[derive(Debug)]
pub(super) struct Watcher {
    replica: Replica,
    /// Ports that have an interface.
    ports: HashMap<Uuid, BTreeSet<Uuid>>,
    /// Bridges that have a port.
    bridges: HashMap<Uuid, BTreeSet<Uuid>>,
    /// Names under which interfaces were told.
    told: HashMap<Uuid, String>,
}

impl Watcher {
    /// One that knows no row.
    pub(super) fn new(schema: Arc<DatabaseSchema>) -> Watcher {
        let replica = Replica::new(schema);
        Watcher { replica, ports: HashMap::new(), bridges: HashMap::new(), told: HashMap::new() }
    }

    /// The first rows of a monitor: all there are.
    ///
    /// # Errors
    /// As [`Replica::apply`].
    pub(super) fn first(&mut self, rows: &Value) -> Result<News, ReplicaError> {
        Ok(News { whole: true, ..self.apply(rows)? })
    }

    /// Rows changed.
    ///
    /// # Errors
    /// As [`Replica::apply`].
    pub(super) fn apply(&mut self, updates: &Value) -> Result<News, ReplicaError> {
        let (mut ports, mut interfaces) = (BTreeSet::new(), BTreeSet::new());
        for (table, change) in self.replica.apply(updates)? {
            let Some(uuid) = change.new.as_ref().or(change.old.as_ref()).map(|row| row.uuid) else {
                continue;
            };
            let view = change.new.as_ref().and_then(|row| self.replica.view(&table, row));
            let differ = |column| self.replica.refs_of_one(&table, &change, column);
            let refers = |column| move |other| view.is_some_and(|row| row.refers_to(column, other));
            match table.as_str() {
                "Bridge" => {
                    let differ = differ("ports");
                    relate(&mut self.bridges, uuid, &differ, refers("ports"));
                    ports.extend(differ);
                }
                "Port" => {
                    let differ = differ("interfaces");
                    relate(&mut self.ports, uuid, &differ, refers("interfaces"));
                    interfaces.extend(differ);
                    ports.insert(uuid);
                }
                "Interface" => drop(interfaces.insert(uuid)),
                _ => {}
            }
        }
        for port in ports.iter().filter_map(|uuid| self.replica.row("Port", *uuid)) {
            interfaces.extend(port.refs("interfaces"));
        }
        let mut out = BTreeMap::new();
        let found: Vec<_> = interfaces.iter().map(|uuid| (*uuid, self.interface(*uuid))).collect();
        // A name may be another row's now.
        for (uuid, _) in &found {
            out.extend(self.told.remove(uuid).map(|name| (name, None)));
        }
        for (uuid, found) in found {
            let Some((name, interface)) = found else { continue };
            self.told.insert(uuid, name.clone());
            out.insert(name, Some(interface));
        }
        Ok(News { whole: false, bridge: self.bridge(), interfaces: out })
    }

    fn bridge(&self) -> (Option<Uuid>, bool) {
        let here = self.replica.rows("Bridge").find(|row| row.str("name") == BRIDGE);
        let ours = |row: &RowView<'_>| row.map("external_ids").into_iter().any(|pair| pair == OWNER);
        here.map_or((None, false), |row| (Some(row.uuid()), ours(&row)))
    }

    /// An interface with its name; `None`: no bridge has it.
    fn interface(&self, uuid: Uuid) -> Option<(String, Interface)> {
        let row = self.replica.row("Interface", uuid)?;
        let of = |port: &Uuid| Some((*port, *self.bridges.get(port)?.first()?));
        let (port, bridge) = self.ports.get(&uuid)?.iter().find_map(of)?;
        let bridge = self.replica.row("Bridge", bridge)?;
        let owned = |column| {
            let pairs = row.map(column).into_iter();
            pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
        };
        let text = |column| row.opt_str(column).map(str::to_owned);
        let interface = Interface {
            bridge: Some(bridge.str("name").to_owned()),
            port: Some(port),
            kind: row.str("type").to_owned(),
            options: owned("options"),
            ids: owned("external_ids"),
            mac: text("mac"),
            mac_in_use: text("mac_in_use"),
            mtu_request: row.opt_int("mtu_request"),
            ofport: row.opt_int("ofport").and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
            error: text("error"),
        };
        Some((row.str("name").to_owned(), interface))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A database as it might be: which port has an interface, which bridge a port, and the interfaces' ids.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Rows {
        /// Ports of each of two bridges.
        bridges: [BTreeSet<u8>; 2],
        /// Interfaces of ports.
        ports: BTreeMap<u8, BTreeSet<u8>>,
        /// `iface-id` and number of interfaces.
        interfaces: BTreeMap<u8, (u8, i64)>,
    }

    fn uuid(kind: u8, number: u8) -> String {
        Uuid::from_bytes([kind, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).to_string()
    }

    fn set(kind: u8, numbers: impl IntoIterator<Item = u8>) -> Value {
        let rows: Vec<Value> = numbers.into_iter().map(|n| json!(["uuid", uuid(kind, n)])).collect();
        json!(["set", rows])
    }

    fn interface((id, number): (u8, i64)) -> Value {
        json!({"external_ids": ["map", [["iface-id", format!("id{id}")]]], "ofport": number})
    }

    /// `<table-updates2>` that lead from one to the other.
    fn updates(old: &Rows, new: &Rows) -> Value {
        let mut out = json!({"Bridge": {}, "Port": {}, "Interface": {}});
        for (n, (before, after)) in (0..).zip(old.bridges.iter().zip(&new.bridges)) {
            let differ = before.symmetric_difference(after).copied();
            if before != after {
                out["Bridge"][uuid(1, n)] = json!({"modify": {"ports": set(2, differ)}});
            }
        }
        let keys: BTreeSet<&u8> = old.ports.keys().chain(new.ports.keys()).collect();
        for n in keys {
            let row = match (old.ports.get(n), new.ports.get(n)) {
                (None, Some(has)) => {
                    json!({"insert": {"name": format!("p{n}"), "interfaces": set(3, has.iter().copied())}})
                }
                (Some(_), None) => json!({"delete": null}),
                (Some(a), Some(b)) if a != b => {
                    json!({"modify": {"interfaces": set(3, a.symmetric_difference(b).copied())}})
                }
                _ => continue,
            };
            out["Port"][uuid(2, *n)] = row;
        }
        let keys: BTreeSet<&u8> = old.interfaces.keys().chain(new.interfaces.keys()).collect();
        for n in keys {
            let row = match (old.interfaces.get(n), new.interfaces.get(n)) {
                (None, Some(has)) => {
                    let mut row = interface(*has);
                    row["name"] = format!("i{}", n / 2).into();
                    json!({"insert": row})
                }
                (Some(_), None) => json!({"delete": null}),
                (Some(a), Some(b)) if a != b => {
                    let ids =
                        if a.0 == b.0 { json!(["map", []]) } else { interface(*b)["external_ids"].clone() };
                    json!({"modify": {"external_ids": ids, "ofport": b.1}})
                }
                _ => continue,
            };
            out["Interface"][uuid(3, *n)] = row;
        }
        out
    }

    fn bridges() -> Value {
        let names = [BRIDGE, "br-else"];
        let rows = (0..).zip(names).map(|(n, name)| (uuid(1, n), json!({"insert": {"name": name}})));
        json!({"Bridge": serde_json::Map::from_iter(rows)})
    }

    fn watcher() -> Watcher {
        Watcher::new(weft_ovsdb::schema::open_vswitch())
    }

    fn rows() -> impl Strategy<Value = Rows> {
        let some = |n: u8, least: usize| proptest::collection::btree_set(0..n, least..4);
        let ports = proptest::collection::btree_map(0_u8..5, some(8, 1), 0..5);
        // Two rows may have one name, but not at once: the even one or the odd one.
        let interfaces = proptest::collection::btree_map(0_u8..4, (any::<bool>(), (0_u8..3, 1_i64..4)), 0..5);
        let interfaces = interfaces.prop_map(|found| {
            found.into_iter().map(|(n, (odd, row))| (n * 2 + u8::from(odd), row)).collect()
        });
        ([some(5, 0), some(5, 0)], ports, interfaces).prop_map(|(bridges, ports, interfaces)| Rows {
            bridges,
            ports,
            interfaces,
        })
    }

    proptest! {
        /// A view that follows a row at a time is the view that one gets who looks now; and what it says was touched is
        /// what differs.
        #[test]
        fn following_is_looking(steps in proptest::collection::vec(rows(), 1..8)) {
            let (mut following, mut view, mut old) = (watcher(), View::default(), Rows::default());
            view.take(following.first(&bridges()).unwrap());
            let mut missed = following.first(&json!({})).unwrap();
            for new in steps {
                let news = following.apply(&updates(&old, &new)).unwrap();
                missed.add(news.clone());
                let before = view.clone();
                let touched = view.take(news);
                let mut looking = watcher();
                looking.first(&bridges()).unwrap();
                let mut fresh = View::default();
                let mut all = looking.apply(&updates(&Rows::default(), &new)).unwrap();
                all.whole = true;
                fresh.take(all);
                prop_assert_eq!(&view, &fresh);
                let names: BTreeSet<&String> = before.interfaces.keys().chain(view.interfaces.keys()).collect();
                let differ = names.into_iter().filter(|n| before.interfaces.get(*n) != view.interfaces.get(*n));
                prop_assert!(differ.eq(touched.interfaces.keys()));
                old = new;
            }
            // Who looks seldom sees the same.
            let mut late = View::default();
            late.take(missed);
            prop_assert_eq!(late, view);
        }
    }
}
