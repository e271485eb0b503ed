//! How is the database file opened, locked, replaced?
//!
//! A file is only ever appended to, or replaced as a whole by rename(2); so a crash leaves a whole prefix of it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use weft_ovsdb::log::{self, LoadError, Tail};
use weft_ovsdb::schema::DatabaseSchema;
use weft_ovsdb::{Database, UuidStream};

/// Why the database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DbFileError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// Another process has the database open.
    #[error("{path}: locked by process {pid}, which has the database open")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process.
        pid: i32,
    },
    /// What is in the file is no database we can use.
    #[error("{path}: {source}")]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: LoadError,
    },
    /// Records are damaged in the middle of the file, with whole ones after them.
    #[error(
        "{path}: damaged at offset {offset} ({reason}), with more records after; restore it from a backup, or cut it there to lose what follows"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first damaged record begins.
        offset: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// The open, locked file, positioned at its end.
#[derive(Debug)]
pub(crate) struct DbFile {
    path: PathBuf,
    file: File,
    len: u64,
    _lock: File,
}

impl DbFile {
    /// Opens the database, or creates it with `schema`. A torn record at its end, as a crash leaves it, is cut off; a
    /// database of an older schema of the same name is converted.
    pub(crate) fn open(
        path: &Path,
        schema: &Arc<DatabaseSchema>,
        uuids: &mut UuidStream,
    ) -> Result<(DbFile, Database), DbFileError> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let io = |source| DbFileError::Io { path: path.clone(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(io)?;
        }
        let lock = lock(&path)?;
        let mut bytes = Vec::new();
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(mut file) => {
                file.read_to_end(&mut bytes).map_err(io)?;
                if !bytes.is_empty() {
                    return Self::load(path.clone(), file, lock, &bytes, schema, uuids);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io(e)),
        }
        let db = Database::new(Arc::clone(schema), uuids.draw());
        let (file, len) = replace(&path, &log::snapshot(&db, now_ms(), "")).map_err(io)?;
        tracing::info!("created database {}", path.display());
        Ok((DbFile { path, file, len, _lock: lock }, db))
    }

    fn load(
        path: PathBuf,
        mut file: File,
        lock: File,
        bytes: &[u8],
        schema: &Arc<DatabaseSchema>,
        uuids: &mut UuidStream,
    ) -> Result<(DbFile, Database), DbFileError> {
        let io = |source| DbFileError::Io { path: path.clone(), source };
        let loaded =
            log::load(bytes, uuids).map_err(|source| DbFileError::Load { path: path.clone(), source })?;
        let len = loaded.valid_len as u64;
        match loaded.tail {
            Tail::Clean => {}
            Tail::Torn { reason, more_records: true } => {
                return Err(DbFileError::Damaged { path, offset: loaded.valid_len, reason });
            }
            Tail::Torn { reason, more_records: false } => {
                let lost = bytes.len() - loaded.valid_len;
                tracing::warn!("{}: cut {lost} bytes of a torn record off the end: {reason}", path.display());
                file.set_len(len).map_err(io)?;
                file.sync_all().map_err(io)?;
            }
        }
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut opened = DbFile { path: path.clone(), file, len, _lock: lock };
        let Some(db) = upgraded(&loaded.db, schema, uuids) else { return Ok((opened, loaded.db)) };
        tracing::info!("{}: converted to schema version {}", path.display(), schema.version);
        opened.rewrite(&log::snapshot(&db, now_ms(), "converted to a newer schema")).map_err(io)?;
        Ok((opened, db))
    }

    /// Bytes in the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends records and makes them durable. On failure the file is as before, as far as the kernel allows.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let appended = self.file.write_all(records).and_then(|()| self.file.sync_data());
        match appended {
            Ok(()) => self.len += records.len() as u64,
            Err(_) => {
                let _ = self.file.set_len(self.len).and_then(|()| self.file.sync_data());
                let _ = self.file.seek(SeekFrom::Start(self.len));
            }
        }
        appended
    }

    /// Replaces the file by a snapshot; on failure the old file stays.
    pub(crate) fn rewrite(&mut self, snapshot: &[u8]) -> io::Result<()> {
        (self.file, self.len) = replace(&self.path, snapshot)?;
        Ok(())
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The database under the newer schema, if that is the case and possible.
fn upgraded(db: &Database, schema: &Arc<DatabaseSchema>, uuids: &mut UuidStream) -> Option<Database> {
    let old = db.schema();
    if old.name != schema.name || version(&old.version) >= version(&schema.version) {
        return None;
    }
    match log::convert(db, Arc::clone(schema), uuids) {
        Ok(converted) => Some(converted),
        Err(e) => {
            tracing::warn!("stays at schema version {}: {e}", old.version);
            None
        }
    }
}

fn version(text: &str) -> Vec<u64> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// Writes a new file beside `path`, makes it durable and puts it in place.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<(File, u64)> {
    let temporary = sibling(path, "", ".tmp");
    let _ = fs::remove_file(&temporary);
    // Opened now, because after the rename there is no way back.
    let dir = path.parent().map(File::open).transpose()?;
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(e) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(e);
    }
    if let Some(Err(e)) = dir.map(|dir| dir.sync_all()) {
        // The new file is the database all the same: writing to the old one would lose what is written.
        tracing::error!("{}: its directory cannot be synced: {e}", path.display());
    }
    Ok((file, bytes.len() as u64))
}

/// `<prefix><name><suffix>` in the same directory.
fn sibling(path: &Path, prefix: &str, suffix: &str) -> PathBuf {
    let mut name = OsString::from(prefix);
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

/// Takes the lock file that ovsdb-server and ovsdb-tool respect.
fn lock(path: &Path) -> Result<File, DbFileError> {
    let path = sibling(path, ".", ".~lock~");
    let io = |source| DbFileError::Io { path: path.clone(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io)?;
    let mut wanted = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&wanted)) {
        Ok(_) => Ok(file),
        Err(nix::Error::EACCES | nix::Error::EAGAIN) => {
            fcntl(&file, FcntlArg::F_GETLK(&mut wanted)).map_err(|e| io(e.into()))?;
            Err(DbFileError::Locked { path, pid: wanted.l_pid })
        }
        Err(e) => Err(io(e.into())),
    }
}
