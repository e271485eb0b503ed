//! The messages that are not multipart, one file per family.

pub mod bundle;
pub mod control;
pub mod flow;
pub mod flow_removed;
pub mod handshake;
pub mod packet_in;
pub mod packet_out;
pub mod port;
