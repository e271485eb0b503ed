//! What holds whatever clients do?
//!
//! Random transactions run against a small schema with strong, weak and self references,
//! an index, `maxRows` and an ephemeral column. After each, references resolve, indexes are
//! unique, the log says what memory says, and a replica fed by a monitor has the same rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};
use weft_ovsdb::client::{ClientEvent, ClientSession, Replica};
use weft_ovsdb::log::{self, LogReader, Tail};
use weft_ovsdb::rpc::FrameLimits;
use weft_ovsdb::schema::{ColumnType, DatabaseSchema};
use weft_ovsdb::{
    Atom, Batch, ConnId, ConnOptions, Database, Datum, Now, Persist, Server, ServerLimits, Uuid, UuidStream,
};

const NOW: Now = Now { mono_ms: 0, unix_ms: 1_700_000_000_000 };

fn schema() -> Arc<DatabaseSchema> {
    let refs = |table: &str, kind: &str| json!({"type": "uuid", "refTable": table, "refType": kind});
    let schema = json!({"name": "D", "version": "1.0.0", "tables": {
        "Root": {"isRoot": true, "indexes": [["name"]], "maxRows": 6, "columns": {
            "name": {"type": "string"},
            "n": {"type": "integer"},
            "set": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
            "map": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
            "opt": {"type": {"key": "string", "min": 0, "max": 1}},
            "eph": {"type": "integer", "ephemeral": true},
            "leaves": {"type": {"key": refs("Leaf", "strong"), "min": 0, "max": "unlimited"}},
            "watch": {"type": {"key": refs("Leaf", "weak"), "min": 0, "max": "unlimited"}},
        }},
        "Leaf": {"columns": {
            "name": {"type": "string"},
            "next": {"type": {"key": refs("Leaf", "strong"), "min": 0, "max": 1}},
            "back": {"type": {"key": "integer", "value": refs("Root", "weak"), "min": 0, "max": 3}},
        }},
    }});
    Arc::new(DatabaseSchema::from_json(&schema).expect("a schema"))
}

/// A server with one database, one client with a monitor on everything, and its replica.
struct World {
    server: Server,
    file: Vec<u8>,
    client: ConnId,
    session: ClientSession,
    replica: Replica,
}

impl World {
    fn new() -> Self {
        let schema = schema();
        let mut server = Server::new([1; 32], ServerLimits::default(), NOW);
        let db = Database::new(Arc::clone(&schema), server.uuids().draw());
        let file = log::snapshot(&db, 0, "");
        server.add_database(db, NOW).expect("added");
        let client = server.connect(ConnOptions::default(), NOW);
        let mut session = ClientSession::new(FrameLimits::default());
        let tables: &[(&str, &[&str])] = &[("Root", &[]), ("Leaf", &[])];
        let (_, bytes) = session.monitor("D", json!("m"), tables, Uuid::nil());
        server.receive(client, &bytes, NOW);
        let mut world = Self { server, file, client, session, replica: Replica::new(schema) };
        world.carry_out();
        world
    }

    fn db(&self) -> &Database {
        self.server.database("D").expect("served")
    }

    /// What the rim does, with a vector for a file.
    fn carry_out(&mut self) -> Batch {
        let batch = self.server.take_batch();
        for persist in &batch.persist {
            match persist {
                Persist::Append { record, .. } => self.file.extend_from_slice(record),
                Persist::Replace { file, .. } => self.file = file.clone(),
            }
        }
        for (id, bytes) in &batch.sends {
            assert_eq!(*id, self.client);
            self.server.written(*id, bytes.len());
            for event in self.session.receive(bytes).expect("messages") {
                let updates = match event {
                    ClientEvent::Update { updates, .. } => updates,
                    ClientEvent::Reply(_, Ok(Value::Array(reply))) if reply.len() == 3 => reply[2].clone(),
                    _ => continue,
                };
                self.replica.apply(&updates).expect("updates follow");
            }
        }
        batch
    }

    fn transact(&mut self, ops: Vec<Value>) -> Vec<Value> {
        let results = self.server.transact_local("D", &ops, NOW).expect("runs");
        self.carry_out();
        results
    }

    fn check(&self) {
        let db = self.db();
        check_references(db);
        check_uniqueness(db);
        assert_eq!(rows(db, true), replica_rows(&self.replica), "the replica follows");
        let mut uuids = UuidStream::new([9; 32]);
        let loaded = log::load(&self.file, &mut uuids).expect("the log loads");
        assert_eq!(loaded.tail, Tail::Clean);
        assert_eq!(rows(&loaded.db, false), rows(db, false), "the log tells the same");
        let compact = log::snapshot(db, 0, "");
        let loaded = log::load(&compact, &mut uuids).expect("a snapshot loads");
        assert_eq!(rows(&loaded.db, false), rows(db, false), "a snapshot tells the same");
    }
}

const COLUMNS: [(&str, &[&str]); 2] = [
    ("Root", &["name", "n", "set", "map", "opt", "eph", "leaves", "watch"]),
    ("Leaf", &["name", "next", "back"]),
];

/// Every row as text, with or without the ephemeral column.
fn rows(db: &Database, ephemeral: bool) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (table, columns) in COLUMNS {
        for row in db.table(table).expect("a table").rows() {
            let columns = columns.iter().filter(|c| ephemeral || **c != "eph");
            let cells: Vec<_> = columns.map(|c| row.datum(c)).collect();
            out.insert(format!("{table} {} {cells:?}", row.uuid()));
        }
    }
    out
}

fn replica_rows(replica: &Replica) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (table, columns) in COLUMNS {
        for row in replica.rows(table) {
            let cells: Vec<_> = columns.iter().map(|c| row.datum(c)).collect();
            out.insert(format!("{table} {} {cells:?}", row.uuid()));
        }
    }
    out
}

fn check_references(db: &Database) {
    let leaf = |uuid| db.row("Leaf", uuid).is_some();
    let mut alive = BTreeSet::new();
    for row in db.table("Root").expect("a table").rows() {
        assert!(row.refs("leaves").into_iter().all(leaf));
        assert!(row.refs("watch").into_iter().all(leaf));
        alive.extend(row.refs("leaves"));
    }
    for row in db.table("Leaf").expect("a table").rows() {
        assert!(row.refs("next").into_iter().all(leaf));
        let back = row.int_refs("back");
        assert!(back.values().all(|uuid| db.row("Root", *uuid).is_some()));
        alive.extend(row.refs("next").into_iter().filter(|u| *u != row.uuid()));
    }
    for row in db.table("Leaf").expect("a table").rows() {
        assert!(alive.contains(&row.uuid()), "an unreferenced leaf was kept");
    }
}

fn check_uniqueness(db: &Database) {
    let table = db.table("Root").expect("a table");
    let names: BTreeSet<_> = table.rows().map(|r| r.str("name")).collect();
    assert_eq!(names.len(), table.len(), "names are unique");
    assert!(table.len() <= 6, "maxRows");
}

/// One operation; references are to rows picked by number, existing or named.
fn operation() -> impl Strategy<Value = Value> {
    let name = (0..5u8).prop_map(|n| format!("r{n}"));
    let leaf = (0..6u8).prop_map(|n| json!(["named-uuid", format!("l{n}")]));
    let leaves = prop::collection::btree_set(0..6u8, 0..4).prop_map(|s| {
        json!(["set", s.iter().map(|n| json!(["named-uuid", format!("l{n}")])).collect::<Vec<_>>()])
    });
    let ints = prop::collection::btree_set(0..5i64, 0..4)
        .prop_map(|s| json!(["set", s.into_iter().collect::<Vec<_>>()]));
    let map = prop::collection::btree_map("[a-c]", "[x-z]", 0..3)
        .prop_map(|m| json!(["map", m.into_iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>()]));
    let cell = prop_oneof![
        any::<i64>().prop_map(|n| json!({"n": n})),
        ints.clone().prop_map(|v| json!({"set": v})),
        map.clone().prop_map(|v| json!({"map": v})),
        prop::option::of("[a-z]").prop_map(|v| json!({"opt": v.map_or(json!(["set", []]), Value::from)})),
        any::<i64>().prop_map(|n| json!({"eph": n})),
        leaves.clone().prop_map(|v| json!({"leaves": v})),
        leaves.clone().prop_map(|v| json!({"watch": v})),
        name.clone().prop_map(|v| json!({"name": v})),
    ];
    let root = name.clone().prop_map(|n| json!([["name", "==", n]]));
    let named = |n: u8| json!([["_uuid", "==", ["named-uuid", format!("l{n}")]]]);
    prop_oneof![
        4 => (name.clone(), leaves.clone(), leaves.clone()).prop_map(|(name, leaves, watch)| {
            json!({"op": "insert", "table": "Root",
                   "row": {"name": name, "leaves": leaves, "watch": watch}})
        }),
        1 => (0..6u8, prop::option::of(leaf)).prop_map(|(n, next)| {
            let next = next.unwrap_or(json!(["set", []]));
            json!({"op": "insert", "table": "Leaf", "uuid-name": format!("l{n}"),
                   "row": {"name": format!("leaf{n}"), "next": next}})
        }),
        6 => (root.clone(), cell)
            .prop_map(|(w, row)| { json!({"op": "update", "table": "Root", "where": w, "row": row}) }),
        2 => (root.clone(), ints, any::<bool>()).prop_map(|(w, ints, insert)| {
            let mutator = if insert { "insert" } else { "delete" };
            json!({"op": "mutate", "table": "Root", "where": w, "mutations": [["set", mutator, ints]]})
        }),
        2 => (root.clone(), map).prop_map(|(w, map)| {
            json!({"op": "mutate", "table": "Root", "where": w, "mutations": [["map", "insert", map]]})
        }),
        2 => (root.clone(), leaves).prop_map(|(w, leaves)| {
            json!({"op": "mutate", "table": "Root", "where": w, "mutations": [["leaves", "delete", leaves]]})
        }),
        1 => root.prop_map(|w| json!({"op": "delete", "table": "Root", "where": w})),
        1 => (0..6u8).prop_map(move |n| json!({"op": "delete", "table": "Leaf", "where": named(n)})),
    ]
}

/// Gives every `["named-uuid", "lN"]` a meaning: the Nth existing leaf, or else a leaf
/// inserted along. Only `l5` is left to lead nowhere when it does.
fn bind(ops: &[Value], db: &Database) -> Vec<Value> {
    let leaves = db.table("Leaf").expect("a table");
    let existing: Vec<Uuid> = leaves.rows().map(|r| r.uuid()).collect();
    let mut named: BTreeSet<String> =
        ops.iter().filter_map(|op| op["uuid-name"].as_str().map(str::to_owned)).collect();
    let mut bound = ops.to_vec();
    let mut wanted = BTreeSet::new();
    for op in &mut bound {
        bind_value(op, &existing, &named, &mut wanted);
    }
    named.insert("l5".to_owned());
    for name in wanted.difference(&named) {
        bound.push(json!({"op": "insert", "table": "Leaf", "uuid-name": name, "row": {}}));
    }
    bound
}

fn bind_value(value: &mut Value, existing: &[Uuid], named: &BTreeSet<String>, wanted: &mut BTreeSet<String>) {
    if let [Value::String(tag), Value::String(name)] = value.as_array().map_or(&[][..], Vec::as_slice)
        && tag == "named-uuid"
        && !named.contains(name)
    {
        let n: usize = name[1..].parse().expect("a number");
        match existing.get(n) {
            Some(uuid) => *value = json!(["uuid", uuid.to_string()]),
            None => drop(wanted.insert(name.clone())),
        }
        return;
    }
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(|v| bind_value(v, existing, named, wanted));
        }
        Value::Object(map) => {
            map.values_mut().for_each(|v| bind_value(v, existing, named, wanted));
        }
        _ => {}
    }
}

fn column_type() -> impl Strategy<Value = ColumnType> {
    let base = prop::sample::select(vec!["integer", "real", "boolean", "string", "uuid"]);
    (base.clone(), prop::option::of(base), 0..2u32, prop::sample::select(vec![1u32, 3, u32::MAX])).prop_map(
        |(key, value, min, max)| {
            let mut json = json!({"key": key, "min": min, "max": max});
            if max == u32::MAX {
                json["max"] = "unlimited".into();
            }
            if let Some(value) = value {
                json["value"] = value.into();
            }
            ColumnType::from_json(&json).expect("a type")
        },
    )
}

fn atom(kind: weft_ovsdb::schema::AtomicType) -> BoxedStrategy<Atom> {
    use weft_ovsdb::schema::AtomicType;
    match kind {
        AtomicType::Integer => any::<i64>().prop_map(Atom::Integer).boxed(),
        AtomicType::Real => any::<f64>()
            .prop_filter_map("finite", |r| Some(Atom::Real(weft_ovsdb::value::Real::new(r)?)))
            .boxed(),
        AtomicType::Boolean => any::<bool>().prop_map(Atom::Boolean).boxed(),
        AtomicType::String => "[^\\x00]{0,6}".prop_map(|s| Atom::from(s.as_str())).boxed(),
        AtomicType::Uuid => any::<u128>().prop_map(|n| Atom::Uuid(Uuid::from_u128(n))).boxed(),
    }
}

fn datum(kind: &ColumnType) -> BoxedStrategy<Datum> {
    let count = kind.min as usize..=(kind.max.min(4) as usize);
    let key = atom(kind.key.atomic());
    let min = kind.min as usize;
    let datum = match &kind.value {
        None => prop::collection::vec(key, count).prop_map(Datum::set).boxed(),
        Some(value) => {
            let pairs = prop::collection::vec((key, atom(value.atomic())), count);
            pairs.prop_map(Datum::map).boxed()
        }
    };
    datum.prop_filter("enough elements", move |d| d.len() >= min).boxed()
}

fn typed_pair() -> impl Strategy<Value = (ColumnType, Datum, Datum)> {
    column_type().prop_flat_map(|kind| {
        let (a, b) = (datum(&kind), datum(&kind));
        (Just(kind), a, b)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/properties.proptest-regressions",
        ))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn values_and_differences_round_trip((kind, old, new) in typed_pair()) {
        let text = new.to_json().to_string();
        let read: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(&Datum::from_json(&read, &kind).expect("reads"), &new);
        let diff = old.diff(&new, &kind);
        prop_assert_eq!(&old.apply_diff(&diff, &kind).expect("applies"), &new);
        prop_assert_eq!(ColumnType::from_json(&kind.to_json()).expect("a type"), kind);
    }

    #[test]
    fn transactions_keep_the_rules(
        transactions in prop::collection::vec(prop::collection::vec(operation(), 1..5), 1..24)
    ) {
        let mut world = World::new();
        for ops in transactions {
            let before = rows(world.db(), true);
            let ops = bind(&ops, world.db());
            let results = world.transact(ops.clone());
            let failed = results.iter().any(|r| r.is_null() || r.get("error").is_some());
            if failed {
                prop_assert_eq!(rows(world.db(), true), before, "a failure changes nothing");
            } else {
                prop_assert_eq!(results.len(), ops.len());
            }
            world.check();
        }
    }

    #[test]
    fn what_was_not_persisted_is_taken_back(
        kept in prop::collection::vec(operation(), 1..6),
        lost in prop::collection::vec(prop::collection::vec(operation(), 1..6), 1..4)
    ) {
        let mut world = World::new();
        world.transact(vec![json!({"op": "insert", "table": "Root", "row": {"name": "r0"}})]);
        let ops = bind(&kept, world.db());
        world.transact(ops);
        let before = (rows(world.db(), true), world.db().last_id());
        for ops in lost {
            let ops = bind(&ops, world.db());
            world.server.transact_local("D", &ops, NOW).expect("runs");
        }
        // Taken by the rim, which then fails to write it.
        drop(world.server.take_batch());
        world.server.persist_failed();
        prop_assert_eq!((rows(world.db(), true), world.db().last_id()), before);
        prop_assert_eq!(world.server.connection_count(), 0);
        prop_assert_eq!(world.server.take_batch().closes, vec![world.client]);
        // And the links and indexes are those of the rows: more transactions keep the rules.
        check_references(world.db());
        let again = vec![
            json!({"op": "delete", "table": "Root", "where": []}),
            json!({"op": "insert", "table": "Root", "row": {"name": "r0"}}),
        ];
        world.server.transact_local("D", &again, NOW).expect("runs");
        prop_assert_eq!(rows(world.db(), true).len(), 1);
    }
}

#[test]
fn a_log_cut_at_any_byte_is_an_earlier_state() {
    let mut world = World::new();
    let insert = |n: u8| {
        vec![
            json!({"op": "insert", "table": "Root", "row": {
                "name": format!("é{n}"), "leaves": ["named-uuid", "l"], "set": ["set", [n, 100]]}}),
            json!({"op": "insert", "table": "Leaf", "uuid-name": "l", "row": {"name": "\n"}}),
        ]
    };
    let mut states = vec![(world.file.len(), rows(world.db(), false))];
    for n in 0..5 {
        world.transact(insert(n));
        states.push((world.file.len(), rows(world.db(), false)));
        let ops = json!({"op": "mutate", "table": "Root", "where": [], "mutations": [["set", "insert", n]]});
        world.transact(vec![ops]);
        states.push((world.file.len(), rows(world.db(), false)));
    }
    let mut uuids = UuidStream::new([3; 32]);
    for cut in states[0].0..=world.file.len() {
        let loaded = log::load(&world.file[..cut], &mut uuids).expect("loads");
        let (len, state) = states.iter().rev().find(|(len, _)| *len <= cut).expect("a state");
        assert_eq!(loaded.valid_len, *len, "cut at {cut}");
        assert_eq!(&rows(&loaded.db, false), state, "cut at {cut}");
        assert_eq!(loaded.tail == Tail::Clean, cut == *len, "cut at {cut}");
    }
    for cut in 0..states[0].0 {
        assert!(log::load(&world.file[..cut], &mut uuids).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_damaged_middle_is_told_from_a_torn_end() {
    let mut world = World::new();
    for n in 0..3 {
        world.transact(vec![json!({"op": "insert", "table": "Root", "row": {"name": n.to_string()}})]);
    }
    let records: Vec<_> = LogReader::new(&world.file).collect();
    assert_eq!(records.len(), 4);
    let flip = |at: usize| {
        let mut bytes = world.file.clone();
        bytes[at] ^= 1;
        let mut reader = LogReader::new(&bytes);
        let count = reader.by_ref().count();
        (count, reader.tail().clone())
    };
    let (count, tail) = flip(records[1].end - 3);
    assert_eq!(count, 1);
    assert!(matches!(tail, Tail::Torn { more_records: true, .. }), "{tail:?}");
    let (count, tail) = flip(records[3].end - 3);
    assert_eq!(count, 3);
    assert!(matches!(tail, Tail::Torn { more_records: false, .. }), "{tail:?}");
}
