//! How does what a session says reach its peer, without one that does not read costing more than a bounded memory?
//!
//! ```text
//!   requests ─▶ waiting (while an answer is being given)
//!   answers, dumps, packet-ins ─▶ session output ─▶ socket queue (up to HIGH) ─▶ peer
//! ```
//! The socket's queue takes more only while little waits in it, so that a session knows when its peer is slow: then it
//! drops asynchronous messages, dumps stand still, and nothing more is read.

use std::collections::VecDeque;

use weft_openflow::msg::packet_in::reason;
use weft_openflow::session::{ReplyTo, Request, Spare, SwitchSession};

use super::dump::Dump;
use super::packet_ins::PacketIns;
use super::packets::Waiting;
use crate::stream::{Conn, EndpointId};

/// Bytes in the socket's queue above which output stays in the session.
const HIGH: usize = 512 << 10;
/// Bytes handed to the socket at once.
const PIECE: usize = 64 << 10;
/// Bytes waiting in the session beyond which nothing more is read from the peer.
const PAUSE: usize = 256 << 10;
/// Requests waiting beyond which nothing more is read.
const MAX_WAITING: usize = 64;
/// Milliseconds after which a peer that reads nothing of what waits for it is given up.
const STALLED_MS: u64 = 60_000;
/// Milliseconds a peer has to agree on a version.
const HELLO_MS: u64 = 30_000;

/// A connection.
pub(super) struct Connection {
    pub(super) conn: Conn,
    pub(super) session: SwitchSession,
    pub(super) bridge: u32,
    pub(super) endpoint: EndpointId,
    /// Whether it is a controller of the Controller table with a part in the fail mode.
    pub(super) primary: bool,
    /// Copies of messages go to onlookers too.
    pub(super) snooped: bool,
    /// Requests behind an answer that is being given.
    pub(super) waiting: VecDeque<(ReplyTo, Request)>,
    /// The answer being given.
    pub(super) dump: Option<Dump>,
    /// Packets on their way to the controller.
    pub(super) packet_ins: PacketIns,
    opened_ms: u64,
    /// Bytes written when it was last looked at, and since when there were no more.
    progress: (u64, u64),
}

/// What became of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// As much went as could.
    Done,
    /// Requests that waited may go on.
    Resumed,
    /// The peer is too slow: the connection is over.
    Overflow,
}

impl Connection {
    pub(super) fn new(
        conn: Conn,
        session: SwitchSession,
        bridge: u32,
        endpoint: EndpointId,
        now: u64,
    ) -> Connection {
        Connection {
            conn,
            session,
            bridge,
            endpoint,
            primary: false,
            snooped: false,
            waiting: VecDeque::new(),
            dump: None,
            packet_ins: PacketIns::default(),
            opened_ms: now,
            progress: (0, now),
        }
    }

    /// Whether a request has to wait for an answer that is being given.
    pub(super) fn is_busy(&self) -> bool {
        self.dump.is_some() || !self.waiting.is_empty()
    }

    /// Whether so much waits for the peer that what nobody asked for is dropped.
    pub(super) fn is_congested(&self) -> bool {
        self.session.backlog() > PAUSE
    }

    /// Moves output to the socket while there is room, and makes more of an answer that is being given. Every piece is
    /// shown to `see`.
    pub(super) fn pump(&mut self, mut see: impl FnMut(&[u8])) -> Pumped {
        let mut resumed = false;
        loop {
            while self.conn.queued() < HIGH && !self.session.output().is_empty() {
                let output = self.session.output();
                let piece = output[..output.len().min(PIECE)].to_vec();
                self.session.consume(piece.len());
                see(&piece);
                if self.conn.send(piece).is_err() {
                    return Pumped::Overflow;
                }
            }
            if !self.session.output().is_empty() || self.conn.queued() >= HIGH {
                self.conn.tell_when_drained();
                break;
            }
            if self.session.closed().is_some() {
                // What is left of answers would never be taken.
                self.dump = None;
                self.waiting.clear();
            }
            let Some(dump) = &mut self.dump else { break };
            if dump.next_part(&mut self.session) {
                // Its last part goes now: nothing else may come to send it.
                self.dump = None;
                resumed = true;
            }
        }
        let full = self.is_congested() || self.dump.is_some() || self.waiting.len() > MAX_WAITING;
        self.conn.pause_reading(full);
        if resumed { Pumped::Resumed } else { Pumped::Done }
    }

    /// Sends a packet to the controller, or drops it when the controller does not keep up.
    pub(super) fn send_packet_in(&mut self, waiting: Waiting, spare: &mut Spare) {
        if self.is_congested() {
            self.packet_ins.congested += 1;
            return;
        }
        let Waiting { controller, mut message } = waiting;
        // A packet that no rule matched is cut to what the controller wants of those.
        let wanted = self.session.miss_send_len();
        if message.reason == reason::NO_MATCH && wanted != u16::MAX {
            message.data.truncate(usize::from(wanted));
        }
        self.session.packet_in_with(controller, message, spare);
    }

    /// Why a peer that keeps silent, or does not read, is to be given up.
    pub(super) fn give_up(&mut self, now: u64) -> Option<&'static str> {
        if self.session.version().is_none() && now >= self.opened_ms + HELLO_MS {
            return Some("no hello");
        }
        let written = self.conn.written();
        if self.conn.queued() == 0 || written != self.progress.0 {
            self.progress = (written, now);
        }
        (now >= self.progress.1 + STALLED_MS).then_some("the peer does not read what it is sent")
    }
}
