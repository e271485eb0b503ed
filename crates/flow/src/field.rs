//! Which fields can rules match and set? Every OXM and NXM field, described once.

/// A field of OpenFlow or of the Nicira extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
#[non_exhaustive]
pub enum Field {
    /// Input port on the bridge (`in_port`, OXM; 32 bits).
    InPort,
    /// OpenFlow metadata.
    Metadata,
}
