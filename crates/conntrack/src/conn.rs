//! What is kept of a connection?

use crate::key::{Key, state};
use crate::sequence::Shift;
use crate::tcp::Tcp;

/// How far a connection's protocol has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proto {
    Tcp(Tcp),
    Icmp {
        answered: bool,
    },
    /// UDP and everything else: whether there was an answer, or more than one packet.
    Other {
        answered: bool,
        many: bool,
    },
}

/// What few connections have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// Helper: 21 FTP, 69 TFTP, 0 none.
    pub(crate) alg: u16,
    /// The connection that announced this one, by its original direction.
    pub(crate) master: Option<Key>,
    /// What was put into, or taken out of, the stream of each direction.
    pub(crate) shifts: [Shift; 2],
}

/// A committed connection.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    /// Packets of the original direction, before translation.
    pub(crate) orig: Key,
    /// Packets of the replies, before they are translated back.
    pub(crate) reply: Key,
    pub(crate) label: u128,
    pub(crate) mark: u32,
    /// When it ends, milliseconds.
    pub(crate) expires_ms: u64,
    pub(crate) proto: Proto,
    pub(crate) extra: Option<Box<Extra>>,
}

impl Conn {
    /// Whether addresses or ports are translated.
    pub(crate) fn translated(&self) -> bool {
        self.orig != self.reply.reversed()
    }

    /// Bits of `ct_state` that tell of the translation.
    pub(crate) fn nat_bits(&self) -> u16 {
        let source = if self.orig.src != self.reply.dst { state::SNAT } else { 0 };
        let destination = if self.orig.dst != self.reply.src { state::DNAT } else { 0 };
        source | destination
    }

    /// How packets of a direction are named once they are translated.
    pub(crate) fn outcome(&self, reply: bool) -> Key {
        if reply { self.orig.reversed() } else { self.reply.reversed() }
    }
}
