//! How do commits become durable without the control task waiting for the disk?
//!
//! One thread owns the file. While it syncs, further commits queue up and share the next sync (group commit). Every
//! job has a number; when all jobs up to a number are on disk, or one failed, the control task is told.

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;
use weft_ovsdb::{Database, log};

use super::file::{DbFile, now_ms};

/// Most bytes written before a sync.
const MAX_BATCH: usize = 8 << 20;

/// What became of jobs.
#[derive(Debug)]
pub struct Written {
    /// Every job up to this number is done.
    pub upto: u64,
    /// How it went.
    pub result: Result<(), String>,
    /// Bytes in the file now.
    pub file_len: u64,
    /// Whether the file was replaced by a snapshot.
    pub rewritten: bool,
}

enum Job {
    Append { number: u64, record: Vec<u8> },
    Rewrite { number: u64, db: Box<Database>, comment: String },
}

/// The thread that writes the database.
#[derive(Debug)]
pub struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    last: u64,
}

impl Writer {
    /// Starts the thread; it reports to `done`.
    pub fn start(file: DbFile, done: UnboundedSender<Written>) -> io::Result<Writer> {
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("weft-db".into())
            .stack_size(256 << 10)
            .spawn(move || run(file, &queue, &done))?;
        Ok(Writer { jobs: Some(jobs), thread: Some(thread), last: 0 })
    }

    /// Queues a record; returns the job's number.
    pub fn append(&mut self, record: Vec<u8>) -> u64 {
        let number = self.next();
        self.queue(Job::Append { number, record });
        number
    }

    /// Queues the replacement of the file by a snapshot of `db`.
    pub fn rewrite(&mut self, db: Database, comment: &str) -> u64 {
        let number = self.next();
        self.queue(Job::Rewrite { number, db: Box::new(db), comment: comment.to_owned() });
        number
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn queue(&self, job: Job) {
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
    let mut pending = None;
    // A record that failed must not be followed by one that rests on it: until the control task has undone what failed
    // and asked for a rewrite, everything fails.
    let mut broken: Option<String> = None;
    while let Some(job) = pending.take().or_else(|| queue.recv().ok()) {
        let report = match job {
            Job::Rewrite { number, db, comment } => {
                let result = file.rewrite(&log::snapshot(&db, now_ms(), &comment));
                broken = result.as_ref().err().filter(|_| broken.is_some()).map(ToString::to_string);
                (number, result.map_err(|e| e.to_string()), true)
            }
            Job::Append { number, record } => {
                let (mut upto, mut batch) = (number, record);
                while batch.len() < MAX_BATCH {
                    match queue.try_recv() {
                        Ok(Job::Append { number, record }) => {
                            upto = number;
                            batch.extend_from_slice(&record);
                        }
                        Ok(rewrite) => {
                            pending = Some(rewrite);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                let result = match &broken {
                    Some(why) => Err(why.clone()),
                    None => file.append(&batch).map_err(|e| e.to_string()),
                };
                broken = result.as_ref().err().cloned();
                (upto, result, false)
            }
        };
        let (upto, result, rewrite) = report;
        let rewritten = rewrite && result.is_ok();
        let _ = done.send(Written { upto, result, file_len: file.len(), rewritten });
    }
}
