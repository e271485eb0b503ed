//! What can be wrong with bytes that claim to be a header?

/// Why bytes were refused, or why a header could not be written.
///
/// `layer` names the protocol ("ipv4", "geneve", …), so that a drop counter or a trace can say
/// which header was at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ends before the header (or the length that the header states) does.
    #[error("{layer}: truncated")]
    Truncated {
        /// The protocol whose header is cut short.
        layer: &'static str,
    },
    /// A field holds a value that the protocol forbids.
    #[error("{layer}: bad {field}")]
    Malformed {
        /// The protocol whose header is wrong.
        layer: &'static str,
        /// The field that is wrong.
        field: &'static str,
    },
    /// The buffer that was given is too small for what is to be written.
    #[error("{layer}: needs a buffer of {need} bytes, was given {have}")]
    NoSpace {
        /// The protocol that was being written.
        layer: &'static str,
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// The packet is well formed, but the operation does not apply to its kind.
    #[error("{layer}: unsupported {what}")]
    Unsupported {
        /// The protocol or operation that was asked for.
        layer: &'static str,
        /// What it cannot do.
        what: &'static str,
    },
}

impl Error {
    /// Shorthand for [`Error::Truncated`].
    #[inline]
    #[must_use]
    pub const fn truncated(layer: &'static str) -> Self {
        Self::Truncated { layer }
    }

    /// Shorthand for [`Error::Malformed`].
    #[inline]
    #[must_use]
    pub const fn malformed(layer: &'static str, field: &'static str) -> Self {
        Self::Malformed { layer, field }
    }

    /// Shorthand for [`Error::Unsupported`].
    #[inline]
    #[must_use]
    pub const fn unsupported(layer: &'static str, what: &'static str) -> Self {
        Self::Unsupported { layer, what }
    }
}

/// The result of reading or writing a header.
pub type Result<T> = core::result::Result<T, Error>;
