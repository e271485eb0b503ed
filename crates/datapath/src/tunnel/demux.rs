//! Which tunnel port does an outer header lead to? The pipeline's answers, remembered.

use std::sync::Arc;

use weft_flow::{DpPort, DropReason, TUNNEL_WORDS, TunnelKey, TunnelKind};
use weft_pipeline::{Snapshot, TunnelListener};

/// Answers remembered.
const MEMORY: usize = 64;

/// A question and its answer.
#[derive(Clone, Copy)]
struct Known {
    kind: TunnelKind,
    dst_port: u16,
    key: TunnelKey,
    answer: Result<DpPort, DropReason>,
}

/// The bits of each word of a key that an answer rests on: all but TOS, TTL and source port, which differ from packet to
/// packet.
const ASKED: [u64; TUNNEL_WORDS] = {
    let mut words = [u64::MAX; TUNNEL_WORDS];
    // Word 6: flags (16 bits), TOS, TTL (8 each), source and destination port (16 each), in order of memory.
    words[6] = u64::from_ne_bytes([0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff]);
    words
};

impl Known {
    #[inline(always)]
    fn is(&self, kind: TunnelKind, dst_port: u16, key: &TunnelKey) -> bool {
        let words = self.key.words().iter().zip(key.words()).zip(&ASKED);
        let differ = words.fold(0, |differ, ((a, b), mask)| differ | (a ^ b) & mask);
        differ == 0 && (self.kind, self.dst_port) == (kind, dst_port)
    }
}

/// A lane's way to [`Snapshot::tunnel_demux`].
pub(crate) struct Demux {
    snapshot: Arc<Snapshot>,
    known: Box<[Option<Known>; MEMORY]>,
    /// The last answer given.
    last: Option<Known>,
    listener: Option<TunnelListener>,
}

impl Demux {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Demux { snapshot, known: Box::new([None; MEMORY]), last: None, listener: None }
    }

    /// Asks another snapshot from now on.
    pub(crate) fn renew(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
        self.known.fill(None);
        self.last = None;
        self.listener = None;
    }

    /// The port that takes what came with this outer header.
    #[inline]
    pub(crate) fn port(
        &mut self,
        kind: TunnelKind,
        dst_port: u16,
        key: &TunnelKey,
    ) -> Result<DpPort, DropReason> {
        match &self.last {
            Some(last) if last.is(kind, dst_port, key) => last.answer,
            _ => self.remember(kind, dst_port, key),
        }
    }

    #[inline(never)]
    fn remember(&mut self, kind: TunnelKind, dst_port: u16, key: &TunnelKey) -> Result<DpPort, DropReason> {
        let mix = |h: u64, w: &u64| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let asked = TunnelKey { tos: 0, ttl: 0, tp_src: 0, ..*key };
        let hash = asked.words().iter().fold(0, mix);
        let entry = &mut self.known[(hash >> 32) as usize % MEMORY];
        let known = match *entry {
            Some(known) if known.is(kind, dst_port, key) => known,
            _ => {
                let answer = self.snapshot.tunnel_demux(kind, dst_port, &asked);
                *entry.insert(Known { kind, dst_port, key: asked, answer })
            }
        };
        self.last = Some(known);
        known.answer
    }

    /// What a tunnel port listens on.
    #[inline]
    pub(crate) fn listener(&mut self, port: DpPort) -> Result<TunnelListener, DropReason> {
        match self.listener {
            Some(listener) if listener.port == port => Ok(listener),
            _ => {
                let listener = self.snapshot.tunnel_listener(port).ok_or(DropReason::PortGone)?;
                self.listener = Some(TunnelListener { port, ..listener });
                Ok(listener)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_rest_on_all_but_what_differs_from_packet_to_packet() {
        let key = TunnelKey { tos: u8::MAX, ttl: u8::MAX, tp_src: u16::MAX, ..TunnelKey::default() };
        for (word, asked) in key.words().iter().zip(ASKED) {
            assert_eq!(word & asked, 0);
        }
        let key = TunnelKey { flags: u16::MAX, tp_dst: u16::MAX, ..key };
        assert_eq!(key.words()[6], u64::MAX, "nothing else is in that word");
    }
}
