//! What did a lab make? Written down before it is made, so that `down` finds it after any crash.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use weft_host::netns::NsId;
use weft_host::procfs::ProcessId;

use crate::error::At;
use crate::layout::{LABS_DIR, lab_dir};
use crate::spec::LabSpec;
use crate::{Error, Result};

/// How far a lab has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// Being made, or its making was broken off.
    Building,
    /// Whole.
    Up,
}

/// A named network namespace: intended, and once made, identified.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NamedNs {
    pub(crate) name: String,
    pub(crate) id: Option<Id>,
}

/// The identity of a namespace, as written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Id {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl From<NsId> for Id {
    fn from(id: NsId) -> Self {
        Self { dev: id.dev, ino: id.ino }
    }
}

/// A running command of `run:`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) host: String,
    pub(crate) name: String,
    pub(crate) pid: i32,
    pub(crate) start: u64,
}

impl Service {
    pub(crate) fn process(&self) -> ProcessId {
        ProcessId { pid: self.pid, start: self.start }
    }
}

/// What teardown needs to know; read also from a record that another version of weft wrote.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Remains {
    pub(crate) id: String,
    pub(crate) namespaces: Vec<NamedNs>,
    pub(crate) hosts: Vec<String>,
}

impl Remains {
    /// What is known of a lab, if there is a record of it.
    pub(crate) fn load(lab: &str) -> Result<Option<Self>> {
        load(lab)
    }
}

impl From<&Record> for Remains {
    fn from(record: &Record) -> Self {
        Self { id: record.id.clone(), namespaces: record.namespaces.clone(), hosts: record.hosts.clone() }
    }
}

/// The ownership file of one lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Told to every process of the lab by environment.
    pub(crate) id: String,
    pub(crate) stage: Stage,
    /// The `weft` that processes of the lab find first.
    pub(crate) weft: Option<PathBuf>,
    pub(crate) namespaces: Vec<NamedNs>,
    /// Names of its hosts, each with a mount namespace.
    pub(crate) hosts: Vec<String>,
    pub(crate) services: Vec<Service>,
    pub(crate) spec: LabSpec,
}

impl Record {
    /// The record of a lab, if it is up or was begun.
    pub(crate) fn load(lab: &str) -> Result<Option<Self>> {
        load(lab)
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn save(&self) -> Result<()> {
        let path = path_of(&self.spec.name);
        let what = || format!("write {}", path.display());
        let fresh = path.with_extension("new");
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other).at(what())?;
        let write = || {
            File::create(&fresh)?.write_all(&text)?;
            fs::rename(&fresh, &path)
        };
        write().at(what())
    }

    /// Notes the identity of a namespace just made.
    pub(crate) fn made(&mut self, name: &str, id: NsId) {
        if let Some(ns) = self.namespaces.iter_mut().find(|n| n.name == name) {
            ns.id = Some(id.into());
        }
    }
}

/// Reads a lab's ownership file; `None` if there is none.
fn load<T: serde::de::DeserializeOwned>(lab: &str) -> Result<Option<T>> {
    let path = path_of(lab);
    let text = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.at(format!("read {}", path.display()))?,
    };
    let record = serde_json::from_slice(&text).map_err(|e| Error::Syntax {
        file: path.display().to_string(),
        message: format!("{e} (another version of weft wrote it; `weft lab down {lab}` works all the same)"),
    })?;
    Ok(Some(record))
}

fn path_of(lab: &str) -> PathBuf {
    lab_dir(lab).join("lab.json")
}

/// The labs that left a directory, in order of name.
pub(crate) fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(LABS_DIR) else { return Vec::new() };
    let directories = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    let mut names: Vec<_> = directories.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Whether a lab can have this name; other words lead out of the labs' directory.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// Whether a lab of this name is up, or a process ended while it worked on one.
pub(crate) fn left_traces(name: &str) -> bool {
    lab_dir(name).exists() || lock_path(name).exists()
}

fn lock_path(lab: &str) -> PathBuf {
    PathBuf::from(LABS_DIR).join(format!("{lab}.lock"))
}

/// Held while a lab is made, changed or removed.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    /// Waits for other processes working on the same lab.
    pub(crate) fn take(lab: &str) -> Result<Self> {
        fs::create_dir_all(LABS_DIR).at(format!("create {LABS_DIR}"))?;
        let path = lock_path(lab);
        let what = format!("lock {}", path.display());
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(&path).at(&*what)?;
            let lock = Flock::lock(file, FlockArg::LockExclusive);
            let file = lock.map_err(|(_, e)| std::io::Error::from(e)).at(&*what)?;
            // Whoever held it may have removed the file; then the lock is of nothing.
            use std::os::unix::fs::MetadataExt;
            let held = file.metadata().at(&*what)?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == held) {
                return Ok(Self { _file: file, path });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while held; see `take`.
        let _ = fs::remove_file(&self.path);
    }
}
