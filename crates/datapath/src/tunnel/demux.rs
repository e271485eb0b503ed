//! Which tunnel port does an outer header lead to? The pipeline's answers, remembered.

use std::sync::Arc;

use weft_flow::{DpPort, DropReason, TunnelKey, TunnelKind};
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

/// A lane's way to [`Snapshot::tunnel_demux`].
pub(crate) struct Demux {
    snapshot: Arc<Snapshot>,
    known: Box<[Option<Known>; MEMORY]>,
    listener: Option<TunnelListener>,
}

impl Demux {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Demux { snapshot, known: Box::new([None; MEMORY]), listener: None }
    }

    /// Asks another snapshot from now on.
    pub(crate) fn renew(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
        self.known.fill(None);
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
        // What an answer rests on; not TOS, TTL or source port, which differ from packet to packet.
        let key = TunnelKey { tos: 0, ttl: 0, tp_src: 0, ..*key };
        let mix = |h: u64, w: &u64| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let hash = key.words().iter().fold(0, mix);
        let entry = &mut self.known[(hash >> 32) as usize % MEMORY];
        match entry {
            Some(known) if known.key == key && (known.kind, known.dst_port) == (kind, dst_port) => {
                known.answer
            }
            _ => {
                let answer = self.snapshot.tunnel_demux(kind, dst_port, &key);
                *entry = Some(Known { kind, dst_port, key, answer });
                answer
            }
        }
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
