//! Which kernel settings did the agent change, and what were they before? So that a cleanup can put them back.
//!
//! They are kept in a file beside the store, written before the setting is. A reboot takes all settings with it, so what
//! another boot of the machine left is forgotten.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The kernel's name for this boot of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// One setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    was: String,
    set: String,
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    boot: String,
    changes: BTreeMap<PathBuf, Change>,
}

/// Settings that were changed, by path.
#[derive(Debug, Default)]
pub struct Settings {
    file: Option<PathBuf>,
    record: Record,
}

impl Settings {
    /// What a file tells of this boot; nothing if there is no such file. Without a file nothing is kept.
    pub fn open(file: Option<PathBuf>) -> Settings {
        let boot = std::fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned();
        let read = file.as_deref().map(read).transpose();
        let record = read.unwrap_or_else(|why| {
            tracing::warn!(%why, "which settings were changed before is not known");
            None
        });
        let record = record.filter(|r| r.boot == boot).unwrap_or(Record { boot, ..Record::default() });
        Settings { file, record }
    }

    /// Writes a setting, and keeps what it was when that is not known yet.
    ///
    /// # Errors
    /// When either cannot be written.
    pub fn set(&mut self, path: &Path, value: &str) -> io::Result<()> {
        let was = std::fs::read_to_string(path)?.trim().to_owned();
        let change = Change { was, set: value.to_owned() };
        if self.record.changes.get(path).is_none_or(|c| c.set != value) {
            let kept = self.record.changes.entry(path.to_owned()).or_insert_with(|| change.clone());
            kept.set = change.set;
            self.save()?;
        }
        std::fs::write(path, value)
    }

    fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&self.record)?;
        let new = file.with_extension("settings.new");
        let mut out = std::fs::File::create(&new)?;
        out.write_all(&text)?;
        out.sync_all()?;
        std::fs::rename(&new, file)
    }

    /// Puts back what still is as it was set, and forgets all. Settings of devices that are gone are gone with them.
    /// What was put back, and what could not be.
    pub fn undo(mut self) -> (Vec<String>, Vec<String>) {
        let (mut done, mut left) = (Vec::new(), Vec::new());
        for (path, change) in std::mem::take(&mut self.record.changes) {
            let there = std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == change.set);
            if !there {
                continue;
            }
            match std::fs::write(&path, &change.was) {
                Ok(()) => done.push(format!("setting {} is {} again", path.display(), change.was)),
                Err(why) => left.push(format!("setting {}: {why}", path.display())),
            }
        }
        if let Some(file) = &self.file {
            match std::fs::remove_file(file) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => {
                    left.push(format!("{}: {why}", file.display()));
                }
                _ => {}
            }
        }
        (done, left)
    }
}

/// A file's record; none if there is no file.
fn read(file: &Path) -> io::Result<Record> {
    match std::fs::metadata(file) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Ok(meta) if meta.len() > MAX_FILE => return Err(io::Error::other("it is too long")),
        _ => {}
    }
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_put_back_unless_others_changed_them() {
        let dir = tempfile::tempdir().unwrap();
        let (file, a, b) = (dir.path().join("settings"), dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "0\n").unwrap();
        std::fs::write(&b, "1\n").unwrap();
        let mut settings = Settings::open(Some(file.clone()));
        settings.set(&a, "1").unwrap();
        settings.set(&b, "2").unwrap();
        // Somebody changes it, and it is mended: the first value is the one to go back to.
        std::fs::write(&a, "7").unwrap();
        settings.set(&a, "1").unwrap();
        drop(settings);
        // Another process; one of the two was changed by somebody since.
        std::fs::write(&b, "9").unwrap();
        let (done, left) = Settings::open(Some(file.clone())).undo();
        assert_eq!((done.len(), left.len()), (1, 0), "{done:?} {left:?}");
        assert_eq!(std::fs::read_to_string(&a).unwrap(), "0");
        assert_eq!(std::fs::read_to_string(&b).unwrap(), "9");
        assert!(!file.exists());
    }

    #[test]
    fn what_another_boot_or_nobody_wrote_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (file, a) = (dir.path().join("settings"), dir.path().join("a"));
        std::fs::write(&a, "0").unwrap();
        let mut settings = Settings::open(Some(file.clone()));
        settings.set(&a, "1").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let other = text.replace(&settings.record.boot, "another");
        for wrong in [other.as_str(), "{", "[]", ""] {
            std::fs::write(&file, wrong).unwrap();
            assert_eq!(Settings::open(Some(file.clone())).record.changes, BTreeMap::new(), "{wrong}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(Settings::open(Some(file)).undo(), (Vec::new(), Vec::new()));
    }
}
