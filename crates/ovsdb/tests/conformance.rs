//! Do we answer as Debian's ovsdb-server does?
//!
//! Each file in `tests/conformance` is a dialogue: a line `[client, method, params]` is a
//! request, `[client, method, params, "quiet"]` one that is not answered at once. Both servers
//! are led through it, and after every line what each client has heard must be the same, up to
//! the UUIDs servers draw and the wording of errors. UUIDs the dialogue chooses begin with
//! `00000000-`.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{Debian, Scratch, run, start_ours};
use serde_json::{Value, json};

struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
    echoes: u64,
}

impl Client {
    fn connect(socket: &str) -> Self {
        let stream = UnixStream::connect(socket).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        Self { stream, buffer: Vec::new(), echoes: 0 }
    }

    fn send(&mut self, message: &Value) {
        self.stream.write_all(message.to_string().as_bytes()).expect("sends");
    }

    /// Everything heard before the answer to a fresh echo.
    fn drain(&mut self) -> Vec<Value> {
        self.echoes += 1;
        let id = json!(format!("sync-{}", self.echoes));
        self.send(&json!({"id": id, "method": "echo", "params": []}));
        let mut heard = Vec::new();
        loop {
            let message = self.next();
            if message["id"] == id {
                return heard;
            }
            heard.push(message);
        }
    }

    fn next(&mut self) -> Value {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter();
            if let Some(Ok(value)) = values.next() {
                let used = values.byte_offset();
                self.buffer.drain(..used);
                return value;
            }
            let mut chunk = [0; 65536];
            let n = self.stream.read(&mut chunk).expect("the server speaks");
            assert!(n > 0, "the server hung up");
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }
}

/// One of the two servers and the clients it has.
struct Side {
    socket: String,
    clients: BTreeMap<String, Client>,
}

impl Side {
    fn new(socket: String) -> Self {
        Self { socket, clients: BTreeMap::new() }
    }

    /// Leads the server through one line; gives what every client heard, made comparable.
    fn step(&mut self, id: usize, step: &[Value]) -> BTreeMap<String, Vec<Value>> {
        let name = step[0].as_str().expect("a client").to_owned();
        let socket = &self.socket;
        let client = self.clients.entry(name.clone()).or_insert_with(|| Client::connect(socket));
        let method = &step[1];
        let id = if method == "cancel" { Value::Null } else { json!(id) };
        client.send(&json!({"id": id, "method": method, "params": step[2]}));
        let mut heard: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let quiet = step.len() > 3 || id.is_null();
        if !quiet {
            loop {
                let message = client.next();
                let answered = message["id"] == id;
                heard.entry(name.clone()).or_default().push(message);
                if answered {
                    break;
                }
            }
        }
        // Twice, because a server may tell others only after it has answered everyone once.
        for _ in 0..2 {
            for (name, client) in &mut self.clients {
                heard.entry(name.clone()).or_default().extend(client.drain());
            }
        }
        heard.values_mut().flatten().for_each(normalize);
        // Which of a client's monitors is told first is nobody's promise.
        for messages in heard.values_mut() {
            messages.sort_by_key(|m| m["id"].is_null().then(|| m.to_string()));
            let notifications = messages.iter().filter(|m| m["id"].is_null()).count();
            let replies = messages.len() - notifications;
            messages.rotate_left(replies);
        }
        heard
    }
}

/// Removes what may differ: drawn UUIDs, words, the order of sets and rows, null members.
fn normalize(value: &mut Value) {
    match value {
        Value::String(text) if is_drawn_uuid(text) => *text = "?".into(),
        Value::Number(n) => {
            if let Some(real) = n.as_f64().filter(|r| r.fract() == 0.0 && n.is_f64()) {
                *value = json!(real as i64);
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(normalize);
            let tag = items.first().and_then(Value::as_str).map(str::to_owned);
            if let (Some("set" | "map"), [_, Value::Array(elements)]) = (tag.as_deref(), items.as_mut_slice())
            {
                elements.sort_by_key(Value::to_string);
            }
        }
        Value::Object(map) => {
            if map.get("error").is_some_and(Value::is_string) {
                map.retain(|name, _| name == "error" || name == "id");
            }
            map.retain(|name, value| !(value.is_null() && matches!(name.as_str(), "result" | "error")));
            let mut members: Vec<(String, Value)> = std::mem::take(map).into_iter().collect();
            for (name, value) in &mut members {
                normalize(value);
                if is_drawn_uuid(name) {
                    *name = "?".into();
                }
                if let ("rows", Value::Array(rows)) = (name.as_str(), value) {
                    rows.sort_by_key(Value::to_string);
                }
            }
            members.sort_by(|a, b| (&a.0, a.1.to_string()).cmp(&(&b.0, b.1.to_string())));
            map.extend(members);
        }
        _ => {}
    }
}

fn is_drawn_uuid(text: &str) -> bool {
    text.len() == 36 && weft_ovsdb::parse_uuid(text).is_some() && !text.starts_with("00000000-")
        || text == "00000000-0000-0000-0000-000000000000"
}

/// Leads both servers, over the schema of that name, through the dialogue of that name.
fn compare(dialogue: &str, schema: &str) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance");
    let schema = format!("{}/{schema}", env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new();
    let (ours, debians) = (scratch.path("ours.db"), scratch.path("debian.db"));
    run("ovsdb-tool", &["create", &ours, &schema]);
    run("ovsdb-tool", &["create", &debians, &schema]);
    let mut ours = Side::new(start_ours(&scratch, &ours));
    let (_debian, socket) = Debian::start(&scratch, &debians);
    let mut debian = Side::new(socket);
    let text = std::fs::read_to_string(format!("{dir}/{dialogue}.jsonl")).expect("a dialogue");
    let mut differences = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let step: Vec<Value> =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{dialogue}.jsonl line {}: {e}", i + 1));
        let (a, b) = (ours.step(i + 1, &step), debian.step(i + 1, &step));
        if a != b {
            let show = |heard: &BTreeMap<String, Vec<Value>>| {
                let line = |(n, m): (&String, &Vec<Value>)| format!("    {n}: {}\n", Value::Array(m.clone()));
                heard.iter().map(line).collect::<String>()
            };
            differences.push(format!(
                "line {}: {line}\n  ours:\n{}  Debian's:\n{}",
                i + 1,
                show(&a),
                show(&b)
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn operations_on_the_switch_schema() {
    compare("operations", "schema/open_vswitch.json");
}

#[test]
fn types_and_references() {
    compare("references", "tests/conformance/references.ovsschema");
}

#[test]
fn monitors() {
    compare("monitors", "schema/open_vswitch.json");
}

#[test]
fn locks_waits_and_methods() {
    compare("sessions", "schema/open_vswitch.json");
}
