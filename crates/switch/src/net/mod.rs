//! What is the host's network like now? The kernel's links, addresses, routes and neighbours, as far as the switch
//! cares.

mod links;
mod underlay;
mod watch;

pub(crate) use links::{Links, Noticed};
pub(crate) use underlay::Native;
pub(crate) use watch::watch;
