//! How does a database outlive its process (ovsdb(5), standalone format)?
//!
//! A file is a row of records, each `OVSDB JSON <length> <sha1>\n<json>\n`. The first holds
//! the schema, each later one a transaction. This room turns records into rows and back; the
//! rim appends, syncs, renames and truncates:
//!
//! 1. open: read the file, [`load`] it; when [`Loaded::tail`] is torn, truncate the file to
//!    [`Loaded::valid_len`];
//! 2. commit: append what the server asks to be persisted, sync, then release the replies;
//! 3. compact: when [`Compaction::due`], write [`snapshot`] to a new file, sync it, rename it
//!    over the old one, sync the directory.

mod compaction;
mod convert;
mod load;
mod reader;
mod writer;

pub use compaction::Compaction;
pub use convert::convert;
pub use load::{LoadError, Loaded, load};
pub use reader::{LogReader, Record, Tail};
pub use writer::{encode_commit, encode_record, snapshot};
