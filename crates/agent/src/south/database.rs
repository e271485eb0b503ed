//! What does the switch's database hold, and how does it come to hold what is wanted?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use weft_ovsdb::Uuid;
use weft_ovsdb::client::op;
use weft_ovsdb::client::{ClientEvent, ClientSession, RequestId};
use weft_ovsdb::rpc::FrameLimits;
use weft_ovsdb::schema::DatabaseSchema;

use super::view::{News, Touched, View, Watcher};
use super::{BACKOFF, BRIDGE, PATIENCE, SouthError, Wanted, idle};

const DATABASE: &str = "Open_vSwitch";
/// What is watched.
const TABLES: [(&str, &[&str]); 4] = [
    ("Open_vSwitch", &["bridges", "external_ids", "cur_cfg", "next_cfg"]),
    ("Bridge", &["name", "ports", "external_ids"]),
    ("Port", &["name", "interfaces", "external_ids"]),
    (
        "Interface",
        &["name", "type", "options", "external_ids", "ofport", "error", "mac", "mac_in_use", "mtu_request"],
    ),
];

/// What was told and nobody took yet.
type Pending = Arc<Mutex<News>>;

/// Tells what the database holds, as it changes.
#[derive(Debug)]
pub struct Views {
    pending: Pending,
    /// There is a connection.
    told: watch::Receiver<bool>,
}

impl Views {
    /// Whether there is a connection, so that what was taken is so.
    pub fn is_connected(&self) -> bool {
        *self.told.borrow()
    }

    /// Whether there is something to take.
    pub fn has_changed(&self) -> bool {
        self.told.has_changed().unwrap_or(false)
    }

    /// Waits for something to take. False: nothing will come any more.
    pub async fn changed(&mut self) -> bool {
        self.told.changed().await.is_ok()
    }

    /// Brings a view up to date, always the same one.
    pub fn take(&mut self, view: &mut View) -> Touched {
        self.told.mark_unchanged();
        let news = self.pending.lock().take();
        view.take(news)
    }
}

/// The end of [`Views`] that tells.
struct Teller {
    pending: Pending,
    told: watch::Sender<bool>,
}

impl Teller {
    fn tell(&self, news: News) {
        self.pending.lock().add(news);
        self.told.send_replace(true);
    }
}

type Request = (Vec<Value>, oneshot::Sender<Result<Value, SouthError>>);

/// The way to the switch's database.
#[derive(Clone, Debug)]
pub struct Database {
    requests: mpsc::Sender<Request>,
    path: PathBuf,
}

impl Database {
    /// Starts the task that keeps a connection to `path`, the database's socket.
    pub fn start(path: PathBuf) -> (Database, Views) {
        let (requests, receiver) = mpsc::channel(64);
        let (sender, told) = watch::channel(false);
        let pending = Pending::default();
        tokio::spawn(keep(path.clone(), receiver, Teller { pending: Arc::clone(&pending), told: sender }));
        (Database { requests, path }, Views { pending, told })
    }

    /// Makes the database hold what is wanted, of all ports or of those of some names `only`. True: something was changed.
    ///
    /// # Errors
    /// There is no connection, the server is silent, or it refused the transaction.
    pub async fn ensure(
        &self,
        wanted: &Wanted,
        only: Option<&BTreeSet<String>>,
        view: &View,
    ) -> Result<bool, SouthError> {
        let operations = wanted.operations(view, only);
        if operations.is_empty() {
            return Ok(false);
        }
        self.transact(operations).await?;
        Ok(true)
    }

    /// Takes ports off the integration bridge; when it returns, the switch has done so, or was slow to.
    ///
    /// # Errors
    /// As [`Database::ensure`].
    pub async fn unplug(&self, ports: &[Uuid]) -> Result<(), SouthError> {
        let ports: Vec<Value> = ports.iter().map(|uuid| json!(["uuid", uuid.to_string()])).collect();
        let here = json!([["name", "==", BRIDGE]]);
        let gone = op::mutate("Bridge", here, "ports", "delete", json!(["set", ports]));
        let next = op::mutate("Open_vSwitch", json!([]), "next_cfg", "+=", json!(1));
        let ask = |column| op::select("Open_vSwitch", json!([]), &[column]);
        let number = |answer: &Value, at: usize, column: &str| answer[at]["rows"][0][column].as_i64();
        let done = self.transact(vec![gone, next, ask("next_cfg")]).await?;
        let until = number(&done, 2, "next_cfg");
        // A port that comes back before the switch has seen it go never went.
        for _ in 0..100 {
            let now = self.transact(vec![ask("cur_cfg")]).await?;
            if number(&now, 0, "cur_cfg") >= until {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Carries operations out, all or none of them, and returns their results.
    ///
    /// # Errors
    /// As [`Database::ensure`].
    pub async fn transact(&self, operations: Vec<Value>) -> Result<Value, SouthError> {
        let gone = || SouthError::Disconnected(self.path.display().to_string());
        let (done, answer) = oneshot::channel();
        self.requests.send((operations, done)).await.map_err(|_| gone())?;
        timeout(PATIENCE, answer).await.map_err(|_| SouthError::Silent)?.map_err(|_| gone())?
    }
}

/// Connects again and again.
async fn keep(path: PathBuf, mut requests: mpsc::Receiver<Request>, teller: Teller) {
    let (mut wait, mut missed) = (BACKOFF.0, false);
    loop {
        match timeout(PATIENCE, Link::open(&path)).await.unwrap_or(Err(SouthError::Silent)) {
            Ok((mut link, all)) => {
                (wait, missed) = (BACKOFF.0, false);
                teller.tell(all);
                match link.serve(&mut requests, &teller).await {
                    Ok(()) => return,
                    Err(why) => {
                        tracing::warn!(database = %path.display(), %why, "the connection to the database broke");
                    }
                }
                teller.told.send_replace(false);
            }
            // A switch that is just being started is waited for in silence.
            Err(why) if wait == BACKOFF.1 && !missed => {
                missed = true;
                tracing::warn!(database = %path.display(), %why, "no switch answers: it is waited for");
            }
            Err(why) => tracing::debug!(database = %path.display(), %why, "no connection to the database"),
        }
        let refuse = |(_, done): Request| {
            let _ = done.send(Err(SouthError::Disconnected(path.display().to_string())));
        };
        if !idle(wait, &mut requests, refuse).await {
            return;
        }
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// One connection.
struct Link {
    stream: UnixStream,
    session: ClientSession,
    watcher: Watcher,
    waiting: BTreeMap<RequestId, oneshot::Sender<Result<Value, SouthError>>>,
    name: String,
}

impl Link {
    /// Connects, reads the schema, and begins to watch; what there is.
    async fn open(path: &Path) -> Result<(Link, News), SouthError> {
        let name = path.display().to_string();
        let mut stream =
            UnixStream::connect(path).await.map_err(|_| SouthError::Disconnected(name.clone()))?;
        let limits = FrameLimits { bytes: 256 << 20, values: 8 << 20, ..FrameLimits::default() };
        let mut session = ClientSession::new(limits);
        let (id, bytes) = session.get_schema(DATABASE);
        let schema = ask(&mut stream, &mut session, &name, id, bytes).await?;
        let broken = |why: String| SouthError::Refused { what: "the schema".into(), why };
        let schema = DatabaseSchema::from_json(&schema).map_err(|e| broken(e.to_string()))?;
        let mut watcher = Watcher::new(Arc::new(schema));
        let (id, bytes) = session.monitor(DATABASE, "weft".into(), &TABLES, Uuid::nil());
        let first = ask(&mut stream, &mut session, &name, id, bytes).await?;
        let rows = first.get(2).ok_or_else(|| broken("a monitor's answer is cut short".into()))?;
        if rows.get("Open_vSwitch").and_then(Value::as_object).is_none_or(Map::is_empty) {
            return Err(SouthError::Uninitialised(name));
        }
        let all = watcher.first(rows).map_err(|e| broken(e.to_string()))?;
        Ok((Link { stream, session, watcher, waiting: BTreeMap::new(), name }, all))
    }

    /// Does what is asked until the connection breaks. `Ok`: nobody asks any more.
    async fn serve(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        teller: &Teller,
    ) -> Result<(), SouthError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            tokio::select! {
                request = requests.recv() => {
                    let Some((operations, done)) = request else { return Ok(()) };
                    let (id, bytes) = self.session.transact(DATABASE, operations);
                    self.waiting.insert(id, done);
                    self.send(&bytes).await?;
                }
                read = self.stream.read(&mut buffer) => {
                    let bytes = read.ok().filter(|n| *n > 0).and_then(|n| buffer.get(..n));
                    let bytes = bytes.ok_or_else(|| self.gone())?;
                    let events = self.session.receive(bytes).map_err(|_| self.gone())?;
                    for event in events {
                        if let Some(news) = self.take(event).await? {
                            teller.tell(news);
                        }
                    }
                }
            }
        }
    }

    fn gone(&self) -> SouthError {
        SouthError::Disconnected(self.name.clone())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), SouthError> {
        self.stream.write_all(bytes).await.map_err(|_| SouthError::Disconnected(self.name.clone()))
    }

    /// Handles what the server sent; what changed.
    async fn take(&mut self, event: ClientEvent) -> Result<Option<News>, SouthError> {
        match event {
            ClientEvent::Reply(id, answer) => {
                if let Some(done) = self.waiting.remove(&id) {
                    let _ = done.send(outcome(answer));
                }
            }
            ClientEvent::Update { updates, .. } => {
                return self.watcher.apply(&updates).map(Some).map_err(|_| self.gone());
            }
            ClientEvent::MonitorCanceled(_) => return Err(self.gone()),
            ClientEvent::Send(bytes) => self.send(&bytes).await?,
            ClientEvent::Locked(_) | ClientEvent::Stolen(_) => {}
        }
        Ok(None)
    }
}

/// A question asked while nothing else is under way.
async fn ask(
    stream: &mut UnixStream,
    session: &mut ClientSession,
    name: &str,
    id: RequestId,
    bytes: Vec<u8>,
) -> Result<Value, SouthError> {
    let gone = || SouthError::Disconnected(name.to_owned());
    stream.write_all(&bytes).await.map_err(|_| gone())?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0).ok_or_else(gone)?;
        for event in session.receive(buffer.get(..n).unwrap_or_default()).map_err(|_| gone())? {
            match event {
                ClientEvent::Reply(of, answer) if of == id => {
                    return answer.map_err(|why| SouthError::Refused {
                        what: "a question to the database".into(),
                        why: why.to_string(),
                    });
                }
                ClientEvent::Send(bytes) => stream.write_all(&bytes).await.map_err(|_| gone())?,
                _ => {}
            }
        }
    }
}

/// What a transaction came to: its results, or the first error among them (RFC 7047 §4.1.3).
fn outcome(answer: Result<Value, Value>) -> Result<Value, SouthError> {
    let refused = |why: &Value| {
        let part = |key| why.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let why = match (part("error"), part("details")) {
            (error, details) if !details.is_empty() => format!("{error}: {details}"),
            (error, _) if !error.is_empty() => error,
            _ => why.to_string(),
        };
        SouthError::Refused { what: "a transaction".into(), why }
    };
    let results = answer.map_err(|why| refused(&why))?;
    let wrong = results.as_array().and_then(|r| r.iter().find(|r| r.get("error").is_some()));
    match wrong {
        Some(why) => Err(refused(why)),
        None => Ok(results),
    }
}
