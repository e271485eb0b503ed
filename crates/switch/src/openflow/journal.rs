//! How do a bridge's flows outlive the process (`other_config:weft-persist-flows=true`)?
//!
//! A journal in the database's directory holds OpenFlow messages that make the tables what they are: a magic line, then
//! records of length, checksum and message. Every change is appended before it is answered; a record that was cut short
//! ends the reading. When the journal has grown to several times what it says, it is written anew beside the old one
//! and takes its place. It outlives the death of the process; what the kernel had not written yet is lost with its.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use weft_flow::TlvTable;
use weft_openflow::msg::flow::{FlowCommand, FlowMod, flow_flags};
use weft_openflow::msg::group as wire;
use weft_openflow::msg::meter as wire_meter;
use weft_openflow::msg::tlv::{TlvCommand, TlvTableMod};
use weft_openflow::{Codec, Message, Version, options_of};
use weft_pipeline::{Bridge, FlowModOutcome, Rule, RuleCursor, RuleFilter};

use super::{flows, groups, tlv};

/// First bytes of a journal.
const MAGIC: &[u8] = b"weft flows 1\n";
/// Bytes in front of a message: its length and its checksum.
const RECORD: usize = 12;
/// Bytes beyond which a journal may be written anew.
const MIN_REWRITE: u64 = 1 << 20;
/// How many times as long as when it was written anew a journal becomes.
const GROWTH: u64 = 4;
/// Rules looked at together.
const AT_ONCE: usize = 512;
/// Bytes written at once.
const PIECE: usize = 256 << 10;

/// The journal of a bridge.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    codec: Codec,
    bytes: u64,
    /// Its length when it was last written anew.
    base: u64,
    buffer: Vec<u8>,
}

/// Where the journal of a bridge is.
pub(super) fn path(directory: &Path, bridge: &str) -> PathBuf {
    directory.join(format!("weft-flows-{bridge}.journal"))
}

/// FNV-1a, 64 bits: finds records that were cut short.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// The messages of a journal up to its end, or to the first record that is not whole.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) fn read(path: &Path) -> io::Result<Vec<Message>> {
    let bytes = std::fs::read(path)?;
    let codec = Codec::new(Version::V15);
    let mut messages = Vec::new();
    let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
    while let Some((message, tail)) = record(rest) {
        rest = tail;
        match codec.decode(message) {
            Ok((_, message)) => messages.push(message),
            Err(code) => tracing::warn!("{}: a message of the journal is refused: {code}", path.display()),
        }
    }
    if !rest.is_empty() {
        tracing::warn!("{}: {} bytes at the end are not whole", path.display(), rest.len());
    }
    Ok(messages)
}

/// The first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(RECORD)?;
    let (length, sum) = head.split_at(4);
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    let (message, tail) = rest.split_at_checked(length)?;
    (checksum(message) == u64::from_be_bytes(sum.try_into().ok()?)).then_some((message, tail))
}

impl Journal {
    /// Writes a journal of what a bridge has now, in place of whatever there was.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn create(path: PathBuf, bridge: &Bridge) -> io::Result<Journal> {
        let beside = path.with_extension("new");
        let file = File::create(&beside)?;
        let codec = Codec::new(Version::V15);
        let mut journal = Journal { path, file, codec, bytes: 0, base: 0, buffer: MAGIC.to_vec() };
        journal.write_all_of(bridge)?;
        journal.file.sync_data()?;
        std::fs::rename(&beside, &journal.path)?;
        journal.base = journal.bytes;
        Ok(journal)
    }

    fn write_all_of(&mut self, bridge: &Bridge) -> io::Result<()> {
        let maps = tlv::reply(&bridge.tlv).maps;
        if !maps.is_empty() {
            self.append(&Message::TlvTableMod(TlvTableMod { command: TlvCommand::Add, maps }));
        }
        for meter in bridge.meters.iter() {
            let config = groups::meter_config(meter);
            self.append(&Message::MeterMod(Box::new(wire_meter::MeterMod {
                command: wire_meter::MeterCommand::Add,
                meter_id: config.meter_id,
                flags: config.flags,
                bands: config.bands,
            })));
        }
        for group in bridge.groups.iter() {
            let desc = groups::describe(group);
            self.append(&Message::GroupMod(Box::new(wire::GroupMod {
                command: wire::GroupCommand::AddOrModify,
                kind: desc.kind,
                group_id: desc.group_id,
                command_bucket: wire::BUCKET_ALL,
                buckets: desc.buckets,
                selection: desc.selection,
            })));
        }
        let mut rules = RuleCursor::new(bridge.tables.clone(), RuleFilter::default());
        while !rules.is_done() {
            for rule in rules.next_page(AT_ONCE) {
                self.append(&added(&rule, &bridge.tlv));
            }
            if self.buffer.len() > PIECE {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Notes a message, to be written by [`Journal::flush`].
    pub(super) fn append(&mut self, message: &Message) {
        let start = self.buffer.len();
        self.buffer.resize(start + RECORD, 0);
        if let Err(e) = self.codec.encode(0, message, &mut self.buffer) {
            tracing::warn!("{}: {} is not kept: {e}", self.path.display(), message.name());
            self.buffer.truncate(start);
            return;
        }
        let body = &self.buffer[start + RECORD..];
        let (length, sum) = (body.len() as u32, checksum(body));
        self.buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self.buffer[start + 4..start + RECORD].copy_from_slice(&sum.to_be_bytes());
    }

    /// Notes what became of rules.
    pub(super) fn append_outcome(&mut self, outcome: &FlowModOutcome, tlv: &TlvTable) {
        outcome.removed.iter().for_each(|removed| self.append(&deleted(&removed.rule, tlv)));
        let modified = outcome.modified.iter().map(|m| &m.rule);
        for rule in outcome.added.iter().chain(modified) {
            self.append(&added(rule, tlv));
        }
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        if self.buffer.capacity() > 2 * PIECE {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Whether it says the same things over and over, so that it is to be written anew.
    pub(super) fn is_long(&self) -> bool {
        self.bytes > MIN_REWRITE.max(GROWTH * self.base)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The message that adds a rule.
fn added(rule: &Rule, tlv: &TlvTable) -> Message {
    let stats = flows::stats(rule, 0, tlv);
    Message::FlowMod(Box::new(FlowMod {
        command: FlowCommand::Add,
        table: Some(rule.table),
        new_cookie: Some(rule.cookie),
        idle_timeout: rule.idle_timeout,
        hard_timeout: rule.hard_timeout,
        priority: rule.priority,
        flags: stats.flags & flow_flags::KEPT,
        importance: rule.importance,
        matching: stats.matching,
        options: stats.options,
        instructions: stats.instructions,
        ..FlowMod::default()
    }))
}

/// The message that deletes a rule.
fn deleted(rule: &Rule, tlv: &TlvTable) -> Message {
    let matching = rule.matching.expand();
    Message::FlowMod(Box::new(FlowMod {
        command: FlowCommand::DeleteStrict,
        table: Some(rule.table),
        priority: rule.priority,
        options: options_of(&matching, tlv),
        matching,
        ..FlowMod::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(rules: u16) -> Bridge {
        let mut snapshot = weft_pipeline::Snapshot::new();
        let mut config = weft_pipeline::BridgeConfig::new(1, "br0");
        config.fail_mode = weft_pipeline::FailMode::Secure;
        snapshot.set_bridge(config);
        for priority in 0..rules {
            let rule = weft_pipeline::FlowMod::add(3, priority, weft_flow::Match::any(), Vec::new());
            snapshot.tables_mut(1).expect("the bridge").apply(&rule, 0).expect("a rule");
        }
        Bridge::clone(snapshot.bridge(1).expect("the bridge"))
    }

    #[test]
    fn what_was_written_is_read_up_to_where_it_was_cut() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = path(dir.path(), "br0");
        let mut journal = Journal::create(path.clone(), &bridge(3)).expect("a journal");
        let rule = bridge(10).tables.rules(&RuleFilter::default())[0].clone();
        journal.append(&added(&rule, &TlvTable::new()));
        journal.append(&deleted(&rule, &TlvTable::new()));
        journal.flush().expect("written");
        let whole = std::fs::read(&path).expect("the file");
        assert_eq!(read(&path).expect("messages").len(), 5);
        for (cut, messages) in [(1, 4), (60, 4), (whole.len() - MAGIC.len(), 0), (whole.len(), 0)] {
            std::fs::write(&path, &whole[..whole.len() - cut]).expect("cut it");
            assert_eq!(read(&path).expect("messages").len(), messages, "{cut}");
        }
        let mut broken = whole.clone();
        broken[MAGIC.len() + RECORD + 20] ^= 1;
        std::fs::write(&path, broken).expect("break it");
        assert_eq!(read(&path).expect("messages").len(), 0);
    }
}
