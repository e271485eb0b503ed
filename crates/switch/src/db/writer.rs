//! How do commits become durable without the control task waiting for the disk?
//!
//! One thread owns the file and does one job at a time. While it syncs, the server goes on collecting what clients
//! ask for; all of that shares the next job's sync (group commit).

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;
use weft_ovsdb::{Database, Persist, log};

use super::file::{DbFile, now_ms};

/// Work for the thread.
#[derive(Debug)]
pub(super) enum Job {
    /// Make these durable, in order.
    Persist(Vec<Persist>),
    /// Replace the file by a snapshot, which holds everything up to now.
    Compact {
        /// The database.
        db: Box<Database>,
        /// For the log.
        comment: &'static str,
    },
}

/// What became of a job.
#[derive(Debug)]
pub(crate) struct Written {
    /// How it went.
    pub result: io::Result<()>,
    /// Bytes in the file now.
    pub file_len: u64,
    /// Whether the file was replaced.
    pub replaced: bool,
}

/// The thread that writes the database.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread; it reports each job to `done`.
    pub(super) fn start(file: DbFile, done: UnboundedSender<Written>) -> io::Result<Writer> {
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("weft-db".into())
            .stack_size(512 << 10)
            .spawn(move || run(file, &queue, &done))?;
        Ok(Writer { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a job.
    pub(super) fn queue(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after this sender is gone.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Writer {
    /// Waits until everything queued is written.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut file: DbFile, queue: &mpsc::Receiver<Job>, done: &UnboundedSender<Written>) {
    for job in queue {
        let (result, replaced) = match job {
            Job::Persist(steps) => persist(&mut file, steps),
            Job::Compact { db, comment } => (file.rewrite(&log::snapshot(&db, now_ms(), comment)), true),
        };
        let replaced = replaced && result.is_ok();
        let _ = done.send(Written { result, file_len: file.len(), replaced });
    }
}

/// Appends with one sync between replacements; also whether there was a replacement.
fn persist(file: &mut DbFile, steps: Vec<Persist>) -> (io::Result<()>, bool) {
    let mut records = Vec::new();
    let mut replaced = false;
    for step in steps {
        match step {
            Persist::Append { record, .. } if records.is_empty() => records = record,
            Persist::Append { record, .. } => records.extend_from_slice(&record),
            Persist::Replace { file: bytes, .. } => {
                // What was to be appended before is part of what replaces it.
                records.clear();
                replaced = true;
                if let Err(e) = file.rewrite(&bytes) {
                    return (Err(e), replaced);
                }
            }
        }
    }
    let result = if records.is_empty() { Ok(()) } else { file.append(&records) };
    (result, replaced)
}
