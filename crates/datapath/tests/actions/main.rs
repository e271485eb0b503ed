//! Do actions do to frames what they say? Lists executed on frames and put as flows, the results captured by a
//! controller's sink.

mod passes;
mod rig;
mod single;
mod tracking;
