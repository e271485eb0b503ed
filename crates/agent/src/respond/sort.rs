//! Who gets which packet? Sorted where they come in, so that a node that is busy with its flows answers all the same.

use tokio::sync::mpsc;
use weft_compile::{Cookie, Purpose};

use crate::south::{Punt, PuntSender, Punts};

/// Starts the task that hands questions for names to those who answer them, and the rest on; in either queue ports take
/// turns. It ends with the connection.
pub fn sort(mut punts: mpsc::Receiver<Punt>, names: PuntSender) -> Punts {
    let (rest, out) = Punts::new();
    tokio::spawn(async move {
        while let Some(punt) = punts.recv().await {
            let purpose = Cookie::from_u64(punt.cookie).map(|c| c.purpose);
            let queue = if purpose == Some(Purpose::Dns) { &names } else { &rest };
            queue.send(Box::new(punt));
        }
    });
    out
}
