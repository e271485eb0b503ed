//! What is known of a queue, working or not? The session sets it up, piece by piece; when all pieces are there it works.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use weft_flow::{DpPort, DropReason};
use weft_host::poll::EventFd;

use super::feature;
use super::frames::{Agreed, FromGuest, ToGuest};
use super::memory::Memory;
use super::ring::{Broken, Places, Ring};
use crate::packet::{Packet, Slot};

/// A queue. The frontend's part is what it said; `working` is made of it.
#[derive(Default)]
pub(super) struct Queue {
    /// Descriptors.
    pub(super) size: u16,
    /// Where the ring is, by the frontend's addresses.
    pub(super) places: Option<Places>,
    /// The chain to take next when it begins to work.
    pub(super) base: u16,
    /// Rung by the frontend.
    pub(super) kick: Option<EventFd>,
    /// Rung by this side.
    pub(super) call: Option<EventFd>,
    /// Whether the frontend wants it to work.
    pub(super) enabled: bool,
    working: Option<Working>,
}

enum Working {
    From(FromGuest),
    To(ToGuest),
}

impl Working {
    fn ring(&self) -> &Ring {
        match self {
            Working::From(from) => &from.ring,
            Working::To(to) => &to.ring,
        }
    }
}

impl Queue {
    /// Makes it work, if all there is to know is known; else makes it stop. True: it works.
    pub(super) fn settle(&mut self, to_guest: bool, memory: Option<&Arc<Memory>>, agreed: Agreed) -> bool {
        self.pause();
        let ready = self.enabled && self.kick.is_some();
        let (Some(places), Some(memory), true) = (self.places, memory, ready) else { return false };
        let guest = |user| memory.guest_address(user);
        let (Some(descriptors), Some(driver), Some(device)) =
            (guest(places.descriptors), guest(places.driver), guest(places.device))
        else {
            return false;
        };
        let places = Places { descriptors, driver, device };
        let event_idx = agreed.has(feature::EVENT_IDX);
        let Some(ring) = Ring::new(Arc::clone(memory), self.size, places, self.base, event_idx) else {
            return false;
        };
        self.working = Some(if to_guest {
            Working::To(ToGuest::new(ring, agreed))
        } else {
            Working::From(FromGuest::new(ring, agreed))
        });
        // Whoever waited for the other before will look.
        self.kick.iter().chain(&self.call).for_each(EventFd::ring);
        true
    }

    /// Stops for the moment, to go on where it is.
    fn pause(&mut self) {
        if let Some(working) = self.working.take() {
            self.base = working.ring().next();
        }
    }

    /// Stops; the chain that would have been taken next. The frontend's doorbell comes back, to be watched no more.
    pub(super) fn stop(&mut self) -> (u16, Option<EventFd>) {
        self.pause();
        (self.base, self.kick.take())
    }

    /// Forgets everything; the frontend's doorbell comes back.
    pub(super) fn reset(&mut self) -> Option<EventFd> {
        std::mem::take(self).kick
    }

    pub(super) fn works(&self) -> bool {
        self.working.is_some()
    }

    /// Takes a doorbell from the frontend.
    pub(super) fn bell(file: Option<OwnedFd>) -> std::io::Result<Option<EventFd>> {
        file.map(EventFd::from_peer).transpose()
    }

    fn ring_call(&self) {
        self.call.iter().for_each(EventFd::ring);
    }

    /// Receives into `slots` from the `frames`th on, until there are `most` bytes. True: there is more at once.
    pub(super) fn receive(
        &mut self,
        slots: &mut [Packet],
        frames: &mut usize,
        bytes: &mut usize,
        most: usize,
        port: DpPort,
    ) -> Result<bool, Broken> {
        let Some(Working::From(from)) = &mut self.working else { return Ok(false) };
        let done = receive(from, slots, frames, bytes, most, port);
        let tell = from.ring.show();
        let lost = from.ring.memory().is_lost();
        if tell {
            self.ring_call();
        }
        if lost || done.is_err() {
            self.working = None;
            return Err(Broken);
        }
        done
    }

    /// Sends frames.
    pub(super) fn send<'p>(
        &mut self,
        frames: impl Iterator<Item = (Slot, &'p Packet)>,
        on_sent: &mut impl FnMut(Slot),
        on_error: &mut impl FnMut(DropReason),
    ) -> Result<(), Broken> {
        let Some(Working::To(to)) = &mut self.working else {
            frames.for_each(|_| on_error(DropReason::PortDown));
            return Ok(());
        };
        let mut broken = false;
        for (slot, packet) in frames {
            match if broken { Err(Broken) } else { to.send(packet) } {
                Ok(Ok(())) => on_sent(slot),
                Ok(Err(reason)) => on_error(reason),
                Err(Broken) => {
                    broken = true;
                    on_error(DropReason::PortDown);
                }
            }
        }
        self.end_sending(broken)
    }

    /// The guest added buffers to it.
    pub(super) fn send_waiting(&mut self) -> Result<(), Broken> {
        let Some(Working::To(to)) = &mut self.working else { return Ok(()) };
        let broken = to.send_waiting().is_err();
        self.end_sending(broken)
    }

    fn end_sending(&mut self, broken: bool) -> Result<(), Broken> {
        let Some(Working::To(to)) = &mut self.working else { return Ok(()) };
        let tell = to.finish();
        if broken || tell.is_err() || to.ring.memory().is_lost() {
            self.working = None;
            return Err(Broken);
        }
        if tell == Ok(true) {
            self.ring_call();
        }
        Ok(())
    }

    /// Descriptors of its ring, if it works.
    pub(super) fn ring_size(&self) -> Option<u16> {
        Some(self.working.as_ref()?.ring().size())
    }
}

fn receive(
    from: &mut FromGuest,
    slots: &mut [Packet],
    frames: &mut usize,
    bytes: &mut usize,
    most: usize,
    port: DpPort,
) -> Result<bool, Broken> {
    from.ring.be_quiet();
    while *frames < slots.len() && *bytes < most {
        let packet = &mut slots[*frames];
        if !from.receive(packet, port)? {
            from.ring.listen();
            return Ok(from.ring.added() != from.ring.next());
        }
        *bytes += packet.len();
        *frames += 1;
    }
    Ok(true)
}
