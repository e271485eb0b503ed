//! Is what follows from changes what follows from everything?
//!
//! Two switches are given the same database: one follows what changed, the other looks at everything every time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use weft_datapath::{UserDatapath, UserOptions};
use weft_ovsdb::db::Database;
use weft_ovsdb::{Commit, Datum, Edit, Uuid, UuidStream};
use weft_pipeline::{BridgeConfig, Pipeline, Snapshot};

use super::ifaces::Role;
use super::{Host, Iface, Static, World, report};
use crate::net::Links;
use crate::testing::{commit, find, refs};
use crate::wanted::{Changes, Wanted};

/// Bridges, and numbers of ports that there may be.
const BRIDGES: u8 = 2;
const PORTS: u8 = 8;

/// What a client does.
#[derive(Clone, Debug)]
enum Step {
    /// Adds a port to a bridge, or takes it away when it is there.
    Port(u8, u8),
    /// Gives a port another interface, which makes it a bond, or takes it.
    Member(u8),
    /// Sets a column of a port's row.
    Set(u8, &'static str, Datum),
    /// Sets a column of an interface's row.
    Iface(u8, &'static str, Datum),
    /// Sets a column of a bridge's row.
    Bridge(u8, &'static str, Datum),
    /// Takes a bridge away, or adds it.
    Replace(u8),
    /// A device of that name came or went.
    Device(u8),
}

fn mac() -> impl Strategy<Value = Datum> {
    proptest::option::of(0_u8..4).prop_map(|n| {
        let text = n.map(|n| format!("00:00:00:00:01:{n:02x}"));
        Datum::set(text.as_deref())
    })
}

fn number(max: i64) -> impl Strategy<Value = Datum> {
    proptest::option::of(1_i64..max).prop_map(Datum::set)
}

fn step() -> impl Strategy<Value = Step> {
    let port = || 0..PORTS;
    let kinds = || {
        // Several lead to port 1, which leads to port 2 if it is a patch port.
        let patch = |n: u8| (Datum::scalar("patch"), Datum::map([("peer", port_name(n).as_str())]));
        let tunnel =
            |n: u8| (Datum::scalar("gre"), Datum::map([("remote_ip", format!("127.0.0.{n}").as_str())]));
        prop_oneof![
            3 => Just((Datum::scalar("null"), Datum::map::<&str, &str>([]))),
            1 => Just((Datum::scalar("system"), Datum::map::<&str, &str>([]))),
            2 => (1_u8..3).prop_map(patch),
            1 => (1_u8..4).prop_map(tunnel),
        ]
    };
    prop_oneof![
        6 => (0..BRIDGES, port()).prop_map(|(b, p)| Step::Port(b, p)),
        2 => port().prop_map(Step::Member),
        1 => (port(), number(4)).prop_map(|(p, tag)| Step::Set(p, "tag", tag)),
        1 => (port(), number(4)).prop_map(|(p, trunks)| Step::Set(p, "trunks", trunks)),
        1 => (port(), any::<bool>()).prop_map(|(p, on)| Step::Set(p, "protected", Datum::scalar(on))),
        2 => (port(), mac()).prop_map(|(p, mac)| Step::Set(p, "mac", mac)),
        2 => (port(), number(6)).prop_map(|(p, n)| Step::Iface(p, "ofport_request", n)),
        2 => (port(), kinds()).prop_map(|(p, (kind, _))| Step::Iface(p, "type", kind)),
        2 => (port(), kinds()).prop_map(|(p, (_, options))| Step::Iface(p, "options", options)),
        1 => (0..BRIDGES, any::<bool>()).prop_map(|(b, on)| {
            Step::Bridge(b, "fail_mode", if on { Datum::set(["secure"]) } else { Datum::empty() })
        }),
        1 => (0..BRIDGES).prop_map(Step::Replace),
        1 => port().prop_map(Step::Device),
    ]
}

/// No device can have names of this length: ports that need one cannot be opened, and the host is left alone.
fn bridge_name(number: u8) -> String {
    format!("bridge-without-device-{number}")
}

fn port_name(number: u8) -> String {
    format!("port-without-device-{number}")
}

fn bridge_with_ports(edit: &mut Edit<'_, '_>, number: u8) -> weft_ovsdb::Result<Uuid> {
    let name = bridge_name(number);
    let cell = |name: &str| Datum::scalar(name);
    let iface = edit.insert("Interface", &[("name", cell(&name)), ("type", cell("null"))])?;
    let port = edit.insert("Port", &[("name", cell(&name)), ("interfaces", refs([iface]))])?;
    edit.insert("Bridge", &[("name", cell(&name)), ("ports", refs([port]))])
}

fn act(db: &Database, edit: &mut Edit<'_, '_>, step: &Step) -> weft_ovsdb::Result<()> {
    let (port, bridge) =
        (|n: &u8| find(db, "Port", &port_name(*n)), |n: &u8| find(db, "Bridge", &bridge_name(*n)));
    let of = |table: &str, uuid, column: &str| -> BTreeSet<Uuid> {
        db.row(table, uuid).into_iter().flat_map(|row| row.refs(column)).collect()
    };
    let insert = |edit: &mut Edit<'_, '_>, name: &str| {
        edit.insert("Interface", &[("name", Datum::scalar(name)), ("type", Datum::scalar("null"))])
    };
    match step {
        Step::Port(to, number) => {
            let Some(uuid) = bridge(to) else { return Ok(()) };
            let mut ports = of("Bridge", uuid, "ports");
            match port(number) {
                Some(port) if ports.contains(&port) => _ = ports.remove(&port),
                Some(_) => return Ok(()),
                None => {
                    let name = port_name(*number);
                    let iface = insert(edit, &name)?;
                    let cells = [("name", Datum::scalar(name.as_str())), ("interfaces", refs([iface]))];
                    ports.insert(edit.insert("Port", &cells)?);
                }
            }
            edit.set("Bridge", uuid, "ports", refs(ports))
        }
        Step::Member(number) => {
            let Some(uuid) = port(number) else { return Ok(()) };
            let mut ifaces = of("Port", uuid, "interfaces");
            let name = format!("{}m", port_name(*number));
            match find(db, "Interface", &name) {
                Some(member) => _ = ifaces.remove(&member),
                None => _ = ifaces.insert(insert(edit, &name)?),
            }
            edit.set("Port", uuid, "interfaces", refs(ifaces))
        }
        Step::Set(number, column, value) => {
            port(number).map_or(Ok(()), |uuid| edit.set("Port", uuid, column, value.clone()))
        }
        Step::Iface(number, column, value) => find(db, "Interface", &port_name(*number))
            .map_or(Ok(()), |uuid| edit.set("Interface", uuid, column, value.clone())),
        Step::Bridge(number, column, value) => {
            bridge(number).map_or(Ok(()), |uuid| edit.set("Bridge", uuid, column, value.clone()))
        }
        Step::Replace(number) => {
            let Some(root) = db.only_row("Open_vSwitch") else { return Ok(()) };
            let mut bridges: BTreeSet<Uuid> = root.refs("bridges").into_iter().collect();
            match bridge(number) {
                Some(uuid) => _ = bridges.remove(&uuid),
                None => _ = bridges.insert(bridge_with_ports(edit, *number)?),
            }
            edit.set("Open_vSwitch", root.uuid(), "bridges", refs(bridges))
        }
        Step::Device(_) => Ok(()),
    }
}

/// A switch without a control task.
struct Switch {
    world: World,
    datapath: UserDatapath,
    links: Links,
    snapshot: Snapshot,
}

impl Switch {
    fn new() -> Switch {
        let options = UserOptions { lanes: Some(1), flow_limit: 100, cpus: Vec::new() };
        let datapath = UserDatapath::new(Arc::new(Pipeline::new()), Arc::new(|_| true), &options);
        let mut world = World::new(std::env::temp_dir());
        world.restoring = false;
        let (datapath, links) = (datapath.expect("a datapath"), Links::open().expect("links"));
        Switch { world, datapath, links, snapshot: Snapshot::new() }
    }

    fn apply(&mut self, wanted: &Wanted, changes: Option<Changes>) {
        let mut host = Host { datapath: &self.datapath, links: &mut self.links };
        self.world.apply(wanted, changes, &mut host);
        self.publish();
    }

    fn follow(&mut self, name: &str) {
        let mut host = Host { datapath: &self.datapath, links: &mut self.links };
        self.world.follow_devices(&BTreeSet::from([name.to_owned()]), &mut host);
        self.publish();
    }

    fn publish(&mut self) {
        self.world.compile(&mut self.snapshot, &self.links);
        self.world.published();
    }

    /// What is published, by name, and what would be if it were done anew.
    fn configs(&self) -> [BTreeMap<String, BridgeConfig>; 2] {
        let mut anew = Snapshot::new();
        self.world.compile(&mut anew, &self.links);
        [&self.snapshot, &anew].map(|snapshot| {
            snapshot.bridges().map(|b| (b.config.name.clone(), (*b.config).clone())).collect()
        })
    }

    /// What can be told of every interface.
    fn ifaces(&self) -> Vec<String> {
        let tell = |i: &Iface| {
            format!(
                "{} of {}: {:?} {} {:?} {} {:?}",
                i.wanted.name,
                i.port,
                i.ofport,
                i.dp_port.is_some(),
                i.error,
                i.standby,
                i.home
            )
        };
        let bridge = |b: &super::Bridge| format!("{} {} {:x}", b.name, b.mac, b.datapath_id);
        let all = self.world.ifaces().map(|(b, i)| format!("{}: {}", bridge(b), tell(i)));
        all.chain(self.world.bridges.values().map(bridge)).collect()
    }

    /// That the indexes of each bridge are those of its interfaces.
    fn check(&self) {
        for ifaces in self.world.bridges.values().map(|b| &b.ifaces) {
            let mut numbered: Vec<_> =
                ifaces.values().filter(|i| i.ofport.is_some()).map(|i| &i.wanted.name).collect();
            numbered.sort_by_key(|name| ifaces.get(name).and_then(|i| i.ofport));
            assert_eq!(ifaces.numbered().map(|i| &i.wanted.name).collect::<Vec<_>>(), numbered);
            let bonded = ifaces.values().filter(|i| i.home.bond.is_some()).map(|i| (&i.port, &i.wanted.name));
            let members =
                ifaces.bonds().iter().flat_map(|(port, m)| m.names.iter().map(move |name| (port, name)));
            assert_eq!(members.collect::<BTreeSet<_>>(), bonded.collect());
            for role in [Role::Patch, Role::Tunnel] {
                let with =
                    ifaces.with_role(role).map(|i| i.wanted.type_name.as_str()).collect::<BTreeSet<_>>();
                let kind = if role == Role::Patch { "patch" } else { "gre" };
                assert!(with.iter().all(|name| *name == kind), "{with:?}");
                let count =
                    ifaces.values().filter(|i| i.wanted.kind.is_ok() && i.wanted.type_name == kind).count();
                assert_eq!(ifaces.with_role(role).count(), count);
            }
        }
    }

    /// Tells the database everything that it was not told.
    fn report(&mut self, db: &mut Database, uuids: &mut UuidStream, wanted: &Wanted) -> Arc<Commit> {
        let facts = Static::read("8.3.1");
        let (world, links) = (&mut self.world, &self.links);
        commit(db, uuids, |_, edit| report(edit, world, wanted, links, &facts, false))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn following_is_looking_at_everything(
        steps in proptest::collection::vec(proptest::collection::vec(step(), 1..4), 1..14),
    ) {
        let mut uuids = UuidStream::new([7; 32]);
        let mut db = Database::new(weft_ovsdb::schema::open_vswitch(), uuids.draw());
        commit(&mut db, &mut uuids, |_, edit| {
            let bridges = (0..BRIDGES).map(|n| bridge_with_ports(edit, n)).collect::<weft_ovsdb::Result<Vec<_>>>()?;
            edit.insert("Open_vSwitch", &[("bridges", refs(bridges))]).map(drop)
        });
        let mut wanted = Wanted::read(&db);
        let (mut follower, mut other) = (Switch::new(), Switch::new());
        follower.apply(&wanted, None);
        other.apply(&wanted, None);
        for batch in steps {
            let mut commits = Vec::new();
            for step in &batch {
                commits.push(commit(&mut db, &mut uuids, |db, edit| act(db, edit, step)));
                if let Step::Device(n) = step {
                    follower.follow(&port_name(*n));
                    other.follow(&port_name(*n));
                }
            }
            let changes = wanted.follow(&db, &commits);
            if changes.is_none() {
                wanted = Wanted::read(&db);
            }
            follower.apply(&wanted, changes);
            other.apply(&wanted, None);
            follower.check();
            prop_assert_eq!(follower.ifaces(), other.ifaces());
            let [published, anew] = follower.configs();
            prop_assert_eq!(&published, &anew);
            // Datapath ports have other numbers there: which they are differs by what is opened first.
            let ports = |configs: &BTreeMap<String, BridgeConfig>| -> Vec<_> {
                let all = configs.values().flat_map(|c| c.ports.iter());
                all.map(|p| (p.ofport, p.name.clone(), p.vlan.clone(), p.flags, p.bond, p.mac, p.kind.clone())).collect()
            };
            prop_assert_eq!(ports(&published), ports(&other.configs()[0]));
            // What the database was told is all there is to tell.
            let mut copy = db.clone();
            follower.report(&mut copy, &mut uuids, &wanted);
            follower.world.forget_told();
            prop_assert!(follower.report(&mut copy, &mut uuids, &wanted).is_empty());
            follower.world.forget_told();
        }
    }
}
