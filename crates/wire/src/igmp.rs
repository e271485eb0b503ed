//! How does a host say which IPv4 groups it listens to? (RFC 2236, RFC 9776)

use core::net::Ipv4Addr;

use crate::bytes::{array, be16, head, head_mut, put, put16};
use crate::checksum::Sum;
use crate::{Error, Result};

const LAYER: &str = "igmp";

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Bytes of a version 3 group record without sources.
pub const RECORD_LEN: usize = 8;

/// Byte offsets inside the message.
pub mod field {
    /// Type, 1 byte.
    pub const TYPE: usize = 0;
    /// Maximum response time (code in version 3), 1 byte.
    pub const MAX_RESP: usize = 1;
    /// Checksum over the whole message, 2 bytes.
    pub const CHECKSUM: usize = 2;
    /// Group address, 4 bytes.
    pub const GROUP: usize = 4;
    /// Version 3 report: number of group records, 2 bytes.
    pub const RECORDS: usize = 6;
}

/// Message types.
pub mod ty {
    /// Membership query.
    pub const QUERY: u8 = 0x11;
    /// Version 1 report.
    pub const REPORT_V1: u8 = 0x12;
    /// Version 2 report.
    pub const REPORT_V2: u8 = 0x16;
    /// Version 2 leave.
    pub const LEAVE: u8 = 0x17;
    /// Version 3 report.
    pub const REPORT_V3: u8 = 0x22;
}

/// A checked view of an IGMP message.
#[derive(Debug, Clone, Copy)]
pub struct IgmpView<'a> {
    bytes: &'a [u8],
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> IgmpView<'a> {
    /// Checks that the header is there.
    ///
    /// # Errors
    /// `Truncated` when `bytes` are shorter than [`HEADER_LEN`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, payload) = head(LAYER, bytes)?;
        Ok(Self { bytes, head, payload })
    }

    /// Type: one of [`ty`].
    #[must_use]
    pub fn ty(&self) -> u8 {
        self.head[field::TYPE]
    }

    /// Maximum response time in tenths of a second (version 2), or its code (version 3).
    #[must_use]
    pub fn max_resp(&self) -> u8 {
        self.head[field::MAX_RESP]
    }

    /// The group; unspecified in a general query.
    #[must_use]
    pub fn group(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.head, field::GROUP))
    }

    /// True for a version 3 query, which is longer (RFC 9776 §7.1).
    #[must_use]
    pub fn is_v3_query(&self) -> bool {
        self.ty() == ty::QUERY && self.payload.len() >= 4
    }

    /// The group records of a version 3 report; nothing for other messages.
    #[must_use]
    pub fn records(&self) -> IgmpRecords<'a> {
        match self.ty() {
            ty::REPORT_V3 => IgmpRecords { left: be16(self.head, field::RECORDS), rest: self.payload },
            _ => IgmpRecords { left: 0, rest: &[] },
        }
    }

    /// What follows the header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// True when the checksum is right.
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        Sum::of(self.bytes).is_valid()
    }
}

/// An IGMP header of version 1 or 2 as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IgmpRepr {
    /// Type: one of [`ty`].
    pub ty: u8,
    /// Maximum response time in tenths of a second.
    pub max_resp: u8,
    /// The group.
    pub group: Ipv4Addr,
}

impl IgmpRepr {
    /// Reads the fields of a view.
    #[must_use]
    pub fn parse(view: &IgmpView<'_>) -> Self {
        Self { ty: view.ty(), max_resp: view.max_resp(), group: view.group() }
    }

    /// Writes the message (without anything behind its header) and its checksum at the start of
    /// `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let (head, _) = head_mut::<HEADER_LEN>(LAYER, buf)?;
        head[field::TYPE] = self.ty;
        head[field::MAX_RESP] = self.max_resp;
        put16(head, field::CHECKSUM, 0);
        put(head, field::GROUP, self.group.octets());
        let checksum = Sum::of(head).finish();
        put16(head, field::CHECKSUM, checksum);
        Ok(HEADER_LEN)
    }
}

/// One group record of a version 3 report (RFC 9776 §4.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IgmpRecord<'a> {
    /// Record type: 1 "is in", 2 "is ex", 3 "to in", 4 "to ex", 5 "allow", 6 "block".
    pub kind: u8,
    /// The group.
    pub group: Ipv4Addr,
    /// Source addresses, 4 bytes each.
    pub sources: &'a [u8],
}

/// The records of a report, in order; ends with an error when one overruns the message.
#[derive(Debug, Clone)]
pub struct IgmpRecords<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for IgmpRecords<'a> {
    type Item = Result<IgmpRecord<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let all = core::mem::take(&mut self.rest);
        let record = all.split_first_chunk::<RECORD_LEN>().and_then(|(head, rest)| {
            let (sources, rest) = rest.split_at_checked(usize::from(be16(head, 2)) * 4)?;
            self.rest = rest.get(usize::from(head[1]) * 4..)?;
            Some(IgmpRecord { kind: head[0], group: array::<4>(head, 4).into(), sources })
        });
        if record.is_none() {
            self.left = 0;
        }
        Some(record.ok_or(Error::truncated(LAYER)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(ty: u8, max_resp: u8, group: [u8; 4]) {
            let repr = IgmpRepr { ty, max_resp, group: group.into() };
            let mut buf = [0xff; HEADER_LEN];
            repr.emit(&mut buf).unwrap();
            let view = IgmpView::parse(&buf).unwrap();
            prop_assert!(view.checksum_ok());
            prop_assert_eq!(IgmpRepr::parse(&view), repr);
        }
    }

    #[test]
    fn reports_of_version_3() {
        let bytes = [
            0x22, 0, 0, 0, 0, 0, 0, 2, // header, two records
            4, 0, 0, 0, 239, 1, 1, 1, // to exclude nothing
            1, 1, 0, 1, 239, 1, 1, 2, 10, 0, 0, 1, 7, 7, 7, 7, // one source, one word of aux data
        ];
        let records: Vec<_> = IgmpView::parse(&bytes).unwrap().records().map(|r| r.unwrap()).collect();
        assert_eq!(records[0], IgmpRecord { kind: 4, group: [239, 1, 1, 1].into(), sources: &[] });
        assert_eq!(records[1].sources, [10, 0, 0, 1]);
        let mut cut = IgmpView::parse(&bytes[..30]).unwrap().records();
        assert!(cut.next().unwrap().is_ok() && cut.next().unwrap().is_err() && cut.next().is_none());
        assert_eq!(IgmpView::parse(&[0x16; 20]).unwrap().records().count(), 0);
    }
}
