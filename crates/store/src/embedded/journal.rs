//! How does a lease get to the disk at the price of one small write?
//!
//! In the database a lease changes a page, the pages above it and the books that are kept of pages, each written anew. So
//! leases go to the end of a journal first, all that wait as one record, and move to the database later, thousands at a
//! time and in the order of their keys ([`super::disk`]).
//!
//! Two files beside the database take turns: while the rows of one move, the other is written. A record is
//! ```text
//!   generation u64 · length u32 · CRC-32 of the other fields u32 · rows: key length u16, value length u32 + 1 or 0, key, value
//! ```
//! in little endian, a value of length 0 standing for a row that is gone. A file holds records of one generation, then
//! what is left of an older one, whose place they take. What follows the last whole record was never acknowledged.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What is behind the name of the database's file.
const SUFFIXES: [&str; 2] = [".leases-0", ".leases-1"];
/// Bytes of a record's head.
const HEAD: usize = 16;
/// Bytes by which a file grows, so that not every write changes its length.
const GROWTH: u64 = 1 << 20;
/// Longest record that is believed in.
const MAX_RECORD: u64 = 1 << 30;

/// A key, and its value or that it is gone.
pub(super) type Row = (Vec<u8>, Option<Vec<u8>>);

/// A file and how far it is written.
#[derive(Debug)]
struct Half {
    file: File,
    end: u64,
    room: u64,
}

/// Both files.
#[derive(Debug)]
pub(super) struct Journal {
    halves: [Half; 2],
    active: usize,
    generation: u64,
    record: Vec<u8>,
}

fn paths(database: &Path) -> [PathBuf; 2] {
    SUFFIXES.map(|suffix| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    })
}

/// What the journal of a database holds, in order: what is later counts.
pub(super) fn read(database: &Path) -> io::Result<Vec<Row>> {
    let mut halves = Vec::new();
    for path in paths(database) {
        match std::fs::read(&path) {
            Ok(bytes) => halves.push(records(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    halves.sort_by_key(|(generation, _)| *generation);
    Ok(halves.into_iter().flat_map(|(_, rows)| rows).collect())
}

/// Removes the journal of a database: nothing in it counts any more.
pub(super) fn remove(database: &Path) -> io::Result<()> {
    for path in paths(database) {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    sync_directory(database)
}

/// A first generation that nobody foresees, with room for those that follow: what a client has put into a lease must not
/// pass for a record where the older rows of a file begin.
fn unforeseen() -> u64 {
    let random = std::hash::RandomState::new().build_hasher().finish();
    (random | 1 << 63) & !u64::from(u32::MAX)
}

/// Names of files are durable too.
fn sync_directory(database: &Path) -> io::Result<()> {
    let directory = database.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

impl Journal {
    /// An empty journal of a database.
    pub(super) fn create(database: &Path) -> io::Result<Journal> {
        let half = |path: PathBuf| {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
            io::Result::Ok(Half { file, end: 0, room: 0 })
        };
        let [first, second] = paths(database);
        let halves = [half(first)?, half(second)?];
        let journal = Journal { halves, active: 0, generation: unforeseen(), record: Vec::new() };
        sync_directory(database)?;
        Ok(journal)
    }

    /// Appends rows. When it returns, they are on disk.
    pub(super) fn append(&mut self, rows: &[Row]) -> io::Result<()> {
        let record = &mut self.record;
        record.clear();
        record.resize(HEAD, 0);
        for (key, value) in rows {
            let length = |n: usize| u32::try_from(n).ok().filter(|n| u64::from(*n) < MAX_RECORD);
            let sizes = u16::try_from(key.len()).ok().zip(length(value.as_ref().map_or(0, |v| v.len() + 1)));
            let (of_key, of_value) = sizes.ok_or(io::ErrorKind::InvalidInput)?;
            record.extend(of_key.to_le_bytes());
            record.extend(of_value.to_le_bytes());
            record.extend(key);
            record.extend(value.iter().flatten());
        }
        let length = u32::try_from(record.len() - HEAD).map_err(|_| io::ErrorKind::InvalidInput)?;
        let crc = checksum(self.generation, &record[HEAD..]);
        record[..8].copy_from_slice(&self.generation.to_le_bytes());
        record[8..12].copy_from_slice(&length.to_le_bytes());
        record[12..16].copy_from_slice(&crc.to_le_bytes());
        let half = &mut self.halves[self.active];
        let end = half.end + record.len() as u64;
        while half.room < end {
            half.file.write_all_at(&vec![0; GROWTH as usize], half.room)?;
            half.room += GROWTH;
        }
        half.file.write_all_at(record, half.end)?;
        half.file.sync_data()?;
        half.end = end;
        // What was large once is not large for ever.
        record.shrink_to(GROWTH as usize);
        Ok(())
    }

    /// Goes on in the other file. All that it holds must be in the database.
    pub(super) fn turn(&mut self) {
        self.active = 1 - self.active;
        self.generation += 1;
        self.halves[self.active].end = 0;
    }
}

fn checksum(generation: u64, rows: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(&(rows.len() as u64).to_le_bytes());
    hasher.update(rows);
    hasher.finalize()
}

/// The generation of a file, 0 if it has none, and the rows of its whole records.
fn records(bytes: &[u8]) -> (u64, Vec<Row>) {
    let (mut rest, mut first, mut rows) = (bytes, 0, Vec::new());
    while let Some((generation, payload, next)) = record(rest) {
        if first != 0 && generation != first {
            break;
        }
        (first, rest) = (generation, next);
        rows.extend(std::iter::from_fn({
            let mut left = payload;
            move || row(&mut left)
        }));
    }
    (first, rows)
}

/// The generation and rows of a whole record, and what follows it.
fn record(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (generation, rest) = bytes.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let generation = u64::from_le_bytes(*generation);
    let (rows, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let whole = generation != 0 && checksum(generation, rows) == u32::from_le_bytes(*crc);
    whole.then_some((generation, rows, rest))
}

fn row(rest: &mut &[u8]) -> Option<Row> {
    let (of_key, left) = rest.split_first_chunk::<2>()?;
    let (of_value, left) = left.split_first_chunk::<4>()?;
    let (key, left) = left.split_at_checked(u16::from_le_bytes(*of_key).into())?;
    let of_value = (u32::from_le_bytes(*of_value) as usize).checked_sub(1);
    let (value, left) = left.split_at_checked(of_value.unwrap_or(0))?;
    *rest = left;
    Some((key.to_vec(), of_value.map(|_| value.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(from: u8) -> Vec<Row> {
        vec![(vec![from], Some(vec![from; 9])), (vec![from, 1], None), (vec![from, 2], Some(Vec::new()))]
    }

    #[test]
    fn whole_records_are_read_wherever_a_crash_cut_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut journal = Journal::create(&path).unwrap();
        journal.append(&rows(1)).unwrap();
        let one = journal.halves[0].end as usize;
        journal.append(&rows(2)).unwrap();
        let two = journal.halves[0].end as usize;
        assert_eq!(read(&path).unwrap(), [rows(1), rows(2)].concat());
        let bytes = std::fs::read(&paths(&path)[0]).unwrap();
        for cut in 0..=two {
            let whole = [rows(1), rows(2)].concat();
            let whole = &whole[..3 * (usize::from(cut >= one) + usize::from(cut >= two))];
            assert_eq!(records(&bytes[..cut]).1, whole, "cut at {cut}");
            if let Some(wrong) = (cut < two).then_some(cut) {
                let mut bytes = bytes.clone();
                bytes[wrong] ^= 0x40;
                assert!(records(&bytes).1.len() <= 3 * usize::from(wrong >= one), "damage at {wrong}");
            }
        }
    }

    #[test]
    fn a_file_that_is_written_anew_does_not_tell_what_it_held() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut journal = Journal::create(&path).unwrap();
        (1..=3).for_each(|n| journal.append(&rows(n)).unwrap());
        journal.turn();
        journal.append(&rows(4)).unwrap();
        assert_eq!(read(&path).unwrap(), [rows(1), rows(2), rows(3), rows(4)].concat());
        journal.turn();
        // Nothing is written yet: older rows come before newer ones, which count.
        assert_eq!(read(&path).unwrap().len(), 12);
        journal.append(&rows(5)).unwrap();
        assert_eq!(read(&path).unwrap(), [rows(4), rows(5)].concat());
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }
}
