//! Which queues does a port have, and how is what leaves by it shaped? Its QoS row and that one's Queue rows.

use weft_host::netlink::{QUEUES, QueueShape, Shaping};
use weft_ovsdb::db::{Database, RowView};

/// Quality of service of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Qos {
    /// `type`; empty: there is no QoS row.
    pub kind: String,
    /// Numbers of its queues, in order; queue 0, for what asks for none, is always among them.
    pub queues: Vec<u32>,
    /// How it is shaped, if a type is asked for that does. A rate of 0 is the device's own.
    pub shaping: Option<Shaping>,
}

/// The type that is shaped by.
pub(crate) const SHAPED: &str = "linux-htb";
/// Types that have queues.
const CLASSFUL: [&str; 2] = [SHAPED, "linux-hfsc"];

impl Qos {
    /// That of a row of the Port table.
    pub(super) fn read(db: &Database, port: &RowView<'_>) -> Qos {
        let Some(qos) = port.reference("qos").and_then(|uuid| db.row("QoS", uuid)) else {
            return Qos::default();
        };
        let kind = qos.str("type").to_owned();
        if !CLASSFUL.contains(&kind.as_str()) {
            return Qos { kind, ..Qos::default() };
        }
        let mut queues: Vec<QueueShape> = Vec::new();
        for (number, uuid) in qos.int_refs("queues") {
            let id = u32::try_from(number).ok().filter(|id| *id < QUEUES);
            let (Some(id), Some(row)) = (id, db.row("Queue", uuid)) else { continue };
            queues.push(QueueShape {
                id,
                min_rate: number_of(&row, "min-rate"),
                max_rate: number_of(&row, "max-rate"),
                burst: number_of(&row, "burst"),
                priority: u32::try_from(number_of(&row, "priority")).unwrap_or(u32::MAX),
            });
        }
        if queues.iter().all(|queue| queue.id != 0) {
            queues.push(QueueShape::default());
        }
        queues.sort_unstable_by_key(|queue| queue.id);
        let numbers = queues.iter().map(|queue| queue.id).collect();
        let shaping = (kind == SHAPED).then(|| Shaping { max_rate: number_of(&qos, "max-rate"), queues });
        Qos { kind, queues: numbers, shaping }
    }
}

/// A number of `other_config`; 0: there is none, or none that is a number.
fn number_of(row: &RowView<'_>, key: &str) -> u64 {
    row.get("other_config", key).and_then(|text| text.parse().ok()).unwrap_or(0)
}
