//! How is a long answer given without being built? Part by part, as the peer reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_flow::TlvTable;
use weft_openflow::Version;
use weft_openflow::msg::monitor::{FlowEvent, MonitorRequest};
use weft_openflow::session::{ReplyTo, SwitchSession, initial_update};
use weft_openflow::stats::StatsReply;
use weft_openflow::stats::table_features::TableFeatures;
use weft_pipeline::{RuleCursor, TableSet};

use super::tables::max_entries;
use super::{changes, flows, stats};

/// Rules in one part of an answer.
const RULES_AT_ONCE: usize = 512;
/// Tables in one part of an answer.
const TABLES_AT_ONCE: u8 = 8;

/// An answer being given. What it tells of is as it was when it was asked.
pub(super) struct Dump {
    pub(super) to: ReplyTo,
    pub(super) cursor: Cursor,
}

/// What is still to be told.
pub(super) enum Cursor {
    /// Rules.
    Flows {
        /// Those not told yet.
        rules: Box<RuleCursor>,
        /// When it was asked.
        now: u64,
        /// Which tunnel options are fields.
        tlv: Arc<TlvTable>,
    },
    /// Rules without what they do.
    FlowCounts {
        /// Those not told yet.
        rules: Box<RuleCursor>,
        /// When it was asked.
        now: u64,
        /// Which tunnel options are fields.
        tlv: Arc<TlvTable>,
    },
    /// Rules that monitors watch, as they begin.
    Monitored {
        /// Those not looked at yet.
        rules: Box<RuleCursor>,
        /// The monitors.
        monitors: Vec<MonitorRequest>,
        /// Which tunnel options are fields.
        tlv: Arc<TlvTable>,
    },
    /// What tables can do.
    TableFeatures {
        /// The first table not told yet.
        next: u8,
        /// Names of tables.
        names: BTreeMap<u8, String>,
        /// The tables, for their limits.
        tables: TableSet,
    },
}

impl Dump {
    /// Gives the next part to the session. True: it was the last.
    pub(super) fn next_part(&mut self, session: &mut SwitchSession) -> bool {
        let (body, done) = match &mut self.cursor {
            Cursor::Flows { rules, now, tlv } => {
                session.reply_flows(&self.to, |each| flows::tell(rules, RULES_AT_ONCE, *now, tlv, each));
                return rules.is_done();
            }
            Cursor::FlowCounts { rules, now, tlv } => {
                let page = rules.next_page(RULES_AT_ONCE);
                (
                    StatsReply::FlowCounts(page.iter().map(|rule| flows::stats(rule, *now, tlv)).collect()),
                    rules.is_done(),
                )
            }
            Cursor::Monitored { rules, monitors, tlv } => {
                let page = rules.next_page(RULES_AT_ONCE);
                let updates = page.iter().map(|rule| changes::update(rule, FlowEvent::Initial, 0, tlv));
                let list = updates.filter_map(|update| initial_update(monitors, &update)).collect();
                (StatsReply::FlowMonitor(list), rules.is_done())
            }
            Cursor::TableFeatures { next: from, names, tables } => {
                let version = session.version().unwrap_or(Version::V13);
                let to = from.saturating_add(TABLES_AT_ONCE).min(stats::TABLES);
                let one = |table| {
                    let name = names.get(&table).cloned().unwrap_or_default();
                    let most = max_entries(tables, table);
                    TableFeatures::capable(version, table, stats::TABLES, name, most)
                };
                let part = (*from..to).map(one).collect();
                *from = to;
                (StatsReply::TableFeatures(part), to == stats::TABLES)
            }
        };
        session.reply_stats(&self.to, body, !done);
        done
    }
}
