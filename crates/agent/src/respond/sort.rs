//! Who gets which packet? Sorted where they come in, so that a node that is busy with its flows answers all the same.

use weft_compile::{Cookie, Purpose};

use crate::south::{Punt, PuntSender};

/// Puts questions for names into the queue of those who answer them, and all else into the other; in either queue ports
/// take turns. The queues end when what is returned is dropped.
pub fn sort(names: PuntSender, rest: PuntSender) -> impl FnMut(Punt) + Send {
    move |punt| {
        let purpose = Cookie::from_u64(punt.cookie).map(|c| c.purpose);
        let queue = if purpose == Some(Purpose::Dns) { &names } else { &rest };
        queue.send(Box::new(punt));
    }
}
