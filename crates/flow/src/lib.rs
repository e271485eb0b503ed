//! The vocabulary of decisions: what is known of a packet ([`FlowKey`]), what rules look at ([`FlowMask`]),
//! what they do, what a walk returns ([`Verdict`]) and why packets die ([`DropReason`]).
//!
//! Pure: no I/O, no clock, no unsafe.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod action;
mod action_error;
mod action_parts;
mod check;
mod drop;
mod extract;
mod extract_l4;
mod field;
mod field_table;
mod hash;
mod key;
mod link_hash;
mod matching;
mod meter;
mod port;
mod rule;
mod sample;
mod sparse;
mod subfield;
pub mod text;
mod tlv;
mod verdict;

pub use action::*;
pub use action_error::ActionError;
pub use action_parts::*;
pub use check::{CheckContext, check_actions};
pub use drop::DropReason;
pub use extract::{
    ETH_TYPE_NONE, L3Kind, Layout, MAX_VLANS, extract_bare, extract_into, extract_packet,
    extract_packet_vlans,
};
pub use field::{CodePoint, Field, FieldInfo, Format, Prereq};
pub use key::*;
pub use link_hash::*;
pub use matching::*;
pub use meter::{Band, BandKind, Meter, MeterOutcome, MeterStats};
pub use port::{DpPort, OfPort};
pub use rule::{RuleRef, RuleStats};
pub use sample::*;
pub use sparse::{MaskWord, STAGE_OF_WORD, STAGES, SparseMask};
pub use tlv::{KnownOptions, TlvError, TlvMapping, TlvTable, TruncatedOptions};
pub use verdict::*;
