//! What does a `<network>` of libvirt mean in Weft's resources, and how is a Network written for libvirt?
//!
//! [`import`] reads the XML that `virsh net-dumpxml` prints and `virsh net-define` takes. It makes one Network and a
//! Subnet for each `<ip>`. What has no meaning here is kept in `spec.libvirt` of the resource, by its place in the
//! document, and told as a [`Note`]. [`export`] writes the way back. What a resource says and libvirt has no words for
//! goes into an element of ours in `<metadata>`, where libvirt keeps it, so that nothing is lost on either way.
//!
//! Pure: text to resources and back.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod carry;
mod cx;
mod export;
mod form;
mod import;
mod known;
mod name;
mod overlay;
mod xml;

use std::fmt;

pub use export::{Export, export};
pub use import::{Import, import};
pub use xml::MAX_TEXT;

/// Something in a document that has no meaning here, or another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Line, from 1.
    pub line: u32,
    /// Place below `<network>`: `bridge/@stp`, `portgroup[2]`.
    pub path: String,
    /// Why.
    pub why: String,
    /// True when it is kept for [`export`] and nothing else.
    pub kept: bool,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = if self.kept { " is kept only" } else { "" };
        write!(f, "line {}: {}{kept}: {}", self.line, self.path, self.why)
    }
}

/// The beginning of a text that may be long.
fn clip(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
