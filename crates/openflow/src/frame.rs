//! Where does one message end and the next begin?

use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// Length of the header that every message of every version starts with.
pub const HEADER_LEN: usize = 8;
/// The longest message: its length has 16 bits.
pub const MAX_MESSAGE: usize = 0xffff;

/// The header (OpenFlow 1.0 §5.1, later versions §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version byte.
    pub version: u8,
    /// Message type, whose meaning depends on the version.
    pub kind: u8,
    /// Length of the whole message in bytes, at least 8.
    pub length: u16,
    /// Transaction identifier.
    pub xid: u32,
}

impl Header {
    /// Reads the header at the front of `bytes`.
    ///
    /// # Errors
    /// `OFPBRC_BAD_LEN` when there are fewer than 8 bytes or the length says less than 8.
    pub fn parse(bytes: &[u8]) -> Result<Header, ErrorCode> {
        let mut r = Reader::new(bytes, ErrorCode::OFPBRC_BAD_LEN);
        let header = Header { version: r.u8()?, kind: r.u8()?, length: r.u16()?, xid: r.u32()? };
        if usize::from(header.length) < HEADER_LEN { Err(ErrorCode::OFPBRC_BAD_LEN) } else { Ok(header) }
    }
    /// Appends the header.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.u8(self.version);
        out.u8(self.kind);
        out.u16(self.length);
        out.u32(self.xid);
    }
}

/// Cuts a byte stream into messages. Holds less than one message between calls.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
}

/// The stream can no longer be cut: a header says that its message is shorter than the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message header gives a length below 8 bytes; the rest of the stream cannot be understood")]
pub struct FrameError;

impl Framer {
    /// An empty framer.
    pub fn new() -> Self {
        Framer::default()
    }
    /// Adds `bytes` and calls `each` with every complete message, header included.
    ///
    /// # Errors
    /// [`FrameError`]; the connection must be closed. Messages before the bad header were given out.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), FrameError> {
        let mut rest = bytes;
        if !self.buffer.is_empty() {
            if !self.fill(&mut rest, HEADER_LEN) {
                return Ok(());
            }
            let length = usize::from(Header::parse(&self.buffer).map_err(|_| FrameError)?.length);
            if !self.fill(&mut rest, length) {
                return Ok(());
            }
            each(&self.buffer);
            self.buffer.clear();
        }
        while rest.len() >= HEADER_LEN {
            let length = usize::from(Header::parse(rest).map_err(|_| FrameError)?.length);
            let Some((message, tail)) = rest.split_at_checked(length) else { break };
            each(message);
            rest = tail;
        }
        self.buffer.extend_from_slice(rest);
        Ok(())
    }
    /// Moves bytes from the front of `rest` until `want` are held; false when there are not enough.
    fn fill(&mut self, rest: &mut &[u8], want: usize) -> bool {
        let (head, tail) = rest.split_at(rest.len().min(want.saturating_sub(self.buffer.len())));
        self.buffer.extend_from_slice(head);
        *rest = tail;
        self.buffer.len() >= want
    }
    /// Bytes held of an incomplete message.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, body: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Header { version: 4, kind, length: (HEADER_LEN + body) as u16, xid: 1 }.emit(&mut out);
        out.resize(HEADER_LEN + body, kind);
        out
    }

    #[test]
    fn bad_length_ends_the_stream() {
        let mut framer = Framer::new();
        let mut seen = 0;
        let mut bytes = message(2, 4);
        bytes.extend([4, 0, 0, 7, 0, 0, 0, 0]);
        assert_eq!(framer.push(&bytes, |_| seen += 1), Err(FrameError));
        assert_eq!(seen, 1);
        let mut framer = Framer::new();
        assert_eq!(framer.push(&[4, 0, 0], |_| ()), Ok(()));
        assert_eq!(framer.push(&[7, 0, 0, 0, 0], |_| ()), Err(FrameError));
    }

    proptest! {
        #[test]
        fn any_chopping_gives_the_same_messages(
            sizes in prop::collection::vec(0usize..40, 1..20),
            cuts in prop::collection::vec(1usize..30, 1..60),
        ) {
            let messages: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(i, n)| message(i as u8, *n)).collect();
            let stream = messages.concat();
            let mut framer = Framer::new();
            let mut got = Vec::new();
            let mut rest = &stream[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                framer.push(head, |m| got.push(m.to_vec())).unwrap();
                rest = tail;
            }
            prop_assert_eq!(got, messages);
            prop_assert_eq!(framer.pending(), 0);
        }
    }
}
