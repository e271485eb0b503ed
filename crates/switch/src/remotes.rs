//! Where do the database's clients come from? Remotes of the command line, of `add-remote`, and of the Manager table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use weft_ovsdb::{Datum, Edit, Result, Uuid};

use crate::bridge::put;
use crate::openflow::packet_ins::Counts;
use crate::stream::target::OVSDB_PORT;
use crate::stream::{DialState, EndpointId, Streams, Target, words};
use crate::wanted::{Manager, Wanted};

/// The remote that stands for the Manager table.
pub(crate) const MANAGERS: &str = "db:Open_vSwitch,Open_vSwitch,manager_options";
/// After how long a silence a client by TCP is asked for a sign of life, unless configured.
pub(crate) const DEFAULT_PROBE: Duration = Duration::from_secs(5);
/// Longest wait between attempts for remotes of the command line.
const MAX_BACKOFF: Duration = Duration::from_secs(8);

/// All remotes.
pub(crate) struct Remotes {
    rundir: PathBuf,
    /// As given on the command line and by `add-remote`.
    configured: BTreeSet<String>,
    open: BTreeMap<String, Remote>,
}

/// One remote that is open, or could not be.
pub(crate) struct Remote {
    endpoint: Option<EndpointId>,
    manager: Option<Manager>,
    /// How it is doing.
    pub status: Status,
}

/// How a connection of the Manager or Controller table is doing.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// What a dialler does; `None` for a listener.
    pub state: Option<DialState>,
    /// Connections.
    pub connections: usize,
    /// Why the last one ended, or could not begin.
    pub last_error: Option<String>,
    /// When the last one began.
    pub connected_ms: Option<u64>,
    /// When the last one ended.
    pub disconnected_ms: Option<u64>,
}

impl Status {
    /// Of an endpoint just opened.
    pub(crate) fn new(target: &Target) -> Status {
        Status {
            state: (!target.is_passive()).then_some(DialState::Backoff),
            connections: 0,
            last_error: None,
            connected_ms: None,
            disconnected_ms: None,
        }
    }

    /// Of an endpoint that could not be opened.
    pub(crate) fn failed(error: String) -> Status {
        Status {
            state: None,
            connections: 0,
            last_error: Some(error),
            connected_ms: None,
            disconnected_ms: None,
        }
    }

    /// A dialler's state changed.
    pub(crate) fn dial(&mut self, state: DialState, error: Option<String>) {
        self.state = Some(state);
        self.last_error = error.or(self.last_error.take());
    }

    /// A connection began.
    pub(crate) fn opened(&mut self, now_ms: u64) {
        self.connections += 1;
        self.connected_ms = Some(now_ms);
    }

    /// A connection ended.
    pub(crate) fn closed(&mut self, now_ms: u64) {
        self.connections = self.connections.saturating_sub(1);
        self.disconnected_ms = Some(now_ms);
    }

    /// The `status` column.
    pub(crate) fn map(&self, now_ms: u64, bound_port: Option<u16>) -> BTreeMap<&'static str, String> {
        let mut map = BTreeMap::new();
        let since = |then: u64| (now_ms.saturating_sub(then) / 1000).to_string();
        match self.state {
            Some(state) => drop(map.insert("state", state.word().to_owned())),
            None => {
                drop(map.insert("state", if self.connections > 0 { "ACTIVE" } else { "IDLE" }.to_owned()))
            }
        }
        if self.state.is_none() && self.connections > 1 {
            map.insert("n_connections", self.connections.to_string());
        }
        if let Some(error) = self.last_error.as_ref().filter(|_| self.connections == 0) {
            map.insert("last_error", error.clone());
        }
        if let Some(then) = self.connected_ms {
            map.insert("sec_since_connect", since(then));
        }
        if let Some(then) = self.disconnected_ms {
            map.insert("sec_since_disconnect", since(then));
        }
        if let Some(port) = bound_port {
            map.insert("bound_port", port.to_string());
        }
        map
    }
}

impl Remotes {
    /// The remotes of the command line.
    pub(crate) fn new(rundir: PathBuf, configured: impl IntoIterator<Item = String>) -> Remotes {
        Remotes { rundir, configured: configured.into_iter().collect(), open: BTreeMap::new() }
    }

    /// What was configured, in order.
    pub(crate) fn list(&self) -> impl Iterator<Item = &str> {
        self.configured.iter().map(String::as_str)
    }

    /// Adds a remote, to be opened by [`Remotes::reconcile`].
    pub(crate) fn add(&mut self, remote: &str) {
        self.configured.insert(remote.to_owned());
    }

    /// Removes a remote; false when there is none of that name.
    pub(crate) fn remove(&mut self, remote: &str) -> bool {
        self.configured.remove(remote)
    }

    /// Opens and closes endpoints until they are those configured and those of the Manager table.
    pub(crate) fn reconcile(&mut self, wanted: &Wanted, streams: &mut Streams) {
        let mut targets: BTreeMap<String, Option<Manager>> =
            self.configured.iter().filter(|r| !r.starts_with("db:")).map(|r| (r.clone(), None)).collect();
        if self.configured.contains(MANAGERS) {
            targets.extend(wanted.managers.iter().map(|m| (m.target.clone(), Some(m.clone()))));
        }
        self.open.retain(|target, remote| {
            let manager = targets.get(target);
            if let (Some(manager), true) = (manager, remote.is_listening()) {
                // Those who came by it stay connected.
                remote.manager.clone_from(manager);
                return true;
            }
            let keep = manager.is_some_and(|manager| *manager == remote.manager);
            if let (false, Some(endpoint)) = (keep, remote.endpoint) {
                streams.close(endpoint);
            }
            keep
        });
        for (target, manager) in targets {
            if !self.open.contains_key(&target) {
                let remote = self.open(&target, manager, streams);
                self.open.insert(target, remote);
            }
        }
    }

    /// Opens again listeners that could not be.
    pub(crate) fn retry(&mut self, streams: &mut Streams) {
        let failed: Vec<String> =
            self.open.iter().filter(|(_, r)| r.endpoint.is_none()).map(|(t, _)| t.clone()).collect();
        for target in failed {
            let manager = self.open.remove(&target).and_then(|r| r.manager);
            let remote = self.open(&target, manager, streams);
            self.open.insert(target, remote);
        }
    }

    fn open(&self, text: &str, manager: Option<Manager>, streams: &mut Streams) -> Remote {
        let failed = |error: String, manager| {
            tracing::warn!(target: "stream", "{text}: {error}");
            Remote { endpoint: None, manager, status: Status::failed(error) }
        };
        let target = match Target::parse(text, OVSDB_PORT, &self.rundir) {
            Ok(target) => target,
            Err(e) => return failed(e.to_string(), manager),
        };
        let max_backoff = manager.as_ref().map_or(MAX_BACKOFF, |m| m.max_backoff);
        match streams.open(&target, max_backoff) {
            Ok(endpoint) => Remote { endpoint: Some(endpoint), manager, status: Status::new(&target) },
            Err(e) => failed(words(&e), manager),
        }
    }

    /// Whether an endpoint is one of these.
    pub(crate) fn owns(&self, endpoint: EndpointId) -> bool {
        self.open.values().any(|r| r.endpoint == Some(endpoint))
    }

    /// The remote behind an endpoint.
    pub(crate) fn by_endpoint(&mut self, endpoint: EndpointId) -> Option<&mut Remote> {
        self.open.values_mut().find(|r| r.endpoint == Some(endpoint))
    }

    /// Why a remote could not be opened.
    pub(crate) fn error_of(&self, remote: &str) -> Option<&str> {
        self.open.get(remote).filter(|r| r.endpoint.is_none())?.status.last_error.as_deref()
    }

    /// Writes the state of managers to their rows.
    pub(crate) fn report(&self, edit: &mut Edit<'_, '_>, streams: &Streams, now_ms: u64) -> Result<()> {
        for remote in self.open.values() {
            let Some(manager) = &remote.manager else { continue };
            let port = remote.endpoint.and_then(|e| streams.address(e)).map(|a| a.port());
            report_status(edit, "Manager", manager.uuid, &remote.status, now_ms, port, None)?;
        }
        Ok(())
    }
}

/// Writes `is_connected` and `status` of a Manager or Controller row.
pub(crate) fn report_status(
    edit: &mut Edit<'_, '_>,
    table: &str,
    row: Uuid,
    status: &Status,
    now_ms: u64,
    bound_port: Option<u16>,
    limited: Option<[(&'static str, Counts, usize); 2]>,
) -> Result<()> {
    put(edit, table, row, "is_connected", Datum::scalar(status.connections > 0))?;
    let map = status.map(now_ms, bound_port);
    let mut map: BTreeMap<String, String> = map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    for (kind, counts, backlog) in limited.into_iter().flatten() {
        let values = [
            ("bypassed", counts.bypassed),
            ("queued", counts.queued),
            ("dropped", counts.dropped),
            ("backlog", backlog as u64),
        ];
        map.extend(values.map(|(what, n)| (format!("packet-in-{kind}-{what}"), n.to_string())));
    }
    put(edit, table, row, "status", Datum::map(map.iter().map(|(k, v)| (k.as_str(), v.as_str()))))
}

impl Remote {
    /// Whether it is a listener that could be opened.
    fn is_listening(&self) -> bool {
        self.endpoint.is_some() && self.status.state.is_none()
    }

    /// After how long a silence a client is asked for a sign of life, in milliseconds.
    pub(crate) fn probe_ms(&self, local: bool) -> Option<u64> {
        let asked = self.manager.as_ref().and_then(|m| m.probe);
        let probe = asked.or((!local).then_some(DEFAULT_PROBE))?;
        Some(probe.as_millis() as u64).filter(|ms| *ms > 0)
    }
}
