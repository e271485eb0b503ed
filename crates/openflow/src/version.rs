//! Which OpenFlow version do two ends speak?

use std::fmt;

/// A protocol version. Ordered; the discriminant is the version byte of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// OpenFlow 1.0.
    V10 = 1,
    /// OpenFlow 1.1.
    V11 = 2,
    /// OpenFlow 1.2.
    V12 = 3,
    /// OpenFlow 1.3.
    V13 = 4,
    /// OpenFlow 1.4.
    V14 = 5,
    /// OpenFlow 1.5.
    V15 = 6,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 6] =
        [Version::V10, Version::V11, Version::V12, Version::V13, Version::V14, Version::V15];

    /// The version of a header byte.
    pub fn from_wire(byte: u8) -> Option<Version> {
        Self::ALL.into_iter().find(|v| v.wire() == byte)
    }
    /// The header byte.
    pub fn wire(self) -> u8 {
        self as u8
    }
    /// Name as the `protocols` column of a bridge spells it: `OpenFlow13`.
    pub fn name(self) -> &'static str {
        match self {
            Version::V10 => "OpenFlow10",
            Version::V11 => "OpenFlow11",
            Version::V12 => "OpenFlow12",
            Version::V13 => "OpenFlow13",
            Version::V14 => "OpenFlow14",
            Version::V15 => "OpenFlow15",
        }
    }
    /// The version with this name.
    pub fn by_name(name: &str) -> Option<Version> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of versions, as the bitmap of a hello carries it: bit *n* is the version whose byte is *n*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionSet(u32);

impl VersionSet {
    /// No version.
    pub const NONE: VersionSet = VersionSet(0);
    /// Every version this crate speaks.
    pub const ALL: VersionSet = VersionSet(0x7e);

    /// The versions of a bitmap; unknown ones are forgotten.
    pub fn from_bitmap(bits: u32) -> VersionSet {
        VersionSet(bits & Self::ALL.0)
    }
    /// The bitmap.
    pub fn bitmap(self) -> u32 {
        self.0
    }
    /// Every version up to the one with this header byte.
    pub fn up_to(byte: u8) -> VersionSet {
        VersionSet::from_bitmap(if byte >= 31 { u32::MAX } else { (1 << (byte + 1)) - 1 })
    }
    /// With one more version.
    pub fn with(self, version: Version) -> VersionSet {
        VersionSet(self.0 | 1 << version.wire())
    }
    /// Whether the version is among them.
    pub fn contains(self, version: Version) -> bool {
        self.0 & 1 << version.wire() != 0
    }
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The newest version.
    pub fn highest(self) -> Option<Version> {
        Version::ALL.into_iter().rev().find(|v| self.contains(*v))
    }
    /// Those that both have.
    pub fn common(self, other: VersionSet) -> VersionSet {
        VersionSet(self.0 & other.0)
    }
}

impl FromIterator<Version> for VersionSet {
    fn from_iter<T: IntoIterator<Item = Version>>(versions: T) -> Self {
        versions.into_iter().fold(VersionSet::NONE, VersionSet::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        assert_eq!(VersionSet::up_to(4).highest(), Some(Version::V13));
        assert_eq!(VersionSet::up_to(200), VersionSet::ALL);
        assert_eq!(VersionSet::up_to(0).highest(), None);
        let set: VersionSet = [Version::V10, Version::V13].into_iter().collect();
        assert_eq!(set.bitmap(), 0x12);
        assert_eq!(set.common(VersionSet::up_to(3)).highest(), Some(Version::V10));
        assert!(Version::ALL.into_iter().all(|v| Version::by_name(v.name()) == Some(v)));
    }
}
