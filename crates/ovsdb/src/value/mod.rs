//! What can a column hold: atoms, and sets and maps of them?

mod atom;
mod datum;
mod diff;
mod symbols;

pub use atom::{Atom, Real};
pub use datum::Datum;
pub(crate) use symbols::Symbols;
