//! What does the database ask for? Rows become typed wishes; nothing is done about them here.

mod absent;
mod bridge;
mod datapath;
mod flow_table;
mod follow;
mod iface;
mod ipfix;
mod port;
mod ports;
mod qos;
mod tunnel;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use weft_ovsdb::Uuid;
use weft_ovsdb::db::{Database, RowView};

use crate::stream::TlsFiles;

pub(crate) use bridge::{Bridge, Controller};
pub(crate) use datapath::{Datapath, Limits, Timeouts};
pub(crate) use flow_table::FlowTable;
pub(crate) use follow::Changes;
pub(crate) use iface::TYPES;
pub(crate) use iface::{Iface, IfaceKind};
pub(crate) use ipfix::{Exports, Ipfix};
pub(crate) use port::{Bond, Port};
pub(crate) use ports::Ports;
pub(crate) use qos::SHAPED;

/// Shortest time between updates of statistics.
const MIN_STATS_INTERVAL: Duration = Duration::from_secs(5);
/// Longest time between updates of statistics.
const MAX_STATS_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Everything that is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    /// The only row of the Open_vSwitch table.
    pub root: Option<Uuid>,
    /// `next_cfg`: to be told in `cur_cfg` when this is reality.
    pub next_cfg: i64,
    /// Bridges, by name.
    pub bridges: Vec<Bridge>,
    /// Database managers.
    pub managers: Vec<Manager>,
    /// Keys for TLS.
    pub tls: Option<TlsFiles>,
    /// Time between updates of statistics.
    pub stats_interval: Duration,
    /// What is asked of the datapath itself.
    pub datapath: Datapath,
    /// `other_config:vhost-sock-dir`: where vhost-user sockets are made, relative to the run directory.
    pub vhost_sock_dir: PathBuf,
    /// `other_config:flow-restore-wait`: packets wait until flows are restored.
    pub flow_restore_wait: bool,
    /// `other_config:bundle-idle-timeout`: seconds that an OpenFlow bundle may stand idle.
    pub bundle_idle_timeout: Option<u64>,
    /// What is asked for and not done, in lines for the log.
    pub absent: BTreeSet<String>,
}

/// A row of the Manager table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    /// Row.
    pub uuid: Uuid,
    /// Connection string.
    pub target: String,
    /// Longest wait between attempts.
    pub max_backoff: Duration,
    /// Time without a word after which the peer is asked for one; `None`: the default, zero: never.
    pub probe: Option<Duration>,
}

impl Wanted {
    /// Reads the whole database.
    pub(crate) fn read(db: &Database) -> Wanted {
        let Some(root) = db.only_row("Open_vSwitch") else {
            return Wanted { stats_interval: MIN_STATS_INTERVAL, ..Wanted::default() };
        };
        let mut bridges: Vec<Bridge> = rows(db, "Bridge", &root, "bridges")
            .filter(|row| has_usable_name(row) && has_known_datapath(row))
            .map(|row| Bridge::read(db, &row))
            .collect();
        bridges.sort_by(|a, b| a.name.cmp(&b.name));
        Wanted {
            root: Some(root.uuid()),
            next_cfg: root.int("next_cfg"),
            bridges,
            managers: rows(db, "Manager", &root, "manager_options").map(|row| Manager::read(&row)).collect(),
            tls: rows(db, "SSL", &root, "ssl").next().map(|row| tls(&row)),
            stats_interval: stats_interval(number(&root, "stats-update-interval")),
            datapath: Datapath::read(db, &root),
            vhost_sock_dir: sock_dir(&root),
            flow_restore_wait: flag(&root, "flow-restore-wait"),
            bundle_idle_timeout: number(&root, "bundle-idle-timeout"),
            absent: absent::absent(db),
        }
    }
}

impl Manager {
    fn read(row: &RowView<'_>) -> Manager {
        Manager {
            uuid: row.uuid(),
            target: row.str("target").to_owned(),
            max_backoff: max_backoff(row),
            probe: probe(row),
        }
    }
}

fn stats_interval(asked_ms: Option<u64>) -> Duration {
    Duration::from_millis(asked_ms.unwrap_or(0)).clamp(MIN_STATS_INTERVAL, MAX_STATS_INTERVAL)
}

/// Sockets are named after bridges, so that a name must not lead to another directory.
fn has_usable_name(row: &RowView<'_>) -> bool {
    let name = row.str("name");
    let usable = !name.contains(['/', '\\', '\0']);
    if !usable {
        tracing::warn!(target: "bridge", "bridge {name:?}: ignored because of the slashes in its name");
    }
    usable
}

/// Both datapath types of Open vSwitch are served by the one datapath there is.
fn has_known_datapath(row: &RowView<'_>) -> bool {
    let known = matches!(row.str("datapath_type"), "" | "system" | "netdev");
    if !known {
        let name = row.str("name");
        tracing::warn!(target: "bridge", "bridge {name}: unknown datapath type {}", row.str("datapath_type"));
    }
    known
}

fn tls(row: &RowView<'_>) -> TlsFiles {
    TlsFiles {
        private_key: PathBuf::from(row.str("private_key")),
        certificate: PathBuf::from(row.str("certificate")),
        ca_cert: PathBuf::from(row.str("ca_cert")),
        bootstrap: row.bool("bootstrap_ca_cert"),
    }
}

/// A directory within the run directory: what would lead out of it is not taken.
fn sock_dir(root: &RowView<'_>) -> PathBuf {
    let asked = root.get("other_config", "vhost-sock-dir").map(PathBuf::from).unwrap_or_default();
    let inside = asked.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if inside { asked } else { PathBuf::new() }
}

/// The rows of `table` that a column of `row` refers to.
fn rows<'a>(
    db: &'a Database,
    table: &'a str,
    row: &RowView<'a>,
    column: &str,
) -> impl Iterator<Item = RowView<'a>> {
    row.refs(column).into_iter().filter_map(move |uuid| db.row(table, uuid))
}

/// A number in `other_config`.
fn number(row: &RowView<'_>, key: &str) -> Option<u64> {
    row.get("other_config", key)?.parse().ok()
}

/// A flag in `other_config`.
fn flag(row: &RowView<'_>, key: &str) -> bool {
    row.get("other_config", key) == Some("true")
}

fn max_backoff(row: &RowView<'_>) -> Duration {
    let ms = row.opt_int("max_backoff").and_then(|ms| u64::try_from(ms).ok());
    Duration::from_millis(ms.unwrap_or(8000).max(1000))
}

fn probe(row: &RowView<'_>) -> Option<Duration> {
    row.opt_int("inactivity_probe").and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_come_now_and_then() {
        let cases = [(None, 5), (Some(1), 5), (Some(7_000), 7), (Some(u64::MAX), 24 * 3600)];
        for (asked, seconds) in cases {
            assert_eq!(stats_interval(asked), Duration::from_secs(seconds), "{asked:?}");
        }
    }
}
