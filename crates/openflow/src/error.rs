//! What went wrong with a message, and which numbers say so in each version?
//!
//! Codes that a version of OpenFlow lacks go out under the numbers Open vSwitch gave them as an extension, so that
//! its clients can name them. The numbers are in `error_table.rs`.

use std::fmt;

use crate::Version;
use crate::bytes::{Put, Reader};

/// Experimenter number of Nicira.
pub const NICIRA: u32 = 0x0000_2320;
/// Experimenter number of the Open Networking Foundation.
pub const ONF: u32 = 0x4f4e_4600;

/// Error type that says in OpenFlow 1.0 and 1.1 that vendor, type and code follow (Nicira extension).
const NXET_VENDOR: u16 = 0xb0c2;
/// Error type of experimenters from OpenFlow 1.2 on.
const OFPET_EXPERIMENTER: u16 = 0xffff;

/// Numbers of an error on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Type and code of the standard.
    Standard(u16, u16),
    /// Nicira's type and code in OpenFlow 1.0 and 1.1.
    Nicira(u16, u16),
    /// Experimenter and its code, from OpenFlow 1.2 on.
    Experimenter(u32, u16),
}

pub(super) const fn std(kind: u16, code: u16) -> WireError {
    WireError::Standard(kind, code)
}
pub(super) const fn nx(kind: u16, code: u16) -> WireError {
    WireError::Nicira(kind, code)
}
pub(super) const fn exp(code: u16) -> WireError {
    WireError::Experimenter(NICIRA, code)
}
pub(super) const fn onf(code: u16) -> WireError {
    WireError::Experimenter(ONF, code)
}

/// (first version, last version, numbers), by version bytes.
pub(super) type Row = (u8, u8, WireError);

macro_rules! error_codes {
    ($($name:ident: $($row:expr),*;)*) => {
        /// An error code of OpenFlow or of the Nicira extensions, under the name the standard gives it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types)]
        #[repr(u8)]
        pub enum ErrorCode {
            $(#[doc = concat!("`", stringify!($name), "`")] $name,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// Name, as the standard spells it.
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => stringify!($name),)* }
            }
            pub(super) fn table(self) -> &'static [Row] {
                match self { $(ErrorCode::$name => const { &[$($row),*] },)* }
            }
        }
    };
}
pub(super) use error_codes;

pub use super::error_table::ErrorCode;

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for ErrorCode {}

impl ErrorCode {
    /// The numbers in `version`; where it has none, those of `NXBRC_UNENCODABLE_ERROR`.
    pub fn on_wire(self, version: Version) -> WireError {
        let find = |code: ErrorCode| {
            let v = version.wire();
            code.table().iter().find(|(first, last, _)| (*first..=*last).contains(&v)).map(|row| row.2)
        };
        find(self).or_else(|| find(ErrorCode::NXBRC_UNENCODABLE_ERROR)).unwrap_or(WireError::Standard(1, 1))
    }
    /// The code with these numbers.
    pub fn from_wire(version: Version, wire: WireError) -> Option<ErrorCode> {
        let v = version.wire();
        let has = |code: &&ErrorCode| code.table().iter().any(|r| (r.0..=r.1).contains(&v) && r.2 == wire);
        Self::ALL.iter().find(has).copied()
    }
}

/// An error message (`OFPT_ERROR`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    /// What went wrong.
    pub code: ErrorKind,
    /// At least the first 64 bytes of the message that failed; for `HELLO_FAILED`, text.
    pub data: Vec<u8>,
}

/// A code that has a name, or numbers that have none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A known code.
    Known(ErrorCode),
    /// Any other.
    Unknown(WireError),
}

/// Bytes of the failed message that an error carries.
pub const ERROR_DATA: usize = 64;

impl ErrorMessage {
    /// An error about `request`, of which the first 64 bytes are kept.
    pub fn new(code: ErrorCode, request: &[u8]) -> Self {
        ErrorMessage { code: ErrorKind::Known(code), data: request[..request.len().min(ERROR_DATA)].to_vec() }
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let wire = match self.code {
            ErrorKind::Known(code) => code.on_wire(version),
            ErrorKind::Unknown(wire) => wire,
        };
        match wire {
            WireError::Standard(kind, code) => {
                out.u16(kind);
                out.u16(code);
            }
            WireError::Nicira(kind, code) => {
                out.u16(NXET_VENDOR);
                out.u16(0);
                out.u32(NICIRA);
                out.u16(kind);
                out.u16(code);
            }
            WireError::Experimenter(experimenter, code) => {
                out.u16(OFPET_EXPERIMENTER);
                out.u16(code);
                out.u32(experimenter);
            }
        }
        out.bytes(&self.data);
    }

    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let (kind, code) = (r.u16()?, r.u16()?);
        let wire = match kind {
            NXET_VENDOR
                if version < Version::V12 && code == 0 && r.rest().starts_with(&NICIRA.to_be_bytes()) =>
            {
                r.skip(4)?;
                WireError::Nicira(r.u16()?, r.u16()?)
            }
            OFPET_EXPERIMENTER if version >= Version::V12 => WireError::Experimenter(r.u32()?, code),
            _ => WireError::Standard(kind, code),
        };
        let code = ErrorCode::from_wire(version, wire).map_or(ErrorKind::Unknown(wire), ErrorKind::Known);
        Ok(ErrorMessage { code, data: r.rest().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_well_known_codes() {
        let cases = [
            (ErrorCode::OFPBRC_BAD_LEN, Version::V10, WireError::Standard(1, 6)),
            (ErrorCode::OFPBMC_BAD_FIELD, Version::V13, WireError::Standard(4, 6)),
            (ErrorCode::OFPBMC_BAD_PREREQ, Version::V10, WireError::Nicira(1, 260)),
            (ErrorCode::OFPFMFC_OVERLAP, Version::V10, WireError::Standard(3, 1)),
            (ErrorCode::OFPFMFC_OVERLAP, Version::V15, WireError::Standard(5, 3)),
            (ErrorCode::OFPBFC_BAD_ID, Version::V13, WireError::Experimenter(ONF, 2302)),
            (ErrorCode::OFPBFC_BAD_ID, Version::V10, WireError::Nicira(1, 521)),
            (ErrorCode::OFPBFC_BAD_ID, Version::V12, WireError::Experimenter(NICIRA, 10)),
        ];
        for (code, version, wire) in cases {
            assert_eq!(code.on_wire(version), wire, "{code} in {version}");
        }
    }

    #[test]
    fn every_code_round_trips_where_it_has_numbers() {
        for version in Version::ALL {
            for &code in ErrorCode::ALL {
                let message = ErrorMessage::new(code, &[7; 100]);
                let mut out = Vec::new();
                message.encode(version, &mut out);
                let back =
                    ErrorMessage::decode(version, Reader::new(&out, ErrorCode::OFPBRC_BAD_LEN)).unwrap();
                assert_eq!(back.data, [7; 64]);
                let ErrorKind::Known(known) = back.code else { panic!("{code} {version}: {back:?}") };
                assert_eq!(known.on_wire(version), code.on_wire(version));
            }
        }
    }
}
