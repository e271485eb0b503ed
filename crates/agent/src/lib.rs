//! What does a node's control plane do? It watches what is wanted, compiles it with what it knows of its node, and
//! programs the local switch through the switch's public surfaces: OVSDB, and OpenFlow on the integration bridge.
//!
//! Killing it stops no packet: the switch keeps what it was told.

pub mod cleanup;
pub mod foreign;
pub mod heal;
pub mod ipam;
pub mod links;
pub mod nat;
pub mod node;
pub mod plug;
pub mod resolve;
pub mod respond;
mod seen;
pub mod serve;
pub mod settings;
pub mod south;
mod status;
