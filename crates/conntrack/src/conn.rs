//! What is kept of a connection, in one cache line?
//!
//! What few connections have, a translation, a label, a helper, stands in a box of its own.

use crate::key::{End, Key, mapped, state};
use crate::sctp::{Sctp, SctpState};
use crate::sequence::Shift;
use crate::tcp::{Tcp, TcpState};

/// How far a connection's protocol has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proto {
    Tcp(Tcp),
    Sctp(Sctp),
    Icmp {
        answered: bool,
    },
    /// UDP and everything else: whether there was an answer, or more than one packet.
    Other {
        answered: bool,
        many: bool,
    },
}

impl Proto {
    /// Whether both ends have agreed to it, and neither has ended it: it does not give way to others.
    pub(crate) fn is_assured(&self) -> bool {
        match self {
            Proto::Tcp(tcp) => tcp.peers.iter().all(|peer| peer.state == TcpState::Established),
            Proto::Sctp(sctp) => sctp.state == SctpState::Established,
            Proto::Icmp { answered } | Proto::Other { answered, .. } => *answered,
        }
    }
}

/// What few connections have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub(crate) label: u128,
    /// Of SCTP: verification tags of an association that is being begun in place of this one.
    pub(crate) restart: [u32; 2],
    /// Packets of the replies, before they are translated back, if that is not the original direction reversed.
    reply: Option<Key>,
    pub(crate) helped: Option<Box<Helped>>,
}

/// What connections have that announce others, or were announced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Helped {
    /// Helper: 21 FTP, 69 TFTP, 0 none.
    pub(crate) alg: u16,
    /// The connection that announced this one, by its original direction.
    pub(crate) master: Option<Key>,
    /// What was put into, or taken out of, the stream of each direction.
    pub(crate) shifts: [Shift; 2],
}

/// Addresses of both ends: source and destination of the original direction.
#[derive(Clone, Debug)]
enum Addrs {
    V4(u32, u32),
    V6(Box<[[u8; 16]; 2]>),
}

/// A point in time, in steps of 16 ms. It wraps after two years; what is compared lies closer together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick(pub(crate) u32);

/// Farthest that a time may lie ahead, in ticks: half a year.
const FARTHEST: u64 = 1 << 30;

impl Tick {
    /// The step that a time lies in.
    pub(crate) fn of(ms: u64) -> Tick {
        Tick((ms >> 4) as u32)
    }

    /// The first step that begins `after_ms` later, or half a year if that is sooner.
    pub(crate) fn after(now_ms: u64, after_ms: u64) -> Tick {
        Tick(((now_ms + after_ms.min(FARTHEST << 4) + 15) >> 4) as u32)
    }

    /// Whole seconds until then.
    pub(crate) fn seconds_from(self, now_ms: u64) -> u64 {
        let steps = u64::try_from(self.since(Tick::of(now_ms))).unwrap_or(0);
        ((steps << 4).saturating_sub(now_ms & 15)) / 1000
    }

    /// Steps from `earlier` to this; negative if it is the later one.
    pub(crate) fn since(self, earlier: Tick) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// A committed connection.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    addrs: Addrs,
    pub(crate) extra: Option<Box<Extra>>,
    pub(crate) proto: Proto,
    pub(crate) mark: u32,
    /// When it ends.
    pub(crate) expires: Tick,
    ports: (u16, u16),
    pub(crate) zone: u16,
    number: u8,
    answer: bool,
}

/// Connections are found, moved on and refreshed by touching a single line.
const _: () = assert!(size_of::<Option<Conn>>() == 64);

impl Conn {
    /// A connection whose packets of the original direction are named `orig`.
    pub(crate) fn new(orig: &Key, proto: Proto, expires: Tick) -> Conn {
        let addrs = if orig.v6 {
            Addrs::V6(Box::new([orig.src.addr, orig.dst.addr]))
        } else {
            Addrs::V4(orig.src.v4(), orig.dst.v4())
        };
        Conn {
            addrs,
            extra: None,
            proto,
            mark: 0,
            expires,
            ports: (orig.src.port, orig.dst.port),
            zone: orig.zone,
            number: orig.proto,
            answer: orig.answer,
        }
    }

    /// Packets of the original direction, before translation.
    pub(crate) fn orig(&self) -> Key {
        let (src, dst, v6) = match &self.addrs {
            Addrs::V4(src, dst) => (mapped(*src), mapped(*dst), false),
            Addrs::V6(addrs) => (addrs[0], addrs[1], true),
        };
        Key {
            src: End { addr: src, port: self.ports.0 },
            dst: End { addr: dst, port: self.ports.1 },
            zone: self.zone,
            proto: self.number,
            v6,
            answer: self.answer,
        }
    }

    /// Packets of the replies, before they are translated back.
    pub(crate) fn reply(&self) -> Key {
        self.translation().copied().unwrap_or_else(|| self.orig().reversed())
    }

    fn translation(&self) -> Option<&Key> {
        self.extra.as_ref()?.reply.as_ref()
    }

    /// Has the replies named otherwise than by the original direction reversed.
    pub(crate) fn translate(&mut self, reply: Key) {
        if reply != self.orig().reversed() {
            self.extra_mut().reply = Some(reply);
        }
    }

    /// Whether packets of the original direction are named so.
    pub(crate) fn is_orig(&self, key: &Key) -> bool {
        self.is(key, &key.src, &key.dst) && self.answer == key.answer
    }

    /// Whether packets of the replies are named so.
    pub(crate) fn is_reply(&self, key: &Key) -> bool {
        match self.translation() {
            Some(reply) => reply == key,
            None => self.is(key, &key.dst, &key.src) && self.answer == (key.answer != key.is_icmp()),
        }
    }

    fn is(&self, key: &Key, src: &End, dst: &End) -> bool {
        if self.ports != (src.port, dst.port) || (self.zone, self.number) != (key.zone, key.proto) {
            return false;
        }
        match &self.addrs {
            Addrs::V4(a, b) => !key.v6 && (*a, *b) == (src.v4(), dst.v4()),
            Addrs::V6(addrs) => key.v6 && addrs[0] == src.addr && addrs[1] == dst.addr,
        }
    }

    /// The rare parts, to change.
    pub(crate) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// What it has to do with helpers.
    pub(crate) fn helped(&self) -> Option<&Helped> {
        self.extra.as_ref()?.helped.as_deref()
    }

    /// The same, to change; nothing is made.
    pub(crate) fn helped_mut(&mut self) -> Option<&mut Helped> {
        self.extra.as_mut()?.helped.as_deref_mut()
    }

    /// The connection that announced it.
    pub(crate) fn master(&self) -> Option<&Key> {
        self.helped()?.master.as_ref()
    }

    pub(crate) fn label(&self) -> u128 {
        self.extra.as_ref().map_or(0, |e| e.label)
    }

    /// Changes the bits of the label that `mask` has.
    pub(crate) fn set_label(&mut self, value: u128, mask: u128) {
        let label = self.label() & !mask | value & mask;
        if label != self.label() {
            self.extra_mut().label = label;
        }
    }

    /// Whether its time is over.
    pub(crate) fn is_over(&self, now: Tick) -> bool {
        self.expires.since(now) <= 0
    }

    /// Whether addresses or ports are translated.
    pub(crate) fn translated(&self) -> bool {
        self.translation().is_some()
    }

    /// Bits of `ct_state` that tell of the translation.
    pub(crate) fn nat_bits(&self) -> u16 {
        let Some(reply) = self.translation() else { return 0 };
        let orig = self.orig();
        let source = if orig.src != reply.dst { state::SNAT } else { 0 };
        let destination = if orig.dst != reply.src { state::DNAT } else { 0 };
        source | destination
    }

    /// How packets of a direction are named once they are translated.
    pub(crate) fn outcome(&self, reply: bool) -> Key {
        if reply { self.orig().reversed() } else { self.reply().reversed() }
    }
}
