//! What does each action do to the frames of a flow?
//!
//! Actions run one after another over all frames of a group. A frame that a queue, or an enclosing list, still needs
//! as it is gets copied by whoever changes it, and by nobody else.

use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{DpAction, DpPort, DropReason, EncapHeader, ToController};
use weft_wire::segment::Segmenter;
use weft_wire::vnet;

use crate::contract::PacketIn;
use crate::executor::Executor;
use crate::packet::{BATCH, Packet, Slot};
use crate::rewrite::{self, NotThere};
use crate::tunnel::Popped;
use crate::tunnel::native::{self, Plan};

/// Frames in hand; those beyond the caller's own are copies, to be released.
struct Hand {
    slots: SmallVec<[Slot; BATCH]>,
    /// Whether each is a copy made here.
    copied: SmallVec<[bool; BATCH]>,
}

impl Executor {
    /// Applies an action list to frames that the caller holds.
    pub(crate) fn run(&mut self, slots: &[Slot], actions: &[DpAction]) {
        if let [DpAction::Output(port)] = actions {
            return self.output(*port, slots, None);
        }
        let mut hand = Hand { slots: slots.into(), copied: SmallVec::from_elem(false, slots.len()) };
        let mut outer = None;
        let mut trunc = None;
        for (at, action) in actions.iter().enumerate() {
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
                    let last = at + 1 == actions.len();
                    self.push_tunnel(&hand.slots, header, last, then);
                }
                DpAction::TunnelPop(port) => self.pop(&hand.slots, *port),
                DpAction::Clone(actions) => {
                    hand.slots.iter().for_each(|slot| self.pool.hold(*slot));
                    self.run(&hand.slots, actions);
                    hand.slots.iter().for_each(|slot| self.pool.release(*slot));
                }
                DpAction::Controller(context) => {
                    for slot in &hand.slots {
                        self.upcall(*slot, context);
                    }
                }
                _ => {}
            }
        }
        for (slot, copied) in hand.slots.iter().zip(&hand.copied) {
            if *copied {
                self.pool.release(*slot);
            }
        }
    }

    /// Changes every frame in hand, copying those that others need. Frames that the change does not fit are dropped.
    fn change(&mut self, hand: &mut Hand, mut change: impl FnMut(&mut Packet) -> Result<(), NotThere>) {
        let mut at = 0;
        while at < hand.slots.len() {
            let mut kept = true;
            if self.pool.is_shared(hand.slots[at]) {
                let copy = self.copy(hand.slots[at]);
                if hand.copied[at] {
                    self.pool.release(hand.slots[at]);
                }
                hand.copied[at] = copy.is_some();
                match copy {
                    Some(copy) => hand.slots[at] = copy,
                    None => kept = false,
                }
            }
            if kept && change(self.pool.get_mut(hand.slots[at])).is_err() {
                self.drop_slot(hand.slots[at], DropReason::BadAction);
                kept = false;
            }
            if kept {
                at += 1;
            } else {
                let slot = hand.slots.remove(at);
                if hand.copied.remove(at) {
                    self.pool.release(slot);
                }
            }
        }
    }

    /// Outputs the first `len` bytes of each frame.
    fn output_cut(&mut self, port: DpPort, slots: &[Slot], outer: Option<&weft_flow::TunnelOut>, len: usize) {
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
        let plan = match Plan::new(header) {
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
