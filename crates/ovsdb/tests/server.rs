//! What do clients hear, when, and what may they cost?

use std::sync::Arc;

use serde_json::{Value, json};
use weft_ovsdb::db::HistoryLimits;
use weft_ovsdb::log;
use weft_ovsdb::schema::DatabaseSchema;
use weft_ovsdb::txn::Access;
use weft_ovsdb::{
    Batch, ConnId, ConnOptions, Database, Datum, ErrorKind, Now, Persist, Server, ServerLimits, schema,
};

const DB: &str = "Open_vSwitch";

/// A server with the switch's database, time in hand.
struct Rig {
    server: Server,
    now: Now,
    requests: u64,
}

impl Rig {
    fn new(limits: ServerLimits) -> Self {
        let now = Now { mono_ms: 1_000, unix_ms: 1_700_000_000_000 };
        let mut server = Server::new([5; 32], limits, now);
        let db = Database::new(schema::open_vswitch(), server.uuids().draw());
        server.add_database(db, now).expect("added");
        server.take_batch();
        Self { server, now, requests: 0 }
    }

    fn connect(&mut self) -> ConnId {
        self.server.connect(ConnOptions::default(), self.now)
    }

    /// Sends a request; gives its id.
    fn send(&mut self, client: ConnId, method: &str, params: Value) -> u64 {
        self.requests += 1;
        let message = json!({"id": self.requests, "method": method, "params": params});
        self.server.receive(client, message.to_string().as_bytes(), self.now);
        self.requests
    }

    fn transact(&mut self, client: ConnId, ops: &[Value]) -> u64 {
        let mut params = vec![json!(DB)];
        params.extend_from_slice(ops);
        self.send(client, "transact", Value::Array(params))
    }

    /// The messages of a batch for one client.
    fn heard(batch: &Batch, client: ConnId) -> Vec<Value> {
        let bytes = batch.sends.iter().filter(|(id, _)| *id == client);
        let text: Vec<u8> = bytes.flat_map(|(_, bytes)| bytes.clone()).collect();
        let values = serde_json::Deserializer::from_slice(&text).into_iter();
        values.collect::<Result<_, _>>().expect("JSON")
    }

    /// Sends a request and gives the one message that answers it.
    fn call(&mut self, client: ConnId, method: &str, params: Value) -> Value {
        let id = self.send(client, method, params);
        let heard = Self::heard(&self.server.take_batch(), client);
        let reply = heard.into_iter().find(|m| m["id"] == id);
        reply.expect("an answer")
    }
}

fn set(n: i64) -> Value {
    json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"next_cfg": n}})
}

fn root() -> Value {
    json!({"op": "insert", "table": "Open_vSwitch", "row": {}})
}

fn wait(n: i64) -> Value {
    json!({"op": "wait", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"],
           "until": "==", "rows": [{"next_cfg": n}], "timeout": 500})
}

#[test]
fn updates_come_before_the_reply_and_after_the_record() {
    let mut rig = Rig::new(ServerLimits::default());
    let (a, b) = (rig.connect(), rig.connect());
    for client in [a, b] {
        rig.call(client, "monitor", json!([DB, "m", {"Open_vSwitch": {}}]));
    }
    let id = rig.transact(a, &[root()]);
    let batch = rig.server.take_batch();
    assert!(matches!(batch.persist.as_slice(), [Persist::Append { db, .. }] if db == DB));
    let (a, b) = (Rig::heard(&batch, a), Rig::heard(&batch, b));
    assert_eq!((&a[0]["method"], &a[1]["id"]), (&json!("update"), &json!(id)));
    assert_eq!((&b[0]["method"], b.len()), (&json!("update"), 1));
    assert_eq!(batch.changes.len(), 1);
}

#[test]
fn several_clients_share_a_batch_and_so_a_sync() {
    let mut rig = Rig::new(ServerLimits::default());
    let clients: Vec<ConnId> = (0..3).map(|_| rig.connect()).collect();
    rig.transact(clients[0], &[root()]);
    for client in &clients {
        rig.transact(*client, &[set(client.0 as i64 + 1)]);
    }
    let batch = rig.server.take_batch();
    assert_eq!(batch.persist.len(), 4);
    assert!(clients.iter().all(|c| !Rig::heard(&batch, *c).is_empty()));
    assert!(!rig.server.has_batch());
}

#[test]
fn ephemeral_changes_leave_no_record() {
    let mut rig = Rig::new(ServerLimits::default());
    let client = rig.connect();
    rig.transact(client, &[root()]);
    rig.server.take_batch();
    let statistics = json!({"op": "update", "table": "Open_vSwitch", "where": [],
                            "row": {"statistics": ["map", [["a", "b"]]]}});
    rig.transact(client, &[statistics]);
    let batch = rig.server.take_batch();
    assert!(batch.persist.is_empty());
    assert_eq!(batch.changes.len(), 1);
}

#[test]
fn a_wait_ends_by_a_change_by_time_or_by_cancel() {
    let mut rig = Rig::new(ServerLimits::default());
    let (a, b) = (rig.connect(), rig.connect());
    rig.transact(a, &[root()]);
    let (met, late) = (rig.transact(a, &[wait(1)]), rig.transact(a, &[wait(2)]));
    assert_eq!(Rig::heard(&rig.server.take_batch(), a).len(), 1);
    assert_eq!(rig.server.deadline_ms(), Some(rig.now.mono_ms + 500));
    rig.transact(b, &[set(1)]);
    let heard = Rig::heard(&rig.server.take_batch(), a);
    assert_eq!(heard[0], json!({"id": met, "result": [{}], "error": null}));
    rig.now.mono_ms += 499;
    rig.server.tick(rig.now);
    assert!(!rig.server.has_batch());
    rig.now.mono_ms += 1;
    rig.server.tick(rig.now);
    let heard = Rig::heard(&rig.server.take_batch(), a);
    assert_eq!((&heard[0]["id"], &heard[0]["result"][0]["error"]), (&json!(late), &json!("timed out")));
    assert_eq!(rig.server.deadline_ms(), None);
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let limits = ServerLimits { backlog: 10_000, ..ServerLimits::default() };
    let mut rig = Rig::new(limits);
    let (lazy, diligent) = (rig.connect(), rig.connect());
    for _ in 0..100 {
        for client in [lazy, diligent] {
            rig.send(client, "echo", json!(["x".repeat(1000)]));
        }
        let batch = rig.server.take_batch();
        for (id, bytes) in &batch.sends {
            if *id == diligent {
                rig.server.written(*id, bytes.len());
            }
        }
        if batch.closes == [lazy] {
            assert_eq!(rig.server.connection_count(), 1);
            return;
        }
        assert!(batch.closes.is_empty());
    }
    panic!("the lazy client was never dropped");
}

#[test]
fn a_silent_client_is_probed_then_dropped() {
    let mut rig = Rig::new(ServerLimits::default());
    let options = ConnOptions { probe_ms: Some(5_000), ..ConnOptions::default() };
    let (dead, alive) = (rig.server.connect(options, rig.now), rig.server.connect(options, rig.now));
    assert_eq!(rig.server.deadline_ms(), Some(rig.now.mono_ms + 5_000));
    rig.now.mono_ms += 5_000;
    rig.server.tick(rig.now);
    let batch = rig.server.take_batch();
    assert_eq!(Rig::heard(&batch, dead)[0]["method"], "echo");
    let answer = br#"{"id":"echo","result":[],"error":null}"#;
    rig.server.receive(alive, answer, rig.now);
    rig.now.mono_ms += 5_000;
    rig.server.tick(rig.now);
    assert_eq!(rig.server.take_batch().closes, vec![dead]);
}

#[test]
fn limits_of_one_client() {
    let limits = ServerLimits { blocked: 2, monitors: 2, locks: 2, ..ServerLimits::default() };
    let mut rig = Rig::new(limits);
    let client = rig.connect();
    rig.transact(client, &[root()]);
    for i in 0..3 {
        rig.transact(client, &[wait(9)]);
        let heard = Rig::heard(&rig.server.take_batch(), client);
        let refused = heard.iter().any(|m| m["error"]["error"] == "resources exhausted");
        assert_eq!(refused, i == 2);
        let reply = rig.call(client, "monitor", json!([DB, i, {}]));
        assert_eq!(reply["error"].is_null(), i < 2, "{reply}");
        let reply = rig.call(client, "lock", json!([format!("l{i}")]));
        assert_eq!(reply["error"].is_null(), i < 2, "{reply}");
    }
}

#[test]
fn what_a_client_keeps_and_selects_is_bounded() {
    let limits = ServerLimits { kept: 10_000, ..ServerLimits::default() };
    let mut rig = Rig::new(limits);
    let client = rig.connect();
    let names: Vec<Value> = (0..200).map(|n| json!(["name", "==", format!("a-long-name-{n}")])).collect();
    let many = json!({"Bridge": [{"where": names}]});
    let error = |reply: &Value| reply["error"]["error"].clone();
    let big = rig.call(client, "monitor_cond", json!([DB, "big", many]));
    assert_eq!(error(&big), "resources exhausted");
    let small = rig.call(client, "monitor_cond", json!([DB, "small", {"Bridge": [{"where": [false]}]}]));
    assert_eq!(error(&small), Value::Null);
    let grown = rig.call(client, "monitor_cond_change", json!(["small", "small", many]));
    assert_eq!(error(&grown), "resources exhausted");
    // Changing conditions back and forth takes nothing more.
    for n in 0..500 {
        let change = json!({"Bridge": [{"where": [["name", "==", format!("br{n}")]]}]});
        let reply = rig.call(client, "monitor_cond_change", json!(["small", "small", change]));
        assert_eq!(error(&reply), Value::Null);
    }
    rig.transact(client, &[root()]);
    rig.transact(client, &[wait(9), json!({"op": "comment", "comment": "x".repeat(10_000)})]);
    let heard = Rig::heard(&rig.server.take_batch(), client);
    assert_eq!(error(&heard[1]), "resources exhausted");
    let select = json!({"op": "select", "table": "Open_vSwitch", "where": []});
    let reply = rig.call(client, "transact", {
        let mut params = vec![json!(DB)];
        params.resize(60_001, select);
        Value::Array(params)
    });
    let results = reply["result"].as_array().expect("results");
    assert_eq!(results.last(), Some(&Value::Null));
    assert!(results.iter().any(|r| r["error"] == "resources exhausted"));
}

#[test]
fn locks_are_told_for_the_manager_table() {
    let mut rig = Rig::new(ServerLimits::default());
    let (a, b) = (rig.connect(), rig.connect());
    for (client, method, lock) in [(a, "lock", "x"), (b, "lock", "x"), (a, "steal", "y"), (b, "steal", "y")] {
        rig.call(client, method, json!([lock]));
    }
    let status = |id| rig.server.lock_status(id);
    let text = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((status(a).held, status(a).waiting, status(a).lost), (text(&["x"]), vec![], text(&["y"])));
    assert_eq!((status(b).held, status(b).waiting, status(b).lost), (text(&["y"]), text(&["x"]), vec![]));
    // The owner goes: the next in the queue is told.
    rig.server.disconnect(a, rig.now);
    let heard = Rig::heard(&rig.server.take_batch(), b);
    assert_eq!(heard, vec![json!({"id": null, "method": "locked", "params": ["x"]})]);
}

#[test]
fn broken_streams_are_closed_and_nothing_else() {
    let cases: [&[u8]; 8] = [
        b"x",
        b"{\"id\":1,\"method\":\"echo\"",
        b"{}",
        b"{\"id\":1,\"method\":\"echo\",\"params\":{}}",
        b"{\"id\":1,\"method\":\"echo\",\"params\":[\"\\ud800\"]}",
        b"{\"id\":1,\"method\":\"echo\",\"params\":[1e999]}",
        b"{\"id\":1,\"method\":\"echo\",\"params\":[\"\\u0000\"]}",
        b"{\"id\":1,\"method\":\"echo\",\"params\":[],\"jsonrpc\":\"2.0\"}",
    ];
    for (i, bytes) in cases.iter().enumerate() {
        let mut rig = Rig::new(ServerLimits::default());
        let (bad, good) = (rig.connect(), rig.connect());
        rig.server.receive(bad, bytes, rig.now);
        let batch = rig.server.take_batch();
        // A message that may still be completed is no reason to close.
        let expected = if i == 1 { vec![] } else { vec![bad] };
        assert_eq!(batch.closes, expected, "{}", String::from_utf8_lossy(bytes));
        assert_eq!(rig.call(good, "echo", json!([]))["result"], json!([]));
        rig.server.receive(bad, b"more", rig.now);
    }
}

#[test]
fn requests_that_end_debians_server_are_answered() {
    let mut rig = Rig::new(ServerLimits::default());
    let client = rig.connect();
    let cases = [
        ("monitor", json!([DB])),
        ("monitor", json!([DB, 1])),
        ("monitor_cond_since", json!([DB, 1])),
        ("monitor_cond_change", json!([])),
        ("convert", json!(["_Server", {"name": "_Server", "tables": {}}])),
        ("get_server_id", Value::Null),
    ];
    for (method, params) in cases {
        let reply = rig.call(client, method, params);
        assert_eq!(reply["error"].is_null(), method == "get_server_id", "{reply}");
    }
}

#[test]
fn monitor_cond_since_goes_on_where_a_client_left() {
    let mut rig = Rig::new(ServerLimits::default());
    let client = rig.connect();
    rig.transact(client, &[root()]);
    let table = json!({"Open_vSwitch": [{"columns": ["next_cfg", "external_ids"]}]});
    let since = |last: &Value, id: &str| json!([DB, id, table, last]);
    let nil = json!("00000000-0000-0000-0000-000000000000");
    let first = rig.call(client, "monitor_cond_since", since(&nil, "a"));
    assert_eq!(first["result"][0], false);
    let remembered = first["result"][1].clone();
    for n in 1..=3 {
        let ids = json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["external_ids", "insert", ["map", [[n.to_string(), "x"]]]]]});
        rig.transact(client, &[set(n), ids]);
    }
    let heard = Rig::heard(&rig.server.take_batch(), client);
    let updates: Vec<&Value> = heard.iter().filter(|m| m["method"] == "update3").collect();
    let latest = updates.last().expect("updates")["params"][1].clone();
    let again = rig.call(client, "monitor_cond_since", since(&remembered, "b"));
    let rows = again["result"][2]["Open_vSwitch"].as_object().expect("rows");
    let change = rows.values().next().expect("a row");
    let ids = json!(["map", [["1", "x"], ["2", "x"], ["3", "x"]]]);
    assert_eq!(again["result"][0], true);
    assert_eq!(again["result"][1], latest);
    assert_eq!(*change, json!({"modify": {"next_cfg": 3, "external_ids": ids}}));
    let nothing = rig.call(client, "monitor_cond_since", since(&latest, "c"));
    assert_eq!(nothing["result"], json!([true, latest, {}]));
    // A client that has been away too long starts again.
    let mut db = Database::new(schema::open_vswitch(), rig.server.uuids().draw());
    db.set_history_limits(HistoryLimits { commits: 1, rows: 10 });
    let start = db.last_id();
    let mut server = Server::new([1; 32], ServerLimits::default(), rig.now);
    server.add_database(db, rig.now).expect("added");
    for ops in [root(), set(1)] {
        server.transact_local(DB, &[ops], rig.now).expect("runs");
    }
    rig.server = server;
    let client = rig.connect();
    let reply = rig.call(client, "monitor_cond_since", since(&json!(start.to_string()), "d"));
    assert_eq!(reply["result"][0], false);
}

#[test]
fn a_read_only_client_reads() {
    let mut rig = Rig::new(ServerLimits::default());
    let options = ConnOptions { access: Access::ReadOnly("this remote is read-only"), probe_ms: None };
    let client = rig.server.connect(options, rig.now);
    let reply = rig.call(client, "transact", json!([DB, root()]));
    assert_eq!(reply["result"][0]["error"], "not allowed");
    let select = json!({"op": "select", "table": "Open_vSwitch", "where": []});
    let reply = rig.call(client, "transact", json!([DB, select]));
    assert_eq!(reply["result"][0]["rows"], json!([]));
    let reply = rig.call(client, "convert", json!([DB, schema::open_vswitch().to_json()]));
    assert_eq!(reply["error"]["error"], "not allowed");
}

#[test]
fn a_conversion_tells_those_who_follow_and_closes_the_rest() {
    let mut rig = Rig::new(ServerLimits::default());
    let (aware, plain) = (rig.connect(), rig.connect());
    rig.call(aware, "set_db_change_aware", json!([true]));
    rig.call(aware, "monitor", json!([DB, "m", {"Open_vSwitch": {}}]));
    rig.call(aware, "monitor_cond", json!(["_Server", "s", {"Database": {"columns": ["schema"]}}]));
    rig.transact(aware, &[root()]);
    let waiting = rig.transact(aware, &[wait(9)]);
    rig.server.take_batch();
    let text = schema::open_vswitch().to_json().to_string().replace("8.3.1", "8.9.0");
    let new = DatabaseSchema::from_json(&serde_json::from_str(&text).expect("JSON")).expect("a schema");
    rig.server.convert_database(DB, Arc::new(new)).expect("converts");
    let batch = rig.server.take_batch();
    assert_eq!(batch.closes, vec![plain]);
    let [Persist::Replace { file, .. }] = batch.persist.as_slice() else {
        panic!("a new file: {:?}", batch.persist);
    };
    let (_, everything) = batch.changes.iter().find(|(name, _)| name == DB).expect("told");
    assert_eq!((everything.row_count(), everything.schema.version.as_str()), (1, "8.9.0"));
    let loaded = log::load(file, rig.server.uuids()).expect("loads");
    assert_eq!(loaded.db.schema().version, "8.9.0");
    assert_eq!(loaded.db.row_count(), 1);
    let heard = Rig::heard(&batch, aware);
    let has = |wanted: Value| heard.contains(&wanted);
    assert!(has(json!({"id": waiting, "result": null, "error": "canceled"})), "{heard:#?}");
    assert!(has(json!({"id": null, "method": "monitor_canceled", "params": ["m"]})));
    assert!(heard.iter().any(|m| m["method"] == "update2" && m["params"][0] == "s"));
    // What cannot be written down is not converted either.
    drop(rig.server.take_batch());
    rig.server.convert_database(DB, schema::open_vswitch()).expect("converts");
    rig.server.take_batch();
    rig.server.persist_failed();
    let db = rig.server.database(DB).expect("served");
    assert_eq!(db.schema().version, "8.9.0");
}

#[test]
fn this_process_edits_rows_by_calls() {
    let mut rig = Rig::new(ServerLimits::default());
    let client = rig.connect();
    rig.call(client, "monitor_cond", json!([DB, "m", {"Interface": [{"columns": ["name", "ofport"]}]}]));
    let mut interface = None;
    let made = rig.server.edit(DB, rig.now, |edit| {
        let uuid = edit.insert("Interface", &[("name", Datum::scalar("p1"))])?;
        let refs = Datum::set([uuid]);
        let port = edit.insert("Port", &[("name", Datum::scalar("p1")), ("interfaces", refs)])?;
        let refs = Datum::set([port]);
        let bridge = edit.insert("Bridge", &[("name", Datum::scalar("br0")), ("ports", refs)])?;
        edit.insert("Open_vSwitch", &[("bridges", Datum::set([bridge]))])?;
        interface = Some(uuid);
        Ok(())
    });
    assert!(made.expect("commits").is_some());
    let uuid = interface.expect("inserted");
    rig.server.take_batch();
    let mut put = |column: &str, datum: Datum| {
        let mut rig_now = rig.now;
        rig_now.mono_ms += 1;
        rig.server.edit(DB, rig_now, |edit| edit.set("Interface", uuid, column, datum))
    };
    assert!(put("ofport", Datum::scalar(7)).expect("commits").is_some());
    assert!(put("ofport", Datum::scalar(7)).expect("commits").is_none(), "nothing new");
    let wrong = [
        ("ofport", Datum::scalar("seven"), ErrorKind::Constraint),
        ("ofport", Datum::set([1, 2]), ErrorKind::Constraint),
        ("ofport_request", Datum::scalar(0), ErrorKind::Constraint),
        ("name", Datum::scalar("p2"), ErrorKind::Constraint),
        ("error", Datum::scalar("a\0b"), ErrorKind::Constraint),
        ("nothing", Datum::scalar(1), ErrorKind::UnknownColumn),
    ];
    for (column, datum, kind) in wrong {
        assert_eq!(put(column, datum).expect_err(column).kind, kind, "{column}");
    }
    let batch = rig.server.take_batch();
    assert!(batch.changes.iter().all(|(_, commit)| commit.local));
    let (_, commit) = &batch.changes[0];
    assert!(commit.touches("Interface", &["ofport"]) && !commit.touches("Interface", &["type"]));
    let heard = Rig::heard(&batch, client);
    let update = &heard[0]["params"][1]["Interface"][uuid.to_string()];
    assert_eq!(*update, json!({"modify": {"ofport": 7}}));
    let row = rig.server.database(DB).and_then(|db| db.row("Interface", uuid)).expect("a row");
    assert_eq!((row.str("name"), row.opt_int("ofport"), row.opt_str("error")), ("p1", Some(7), None));
}
