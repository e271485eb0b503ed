//! What do lanes and their control share?

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use weft_conntrack::Conntrack;
use weft_flow::{DpAction, DpPort, Match};
use weft_host::poll::EventFd;
use weft_pipeline::Pipeline;

use crate::contract::{ControllerSink, Execute, FlowEntry, SampleSink, Tuning};
use crate::ports::{Port, Source};
use crate::rule_drops::RuleDrops;
use crate::stats::LaneCounters;
use crate::tunnel::{Pool, PoolKey};

/// What all lanes see.
pub(crate) struct Shared {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) sink: ControllerSink,
    /// Takes samples, once somebody wants them.
    pub(crate) samples: OnceLock<SampleSink>,
    pub(crate) conntrack: Conntrack,
    pub(crate) rule_drops: Arc<RuleDrops>,
    /// First and last UDP source port of tunnels, in the high and low half; 0: not set.
    pub(crate) egress_ports: AtomicU32,
    /// Start of every hash; random.
    pub(crate) seed: u64,
    pub(crate) lanes: Box<[LaneHandle]>,
    /// Transmit sockets of tunnels, opened when first needed.
    pub(crate) tunnel_pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
}

impl Shared {
    /// First and last UDP source port of tunnels, if set.
    pub(crate) fn egress_ports(&self) -> Option<(u16, u16)> {
        let ports = self.egress_ports.load(Ordering::Relaxed);
        (ports != 0).then_some(((ports >> 16) as u16, ports as u16))
    }
}

/// What control sees of a lane.
#[derive(Debug)]
pub(crate) struct LaneHandle {
    pub(crate) counters: LaneCounters,
    /// Wakes the lane.
    pub(crate) bell: EventFd,
    /// Whether the inbox may hold something.
    waiting: AtomicBool,
    /// The lane waits for the kernel to tell it of frames, and has none in hand.
    asleep: AtomicBool,
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
    /// Work by this, with so many flows for this lane.
    Tune(Tuning, usize, Sender<()>),
    /// Apply actions to a frame.
    Execute(Execute),
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
            asleep: AtomicBool::new(false),
            inbox: Mutex::new(Vec::new()),
        })
    }

    /// Hands a command to the lane, and wakes it if it sleeps. Returns how many wait for it.
    pub(crate) fn send(&self, command: Command) -> usize {
        let count = {
            let mut inbox = lock(&self.inbox);
            inbox.push(command);
            inbox.len()
        };
        // Who handed over the first of those that wait has rung, or the lane was awake and looks before it sleeps.
        if !self.waiting.swap(true, Ordering::AcqRel) && self.is_asleep() {
            self.bell.ring();
        }
        count
    }

    /// Whether the lane sleeps, with nothing to do that was handed to it before this call.
    pub(crate) fn is_idle(&self) -> bool {
        // In this order: a lane takes its commands only once it is no longer taken for asleep.
        !self.waiting.load(Ordering::Acquire) && self.is_asleep()
    }

    /// Whether the lane sleeps, and will take notice of everything that was published, or handed to it, before this
    /// call as soon as it wakes, before it touches a frame.
    ///
    /// Lane and caller each write one thing and then read the other's: the lane that it is awake, then the mailbox of
    /// changes; the caller a change, then whether the lane sleeps. A fence stands between write and read on both sides
    /// (here, and in [`LaneHandle::wake_up`] and [`LaneHandle::fall_asleep`]), so that at least one of them sees what
    /// the other wrote: if the caller sees an old "asleep", the lane sees the change.
    pub(crate) fn is_asleep(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Acquire)
    }

    /// The lane is about to sleep. False: it must not, for a command waits.
    pub(crate) fn fall_asleep(&self) -> bool {
        // What was done in the last batch is done for whoever sees this.
        self.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) {
            self.wake_up();
            return false;
        }
        true
    }

    /// The lane is awake, and is to look at the changes next.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// Begins a round in step with the other thread.
    fn meet(arrived: &AtomicU64, round: u64) {
        arrived.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0u32;
        while arrived.load(Ordering::Acquire) < 2 * round {
            spins += 1;
            if spins.is_multiple_of(1 << 12) {
                std::thread::yield_now();
            }
        }
    }

    /// A lane that wakes while something is published: it never happens that the publisher takes it for asleep and
    /// the lane misses what was published.
    #[test]
    fn who_is_taken_for_asleep_sees_the_change() {
        const ROUNDS: u64 = 100_000;
        let handle = LaneHandle::new().unwrap();
        let (dirty, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
        let missed = std::thread::scope(|scope| {
            let lane = scope.spawn(|| {
                let mut missed = Vec::with_capacity(ROUNDS as usize);
                for round in 0..ROUNDS {
                    assert!(handle.fall_asleep());
                    dirty.store(false, Ordering::Relaxed);
                    meet(&arrived, 2 * round + 1);
                    handle.wake_up();
                    missed.push(!dirty.load(Ordering::Relaxed));
                    meet(&arrived, 2 * round + 2);
                }
                missed
            });
            let mut asleep = Vec::with_capacity(ROUNDS as usize);
            for round in 0..ROUNDS {
                meet(&arrived, 2 * round + 1);
                dirty.store(true, Ordering::Relaxed);
                asleep.push(handle.is_asleep());
                meet(&arrived, 2 * round + 2);
            }
            let missed = lane.join().unwrap();
            missed.iter().zip(&asleep).filter(|(missed, asleep)| **missed && **asleep).count()
        });
        assert_eq!(missed, 0);
    }

    #[test]
    fn nobody_sleeps_over_a_command() {
        let handle = LaneHandle::new().unwrap();
        handle.send(Command::Stop);
        assert!(!handle.fall_asleep() && !handle.is_asleep());
        assert_eq!(handle.take().len(), 1);
        assert!(handle.fall_asleep() && handle.is_asleep());
    }
}
