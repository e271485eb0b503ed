//! What does the database ask of the datapath itself? Rows of the Datapath, CT_Zone and CT_Timeout_Policy tables.

use std::collections::BTreeMap;

use weft_ovsdb::db::{Database, RowView};
use weft_ovsdb::{Atom, Datum, Uuid};

/// Timeouts of a zone by name, in seconds.
pub(crate) type Timeouts = BTreeMap<String, u32>;

/// Datapaths, whatever their types: there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Datapath {
    /// Rows.
    pub rows: Vec<Uuid>,
    /// Timeouts of connections by zone.
    pub zones: BTreeMap<u16, Timeouts>,
}

impl Datapath {
    pub(super) fn read(db: &Database, root: &RowView<'_>) -> Datapath {
        let mut datapath = Datapath::default();
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
