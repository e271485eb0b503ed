//! The messages that are not multipart, one file per family.

pub mod bundle;
pub mod control;
pub mod ct_flush;
pub mod flow;
pub mod flow_removed;
pub mod group;
pub mod handshake;
pub mod meter;
pub mod monitor;
pub mod notify;
pub mod packet_in;
pub mod packet_in2;
pub mod packet_out;
pub mod port;
pub(crate) mod prop;
pub mod queue;
pub mod table;
pub mod tlv;
