//! What is a MAC address?

use core::fmt;
use core::str::FromStr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An IEEE 802 MAC address, in the order of the wire.
///
/// Written and read as six two-digit hexadecimal numbers with colons: `aa:bb:cc:dd:ee:ff`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// `00:00:00:00:00:00`, which no station has.
    pub const ZERO: Self = Self([0; 6]);
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for group addresses, broadcast included (IEEE 802, I/G bit).
    #[inline]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for an address of one station: not a group address and not all zero.
    #[inline]
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && !self.is_zero()
    }

    /// True for `ff:ff:ff:ff:ff:ff`.
    #[inline]
    #[must_use]
    pub const fn is_broadcast(self) -> bool {
        self.to_u64() == 0xffff_ffff_ffff
    }

    /// True for locally administered addresses (IEEE 802, U/L bit).
    #[inline]
    #[must_use]
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// True for `00:00:00:00:00:00`.
    #[inline]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.to_u64() == 0
    }

    /// True for 01:80:c2:00:00:00–0f, which a bridge does not forward (IEEE 802.1Q §8.6.3).
    #[inline]
    #[must_use]
    pub const fn is_link_reserved(self) -> bool {
        self.to_u64() & 0xffff_ffff_fff0 == 0x0180_c200_0000
    }

    /// The address as a number below 2^48, first byte most significant.
    #[inline]
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        let b = self.0;
        u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// The low 48 bits of a number, most significant byte first.
    #[inline]
    #[must_use]
    pub const fn from_u64(n: u64) -> Self {
        let b = n.to_be_bytes();
        Self([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<[u8; 6]> for Mac {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

/// The text is not a MAC address of the form `aa:bb:cc:dd:ee:ff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address (want aa:bb:cc:dd:ee:ff)")]
pub struct MacParseError;

impl FromStr for Mac {
    type Err = MacParseError;

    /// Takes one or two hexadecimal digits per byte, either case, separated by colons.
    fn from_str(text: &str) -> Result<Self, MacParseError> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(MacParseError)?;
            let hex = !part.is_empty() && part.bytes().all(|c| c.is_ascii_hexdigit());
            if !hex || part.len() > 2 {
                return Err(MacParseError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacParseError)?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(MacParseError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let mac: Mac = "02:aB:0:ff:10:1".parse().unwrap();
        assert_eq!(mac, Mac([2, 0xab, 0, 0xff, 0x10, 1]));
        assert_eq!(mac.to_string(), "02:ab:00:ff:10:01");
        for bad in
            ["", "1:2:3:4:5", "1:2:3:4:5:6:7", "1:2:3:4:5:", "1:2:3:4:5:+6", "001:2:3:4:5:6", "g:2:3:4:5:6"]
        {
            assert_eq!(bad.parse::<Mac>(), Err(MacParseError), "{bad:?}");
        }
    }

    #[test]
    fn kinds() {
        assert!(Mac::BROADCAST.is_broadcast() && Mac::BROADCAST.is_multicast());
        assert!(!Mac([2, 0, 0, 0, 0, 1]).is_multicast() && Mac([2, 0, 0, 0, 0, 1]).is_local());
        assert!(Mac([1, 0x80, 0xc2, 0, 0, 0x0e]).is_link_reserved());
        assert!(!Mac([1, 0x80, 0xc2, 0, 0, 0x10]).is_link_reserved());
        assert!(!Mac::ZERO.is_unicast() && Mac([0, 0, 0, 0, 0, 1]).is_unicast());
        assert_eq!(Mac::from_u64(Mac([1, 2, 3, 4, 5, 6]).to_u64()), Mac([1, 2, 3, 4, 5, 6]));
    }
}
