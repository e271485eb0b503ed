//! Which kinds of resource are there, and by which words does one ask for them?

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::nearest;

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Kind {
    /// Addresses that several subnets share.
    AddressPool,
    /// One L2 segment.
    Network,
    /// Addresses, DHCP and router advertisements of a network.
    Subnet,
    /// Routing between subnets.
    Router,
    /// The place where one machine or namespace is plugged in.
    Port,
}

impl Kind {
    /// All kinds, in the order in which they are created (what others refer to comes first).
    pub const ALL: [Self; 5] = [Self::AddressPool, Self::Network, Self::Subnet, Self::Router, Self::Port];

    /// The name in the field `kind` of a document: `Network`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddressPool => "AddressPool",
            Self::Network => "Network",
            Self::Subnet => "Subnet",
            Self::Router => "Router",
            Self::Port => "Port",
        }
    }

    /// The plural in the paths of the HTTP API and on the command line: `networks`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::AddressPool => "addresspools",
            Self::Network => "networks",
            Self::Subnet => "subnets",
            Self::Router => "routers",
            Self::Port => "ports",
        }
    }

    /// The short word on the command line: `net`.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::AddressPool => "pool",
            Self::Network => "net",
            Self::Subnet => "sub",
            Self::Router => "rt",
            Self::Port => "po",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The word names no kind of resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind {word:?}; {mend}")]
pub struct UnknownKind {
    /// What was asked for.
    pub word: String,
    /// What may be meant.
    pub mend: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Takes the name, the plural, the singular or the short word, in any case.
    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        let lower = word.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|k| lower == k.plural() || lower == k.short() || lower == k.name().to_ascii_lowercase())
            .ok_or_else(|| UnknownKind {
                word: word.to_owned(),
                mend: nearest(word, &Self::ALL.map(Self::name)),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for kind in Kind::ALL {
            for word in [kind.name(), kind.plural(), kind.short()] {
                assert_eq!(word.parse(), Ok(kind));
            }
        }
        let error = "Netwrk".parse::<Kind>().unwrap_err();
        assert!(error.to_string().contains("did you mean `Network`"), "{error}");
    }
}
