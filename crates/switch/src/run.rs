//! How does the switch start, live and end?
//!
//! ```text
//!   threads                                 tasks of the control thread (this one)
//!   ┌──────────────┐ PacketIn (bounded)     ┌────────────────────────────┐
//!   │ lanes        │───────────────────────▶│                            │   listener, dialler and
//!   │ (datapath)   │◀── snapshot, commands ─│  main task: owns Control   │◀─ connection tasks:
//!   └──────────────┘                        │  take events → settle()    │   StreamEvent (bounded)
//!   ┌──────────────┐ Written                │                            │─▶ bytes to send
//!   │ weft-db      │───────────────────────▶│                            │
//!   │ (log writer) │◀── records ────────────│                            │◀─ signals, timer
//!   ├──────────────┤ netlink Event          │                            │
//!   │ weft-net     │───────────────────────▶│                            │
//!   └──────────────┘                        └────────────────────────────┘
//! ```
//! Events are taken in as long as there are any (up to a bound); then [`Control::settle`] makes everything match, so
//! that whatever was read together is published together.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use weft_datapath::{ControllerSink, Datapath, PacketIn, UserDatapath, UserOptions};
use weft_host::netlink::Event;
use weft_host::procfs::Pidfile;
use weft_pipeline::Pipeline;

use crate::clock::now_ms;
use crate::control::{Control, Exit, Parts};
use crate::db::{Db, DbFileError, Written};
use crate::linger::{Linger, MOMENT};
use crate::net::{Links, watch};
use crate::process::detach;
use crate::process::paths::{Daemon, Paths};
use crate::process::vlog::Vlog;
use crate::remotes::{MANAGERS, Remotes};
use crate::stream::{StreamEvent, Streams, Tls};

/// Stream events that may wait; senders then wait with their next piece.
const STREAM_EVENTS: usize = 64;
/// Packets for controllers that may wait; more are dropped and counted.
const PACKET_INS: usize = 2_048;
/// Events taken in before everything is made to match.
const BATCH: usize = 256;

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its files are.
    pub paths: Paths,
    /// Remotes for the database besides `db.sock`.
    pub remotes: Vec<String>,
    /// Pid file of the switch, where it is not the usual one.
    pub pidfile: Option<PathBuf>,
    /// Whether to stay in the working directory when in the background.
    pub no_chdir: bool,
    /// Log file, if any.
    pub log_file: Option<PathBuf>,
    /// Log levels, as for `vlog/set`.
    pub verbose: Vec<String>,
    /// Threads that forward; `None`: as many as the processors suggest.
    pub lanes: Option<usize>,
}

/// Why the switch did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The run directory, a socket or the log file cannot be made.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] DbFileError),
    /// The kernel refused something, or another switch runs already.
    #[error(transparent)]
    Host(#[from] weft_host::Error),
    /// The datapath cannot be started.
    #[error("datapath: {0}")]
    Datapath(#[from] weft_datapath::Error),
    /// A log level is none.
    #[error("{0}")]
    Verbose(String),
}

/// Runs the switch until it is told to end.
///
/// # Errors
/// When it cannot start. What goes wrong later is logged, and mended when it can be.
pub fn run(options: &Options) -> Result<(), StartError> {
    detach::begin();
    allow_many_files();
    let vlog = start_log(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| StartError::Io("start the runtime".into(), e))?;
    // A task of its own: waking the future that a runtime blocks on takes a system call, even from its own thread.
    let main = runtime.spawn(live(options.clone(), vlog));
    let exit =
        runtime.block_on(main).unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
    // Connections get a moment to write what was last said.
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit
}

/// Each connection is a descriptor: as many as the host allows.
fn allow_many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn start_log(options: &Options) -> Result<Vlog, StartError> {
    let vlog = Vlog::default();
    vlog.set_syslog();
    if let Some(path) = &options.log_file {
        if let Some(dir) = path.parent() {
            let _ = std::fs::create_dir_all(dir);
        }
        vlog.set_file(path).map_err(|e| StartError::Io(path.display().to_string(), e))?;
    }
    for spec in &options.verbose {
        vlog.set(spec).map_err(StartError::Verbose)?;
    }
    vlog.install();
    Ok(vlog)
}

/// Where events come from.
struct Events {
    streams: mpsc::Receiver<StreamEvent>,
    written: mpsc::UnboundedReceiver<Written>,
    packets: mpsc::Receiver<PacketIn>,
    network: mpsc::Receiver<Event>,
    ports: mpsc::Receiver<()>,
    terminate: Signal,
    interrupt: Signal,
}

async fn live(options: Options, vlog: Vlog) -> Result<(), StartError> {
    let _pidfiles = take_pidfiles(&options)?;
    options.paths.remove_stale();
    let (mut control, mut events) = start(&options, vlog)?;
    control.settle();
    detach::ready(!options.no_chdir).map_err(|e| StartError::Io("go into the background".into(), e))?;
    tracing::info!(target: "daemon", "Weft {} is ready in {}", env!("CARGO_PKG_VERSION"), options.paths.rundir.display());
    let mut linger = Linger::default();
    let exit = loop {
        if !(control.take_conversing() && events.linger(&mut control, &mut linger).await) {
            events.wait(&mut control).await;
        }
        events.drain(&mut control);
        control.on_time();
        control.settle();
        if let Some(exit) = control.exit {
            break exit;
        }
    };
    tracing::info!(target: "daemon", "ending");
    control.finish(exit);
    // What was answered is on its way, what was committed is on the disk.
    tokio::task::yield_now().await;
    drop(control);
    Ok(())
}

fn take_pidfiles(options: &Options) -> Result<Vec<Pidfile>, StartError> {
    let rundir = &options.paths.rundir;
    std::fs::create_dir_all(rundir).map_err(|e| StartError::Io(rundir.display().to_string(), e))?;
    let path = |daemon| match (&options.pidfile, daemon) {
        (Some(path), Daemon::Vswitchd) => rundir.join(path),
        _ => options.paths.pidfile(daemon),
    };
    Ok(Daemon::ALL
        .into_iter()
        .map(|daemon| Pidfile::create(&path(daemon)))
        .collect::<weft_host::Result<_>>()?)
}

fn start(options: &Options, vlog: Vlog) -> Result<(Control, Events), StartError> {
    let paths = options.paths.clone();
    let (stream_sender, streams_receiver) = mpsc::channel(STREAM_EVENTS);
    let (written_sender, written) = mpsc::unbounded_channel();
    let (packet_sender, packets) = mpsc::channel(PACKET_INS);
    // That something changed is enough to know: all are asked anew.
    let (ports_sender, ports) = mpsc::channel(1);
    let io = |what: &str| {
        let what = what.to_owned();
        move |e| StartError::Io(what, e)
    };
    // Subscribed before anything is listed, so that nothing is missed in between.
    let network = watch()?;
    let events = Events {
        streams: streams_receiver,
        written,
        packets,
        network,
        ports,
        terminate: signal(SignalKind::terminate()).map_err(io("wait for signals"))?,
        interrupt: signal(SignalKind::interrupt()).map_err(io("wait for signals"))?,
    };
    let db = Db::open(&paths.db, now_ms(), written_sender)?;
    let pipeline = Arc::new(Pipeline::new());
    let sink: ControllerSink = Arc::new(move |packet| packet_sender.try_send(packet).is_ok());
    let user = UserOptions { lanes: options.lanes, ..UserOptions::default() };
    let datapath = Arc::new(UserDatapath::new(Arc::clone(&pipeline), sink, &user)?);
    datapath.on_port_change(Arc::new(move |_| {
        // A full channel says the same.
        let _ = ports_sender.try_send(());
    }));
    let tls = Arc::new(Tls::default());
    let socket = format!("punix:{}", paths.db_sock().display());
    let remotes = [socket, MANAGERS.to_owned()].into_iter().chain(options.remotes.iter().cloned());
    let mut control = Control::new(Parts {
        vlog,
        streams: Streams::new(Arc::clone(&tls), stream_sender),
        tls,
        db,
        remotes: Remotes::new(paths.rundir.clone(), remotes),
        links: Links::open()?,
        pipeline,
        datapath,
        paths,
    });
    control.open_control_sockets().map_err(io("open the control sockets"))?;
    Ok((control, events))
}

impl Events {
    /// Waits for the first event, or the time of the next one, and takes it in.
    async fn wait(&mut self, control: &mut Control) {
        let sleep = Duration::from_millis(control.deadline_ms().saturating_sub(now_ms()));
        tokio::select! {
            Some(event) = self.streams.recv() => control.on_stream(event),
            Some(written) = self.written.recv() => control.on_written(written),
            Some(packet) = self.packets.recv() => control.on_packet_in(packet),
            Some(event) = self.network.recv() => control.on_network(event),
            Some(()) = self.ports.recv() => control.on_ports_changed(),
            _ = self.terminate.recv() => control.exit = Some(Exit::Keep),
            _ = self.interrupt.recv() => control.exit = Some(Exit::Keep),
            () = tokio::time::sleep(sleep) => {}
        }
    }

    /// Looks again, for a moment, whether the controller that was just served says more; true when something was taken in.
    async fn linger(&mut self, control: &mut Control, linger: &mut Linger) -> bool {
        if !linger.is_due() {
            return false;
        }
        let until = Instant::now() + MOMENT;
        loop {
            // Connections read what came for them; whoever else wants this processor has it.
            tokio::task::yield_now().await;
            if self.take(control) {
                linger.paid(true);
                return true;
            }
            if Instant::now() >= until {
                linger.paid(false);
                return false;
            }
            std::thread::yield_now();
        }
    }

    /// Takes in what else has happened.
    fn drain(&mut self, control: &mut Control) {
        for _ in 0..BATCH {
            if !self.take(control) {
                break;
            }
        }
    }

    /// Takes in what has happened, one of each kind at most; false when nothing has.
    fn take(&mut self, control: &mut Control) -> bool {
        let taken = [
            self.streams.try_recv().map(|event| control.on_stream(event)).is_ok(),
            self.written.try_recv().map(|written| control.on_written(written)).is_ok(),
            self.packets.try_recv().map(|packet| control.on_packet_in(packet)).is_ok(),
            self.network.try_recv().map(|event| control.on_network(event)).is_ok(),
            self.ports.try_recv().map(|()| control.on_ports_changed()).is_ok(),
        ];
        taken.contains(&true)
    }
}
