//! Placeholder text replaced by the room's owner.
#![forbid(unsafe_code)]
