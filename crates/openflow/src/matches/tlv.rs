//! How is one field written in OXM or NXM?

use weft_flow::{CodePoint, Field};

use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// Class of fields that an experimenter numbers.
const OXM_EXPERIMENTER: u16 = 0xffff;

/// A header: which field, whether a mask follows, how many bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlvHeader {
    pub(crate) class: u16,
    pub(crate) number: u8,
    pub(crate) has_mask: bool,
    /// 0 unless the class is the experimenters'.
    pub(crate) experimenter: u32,
    /// Bytes of value and mask that follow the header.
    pub(crate) body: usize,
}

impl TlvHeader {
    /// The field that is meant, if it is known and the key carries it.
    pub(crate) fn field(&self) -> Option<Field> {
        Field::by_oxm(self.class, self.number, self.experimenter).filter(|f| f.supported())
    }
}

/// Reads a header, 4 bytes or 8 with an experimenter.
pub(crate) fn read_header(r: &mut Reader<'_>) -> Result<TlvHeader, ErrorCode> {
    let word = r.u32()?;
    let class = (word >> 16) as u16;
    let mut header = TlvHeader {
        class,
        number: (word >> 9 & 0x7f) as u8,
        has_mask: word & 0x100 != 0,
        experimenter: 0,
        body: (word & 0xff) as usize,
    };
    if class == OXM_EXPERIMENTER {
        header.experimenter = r.u32()?;
        header.body = header.body.checked_sub(4).ok_or(ErrorCode::OFPBMC_BAD_LEN)?;
    }
    Ok(header)
}

/// Appends a header without value.
pub(crate) fn write_header(point: &CodePoint, bytes: u8, has_mask: bool, out: &mut Vec<u8>) {
    out.u32(point.header(bytes, has_mask));
    if point.class == OXM_EXPERIMENTER {
        out.u32(point.experimenter);
    }
}

/// Appends a field with value and, unless `mask` is `None`, mask.
pub(crate) fn write_tlv(point: &CodePoint, bytes: u8, value: u128, mask: Option<u128>, out: &mut Vec<u8>) {
    write_header(point, bytes, mask.is_some(), out);
    out.number(value, usize::from(bytes));
    if let Some(mask) = mask {
        out.number(mask, usize::from(bytes));
    }
}

/// Appends a field whose length varies, with value and, unless `mask` is `None`, mask, as long.
pub(crate) fn write_tlv_bytes(point: &CodePoint, value: &[u8], mask: Option<&[u8]>, out: &mut Vec<u8>) {
    write_header(point, value.len().min(124) as u8, mask.is_some(), out);
    out.bytes(value);
    if let Some(mask) = mask {
        out.bytes(mask);
    }
}
