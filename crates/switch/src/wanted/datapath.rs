//! What does the database ask of the datapath itself? Rows of the Datapath, CT_Zone and CT_Timeout_Policy tables.

use std::collections::BTreeMap;

use weft_flow::MAX_VLANS;
use weft_ovsdb::db::{Database, RowView};
use weft_ovsdb::{Atom, Datum, Uuid};

use super::number;

/// Milliseconds without a hit after which a cached flow goes, unless configured.
const MAX_IDLE_MS: u64 = 10_000;
/// Least that may be configured.
const LEAST_IDLE_MS: u64 = 500;

/// Timeouts of a zone by name, in seconds.
pub(crate) type Timeouts = BTreeMap<String, u32>;

/// Datapaths, whatever their types: there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Datapath {
    /// Rows.
    pub rows: Vec<Uuid>,
    /// Timeouts of connections by zone.
    pub zones: BTreeMap<u16, Timeouts>,
    /// Cached flows and tags.
    pub limits: Limits,
}

/// What `other_config` of the Open_vSwitch table asks of the datapath. The default stands for a database without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// `flow-limit`: cached flows there may be; `None`: as many as without it.
    pub flows: Option<usize>,
    /// `max-idle`: milliseconds without a hit after which a cached flow goes.
    pub max_idle_ms: u64,
    /// `vlan-limit`: VLAN tags that headers are read behind.
    pub vlans: usize,
}

impl Limits {
    fn read(root: &RowView<'_>) -> Limits {
        Limits {
            flows: number(root, "flow-limit").map(|n| n as usize),
            max_idle_ms: number(root, "max-idle").unwrap_or(MAX_IDLE_MS).max(LEAST_IDLE_MS),
            vlans: match number(root, "vlan-limit") {
                None => 1,
                Some(0) => MAX_VLANS,
                Some(n) => usize::try_from(n).unwrap_or(MAX_VLANS).min(MAX_VLANS),
            },
        }
    }
}

impl Datapath {
    pub(super) fn read(db: &Database, root: &RowView<'_>) -> Datapath {
        let mut datapath = Datapath { limits: Limits::read(root), ..Datapath::default() };
        let pairs = root.datum("datapaths").map_or(&[][..], Datum::pairs);
        for row in pairs.iter().filter_map(|(_, v)| match v {
            Atom::Uuid(uuid) => db.row("Datapath", *uuid),
            _ => None,
        }) {
            datapath.rows.push(row.uuid());
            for (zone, uuid) in row.int_refs("ct_zones") {
                let policy = db
                    .row("CT_Zone", uuid)
                    .and_then(|zone| db.row("CT_Timeout_Policy", zone.reference("timeout_policy")?));
                if let (Ok(zone), Some(policy)) = (u16::try_from(zone), policy) {
                    datapath.zones.insert(zone, timeouts(&policy));
                }
            }
        }
        datapath
    }
}

fn timeouts(policy: &RowView<'_>) -> Timeouts {
    let pairs = policy.datum("timeouts").map_or(&[][..], Datum::pairs);
    let pair = |(k, v): &(Atom, Atom)| match (k, v) {
        (Atom::String(name), Atom::Integer(seconds)) => {
            Some((name.to_string(), u32::try_from(*seconds).ok()?))
        }
        _ => None,
    };
    pairs.iter().filter_map(pair).collect()
}
