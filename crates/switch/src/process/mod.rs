//! How does the switch behave as a daemon: where its files are, how it detaches, how it logs?

pub mod detach;
pub(crate) mod paths;
mod pattern;
pub(crate) mod vlog;
