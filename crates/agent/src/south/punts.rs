//! Which packet is answered next, when more come than can be answered? Ports take turns.
//!
//! Each port has a queue of its own, so that one that floods fills that and no other's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use weft_flow::OfPort;

use super::Punt;

/// Packets of one port that may wait; more are dropped, as on any busy cable.
const PER_PORT: usize = 1024;
/// Packets of all ports that may wait.
const TOGETHER: usize = 16_384;

/// What waits.
#[derive(Debug, Default)]
struct Queues {
    by_port: BTreeMap<OfPort, VecDeque<Box<Punt>>>,
    /// Ports with packets, in the order of their turns.
    turns: VecDeque<OfPort>,
    waiting: usize,
    dropped: u64,
    closed: bool,
}

impl Queues {
    fn push(&mut self, punt: Box<Punt>) {
        let port = punt.in_port;
        if self.waiting >= TOGETHER {
            self.make_room();
        }
        let queue = self.by_port.entry(port).or_default();
        if queue.len() >= PER_PORT {
            self.dropped += 1;
            return;
        }
        if queue.is_empty() {
            self.turns.push_back(port);
        }
        queue.push_back(punt);
        self.waiting += 1;
    }

    /// Drops the newest packet of the port that has most.
    fn make_room(&mut self) {
        let Some(queue) = self.by_port.values_mut().max_by_key(|q| q.len()) else { return };
        if queue.len() > 1 {
            queue.pop_back();
            self.waiting -= 1;
            self.dropped += 1;
        }
    }

    fn pop(&mut self) -> Option<Box<Punt>> {
        let port = self.turns.pop_front()?;
        let queue = self.by_port.get_mut(&port)?;
        let punt = queue.pop_front();
        if queue.is_empty() {
            self.by_port.remove(&port);
        } else {
            self.turns.push_back(port);
        }
        self.waiting -= 1;
        punt
    }
}

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    come: Notify,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where packets are put. When it is dropped, [`Punts`] ends.
#[derive(Debug)]
pub struct PuntSender(Arc<Shared>);

impl PuntSender {
    /// Puts a packet into its port's queue, or drops it if that is full.
    pub fn send(&self, punt: Box<Punt>) {
        self.0.queues().push(punt);
        self.0.come.notify_one();
    }
}

impl Drop for PuntSender {
    fn drop(&mut self) {
        self.0.queues().closed = true;
        self.0.come.notify_one();
    }
}

/// Packets that flows sent to the agent, port by port in turns.
#[derive(Debug)]
pub struct Punts(Arc<Shared>);

impl Punts {
    /// Both ends of an empty queue.
    pub fn new() -> (PuntSender, Punts) {
        let shared = Arc::new(Shared::default());
        (PuntSender(Arc::clone(&shared)), Punts(shared))
    }

    /// Waits for packets and adds at most `most` of them; 0: there will be no more. Losing the future loses no packet.
    pub async fn recv_many(&mut self, into: &mut Vec<Box<Punt>>, most: usize) -> usize {
        loop {
            {
                let mut queues = self.0.queues();
                let before = into.len();
                into.extend(std::iter::from_fn(|| queues.pop()).take(most));
                if into.len() > before || queues.closed {
                    return into.len() - before;
                }
            }
            self.0.come.notified().await;
        }
    }

    /// Packets that were dropped because their port sent more than is answered.
    pub fn dropped(&self) -> u64 {
        self.0.queues().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn punt(port: u32, cookie: u64) -> Box<Punt> {
        let in_port = OfPort(port);
        Box::new(Punt { cookie, reason: 0, userdata: Vec::new(), in_port, metadata: 1, frame: Vec::new() })
    }

    #[tokio::test]
    async fn a_port_that_floods_does_not_silence_others() {
        let (sender, mut punts) = Punts::new();
        (0..10 * PER_PORT as u64).for_each(|n| sender.send(punt(1, n)));
        (0..3).for_each(|n| sender.send(punt(2, n)));
        assert_eq!(punts.dropped(), 9 * PER_PORT as u64);
        let mut got = Vec::new();
        assert_eq!(punts.recv_many(&mut got, 6).await, 6);
        let order: Vec<(u32, u64)> = got.iter().map(|p| (p.in_port.0, p.cookie)).collect();
        assert_eq!(order, [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 2)]);
        got.clear();
        assert_eq!(punts.recv_many(&mut got, usize::MAX).await, PER_PORT - 3);
        drop(sender);
        assert_eq!(punts.recv_many(&mut got, 1).await, 0, "the end");
    }

    #[tokio::test]
    async fn many_ports_that_flood_leave_room_for_one_more() {
        let (sender, mut punts) = Punts::new();
        for port in 0..64 {
            (0..PER_PORT as u64).for_each(|n| sender.send(punt(port, n)));
        }
        sender.send(punt(99, 7));
        let mut got = Vec::new();
        let all = punts.recv_many(&mut got, usize::MAX).await;
        assert!(all <= TOGETHER, "{all} waited");
        assert!(got.iter().any(|p| p.in_port == OfPort(99)), "the last one is heard");
        assert_eq!(all as u64 + punts.dropped(), 64 * PER_PORT as u64 + 1, "none is unaccounted for");
    }
}
