//! Who gets which packet? Sorted where they come in, so that a node that is busy with its flows answers all the same.

use std::collections::HashMap;
use std::time::Instant;

use tokio::sync::mpsc;
use weft_compile::{Cookie, Purpose};
use weft_flow::OfPort;

use crate::south::{Punt, Punts};

/// Questions for names that one port may ask in a second, and at once.
const A_SECOND: f64 = 20_000.0;
const AT_ONCE: f64 = 2_000.0;

/// Starts the task that hands questions for names to those who answer them, and the rest on, ports in turns. It ends
/// with the connection.
pub fn sort(mut punts: mpsc::Receiver<Punt>, names: mpsc::Sender<Box<Punt>>) -> Punts {
    let (rest, out) = Punts::new();
    tokio::spawn(async move {
        let mut gates = Gates::default();
        while let Some(punt) = punts.recv().await {
            if Cookie::from_u64(punt.cookie).map(|c| c.purpose) != Some(Purpose::Dns) {
                rest.send(Box::new(punt));
            } else if gates.admit(punt.in_port, Instant::now()) {
                // A full queue is a busy cable.
                let _ = names.try_send(Box::new(punt));
            }
        }
    });
    out
}

/// How much each port asked: one that asks too much is not heard, and takes no time from others.
#[derive(Debug, Default)]
struct Gates {
    ports: HashMap<OfPort, (f64, Instant)>,
}

impl Gates {
    fn admit(&mut self, port: OfPort, now: Instant) -> bool {
        let (left, since) = self.ports.entry(port).or_insert((AT_ONCE, now));
        let gained = now.saturating_duration_since(*since).as_secs_f64() * A_SECOND;
        (*left, *since) = ((*left + gained).min(AT_ONCE), now);
        let admitted = *left >= 1.0;
        if admitted {
            *left -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_port_that_floods_is_cut_alone() {
        let (mut gates, start) = (Gates::default(), Instant::now());
        let heard = (0..10_000).filter(|_| gates.admit(OfPort(1), start)).count();
        assert_eq!(heard, AT_ONCE as usize);
        assert!(gates.admit(OfPort(2), start));
        assert!(gates.admit(OfPort(1), start + Duration::from_millis(1)));
    }
}
