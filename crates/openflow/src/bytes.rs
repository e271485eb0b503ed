//! How are big-endian structures read without trusting a length, and written?

use crate::ErrorCode;

/// Reads from the front of a slice; running out of bytes is the error given at construction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    short: ErrorCode,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], short: ErrorCode) -> Self {
        Reader { rest: bytes, short }
    }
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], ErrorCode> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(self.short)?;
        self.rest = tail;
        Ok(head)
    }
    /// The next `n` bytes as a reader of their own.
    pub(crate) fn sub(&mut self, n: usize) -> Result<Reader<'a>, ErrorCode> {
        Ok(Reader { rest: self.take(n)?, short: self.short })
    }
    pub(crate) fn skip(&mut self, n: usize) -> Result<(), ErrorCode> {
        self.take(n).map(|_| ())
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ErrorCode> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(self.short)?;
        self.rest = tail;
        Ok(*head)
    }
    pub(crate) fn u8(&mut self) -> Result<u8, ErrorCode> {
        self.array().map(|[b]| b)
    }
    pub(crate) fn u16(&mut self) -> Result<u16, ErrorCode> {
        self.array().map(u16::from_be_bytes)
    }
    pub(crate) fn u32(&mut self) -> Result<u32, ErrorCode> {
        self.array().map(u32::from_be_bytes)
    }
    pub(crate) fn u64(&mut self) -> Result<u64, ErrorCode> {
        self.array().map(u64::from_be_bytes)
    }
    /// A number of `n` ≤ 16 bytes.
    pub(crate) fn number(&mut self, n: usize) -> Result<u128, ErrorCode> {
        Ok(self.take(n)?.iter().fold(0, |v, b| v << 8 | u128::from(*b)))
    }
    /// Text in a field of `n` bytes, up to the first zero.
    pub(crate) fn text(&mut self, n: usize) -> Result<String, ErrorCode> {
        let bytes = self.take(n)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(n);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

/// Appends big-endian numbers.
pub(crate) trait Put {
    fn u8(&mut self, v: u8);
    fn u16(&mut self, v: u16);
    fn u32(&mut self, v: u32);
    fn u64(&mut self, v: u64);
    fn bytes(&mut self, v: &[u8]);
    /// The low `n` ≤ 16 bytes of a number.
    fn number(&mut self, v: u128, n: usize);
    fn zeros(&mut self, n: usize);
    /// Text cut and padded with zeros to `n` bytes, the last of which is zero.
    fn text(&mut self, text: &str, n: usize);
    /// Zeros until the length since `start` is a multiple of 8.
    fn align8(&mut self, start: usize);
    /// Overwrites the 16-bit number at `at`; a value too large is cut to 65535, which the message's length check
    /// then refuses.
    fn patch_u16(&mut self, at: usize, v: usize);
}

impl Put for Vec<u8> {
    fn u8(&mut self, v: u8) {
        self.push(v);
    }
    fn u16(&mut self, v: u16) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn bytes(&mut self, v: &[u8]) {
        self.extend_from_slice(v);
    }
    fn number(&mut self, v: u128, n: usize) {
        let bytes = v.to_be_bytes();
        self.extend_from_slice(&bytes[16 - n.min(16)..]);
    }
    fn zeros(&mut self, n: usize) {
        self.resize(self.len() + n, 0);
    }
    fn text(&mut self, text: &str, n: usize) {
        let mut end = text.len().min(n.saturating_sub(1));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.extend_from_slice(&text.as_bytes()[..end]);
        self.zeros(n - end);
    }
    fn align8(&mut self, start: usize) {
        self.zeros((self.len() - start).wrapping_neg() & 7);
    }
    fn patch_u16(&mut self, at: usize, v: usize) {
        let v = u16::try_from(v).unwrap_or(u16::MAX);
        self[at..at + 2].copy_from_slice(&v.to_be_bytes());
    }
}

/// `n` rounded up to a multiple of 8.
pub(crate) fn round8(n: usize) -> usize {
    n.next_multiple_of(8)
}
