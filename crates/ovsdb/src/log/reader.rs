//! Where do the records of a log begin and end, and which is the last whole one?

use serde_json::Value;
use sha1::{Digest, Sha1};

/// The word for the standalone format.
pub(super) const MAGIC: &[u8] = b"OVSDB JSON ";
/// Longest header line: magic, a length of 20 digits, a space, a hash, a line feed.
const MAX_HEADER: usize = MAGIC.len() + 20 + 1 + 40 + 1;

/// One record whose hash is right and whose content is JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Offset of the record's first byte in the file.
    pub start: usize,
    /// Offset just past the record.
    pub end: usize,
    /// What it says.
    pub json: Value,
}

/// What follows the last whole record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// Bytes that are not a whole record: what a crash while appending leaves.
    Torn {
        /// What is wrong with them.
        reason: String,
        /// True when a record header stands further on. A crash does not leave that: the
        /// file was damaged in its middle, and cutting it here would lose commits.
        more_records: bool,
    },
}

/// Reads records one after the other; ends at the first that is not whole.
#[derive(Debug, Clone)]
pub struct LogReader<'a> {
    bytes: &'a [u8],
    offset: usize,
    tail: Tail,
}

impl<'a> LogReader<'a> {
    /// Starts at the first byte of a file.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, tail: Tail::Clean }
    }

    /// Offset just past the last whole record read.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// After the last record: how the file ends.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    fn read(&mut self) -> Result<Record, String> {
        let rest = &self.bytes[self.offset..];
        let window = &rest[..rest.len().min(MAX_HEADER)];
        let line_end = window.iter().position(|b| *b == b'\n');
        let line_end = line_end.ok_or("the header line does not end")?;
        let (length, hash) = parse_header(&rest[..line_end])?;
        let body = rest.get(line_end + 1..).unwrap_or_default();
        let body = body.get(..length).ok_or("the record is cut short")?;
        let digest: [u8; 20] = Sha1::digest(body).into();
        if digest != hash {
            return Err("the hash does not match".into());
        }
        let json = serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
        let start = self.offset;
        let end = start + line_end + 1 + length;
        Ok(Record { start, end, json })
    }
}

impl Iterator for LogReader<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.offset >= self.bytes.len() || self.tail != Tail::Clean {
            return None;
        }
        match self.read() {
            Ok(record) => {
                self.offset = record.end;
                Some(record)
            }
            Err(reason) => {
                let rest = &self.bytes[self.offset..];
                let more_records = rest.windows(MAGIC.len() + 1).any(|w| w[0] == b'\n' && &w[1..] == MAGIC);
                self.tail = Tail::Torn { reason, more_records };
                None
            }
        }
    }
}

fn parse_header(line: &[u8]) -> Result<(usize, [u8; 20]), String> {
    let wrong = || "the header line is not that of a record".to_owned();
    let rest = line.strip_prefix(MAGIC).ok_or_else(wrong)?;
    let text = std::str::from_utf8(rest).map_err(|_| wrong())?;
    let (length, hex) = text.split_once(' ').ok_or_else(wrong)?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) || hex.len() != 40 {
        return Err(wrong());
    }
    let length = length.parse().map_err(|_| wrong())?;
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok((length, hash))
}
