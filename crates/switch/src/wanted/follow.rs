//! What is asked for after ports came, went or changed, which is what happens most? A read of those ports alone.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_ovsdb::db::Database;
use weft_ovsdb::{Commit, Uuid};

use super::{Port, Wanted};
use crate::watched::is_about_ports;

/// Interfaces that came, went or may have changed, by bridge.
pub(crate) type Changes = BTreeMap<String, BTreeSet<String>>;

impl Wanted {
    /// Makes this what is asked for when these commits have been made since it was read; returns what that changed.
    /// `None`: they are about more than ports, so that the whole database is to be read, and this is good for nothing.
    pub(crate) fn follow(&mut self, db: &Database, commits: &[Arc<Commit>]) -> Option<Changes> {
        let root = db.only_row("Open_vSwitch").filter(|row| Some(row.uuid()) == self.root)?;
        if !commits.iter().all(|commit| is_about_ports(commit)) {
            return None;
        }
        let dirty = self.dirty(db, commits)?;
        self.next_cfg = root.int("next_cfg");
        let mut changes = Changes::new();
        for bridge in self.bridges.iter_mut().filter(|_| !dirty.is_empty()) {
            let row = db.row("Bridge", bridge.uuid)?;
            let ports = Arc::make_mut(&mut bridge.ports);
            let mut changed = BTreeSet::new();
            let mut note = |port: &Port| changed.extend(port.ifaces.iter().map(|i| i.name.clone()));
            // Whether the local port has to be thought of is for a whole read.
            let is_local = |port: &Port| port.ifaces.iter().any(|i| i.is_local);
            for name in dirty.values() {
                let Some(port) = ports.remove(name) else { continue };
                note(&port);
                if is_local(&port) {
                    return None;
                }
            }
            // Only then: a name may be another row's now.
            for uuid in dirty.keys().filter(|uuid| row.refers_to("ports", **uuid)) {
                let port = Port::read(db, &db.row("Port", *uuid)?, &bridge.name);
                if is_local(&port) {
                    return None;
                }
                note(&port);
                ports.insert(port);
            }
            if !changed.is_empty() {
                changes.insert(bridge.name.clone(), changed);
            }
        }
        Some(changes)
    }

    /// The ports that came, went or changed, with their names.
    fn dirty(&self, db: &Database, commits: &[Arc<Commit>]) -> Option<BTreeMap<Uuid, String>> {
        let (mut dirty, mut moved) = (BTreeMap::new(), BTreeSet::new());
        for commit in commits {
            for change in commit.table("Bridge") {
                moved.extend(commit.refs_of_one("Bridge", change, "ports"));
            }
            for change in commit.table("Port") {
                let (old, new) = commit.views("Port", change);
                dirty.extend(new.or(old).map(|row| (row.uuid(), row.str("name").to_owned())));
            }
            // One that came or went did so with its port.
            for change in commit.table("Interface").filter(|c| c.old.is_some()) {
                let (_, Some(row)) = commit.views("Interface", change) else { continue };
                let ports = self.bridges.iter().flat_map(|b| b.ports.with(row.str("name")));
                dirty.extend(ports.filter_map(|p| Some((p.uuid?, p.name.clone()))));
            }
        }
        for uuid in moved {
            if let Entry::Vacant(unknown) = dirty.entry(uuid) {
                unknown.insert(db.row("Port", uuid)?.str("name").to_owned());
            }
        }
        Some(dirty)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weft_ovsdb::{Datum, Edit, UuidStream};

    use super::*;
    use crate::testing::{commit, find, refs};

    /// What a client does.
    #[derive(Clone, Debug)]
    enum Step {
        /// Adds a port of a number to a bridge, or takes it away when it is there.
        Port(u8, u8),
        /// Changes an interface's type, a column that is asked for.
        Type(u8, bool),
        /// Changes a VLAN.
        Tag(u8, i64),
        /// Only says that something is to be done.
        Next,
        /// Something of a bridge.
        Secure(u8, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..2, 0_u8..6).prop_map(|(b, p)| Step::Port(b, p)),
            2 => (0_u8..6, any::<bool>()).prop_map(|(p, tap)| Step::Type(p, tap)),
            2 => (0_u8..6, 0_i64..4).prop_map(|(p, tag)| Step::Tag(p, tag)),
            1 => Just(Step::Next),
            1 => (0_u8..2, any::<bool>()).prop_map(|(b, on)| Step::Secure(b, on)),
        ]
    }

    /// The local port is called as its bridge: number 0 of bridge 0 is that.
    fn name(port: u8) -> String {
        if port == 0 { "b0".into() } else { format!("p{port}") }
    }

    fn act(db: &Database, edit: &mut Edit<'_, '_>, step: &Step) -> weft_ovsdb::Result<()> {
        let root = db.only_row("Open_vSwitch").map(|row| row.uuid()).unwrap_or_default();
        let at = |table: &str, port: &u8| find(db, table, &name(*port));
        match step {
            Step::Port(bridge, number) => {
                let Some(uuid) = find(db, "Bridge", &format!("b{bridge}")) else { return Ok(()) };
                let mut ports: BTreeSet<Uuid> =
                    db.row("Bridge", uuid).into_iter().flat_map(|row| row.refs("ports")).collect();
                match at("Port", number) {
                    Some(port) if ports.contains(&port) => drop(ports.remove(&port).then_some(())),
                    Some(_) => return Ok(()),
                    None => {
                        let name = name(*number);
                        let iface = edit.insert("Interface", &[("name", Datum::scalar(name.as_str()))])?;
                        let cells = [("name", Datum::scalar(name.as_str())), ("interfaces", refs([iface]))];
                        ports.insert(edit.insert("Port", &cells)?);
                    }
                }
                edit.set("Bridge", uuid, "ports", refs(ports))
            }
            Step::Type(number, tap) => at("Interface", number).map_or(Ok(()), |uuid| {
                edit.set("Interface", uuid, "type", Datum::scalar(if *tap { "tap" } else { "" }))
            }),
            Step::Tag(number, tag) => {
                at("Port", number).map_or(Ok(()), |uuid| edit.set("Port", uuid, "tag", Datum::set([*tag])))
            }
            Step::Next => {
                let next = db.only_row("Open_vSwitch").map_or(0, |row| row.int("next_cfg"));
                edit.set("Open_vSwitch", root, "next_cfg", Datum::scalar(next + 1))
            }
            Step::Secure(bridge, on) => {
                let uuid = find(db, "Bridge", &format!("b{bridge}")).unwrap_or_default();
                let mode = if *on { Datum::set(["secure"]) } else { Datum::empty() };
                edit.set("Bridge", uuid, "fail_mode", mode)
            }
        }
    }

    proptest! {
        /// Following commits gives what reading everything gives; ports alone are followed.
        #[test]
        fn following_is_reading(
            steps in proptest::collection::vec(proptest::collection::vec(step(), 1..3), 1..12),
        ) {
            let mut uuids = UuidStream::new([7; 32]);
            let mut db = Database::new(weft_ovsdb::schema::open_vswitch(), uuids.draw());
            commit(&mut db, &mut uuids, |_, edit| {
                let bridge = |edit: &mut Edit<'_, '_>, n: u8| {
                    edit.insert("Bridge", &[("name", Datum::scalar(format!("b{n}").as_str()))])
                };
                let bridges = [bridge(edit, 0)?, bridge(edit, 1)?];
                edit.insert("Open_vSwitch", &[("bridges", refs(bridges))]).map(drop)
            });
            let mut wanted = Wanted::read(&db);
            for batch in steps {
                let mut commits = Vec::new();
                for step in &batch {
                    commits.push(commit(&mut db, &mut uuids, |db, edit| act(db, edit, step)));
                }
                let whole = Wanted::read(&db);
                let before = wanted.clone();
                let followed = wanted.follow(&db, &commits);
                let harmless = |step: &Step| match step {
                    Step::Port(_, n) | Step::Type(n, _) | Step::Tag(n, _) => *n != 0,
                    Step::Next => true,
                    Step::Secure(..) => false,
                };
                prop_assert!(followed.is_some() || !batch.iter().all(harmless), "{batch:?} is about ports only");
                if let Some(changes) = followed {
                    prop_assert_eq!(&wanted, &whole);
                    // What did not change is not named, or the same.
                    for (old, new) in before.bridges.iter().zip(&whole.bridges) {
                        let names = [old, new].into_iter().flat_map(|b| b.ports.iter()).flat_map(|p| &p.ifaces);
                        for name in names.map(|i| &i.name) {
                            let named = changes.get(&new.name).is_some_and(|names| names.contains(name));
                            prop_assert!(named || old.ports.iface(name) == new.ports.iface(name), "{name}");
                        }
                    }
                }
                wanted = whole;
            }
        }
    }
}
