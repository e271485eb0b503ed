//! What does each action do to the frames of a flow?
//!
//! Actions run one after another over all frames of a group, the [`Hand`].

use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{
    DpAction, DpPort, DropReason, EncapHeader, Meter, MeterOutcome, PacketKey, ToController, TunnelOut,
};
use weft_wire::segment::Segmenter;
use weft_wire::vnet;

use crate::contract::PacketIn;
use crate::executor::Executor;
use crate::hand::Hand;
use crate::packet::{BATCH, Packet, Slot};
use crate::rewrite;
use crate::tunnel::Popped;
use crate::tunnel::native::{self, Plan};

impl Executor {
    /// Applies an action list to frames that the caller holds.
    pub(crate) fn run(&mut self, slots: &[Slot], actions: &[DpAction]) {
        match actions {
            [DpAction::Output(port)] => self.output(*port, slots, None),
            [DpAction::Recirc(recirc)] => self.recirculate(slots, recirc),
            _ => self.run_list(Hand::of(slots), actions, None),
        }
    }

    /// Applies an action list to frames that the caller holds, and whose headers are these.
    pub(crate) fn run_known<'k>(
        &mut self,
        slots: &[Slot],
        known: impl Iterator<Item = &'k PacketKey>,
        actions: &[DpAction],
    ) {
        let [DpAction::Ct(spec), rest @ ..] = actions else { return self.run(slots, actions) };
        let mut hand = Hand::of(slots);
        self.track(&mut hand, spec, known);
        match rest {
            [DpAction::Recirc(recirc)] => {
                self.recirculate(&hand.slots, recirc);
                self.put_down_all(hand);
            }
            _ => self.run_list(hand, rest, None),
        }
    }

    /// Applies an action list to frames in hand, with an outer header that was set before.
    fn run_list<'a>(&mut self, mut hand: Hand, actions: &'a [DpAction], mut outer: Option<&'a TunnelOut>) {
        let mut trunc = None;
        for (at, action) in actions.iter().enumerate() {
            let rest = &actions[at + 1..];
            match action {
                DpAction::Output(port) => match trunc.take() {
                    None => self.output(*port, &hand.slots, outer),
                    Some(len) => self.output_cut(*port, &hand.slots, outer, len),
                },
                DpAction::SetTunnel(header) => outer = Some(&**header),
                DpAction::Trunc(len) => trunc = Some(*len as usize),
                DpAction::PushVlan { tpid, tci } => {
                    self.change(&mut hand, |packet| rewrite::push_vlan(packet, *tpid, *tci));
                }
                DpAction::PopVlan => self.change(&mut hand, rewrite::pop_vlan),
                DpAction::Set(field) => self.change(&mut hand, |packet| rewrite::set_field(packet, field)),
                DpAction::TunnelPush { header, actions: then } => {
                    self.push_tunnel(&hand.slots, header, rest.is_empty(), then);
                }
                DpAction::TunnelPop(port) => self.pop(&hand.slots, *port),
                DpAction::Clone(then) => self.run_copies(&hand.slots, then, rest.is_empty(), outer),
                DpAction::CheckPktLen { len, greater, not_greater } => {
                    let (long, short) = self.by_length(&hand.slots, usize::from(*len));
                    self.run_copies(&long, greater, rest.is_empty(), outer);
                    self.run_copies(&short, not_greater, rest.is_empty(), outer);
                }
                DpAction::Controller(context) => {
                    for slot in &hand.slots {
                        self.upcall(*slot, context);
                    }
                }
                DpAction::Ct(spec) => self.track(&mut hand, spec, std::iter::empty()),
                DpAction::CtClear => self.change(&mut hand, |packet| {
                    packet.meta.clear_ct();
                    Ok(())
                }),
                DpAction::Hash { basis, symmetric } => self.change(&mut hand, |packet| {
                    packet.meta.ct_mut().dp_hash = hash(packet, *basis, *symmetric);
                    Ok(())
                }),
                DpAction::Recirc(recirc) => self.recirculate(&hand.slots, recirc),
                DpAction::Meter(meter) => self.meter(&mut hand, meter),
                DpAction::Sample { share, to } => {
                    self.sample(&hand.slots, *share, to, DpAction::send_nothing(actions));
                }
                // No device cuts the packet behind a label, or without an Ethernet header.
                DpAction::PushMpls { .. }
                | DpAction::AddMpls { .. }
                | DpAction::PushNsh(_)
                | DpAction::PopEth
                    if hand.slots.iter().any(|slot| self.pool.get(*slot).offload.gso.is_some()) =>
                {
                    return self.run_cut(hand, &actions[at..], outer);
                }
                DpAction::AddMpls { .. }
                | DpAction::PushEth { .. }
                | DpAction::PopEth
                | DpAction::PushNsh(_)
                | DpAction::PopNsh
                | DpAction::PushMpls { .. }
                | DpAction::CopyTtl { .. }
                | DpAction::PopMpls(_) => self.change(&mut hand, |packet| header(packet, action)),
            }
            if hand.slots.is_empty() {
                break;
            }
        }
        self.put_down_all(hand);
    }

    /// Applies a list to frames of which the caller wants the originals, unless this is the `last` thing it does.
    fn run_copies(&mut self, slots: &[Slot], actions: &[DpAction], last: bool, outer: Option<&TunnelOut>) {
        if slots.is_empty() || actions.is_empty() {
            return;
        }
        if last {
            return self.run_list(Hand::of(slots), actions, outer);
        }
        slots.iter().for_each(|slot| self.pool.hold(*slot));
        self.run_list(Hand::of(slots), actions, outer);
        slots.iter().for_each(|slot| self.pool.release(*slot));
    }

    /// Applies a list to frames one by one, GSO frames as the segments they stand for.
    fn run_cut(&mut self, hand: Hand, actions: &[DpAction], outer: Option<&TunnelOut>) {
        for &slot in &hand.slots {
            if self.pool.get(slot).offload.gso.is_some() {
                self.cut(slot, |exec, part| exec.run_list(Hand::of(part), actions, outer));
            } else {
                self.run_list(Hand::of(&[slot]), actions, outer);
            }
        }
        self.put_down_all(hand);
    }

    /// Frames that are longer than `len`, and the others; a GSO frame is as long as its longest segment.
    fn by_length(&self, slots: &[Slot], len: usize) -> (SmallVec<[Slot; BATCH]>, SmallVec<[Slot; BATCH]>) {
        slots.iter().copied().partition(|slot| self.pool.get(*slot).segments().2 > len)
    }

    /// Lets frames pass a meter, or not.
    fn meter(&mut self, hand: &mut Hand, meter: &Meter) {
        let now_us = crate::clock::now_us();
        self.each(hand, |exec, hand, at| {
            let slot = hand.slots[at];
            let (packets, bytes, _) = exec.pool.get(slot).segments();
            match meter.admit(packets, bytes, now_us) {
                MeterOutcome::Pass => true,
                MeterOutcome::Remark(by) => {
                    exec.change_one(hand, at, |packet| rewrite::raise_drop_precedence(packet, by))
                }
                MeterOutcome::Drop => {
                    exec.drop_slot(slot, DropReason::MeterExceeded);
                    false
                }
            }
        });
    }

    /// Outputs the first `len` bytes of each frame.
    fn output_cut(&mut self, port: DpPort, slots: &[Slot], outer: Option<&TunnelOut>, len: usize) {
        for slot in slots {
            if self.pool.get(*slot).len() <= len {
                self.output(port, &[*slot], outer);
                continue;
            }
            let Some(copy) = self.copy(*slot) else { continue };
            let packet = self.pool.get_mut(copy);
            packet.truncate(len);
            // What is left is no whole packet: there is nothing to cut or complete.
            packet.offload = Default::default();
            self.output(port, &[copy], outer);
            self.pool.release(copy);
        }
    }

    /// Encapsulates frames natively and applies `actions` to the results. `last`: they are not needed after.
    fn push_tunnel(&mut self, slots: &[Slot], header: &EncapHeader, last: bool, actions: &[DpAction]) {
        let plan = match Plan::new(header, self.shared.egress_ports()) {
            Ok(plan) => plan,
            Err(reason) => return slots.iter().for_each(|slot| self.drop_slot(*slot, reason)),
        };
        let mut pushed: SmallVec<[Slot; BATCH]> = SmallVec::new();
        for &slot in slots {
            let mut next = self.pool.get(slot).offload.gso.is_some().then_some(0);
            if next.is_none() {
                match native::push_one(self, slot, &plan, last) {
                    Ok(slot) => pushed.push(slot),
                    Err(reason) => self.drop_slot(slot, reason),
                }
                continue;
            }
            // Order is kept: what came before goes first.
            self.run_pushed(&mut pushed, actions);
            while next.is_some() {
                match native::push_segments(self, slot, &plan, &mut next) {
                    Ok(segments) => pushed = segments,
                    Err(reason) => self.drop_slot(slot, reason),
                }
                self.run_pushed(&mut pushed, actions);
            }
        }
        self.run_pushed(&mut pushed, actions);
    }

    fn run_pushed(&mut self, pushed: &mut SmallVec<[Slot; BATCH]>, actions: &[DpAction]) {
        if !pushed.is_empty() {
            self.handle().counters.tunnel_push.add(pushed.len() as u64);
            self.run(pushed, actions);
            pushed.drain(..).for_each(|slot| self.pool.release(slot));
        }
    }

    /// Leaves frames to be decapsulated after the batch.
    fn pop(&mut self, slots: &[Slot], port: DpPort) {
        for slot in slots {
            self.pool.hold(*slot);
            self.popped.push(Popped { slot: *slot, port, depth: self.depth + 1, at: 0 });
        }
    }

    /// Sends a frame to the controllers, its checksum complete; a GSO frame as the packets it stands for.
    fn upcall(&mut self, slot: Slot, context: &Arc<ToController>) {
        let packet = self.pool.get(slot);
        let (in_port, offload) = (packet.in_port, packet.offload);
        let mut frames: SmallVec<[Vec<u8>; 1]> = SmallVec::new();
        if offload.gso.is_some() {
            let Ok(cut) = Segmenter::new(packet.data(), &offload) else {
                return self.drop_slot(slot, DropReason::BadOffloadHeader);
            };
            for index in 0..cut.count() {
                let mut frame = vec![0; cut.segment_len(index)];
                if cut.write(index, &mut frame).is_ok() {
                    frames.push(frame);
                }
            }
        } else {
            let mut frame = packet.data().to_vec();
            let mut offload = offload;
            if vnet::complete_checksum(&mut frame, &mut offload).is_err() {
                return self.drop_slot(slot, DropReason::BadOffloadHeader);
            }
            frames.push(frame);
        }
        for mut frame in frames {
            let total_len = frame.len();
            if context.max_len != u16::MAX {
                frame.truncate(usize::from(context.max_len));
            }
            if !(self.shared.sink)(PacketIn { context: context.clone(), in_port, frame, total_len }) {
                self.drop_received(in_port, DropReason::ControllerRateLimited, 1);
            }
        }
    }
}

/// Puts a header in front, takes one off, or has two agree.
fn header(packet: &mut Packet, action: &DpAction) -> Result<(), rewrite::NotThere> {
    match action {
        DpAction::AddMpls { lse, ethertype } => rewrite::add_mpls(packet, *lse, *ethertype),
        DpAction::PushEth { src, dst } => rewrite::push_eth(packet, *src, *dst),
        DpAction::PopEth => rewrite::pop_eth(packet),
        DpAction::PushNsh(header) => rewrite::push_nsh(packet, header),
        DpAction::PopNsh => rewrite::pop_nsh(packet),
        DpAction::PushMpls { lse, ethertype } => rewrite::push_mpls(packet, *lse, *ethertype),
        DpAction::PopMpls(ethertype) => rewrite::pop_mpls(packet, *ethertype),
        DpAction::CopyTtl { outwards } => rewrite::copy_ttl(packet, *outwards),
        _ => Err(rewrite::NotThere),
    }
}

/// Hash of a frame's connection. It is the same after a restart, so that connections stay where they were sent.
fn hash(packet: &mut Packet, basis: u32, symmetric: bool) -> u32 {
    // A frame in hand was looked up, and is at least an Ethernet header.
    packet.read_headers().unwrap_or_default().dp_hash(basis, symmetric)
}
