//! How does a frame pass connection tracking?
//!
//! [`weft_conntrack`] decides; here frames are shown to it, and changed as it says, with their checksums kept right
//! whoever completes them. Fragments wait there until their datagram is complete, which then goes on as one frame and
//! is fragmented again where it leaves.

use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;
use weft_conntrack::{Conntrack, CtPacket, Edits, Reassembled};
use weft_flow::{CtSpec, DpPort, DropReason, L3Kind, PacketKey, TunnelOut};
use weft_wire::checksum::{self, Sum};
use weft_wire::fragment::Fragmenter;
use weft_wire::ipv4;
use weft_wire::vnet::{self, Csum};

use crate::executor::Executor;
use crate::hand::Hand;
use crate::packet::{BATCH, Packet, Slot};
use crate::rewrite;

impl Executor {
    /// Has frames tracked: each has its own connection in its [`crate::meta::Meta`] after. `known` are their headers, if
    /// no action changed them since they were read.
    pub(crate) fn track<'k>(
        &mut self,
        hand: &mut Hand,
        spec: &CtSpec,
        mut known: impl Iterator<Item = &'k PacketKey>,
    ) {
        self.each(hand, |exec, hand, at| {
            let known = known.next();
            if !exec.own(hand, at) {
                return false;
            }
            let slot = hand.slots[at];
            let passed = exec.track_one(slot, spec, known);
            if let Err(Some(reason)) = passed {
                exec.drop_slot(slot, reason);
            }
            passed.is_ok()
        });
    }

    /// Tracks one frame, which may be changed. The error says why it goes no further; `None`: its bytes are kept until
    /// the other fragments come.
    fn track_one(
        &mut self,
        slot: Slot,
        spec: &CtSpec,
        known: Option<&PacketKey>,
    ) -> Result<(), Option<DropReason>> {
        if let Some(key) = known.filter(|key| key.ip_frag == 0) {
            return pass(&self.shared.conntrack, self.pool.get_mut(slot), key, spec, self.now_ms);
        }
        let now_ms = self.now_ms;
        let Executor { shared, pool, reassembled, .. } = self;
        let packet = pool.get_mut(slot);
        // The list may have changed what was known when the frame was looked up.
        let mut key = packet.read_headers().map_err(Some)?;
        if key.ip_frag != 0 {
            let fragment =
                CtPacket { frame: packet.data(), layout: &packet.layout, key: &key, checksums_good: true };
            match shared.conntrack.reassemble(&fragment, spec.zone, now_ms) {
                Reassembled::Held => return Err(None),
                Reassembled::Alone => {
                    Conntrack::refuse(packet.meta.ct_mut(), spec.zone);
                    return Ok(());
                }
                Reassembled::Dropped(reason) => return Err(Some(reason)),
                Reassembled::Whole { frame, mru } => {
                    if !packet.become_whole(&frame, mru) {
                        return Err(Some(DropReason::FrameTooLong));
                    }
                    *reassembled = true;
                }
            }
            key = packet.read_headers().map_err(Some)?;
            packet.flow_hash = key.flow_hash5(shared.seed);
        }
        pass(&shared.conntrack, packet, &key, spec, now_ms)
    }

    /// Outputs a frame that was put together from fragments, in fragments no longer than those were.
    pub(crate) fn output_fragments(&mut self, port: DpPort, slot: Slot, outer: Option<&TunnelOut>) {
        let id = self.serial(1);
        let mtu = self.port(port).map_or(0, |port| port.mtu.load(Relaxed)) as usize;
        let whole = self.pool.detach(slot);
        let (in_port, flow_hash) = (whole.in_port, whole.flow_hash);
        let most = usize::from(whole.meta.mru).min(if mtu == 0 { usize::MAX } else { mtu });
        let (mut frame, mut offload) = (whole.data().to_vec(), whole.offload);
        if whole.layout.kind == L3Kind::Ipv4 {
            allow_fragments(&mut frame, usize::from(whole.layout.l3));
        }
        self.pool.attach(slot, whole);
        let cut = vnet::complete_checksum(&mut frame, &mut offload);
        let cut = cut
            .map_err(|_| DropReason::BadOffloadHeader)
            .and_then(|()| Fragmenter::new(&frame, most, id).map_err(|_| DropReason::MtuExceeded));
        let cut = match cut {
            Ok(cut) => cut,
            Err(reason) => return self.drop_received(in_port, reason, 1),
        };
        let mut index = 0;
        while index < cut.count() {
            if self.pool.spare() < cut.count() {
                self.flush();
            }
            let mut part: SmallVec<[Slot; BATCH]> = SmallVec::new();
            while index < cut.count()
                && part.len() < BATCH
                && let Some(to) = self.pool.take()
            {
                part.push(to);
                let packet = self.pool.get_mut(to);
                packet.received(0, in_port);
                let len = cut.write(index, packet.room_mut()).unwrap_or(0);
                packet.set_len(len);
                packet.flow_hash = flow_hash;
                // What is not even an Ethernet header goes nowhere.
                let _ = rewrite::look_again(packet);
                index += 1;
            }
            if part.is_empty() {
                return self.drop_received(in_port, DropReason::TxQueueFull, 1);
            }
            self.output(port, &part, outer);
            part.iter().for_each(|slot| self.pool.release(*slot));
        }
    }
}

/// Has a frame with these headers tracked, and changes it as that says.
fn pass(
    conntrack: &Conntrack,
    packet: &mut Packet,
    key: &PacketKey,
    spec: &CtSpec,
    now_ms: u64,
) -> Result<(), Option<DropReason>> {
    let mut ct = *packet.meta.ct_mut();
    let tracked = CtPacket {
        frame: packet.data(),
        layout: &packet.layout,
        key,
        checksums_good: packet.offload.csum != Csum::None,
    };
    // Looked at where it stands: nearly always it says that nothing changes.
    match &conntrack.execute(&tracked, &mut ct, spec, now_ms) {
        Ok(edits) => {
            *packet.meta.ct_mut() = ct;
            if edits.is_empty() {
                return Ok(());
            }
            edit(packet, edits).map_err(|_| Some(DropReason::BadAction))
        }
        Err(reason) => Err(Some(*reason)),
    }
}

/// Clears "don't fragment" in an IPv4 header: it came in fragments all the same.
fn allow_fragments(frame: &mut [u8], l3: usize) {
    let Some(header) = frame.get_mut(l3..l3 + ipv4::MIN_HEADER_LEN) else { return };
    let field = |header: &[u8], at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let old = field(header, ipv4::field::FRAG);
    let new = old & !ipv4::Ipv4Frag::DF;
    let sum = checksum::update(field(header, ipv4::field::CHECKSUM), Sum::word(old), Sum::word(new));
    header[ipv4::field::FRAG..][..2].copy_from_slice(&new.to_be_bytes());
    header[ipv4::field::CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
}

/// Changes a frame as connection tracking says.
fn edit(packet: &mut Packet, edits: &Edits) -> Result<(), rewrite::NotThere> {
    for field in &edits.fields {
        rewrite::set_field(packet, field)?;
    }
    for patch in &edits.patches {
        rewrite::patch(packet, patch.at, &patch.bytes)?;
    }
    match &edits.splice {
        Some(splice) => rewrite::splice(packet, splice.at, splice.remove, &splice.insert),
        None => Ok(()),
    }
}
