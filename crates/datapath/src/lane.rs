//! What does a lane do all day? This is the packet's life, on one screen.
//!
//! ```text
//!  sleep ──▶ receive ──▶ follow changes ──▶ parse ──▶ look up ──hit──▶ act by group ──▶ send ──▶ receive …
//!    ▲                                                  │ miss            ▲    │ decapsulated
//!    │ nothing came                                     ▼                 │    ▼
//!    └─────────────────────────                  walk the tables ── install   look up again
//! ```
//!
//! A lane is a thread that owns its sources, caches and buffers; it shares nothing that is written per packet.
//! Batches run to completion. While frames come it goes round its ready sources; when none is ready it sleeps in
//! epoll and costs nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use weft_flow::DpPort;
use weft_host::poll::{Epoll, Event, interest};
use weft_pipeline::Changes;

use crate::arch::ticks;
use crate::batch::Batch;
use crate::clock::now_ms;
use crate::epoch::Epochs;
use crate::executor::Executor;
use crate::fair::Fairness;
use crate::flows::FlowTable;
use crate::packet::BATCH;
use crate::ports::{Received, Source};
use crate::recirc::BUDGET;
use crate::shared::{LaneHandle, Shared};
use crate::tunnel::Demux;

/// Milliseconds between sweeps over the cached flows: crediting, ageing, sorting masks.
pub(crate) const SWEEP_MS: u64 = 500;
/// Milliseconds without a hit after which a flow goes, unless told.
pub(crate) const MAX_IDLE_MS: u64 = 10_000;
/// Rounds over the ready sources before epoll is asked for others.
const ROUNDS: u32 = 8;
/// Epoll's word for the bell.
const BELL: u64 = u64::MAX;

/// A lane. See the module's text.
pub(crate) struct Lane {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: usize,
    pub(crate) changes: Changes,
    pub(crate) demux: Demux,
    pub(crate) epochs: Epochs,
    pub(crate) flows: FlowTable,
    pub(crate) batch: Batch,
    pub(crate) exec: Executor,
    pub(crate) sources: Vec<Option<Source>>,
    /// Places among them that are free, and those of each port; `None`: of what is no port's.
    free: Vec<usize>,
    places: HashMap<Option<DpPort>, Vec<usize>>,
    /// Sources that may have frames now.
    pub(crate) ready: Vec<usize>,
    pub(crate) epoll: Epoll,
    pub(crate) now_ms: u64,
    /// When the next sweep begins, and where the one that is under way stands.
    pub(crate) next_sweep_ms: u64,
    pub(crate) sweep_at: Option<usize>,
    /// Whether there are sweeps.
    pub(crate) sweeps: bool,
    /// Milliseconds without a hit after which a flow goes.
    pub(crate) max_idle_ms: u64,
    /// VLAN tags that headers are read behind.
    pub(crate) vlan_limit: usize,
    pub(crate) fair: Fairness,
    pub(crate) stopped: bool,
}

impl Lane {
    pub(crate) fn new(shared: &Arc<Shared>, number: usize, flow_limit: usize) -> std::io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut flows = FlowTable::new(flow_limit, shared.seed);
        flows.charge(&shared.rule_drops);
        epoll.add(&shared.lanes[number].bell, interest::READ, BELL)?;
        Ok(Lane {
            changes: shared.pipeline.subscribe(),
            demux: Demux::new(shared.pipeline.snapshot()),
            epochs: Epochs::default(),
            flows,
            batch: Batch::new(),
            exec: Executor::new(shared, number)?,
            sources: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            ready: Vec::new(),
            epoll,
            now_ms: now_ms(),
            next_sweep_ms: 0,
            sweep_at: None,
            sweeps: true,
            max_idle_ms: MAX_IDLE_MS,
            vlan_limit: weft_flow::MAX_VLANS,
            fair: Fairness::default(),
            stopped: false,
            shared: shared.clone(),
            number,
        })
    }

    /// Works until told to stop.
    pub(crate) fn run(mut self) {
        let mut round = 0u32;
        loop {
            self.now_ms = now_ms();
            self.exec.now_ms = self.now_ms;
            self.obey();
            if self.stopped {
                break;
            }
            // Also when nothing gets as far as a batch: what is refused on receipt is refused by the newest word.
            self.follow_changes();
            self.poll_sources();
            self.sweep_some();
            round = round.wrapping_add(1);
            if self.ready.is_empty() && self.sweep_at.is_none() {
                self.sleep();
            } else if round.is_multiple_of(ROUNDS) {
                self.look_for_ready(Some(0));
            }
        }
    }

    /// One round over the ready sources.
    fn poll_sources(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        let least = self.fair.round(&ready);
        ready.retain(|index| {
            let Some(source) = self.sources.get_mut(*index).and_then(Option::as_mut) else { return false };
            if !self.fair.may(*index, least) {
                return true;
            }
            let start = ticks();
            let Received { frames, more, gone } =
                source.receive(&mut self.exec, &mut self.batch, &mut self.demux);
            if frames > 0 {
                self.process(frames);
            }
            self.fair.turn_ends(*index, start);
            if gone {
                self.drop_source(*index);
            }
            more && !gone
        });
        self.ready = ready;
    }

    /// The packet's life, after it was received into the first `frames` buffers.
    #[inline]
    pub(crate) fn process(&mut self, frames: usize) {
        self.follow_changes();
        self.batch.begin(frames);
        self.decide();
        self.finish();
    }

    /// From frame to actions, for the packets of the batch.
    #[inline]
    fn decide(&mut self) {
        self.parse();
        self.police();
        self.look_up();
        self.act();
        self.batch.end(&mut self.exec.pool);
    }

    /// What was decapsulated, or recirculated, is looked up again; then everything is sent.
    #[inline]
    pub(crate) fn finish(&mut self) {
        if !(self.exec.popped.is_empty() && self.exec.resumed.is_empty()) {
            self.go_on();
        }
        // Errors about errors are never sent, so this ends.
        while !self.exec.tunnel.mtus.answers.is_empty() {
            self.begin_answers();
            self.decide();
            self.go_on();
        }
        self.exec.flush();
        self.exec.reassembled = false;
    }

    /// Looks up again what waits for it.
    fn go_on(&mut self) {
        loop {
            if !self.exec.popped.is_empty() {
                self.exec.passes = 0;
                if self.begin_popped() {
                    self.decide();
                }
            } else if self.begin_resumed() {
                self.decide();
            } else {
                break;
            }
        }
        (self.exec.depth, self.exec.passes, self.exec.budget) = (0, 0, BUDGET);
    }

    /// Takes notice of what was published since: cached flows of an older epoch are checked when they are next hit.
    #[inline]
    pub(crate) fn follow_changes(&mut self) {
        if let Some(changed) = self.changes.take() {
            self.epochs.follow(changed);
            if changed.tables {
                self.demux.renew(self.shared.pipeline.snapshot());
            }
        }
    }

    fn sleep(&mut self) {
        let timeout = (self.flows.len() > 0).then(|| {
            let wait = self.next_sweep_ms.saturating_sub(self.now_ms).clamp(1, SWEEP_MS);
            wait as u32
        });
        if !self.handle().fall_asleep() {
            return;
        }
        self.handle().counters.lane_sleeps.add(1);
        self.fair.slept();
        self.look_for_ready(timeout);
        // The next thing that `run` does is to look at commands and changes.
        self.handle().wake_up();
    }

    /// Asks epoll which sources have frames, waiting up to `timeout` ms for one.
    fn look_for_ready(&mut self, timeout: Option<u32>) {
        let mut events = [Event::EMPTY; 64];
        let events = match self.epoll.wait(&mut events, timeout) {
            Ok(events) => events,
            Err(_) => {
                // Cannot happen with a valid descriptor; never spin on it.
                std::thread::sleep(Duration::from_millis(10));
                return;
            }
        };
        for event in events {
            match event.token() {
                BELL => drop(self.handle().bell.clear()),
                token => {
                    let index = token as usize;
                    if !self.ready.contains(&index) {
                        self.fair.joined(index);
                        self.ready.push(index);
                    }
                }
            }
        }
    }

    pub(crate) fn handle(&self) -> &LaneHandle {
        &self.shared.lanes[self.number]
    }

    /// Begins to receive from a source.
    pub(crate) fn add_source(&mut self, source: Source) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.sources.push(None);
            self.sources.len() - 1
        });
        let watched = match source.fd() {
            Some(fd) => self.epoll.add(fd, interest::READ, index as u64),
            None => Ok(()),
        };
        if watched.is_err() {
            self.free.push(index);
        } else {
            self.places.entry(source.port()).or_default().push(index);
            self.sources[index] = Some(source);
            self.fair.joined(index);
            self.ready.push(index);
        }
    }

    /// Stops receiving from a source.
    pub(crate) fn drop_source(&mut self, index: usize) {
        let Some(source) = self.sources.get_mut(index).and_then(Option::take) else { return };
        self.free.push(index);
        self.ready.retain(|ready| *ready != index);
        let port = source.port();
        if let Some(places) = self.places.get_mut(&port) {
            places.retain(|place| *place != index);
            if places.is_empty() {
                self.places.remove(&port);
            }
        }
        if let Some(fd) = source.fd() {
            // The descriptor may be shared with senders and stay open.
            let _ = self.epoll.remove(fd);
        }
    }

    /// Stops receiving from some of the sources of a port, or of those that are no port's.
    pub(crate) fn drop_sources(&mut self, port: Option<DpPort>, is_it: impl Fn(&Source) -> bool) {
        for index in self.places.get(&port).cloned().unwrap_or_default() {
            if self.sources[index].as_ref().is_some_and(&is_it) {
                self.drop_source(index);
            }
        }
    }
}

// Sets of packets are kept in 32 bits.
const _: () = assert!(BATCH == 32, "Batch keeps sets of packets in 32 bits");
