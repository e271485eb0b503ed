//! Which tunnel port does an outer header lead to? The pipeline's answers, remembered.

use std::sync::Arc;

use weft_flow::{DpPort, DropReason, TUNNEL_WORDS, TunMetadata, TunnelKey, TunnelKind};
use weft_pipeline::{Snapshot, TunnelListener};

/// Answers remembered.
const MEMORY: usize = 64;

/// A question and its answer.
#[derive(Clone, Copy)]
struct Known {
    kind: TunnelKind,
    dst_port: u16,
    key: TunnelKey,
    bare: bool,
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
    fn is(&self, kind: TunnelKind, dst_port: u16, key: &TunnelKey, bare: bool) -> bool {
        let words = self.key.words().iter().zip(key.words()).zip(&ASKED);
        let differ = words.fold(0, |differ, ((a, b), mask)| differ | (a ^ b) & mask);
        differ == 0 && (self.kind, self.dst_port, self.bare) == (kind, dst_port, bare)
    }
}

/// A lane's way to [`Snapshot::tunnel_demux`].
pub(crate) struct Demux {
    /// Without rules, which would be kept for as long as ports do not change.
    snapshot: Snapshot,
    known: Box<[Option<Known>; MEMORY]>,
    /// The last answer given.
    last: Option<Known>,
    listener: Option<TunnelListener>,
}

impl Demux {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Demux {
            snapshot: snapshot.without_rules(),
            known: Box::new([None; MEMORY]),
            last: None,
            listener: None,
        }
    }

    /// Asks another snapshot from now on.
    pub(crate) fn renew(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot.without_rules();
        self.known.fill(None);
        self.last = None;
        self.listener = None;
    }

    /// The port that takes what came with this outer header, and begins with an Ethernet header itself or is `bare`.
    #[inline]
    pub(crate) fn port(
        &mut self,
        kind: TunnelKind,
        dst_port: u16,
        key: &TunnelKey,
        bare: bool,
    ) -> Result<DpPort, DropReason> {
        match &self.last {
            Some(last) if last.is(kind, dst_port, key, bare) => last.answer,
            _ => self.remember(kind, dst_port, key, bare),
        }
    }

    #[inline(never)]
    fn remember(
        &mut self,
        kind: TunnelKind,
        dst_port: u16,
        key: &TunnelKey,
        bare: bool,
    ) -> Result<DpPort, DropReason> {
        let mix = |h: u64, w: &u64| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let asked = TunnelKey { tos: 0, ttl: 0, tp_src: 0, ..*key };
        let hash = asked.words().iter().fold(0, mix);
        let entry = &mut self.known[(hash >> 32) as usize % MEMORY];
        let known = match *entry {
            Some(known) if known.is(kind, dst_port, key, bare) => known,
            _ => {
                let answer = self.snapshot.tunnel_demux_any(kind, dst_port, &asked, bare);
                *entry.insert(Known { kind, dst_port, key: asked, bare, answer })
            }
        };
        self.last = Some(known);
        known.answer
    }

    /// The options of a frame for a tunnel port, as fields of the port's bridge; `None`: none of them is one.
    #[inline]
    pub(crate) fn options(&self, port: DpPort, options: &[u8]) -> Result<Option<TunMetadata>, DropReason> {
        if options.is_empty() { Ok(None) } else { self.read_options(port, options) }
    }

    fn read_options(&self, port: DpPort, options: &[u8]) -> Result<Option<TunMetadata>, DropReason> {
        let (bridge, _) = self.snapshot.port_of(port).ok_or(DropReason::NotAttached)?;
        let bridge = self.snapshot.bridge(bridge).ok_or(DropReason::NotAttached)?;
        let known = bridge.tlv.decode(options).map_err(|_| DropReason::TunnelMalformed)?;
        if known.unknown_critical {
            // RFC 8926 §3.5.1.
            return Err(DropReason::TunnelUnknownCritical);
        }
        Ok(Some(known.metadata).filter(|metadata| metadata.present != 0))
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
    use weft_flow::{OfPort, TlvMapping, TlvTable};
    use weft_pipeline::{BridgeConfig, PortConfig, PortKind};

    #[test]
    fn options_are_fields_as_the_bridge_says() {
        let mut snapshot = Snapshot::new();
        let mut bridge = BridgeConfig::new(1, "br0");
        bridge.ports = vec![PortConfig::new(OfPort(3), Some(DpPort(3)), "p", PortKind::Device)].into();
        snapshot.set_bridge(bridge);
        let line = TlvMapping { class: 0x102, kind: 0x80, len: 4, index: 5 };
        snapshot.set_tlv_table(1, TlvTable::new().with(&[line]).unwrap());
        let demux = Demux::new(Arc::new(snapshot));
        let read = |options: &[u8]| demux.options(DpPort(3), options);
        let known = read(&[1, 2, 0x80, 1, 9, 8, 7, 6]).unwrap().unwrap();
        assert_eq!((known.present, &known.data[0][..4]), (1 << 5, &[9, 8, 7, 6][..]));
        let cases: [(&[u8], _); 5] = [
            (&[], Ok(None)),
            (&[1, 2, 0x01, 1, 9, 8, 7, 6], Ok(None)),
            (&[1, 2, 0x81, 1, 9, 8, 7, 6], Err(DropReason::TunnelUnknownCritical)),
            (&[1, 2, 0x80, 2, 9, 8, 7, 6], Err(DropReason::TunnelMalformed)),
            (&[1, 2, 0x80, 0], Err(DropReason::TunnelUnknownCritical)),
        ];
        for (options, wanted) in cases {
            assert_eq!(read(options), wanted, "{options:02x?}");
        }
        assert_eq!(demux.options(DpPort(4), &[1, 2, 1, 0]), Err(DropReason::NotAttached));
    }

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
