//! Which numbers name ports.

use std::fmt;

/// A port of the datapath, unique over all bridges of one switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DpPort(pub u32);

impl fmt::Display for DpPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An OpenFlow port number on one bridge, 32 bits as from OpenFlow 1.1 on; reserved numbers are the constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OfPort(pub u32);

impl OfPort {
    /// No port.
    pub const NONE: OfPort = OfPort(0);
    /// Largest number of a real port.
    pub const MAX: OfPort = OfPort(0xffff_feff);
    /// "Unset": the default of the action set's output.
    pub const UNSET: OfPort = OfPort(0xffff_fff7);
    /// Send back by the port the packet came in by.
    pub const IN_PORT: OfPort = OfPort(0xffff_fff8);
    /// Submit to the first flow table (packet-out only).
    pub const TABLE: OfPort = OfPort(0xffff_fff9);
    /// Process as a normal L2 learning switch.
    pub const NORMAL: OfPort = OfPort(0xffff_fffa);
    /// All ports but the input port and those with flooding disabled.
    pub const FLOOD: OfPort = OfPort(0xffff_fffb);
    /// All ports but the input port.
    pub const ALL: OfPort = OfPort(0xffff_fffc);
    /// The controller.
    pub const CONTROLLER: OfPort = OfPort(0xffff_fffd);
    /// The bridge's own port.
    pub const LOCAL: OfPort = OfPort(0xffff_fffe);
    /// Wildcard, or no port.
    pub const ANY: OfPort = OfPort(0xffff_ffff);

    /// The number in OpenFlow 1.0's 16 bits (reserved numbers fold to 0xfff0 and up); `None` if it has no place there.
    pub fn to_u16(self) -> Option<u16> {
        match self.0 {
            n @ 0..=0xfeff => Some(n as u16),
            n @ 0xffff_ff00.. => Some(n as u16),
            _ => None,
        }
    }
    /// The number behind OpenFlow 1.0's 16 bits.
    pub fn from_u16(n: u16) -> OfPort {
        if n >= 0xff00 { OfPort(0xffff_0000 | u32::from(n)) } else { OfPort(u32::from(n)) }
    }
    /// Whether a packet may be cut on its way there: the port is one, not several, and no controller.
    pub fn may_truncate(self) -> bool {
        !self.is_reserved() || matches!(self, Self::IN_PORT | Self::LOCAL)
    }
    /// Whether the number stands for something other than a real port.
    pub fn is_reserved(self) -> bool {
        self.0 > Self::MAX.0
    }
    /// Name of a reserved port, as `ovs-ofctl` spells it.
    pub fn reserved_name(self) -> Option<&'static str> {
        Some(match self {
            Self::UNSET => "UNSET",
            Self::IN_PORT => "IN_PORT",
            Self::TABLE => "TABLE",
            Self::NORMAL => "NORMAL",
            Self::FLOOD => "FLOOD",
            Self::ALL => "ALL",
            Self::CONTROLLER => "CONTROLLER",
            Self::LOCAL => "LOCAL",
            Self::ANY => "ANY",
            _ => return None,
        })
    }
}

impl fmt::Display for OfPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reserved_name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}
