//! What does a row of the Flow_Table table ask of a flow table?

use std::collections::BTreeMap;

use weft_flow::Subfield;
use weft_flow::text::parse_subfield;
use weft_ovsdb::Uuid;
use weft_ovsdb::db::{Database, RowView};
use weft_pipeline::{MAX_RULES, TableConfig};

/// A flow table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlowTable {
    /// `name`; empty: none.
    pub name: String,
    /// `flow_limit`.
    pub limit: Option<usize>,
    /// `overflow_policy=evict`.
    pub evict: bool,
    /// `groups`, as far as these are fields.
    pub groups: Vec<Subfield>,
}

impl FlowTable {
    fn read(row: &RowView<'_>) -> FlowTable {
        let groups = row.strs("groups").into_iter().filter_map(|text| match parse_subfield(text) {
            Ok(subfield) => Some(subfield),
            Err(e) => {
                tracing::warn!(target: "bridge", "groups of a flow table: {e}");
                None
            }
        });
        FlowTable {
            name: row.opt_str("name").unwrap_or_default().to_owned(),
            limit: row.opt_int("flow_limit").and_then(|n| usize::try_from(n).ok()),
            evict: row.opt_str("overflow_policy") == Some("evict"),
            groups: groups.collect(),
        }
    }

    fn most(&self) -> usize {
        self.limit.unwrap_or(MAX_RULES).min(MAX_RULES)
    }

    /// Whether a table is as it is asked for.
    pub(crate) fn is_kept(&self, config: &TableConfig) -> bool {
        (config.max_rules, config.overflow_evict) == (self.most(), self.evict) && config.groups == self.groups
    }

    /// Has a table be as it is asked for. What controllers configure stays.
    pub(crate) fn configure(&self, config: &mut TableConfig) {
        config.max_rules = self.most();
        config.overflow_evict = self.evict;
        config.groups.clone_from(&self.groups);
    }
}

/// The flow tables of a bridge that rows are about.
pub(super) fn flow_tables(db: &Database, row: &RowView<'_>) -> BTreeMap<u8, FlowTable> {
    let table = |(number, uuid): (&i64, &Uuid)| {
        Some((u8::try_from(*number).ok()?, FlowTable::read(&db.row("Flow_Table", *uuid)?)))
    };
    row.int_refs("flow_tables").iter().filter_map(table).collect()
}
