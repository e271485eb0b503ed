//! Is an address free that is to be offered? Whoever has it answers ARP (RFC 2131 §2.2, RFC 5227 §2.1).
//!
//! An offer waits while the network is asked, for itself alone: what else is answered passes it by. That nobody answered is
//! remembered for a while, so that a client that asks again does not wait again.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use weft_wire::arp::{self, ArpOp, ArpRepr, ArpView};
use weft_wire::{EtherType, Mac};

use crate::south::Punt;

/// How often the network is asked, as a frame may be lost.
const ASKS: u32 = 2;
/// Time for an answer to each.
const WAIT: Duration = Duration::from_millis(250);
/// For so long nobody has an address that nobody had.
const FREE: Duration = Duration::from_secs(30);
/// Offers of a network that may wait; who is not offered anything asks again.
const WAITING: usize = 4_096;
/// Length of an Ethernet header.
const HEADER: usize = 14;

/// An offer that waits.
#[derive(Debug)]
pub(super) struct Offer {
    /// What it answers.
    pub(super) request: Punt,
    /// The frame.
    pub(super) reply: Vec<u8>,
}

#[derive(Debug)]
struct Asked {
    offer: Offer,
    times: u32,
    next: Instant,
}

/// What comes of time that passes.
#[derive(Debug)]
pub(super) enum Step {
    /// The network is to be asked for this address again.
    Ask(Ipv4Addr),
    /// Nobody has it: the offer may go.
    Free(Ipv4Addr, Offer),
}

/// Probes of one network.
#[derive(Debug, Default)]
pub(super) struct Probes {
    asked: HashMap<Ipv4Addr, Asked>,
    due: BTreeSet<(Instant, Ipv4Addr)>,
    free: HashMap<Ipv4Addr, Instant>,
}

impl Probes {
    /// Nobody had it a moment ago.
    pub(super) fn is_free(&self, address: Ipv4Addr, now: Instant) -> bool {
        self.free.get(&address).is_some_and(|at| now.duration_since(*at) < FREE)
    }

    /// An offer waits. True: the network is to be asked now; false: it is asked already, or there is no room.
    pub(super) fn hold(&mut self, address: Ipv4Addr, offer: Offer, now: Instant) -> bool {
        if let Some(asked) = self.asked.get_mut(&address) {
            // The client's last word counts.
            asked.offer = offer;
            return false;
        }
        if self.asked.len() >= WAITING {
            return false;
        }
        let next = now + WAIT;
        self.due.insert((next, address));
        self.asked.insert(address, Asked { offer, times: 1, next });
        true
    }

    /// Somebody has this address: the offer that waited, if one did.
    pub(super) fn taken(&mut self, address: Ipv4Addr) -> Option<Offer> {
        let asked = self.asked.remove(&address)?;
        self.due.remove(&(asked.next, address));
        Some(asked.offer)
    }

    /// When [`Self::poll`] has something to do.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is due.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<Step> {
        let mut out = Vec::new();
        while let Some((at, address)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, address));
            match self.asked.get_mut(&address) {
                Some(asked) if asked.times < ASKS => {
                    (asked.times, asked.next) = (asked.times + 1, now + WAIT);
                    self.due.insert((asked.next, address));
                    out.push(Step::Ask(address));
                }
                _ => {
                    if self.free.len() >= WAITING {
                        self.free.retain(|_, at| now.duration_since(*at) < FREE);
                    }
                    if self.free.len() < WAITING {
                        self.free.insert(address, now);
                    }
                    out.extend(self.asked.remove(&address).map(|asked| Step::Free(address, asked.offer)));
                }
            }
        }
        out
    }
}

/// The frame that asks who has an address. It says no address of its own: nobody learns anything from it.
pub(super) fn question(mac: Mac, address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEADER + arp::PACKET_LEN];
    let (head, packet) = frame.split_at_mut(HEADER);
    head.get_mut(..6)?.copy_from_slice(&Mac::BROADCAST.0);
    head.get_mut(6..12)?.copy_from_slice(&mac.0);
    head.get_mut(12..)?.copy_from_slice(&EtherType::ARP.0.to_be_bytes());
    ArpRepr::request(mac, Ipv4Addr::UNSPECIFIED, address).emit(packet).ok()?;
    Some(frame)
}

/// Who says to have which address in answer to [`question`].
pub(super) fn answer(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let arp = ArpView::parse(frame.get(HEADER..)?).ok()?;
    (arp.op() == ArpOp::REPLY && arp.sha().is_unicast()).then(|| (arp.spa(), arp.sha()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn offer(n: u8) -> Offer {
        let in_port = weft_flow::OfPort(1);
        let request =
            Punt { cookie: 0, reason: 0, userdata: Vec::new(), in_port, metadata: 1, frame: vec![n] };
        Offer { request, reply: vec![n] }
    }

    #[test]
    fn an_offer_waits_for_two_questions_and_then_for_none() {
        let (mut probes, start) = (Probes::default(), Instant::now());
        assert!(probes.hold(A, offer(1), start), "asked at once");
        assert!(!probes.hold(A, offer(2), start + WAIT / 2), "it is asked already");
        assert!(probes.poll(start + WAIT / 2).is_empty() && probes.next_at() == Some(start + WAIT));
        assert!(matches!(probes.poll(start + WAIT)[..], [Step::Ask(A)]));
        let end = start + 2 * WAIT;
        let done = probes.poll(end);
        assert!(matches!(&done[..], [Step::Free(A, offer)] if offer.reply == [2]), "the last: {done:?}");
        assert!(probes.is_free(A, end) && !probes.is_free(A, end + FREE) && probes.next_at().is_none());
        assert!(probes.taken(A).is_none());
    }

    #[test]
    fn who_answers_has_it() {
        let (mut probes, start) = (Probes::default(), Instant::now());
        let (ours, theirs) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 9]));
        assert!(probes.hold(A, offer(1), start));
        let mut frame = question(ours, A).unwrap();
        assert_eq!(answer(&frame), None, "a question is no answer");
        let asked = ArpRepr::parse(&ArpView::parse(&frame[HEADER..]).unwrap());
        assert_eq!((asked.spa, asked.tpa, asked.sha), (Ipv4Addr::UNSPECIFIED, A, ours));
        asked.reply(theirs).emit(&mut frame[HEADER..]).unwrap();
        assert_eq!(answer(&frame), Some((A, theirs)));
        assert!(probes.taken(A).is_some() && probes.poll(start + 2 * WAIT).is_empty());
        assert!(!probes.is_free(A, start));
        for len in 0..frame.len() {
            assert_eq!(answer(&frame[..len]), None);
        }
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let (mut probes, start) = (Probes::default(), Instant::now());
        for n in 0..WAITING as u32 + 10 {
            assert_eq!(probes.hold(Ipv4Addr::from(n), offer(0), start), n < WAITING as u32);
        }
        for _ in 0..ASKS {
            let at = probes.next_at().unwrap();
            assert_eq!(probes.poll(at).len(), WAITING);
        }
        assert!(probes.hold(A, offer(0), start) && probes.free.len() == WAITING);
    }
}
