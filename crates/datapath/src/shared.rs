//! What do lanes and their control share?

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_flow::{DpAction, DpPort, Match};
use weft_host::poll::EventFd;
use weft_pipeline::Pipeline;

use crate::contract::{ControllerSink, Execute, FlowEntry};
use crate::ports::{Port, Source};
use crate::stats::LaneCounters;
use crate::tunnel::{Pool, PoolKey};

/// What all lanes see.
pub(crate) struct Shared {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) sink: ControllerSink,
    /// Start of every hash; random.
    pub(crate) seed: u64,
    pub(crate) lanes: Box<[LaneHandle]>,
    /// Transmit sockets of tunnels, opened when first needed.
    pub(crate) tunnel_pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
}

/// What control sees of a lane.
#[derive(Debug)]
pub(crate) struct LaneHandle {
    pub(crate) counters: LaneCounters,
    /// Wakes the lane.
    pub(crate) bell: EventFd,
    /// Whether the inbox may hold something.
    waiting: AtomicBool,
    inbox: Mutex<Vec<Command>>,
}

/// What control asks of a lane. Answers go back by the sender; a dropped sender is an answer too.
pub(crate) enum Command {
    /// Send by this port from now on.
    AddPort(Arc<Port>),
    /// Forget a port: send nothing to it, receive nothing from it.
    RemovePort(DpPort, Sender<()>),
    /// Receive from this.
    AddSource(Source),
    /// Stop receiving from the socket of that address.
    RemoveListener(crate::tunnel::ListenKey, Sender<()>),
    /// Follow all changes published until now.
    Sync(Sender<()>),
    /// Credit all flows.
    Refresh(Sender<()>),
    /// Dump all flows.
    Flows(Sender<Vec<FlowEntry>>),
    /// Forget all flows.
    Flush(Sender<()>),
    /// Put a flow by hand.
    Put(Box<Match>, Vec<DpAction>, Sender<bool>),
    /// Remove a flow; tells whether it was there.
    Delete(Box<Match>, Sender<bool>),
    /// Apply actions to a frame.
    Execute(Execute, Sender<()>),
    /// Stop.
    Stop,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

impl LaneHandle {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(LaneHandle {
            counters: LaneCounters::default(),
            bell: EventFd::new()?,
            waiting: AtomicBool::new(false),
            inbox: Mutex::new(Vec::new()),
        })
    }

    /// Hands a command to the lane and wakes it.
    pub(crate) fn send(&self, command: Command) {
        lock(&self.inbox).push(command);
        self.waiting.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// What was handed over since the last call; cheap when nothing was.
    #[inline]
    pub(crate) fn take(&self) -> Vec<Command> {
        if !self.waiting.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut *lock(&self.inbox))
    }
}

/// Locks; a thread that panicked while holding it left nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
