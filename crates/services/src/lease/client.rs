//! How is a client told from another?

use core::fmt;
use std::sync::Arc;

use smallvec::SmallVec;
use weft_wire::Mac;

/// Who a lease belongs to: a tag byte and the identifier, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(Arc<[u8]>);

impl Client {
    const HARDWARE: u8 = 0;
    const CLIENT_ID: u8 = 1;
    const IA: u8 = 2;

    fn tagged(tag: u8, parts: &[&[u8]]) -> Self {
        let mut bytes: SmallVec<[u8; 64]> = SmallVec::new();
        bytes.push(tag);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Self(Arc::from(&bytes[..]))
    }

    /// A client known by hardware type and address (RFC 2131 §2, `htype` and `chaddr`).
    #[must_use]
    pub fn hardware(htype: u8, address: &[u8]) -> Self {
        Self::tagged(Self::HARDWARE, &[&[htype], address])
    }

    /// A client known by its Ethernet address.
    #[must_use]
    pub fn mac(mac: Mac) -> Self {
        Self::hardware(1, &mac.0)
    }

    /// A client known by its client identifier (RFC 2132 §9.14).
    #[must_use]
    pub fn id(id: &[u8]) -> Self {
        Self::tagged(Self::CLIENT_ID, &[id])
    }

    /// An identity association of a DHCPv6 client (RFC 8415 §12): DUID and IAID.
    #[must_use]
    pub fn ia(duid: &[u8], iaid: u32) -> Self {
        Self::tagged(Self::IA, &[&iaid.to_be_bytes(), duid])
    }

    /// The bytes to store.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The client of stored bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }
}

/// `mac 02:00:…`, `id 01:02:…` or `iaid 7 duid 00:01:…`.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().enumerate().try_for_each(|(i, b)| {
                let colon = if i == 0 { "" } else { ":" };
                write!(f, "{colon}{b:02x}")
            })
        };
        match &*self.0 {
            [Self::HARDWARE, 1, rest @ ..] => {
                f.write_str("mac ")?;
                hex(f, rest)
            }
            [Self::HARDWARE, htype, rest @ ..] => {
                write!(f, "hardware {htype} ")?;
                hex(f, rest)
            }
            [Self::IA, a, b, c, d, rest @ ..] => {
                write!(f, "iaid {} duid ", u32::from_be_bytes([*a, *b, *c, *d]))?;
                hex(f, rest)
            }
            [_, rest @ ..] => {
                f.write_str("id ")?;
                hex(f, rest)
            }
            [] => f.write_str("id"),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
