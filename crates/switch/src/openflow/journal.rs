//! How do a bridge's flows outlive the process (`other_config:weft-persist-flows=true`)?
//!
//! A journal in the database's directory holds OpenFlow messages that make the tables what they are: a magic line, then
//! records of length, checksum and message, and behind a message about a rule what messages may not say of it
//! ([`weft_openflow::kept`]). Every change is appended before it is answered; a record that was cut short ends the reading.
//! It outlives the death of the process; what the kernel had not written yet is lost with its.
//!
//! When a journal has grown to several times what it says, a thread writes it anew while changes go on:
//! ```text
//!   changes ──▶ journal ··············▶ end of it ──┐ what came meanwhile is copied behind the tables,
//!   tables as they were ─(thread)─▶ journal.newN ───┴─▶ and the new one takes the place of the old
//! ```
//! Until then the old one is whole, so that there is no moment at which a death loses anything.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use weft_flow::{Instructions, TlvTable};
use weft_openflow::msg::flow::{FlowCommand, FlowMod, flow_flags};
use weft_openflow::msg::group as wire;
use weft_openflow::msg::meter as wire_meter;
use weft_openflow::msg::tlv::{TlvCommand, TlvTableMod};
use weft_openflow::{Codec, ErrorCode, Header, Message, Version, kept, options_of};
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
/// Rules that are written while changes wait.
const FEW: usize = 4096;
/// Rules looked at together.
const AT_ONCE: usize = 512;
/// Bytes written at once.
const PIECE: usize = 256 << 10;

/// The journal of a bridge.
pub(super) struct Journal {
    /// Where it is once it says everything.
    path: PathBuf,
    writer: Writer,
    /// Its length when it was last written anew.
    base: u64,
    rewrite: Option<Rewrite>,
}

/// A journal being written anew.
struct Rewrite {
    thread: JoinHandle<io::Result<Written>>,
    /// The file being written.
    to: PathBuf,
    /// The file that changes go to meanwhile.
    from: PathBuf,
}

/// A journal written anew.
struct Written {
    writer: Writer,
    /// Bytes of the old file whose changes are in it.
    taken: u64,
}

/// A file that records are appended to.
struct Writer {
    file: File,
    codec: Codec,
    bytes: u64,
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

/// The messages of a journal up to its end, or to the first record that is not whole: what follows that is cut off.
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
        match decode(&codec, message) {
            Ok(message) => messages.push(message),
            Err(code) => tracing::warn!("{}: a message of the journal is refused: {code}", path.display()),
        }
    }
    if !rest.is_empty() {
        tracing::warn!("{}: {} bytes at the end are not whole", path.display(), rest.len());
        OpenOptions::new().write(true).open(path)?.set_len((bytes.len() - rest.len()) as u64)?;
    }
    Ok(messages)
}

/// The message of a record. What a rule or the buckets of a group do is behind it, or in it in journals of old.
fn decode(codec: &Codec, record: &[u8]) -> Result<Message, ErrorCode> {
    let length = usize::from(Header::parse(record)?.length);
    let (message, kept) = record.split_at_checked(length).ok_or(ErrorCode::OFPBRC_BAD_LEN)?;
    let mut message = codec.decode(message)?.1;
    match &mut message {
        _ if kept.is_empty() => {}
        Message::FlowMod(m) => m.instructions = kept::decode(kept, &mut m.matching)?,
        Message::GroupMod(m) => {
            let buckets = kept::decode_buckets(kept)?;
            if buckets.len() != m.buckets.len() {
                return Err(ErrorCode::OFPBRC_BAD_LEN);
            }
            m.buckets.iter_mut().zip(buckets).for_each(|(bucket, actions)| bucket.actions = actions);
        }
        _ => return Err(ErrorCode::OFPBRC_BAD_LEN),
    }
    Ok(message)
}

/// The first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(RECORD)?;
    let (length, sum) = head.split_at(4);
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    let (message, tail) = rest.split_at_checked(length)?;
    (checksum(message) == u64::from_be_bytes(sum.try_into().ok()?)).then_some((message, tail))
}

impl Writer {
    /// A new file, with its first line.
    fn create(path: &Path) -> io::Result<Writer> {
        let mut writer = Writer {
            file: File::create(path)?,
            codec: Codec::new(Version::V15),
            bytes: 0,
            buffer: MAGIC.to_vec(),
        };
        writer.flush()?;
        Ok(writer)
    }

    /// Notes a message, to be written by [`Writer::flush`].
    fn append(&mut self, message: &Message) {
        self.append_with(message, |out| {
            if let Message::GroupMod(m) = message {
                kept::encode_buckets(m.buckets.iter().map(|bucket| &bucket.actions[..]), out);
            }
        });
    }

    /// Notes that a rule is there.
    fn append_rule(&mut self, rule: &Rule, tlv: &TlvTable) {
        self.append_change(&added(rule, tlv), &rule.instructions);
    }

    /// Notes that a rule is gone.
    fn append_deletion(&mut self, rule: &Rule, tlv: &TlvTable) {
        self.append_change(&deleted(rule, tlv), &Instructions::default());
    }

    fn append_change(&mut self, message: &Message, does: &Instructions) {
        if let Message::FlowMod(m) = message {
            self.append_with(message, |out| kept::encode(does, &m.matching, out));
        }
    }

    fn append_with(&mut self, message: &Message, more: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buffer.len();
        self.buffer.resize(start + RECORD, 0);
        if let Err(e) = self.codec.encode(0, message, &mut self.buffer) {
            tracing::warn!("{} is not kept: {e}", message.name());
            self.buffer.truncate(start);
            return;
        }
        more(&mut self.buffer);
        let body = &self.buffer[start + RECORD..];
        let (length, sum) = (body.len() as u32, checksum(body));
        self.buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self.buffer[start + 4..start + RECORD].copy_from_slice(&sum.to_be_bytes());
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        if self.buffer.capacity() > 2 * PIECE {
            self.buffer = Vec::new();
        }
        Ok(())
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
                self.append_rule(&rule, &bridge.tlv);
            }
            if self.buffer.len() > PIECE {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Appends what `from` has behind its first `taken` bytes, and returns how many it has.
    fn copy_end(&mut self, from: &Path, taken: u64) -> io::Result<u64> {
        let mut old = File::open(from)?;
        old.seek(SeekFrom::Start(taken))?;
        let copied = io::copy(&mut old, &mut self.file)?;
        self.bytes += copied;
        Ok(taken + copied)
    }
}

/// Removes what was being written anew when a process died, or a journal was given up.
fn remove_new(path: &Path) {
    let (Some(directory), Some(stem)) = (path.parent(), path.file_stem().and_then(|s| s.to_str())) else {
        return;
    };
    let prefix = format!("{stem}.new");
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix(&prefix));
        if number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes what a bridge had beside a journal, and behind it what the journal says since.
fn write_anew(path: &Path, bridge: &Bridge, from: &Path, taken: u64) -> io::Result<Written> {
    let mut writer = Writer::create(path)?;
    writer.write_all_of(bridge)?;
    let taken = writer.copy_end(from, taken)?;
    writer.file.sync_data()?;
    Ok(Written { writer, taken })
}

impl Journal {
    /// Begins a journal of a bridge that has none: changes are noted aside until what it has now is written, which is
    /// waited for when it is little.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn begin(path: PathBuf, bridge: Arc<Bridge>) -> io::Result<Journal> {
        let aside = path.with_extension("aside");
        let mut journal = Journal { writer: Writer::create(&aside)?, path, base: 0, rewrite: None };
        let few = bridge.tables.len() <= FEW;
        journal.start_thread(bridge, aside)?;
        if few && let Some(rewrite) = journal.rewrite.take() {
            journal.replace(rewrite)?;
        }
        Ok(journal)
    }

    /// Goes on with a journal that was read: all that it says was done.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn resume(path: PathBuf) -> io::Result<Journal> {
        let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no journal of flows"));
        }
        let bytes = file.seek(SeekFrom::End(0))?;
        let writer = Writer { file, codec: Codec::new(Version::V15), bytes, buffer: Vec::new() };
        Ok(Journal { path, writer, base: 0, rewrite: None })
    }

    /// Notes a message, to be written by [`Journal::flush`].
    pub(super) fn append(&mut self, message: &Message) {
        self.writer.append(message);
    }

    /// Notes what became of rules.
    pub(super) fn append_outcome(&mut self, outcome: &FlowModOutcome, tlv: &TlvTable) {
        outcome.removed.iter().for_each(|removed| self.writer.append_deletion(&removed.rule, tlv));
        let modified = outcome.modified.iter().map(|m| &m.rule);
        for rule in outcome.added.iter().chain(modified) {
            self.writer.append_rule(rule, tlv);
        }
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Whether it says the same things over and over, so that it is to be written anew.
    pub(super) fn is_long(&self) -> bool {
        self.rewrite.is_none() && self.writer.bytes > MIN_REWRITE.max(GROWTH * self.base)
    }

    /// Begins to write it anew, from what the bridge has now.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn rewrite(&mut self, bridge: Arc<Bridge>) -> io::Result<()> {
        self.flush()?;
        let from = self.path.clone();
        self.start_thread(bridge, from)
    }

    fn start_thread(&mut self, bridge: Arc<Bridge>, from: PathBuf) -> io::Result<()> {
        // A name of its own: a thread whose journal was given up may still write to another.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_new(&self.path);
        let to = self.path.with_extension(format!("new{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let (path, old, taken) = (to.clone(), from.clone(), self.writer.bytes);
        let work = move || write_anew(&path, &bridge, &old, taken);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(work)?;
        self.rewrite = Some(Rewrite { thread, to, from });
        Ok(())
    }

    /// Lets a journal that was written anew take the place of the old one, if it is ready.
    ///
    /// # Errors
    /// It could not be written: the old one goes on, and is tried again when it has grown further.
    pub(super) fn finish_rewrite(&mut self) -> io::Result<()> {
        match self.rewrite.take_if(|r| r.thread.is_finished()) {
            Some(rewrite) => self.replace(rewrite),
            None => Ok(()),
        }
    }

    /// Waits for the thread, and lets what it wrote take the place of the journal.
    fn replace(&mut self, rewrite: Rewrite) -> io::Result<()> {
        let Rewrite { thread, to, from } = rewrite;
        let first = from != self.path;
        let done =
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes it failed")));
        let done = done.and_then(|mut written| {
            self.writer.flush()?;
            written.writer.copy_end(&from, written.taken)?;
            std::fs::rename(&to, &self.path)?;
            Ok(written.writer)
        });
        match done {
            Ok(writer) => {
                self.base = writer.bytes;
                self.writer = writer;
                if first {
                    let _ = std::fs::remove_file(&from);
                }
                Ok(())
            }
            Err(e) => {
                self.base = self.writer.bytes;
                Err(e)
            }
        }
    }

    /// Whether it does not say everything yet.
    pub(super) fn is_beginning(&self) -> bool {
        self.rewrite.as_ref().is_some_and(|r| r.from != self.path)
    }

    /// Removes it and what is beside it.
    pub(super) fn remove(self) {
        for path in [&self.path, &self.path.with_extension("aside")] {
            let _ = std::fs::remove_file(path);
        }
        remove_new(&self.path);
    }
}

/// The message that adds a rule, but for what the rule does.
fn added(rule: &Rule, tlv: &TlvTable) -> Message {
    let matching = rule.matching.expand();
    Message::FlowMod(Box::new(FlowMod {
        command: FlowCommand::Add,
        table: Some(rule.table),
        new_cookie: Some(rule.cookie),
        idle_timeout: rule.idle_timeout,
        hard_timeout: rule.hard_timeout,
        priority: rule.priority,
        flags: flows::bits(rule.flags) & flow_flags::KEPT,
        importance: rule.importance,
        options: options_of(&matching, tlv),
        matching,
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

    /// Waits until the thread has written, and takes what it wrote.
    fn finished(journal: &mut Journal) {
        while journal.rewrite.is_some() {
            std::thread::yield_now();
            journal.finish_rewrite().expect("written anew");
        }
    }

    #[test]
    fn what_was_written_is_read_up_to_where_it_was_cut() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = path(dir.path(), "br0");
        let mut journal = Journal::begin(path.clone(), Arc::new(bridge(3))).expect("a journal");
        let rule = bridge(10).tables.rules(&RuleFilter::default())[0].clone();
        // Noted while what was there before is written.
        journal.writer.append_rule(&rule, &TlvTable::new());
        finished(&mut journal);
        journal.writer.append_deletion(&rule, &TlvTable::new());
        journal.flush().expect("written");
        let whole = std::fs::read(&path).expect("the file");
        assert_eq!(read(&path).expect("messages").len(), 5);
        for (cut, messages) in [(1, 4), (60, 4), (whole.len() - MAGIC.len(), 0), (whole.len(), 0)] {
            std::fs::write(&path, &whole[..whole.len() - cut]).expect("cut it");
            assert_eq!(read(&path).expect("messages").len(), messages, "{cut}");
        }
        // What is appended behind a cut is read.
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("cut it");
        assert_eq!(read(&path).expect("messages").len(), 4);
        let mut journal = Journal::resume(path.clone()).expect("a journal");
        journal.writer.append_rule(&rule, &TlvTable::new());
        journal.flush().expect("written");
        assert_eq!(read(&path).expect("messages").len(), 5);
        let mut broken = whole.clone();
        broken[MAGIC.len() + RECORD + 20] ^= 1;
        std::fs::write(&path, broken).expect("break it");
        assert_eq!(read(&path).expect("messages").len(), 0);
    }

    #[test]
    fn changes_while_it_is_written_anew_are_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = path(dir.path(), "br0");
        let mut journal = Journal::begin(path.clone(), Arc::new(bridge(1))).expect("a journal");
        finished(&mut journal);
        let rules = bridge(500).tables.rules(&RuleFilter::default());
        for round in 0..20 {
            journal.rewrite(Arc::new(bridge(2000))).expect("a thread");
            for rule in &rules[..round] {
                journal.writer.append_rule(rule, &TlvTable::new());
                journal.flush().expect("written");
            }
            // Whenever a process dies, either file is whole.
            assert!(!read(&path).expect("messages").is_empty());
            finished(&mut journal);
            assert_eq!(read(&path).expect("messages").len(), 2000 + round);
            assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1);
        }
    }
}
