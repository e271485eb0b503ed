//! Where does a message begin and end in a TCP stream? (RFC 1035 §4.2.2, RFC 7766 §8)

/// Bytes kept of a stream: one message of the longest kind with its length.
const MAX_KEPT: usize = 2 + 65_535;

/// Messages out of a stream that comes in pieces.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

/// A stream from which no message can come any more; close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("dns: a message too short to be one")]
pub struct BadFrame;

impl Frames {
    /// Takes in bytes that were read, and returns how many: all, unless a whole message waits to
    /// be taken out by [`Self::next`].
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let room = MAX_KEPT.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend(bytes.iter().take(room));
        room
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When the stream says that a message is shorter than a header.
    #[allow(clippy::should_implement_trait)] // An iterator would end at the first gap.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, BadFrame> {
        let Some(head) = self.bytes.first_chunk::<2>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*head));
        if len < 12 {
            return Err(BadFrame);
        }
        let Some(message) = self.bytes.get(2..2 + len).map(<[u8]>::to_vec) else { return Ok(None) };
        self.bytes.drain(..2 + len);
        Ok(Some(message))
    }
}

/// A message behind its length; None when it is longer than a message can be.
#[must_use]
pub fn frame(message: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(message.len()).ok()?;
    Some([&len.to_be_bytes()[..], message].concat())
}
