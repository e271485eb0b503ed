//! Which reply belongs to which request, and what does the server tell unasked?

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::json;
use crate::rpc::{Decoder, FrameError, FrameLimits, Message};
use crate::uuids::{Uuid, parse_uuid};

/// One request of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a server's bytes came to.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    /// The answer to a request, or the error.
    Reply(RequestId, Result<Value, Value>),
    /// Changes a monitor covers: of `update`, `update2` or `update3`.
    Update {
        /// The monitor's id.
        monitor: Value,
        /// `<table-updates>` or `<table-updates2>`.
        updates: Value,
        /// The transaction id, from `update3`.
        last_id: Option<Uuid>,
    },
    /// The server has ended a monitor.
    MonitorCanceled(Value),
    /// A lock waited for is owned now.
    Locked(String),
    /// A lock owned is lost.
    Stolen(String),
    /// Send these bytes (the answer to a probe).
    Send(Vec<u8>),
}

/// The client's end of one connection.
#[derive(Debug)]
pub struct ClientSession {
    decoder: Decoder,
    next_id: u64,
    waiting: BTreeSet<RequestId>,
}

impl ClientSession {
    /// A session that has sent nothing.
    pub fn new(limits: FrameLimits) -> Self {
        Self { decoder: Decoder::new(limits), next_id: 1, waiting: BTreeSet::new() }
    }

    /// Bytes of a request, and the id its reply will carry.
    pub fn request(&mut self, method: &str, params: Vec<Value>) -> (RequestId, Vec<u8>) {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.insert(id);
        let message = Message::Request { id: id.0.into(), method: method.to_owned(), params };
        (id, message.encode())
    }

    /// `transact`; see [`super::op`] for the operations.
    pub fn transact(&mut self, db: &str, ops: Vec<Value>) -> (RequestId, Vec<u8>) {
        let params = std::iter::once(Value::from(db)).chain(ops).collect();
        self.request("transact", params)
    }

    /// `get_schema`.
    pub fn get_schema(&mut self, db: &str) -> (RequestId, Vec<u8>) {
        self.request("get_schema", vec![db.into()])
    }

    /// `monitor_cond_since` on whole tables, or on the named columns of each.
    pub fn monitor(
        &mut self,
        db: &str,
        monitor: Value,
        tables: &[(&str, &[&str])],
        last_id: Uuid,
    ) -> (RequestId, Vec<u8>) {
        let request = |columns: &[&str]| {
            let mut request = Map::new();
            if !columns.is_empty() {
                let names = columns.iter().map(|c| Value::from(*c)).collect();
                request.insert("columns".into(), Value::Array(names));
            }
            Value::Array(vec![Value::Object(request)])
        };
        let requests = tables.iter().map(|(t, columns)| ((*t).to_owned(), request(columns)));
        let requests = Value::Object(requests.collect());
        let last_id = last_id.to_string().into();
        self.request("monitor_cond_since", vec![db.into(), monitor, requests, last_id])
    }

    /// `lock`.
    pub fn lock(&mut self, name: &str) -> (RequestId, Vec<u8>) {
        self.request("lock", vec![name.into()])
    }

    /// Number of requests without a reply.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes bytes the server sent.
    ///
    /// # Errors
    /// The stream makes no sense any more; the connection has to be closed.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<ClientEvent>, FrameError> {
        self.decoder.feed(bytes);
        let mut events = Vec::new();
        while let Some(message) = self.decoder.next() {
            let event = self.event(Message::from_json(message?)?);
            events.extend(event);
        }
        Ok(events)
    }

    fn event(&mut self, message: Message) -> Option<ClientEvent> {
        match message {
            Message::Reply { id, result } => {
                let id = json::as_i64(&id).and_then(|i| u64::try_from(i).ok())?;
                let id = RequestId(id);
                self.waiting.remove(&id).then_some(ClientEvent::Reply(id, result))
            }
            Message::Request { id, method, params } => {
                let result =
                    if method == "echo" { Ok(Value::Array(params)) } else { Err("unknown method".into()) };
                Some(ClientEvent::Send(Message::Reply { id, result }.encode()))
            }
            Message::Notification { method, params } => notification(&method, params),
        }
    }
}

fn notification(method: &str, params: Vec<Value>) -> Option<ClientEvent> {
    let mut params = params.into_iter();
    let first = params.next()?;
    let text = |value: Value| value.as_str().map(str::to_owned);
    match method {
        "update" | "update2" => {
            Some(ClientEvent::Update { monitor: first, updates: params.next()?, last_id: None })
        }
        "update3" => Some(ClientEvent::Update {
            monitor: first,
            last_id: Some(params.next()?.as_str().and_then(parse_uuid)?),
            updates: params.next()?,
        }),
        "monitor_canceled" => Some(ClientEvent::MonitorCanceled(first)),
        "locked" => text(first).map(ClientEvent::Locked),
        "stolen" => text(first).map(ClientEvent::Stolen),
        _ => None,
    }
}
