//! How are frames encapsulated and decapsulated without the host's IP stack?
//!
//! For underlay addresses on a bridge of the switch itself: the outer headers are built into the frame, which then
//! goes the way of any other.

mod pop;
mod push;

pub(crate) use pop::Popped;
pub(crate) use push::{Plan, push_one, push_segments};
