//! Placeholder text replaced by the room's owner.
