//! Where does one JSON message end and the next begin?
//!
//! Messages follow each other without any separator, so the decoder counts brackets as
//! bytes arrive. Each byte is looked at once for that, and once more by the JSON parser.

use serde_json::Value;

use crate::json;

/// What one message may weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Longest message in bytes; also the most a decoder buffers.
    pub bytes: usize,
    /// Deepest nesting of arrays and objects; at most 120, where the parser gives up.
    pub depth: usize,
    /// Most values in one message: a short text can make a large tree.
    pub values: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { bytes: 16 << 20, depth: 64, values: 1 << 20 }
    }
}

/// A stream that cannot be followed any further. The connection has to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message begins with something other than `{`.
    #[error("a message must be an object, not begin with byte {0:#04x}")]
    NotAnObject(u8),
    /// A message is longer than allowed.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
    /// A message nests deeper than allowed.
    #[error("a message nests deeper than {0}")]
    TooDeep(usize),
    /// A message holds more values than allowed.
    #[error("a message holds more than {0} values")]
    TooManyValues(usize),
    /// The bytes of a message are not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// A string holds U+0000.
    #[error("a string holds U+0000")]
    Nul,
    /// The object is not a request, a notification or a reply.
    #[error("not a JSON-RPC message: {0}")]
    NotAMessage(&'static str),
}

/// Cuts a stream of bytes into JSON objects.
#[derive(Debug)]
pub struct Decoder {
    limits: FrameLimits,
    buffer: Vec<u8>,
    /// Start of the message being read.
    start: usize,
    /// Next byte to look at.
    scan: usize,
    depth: usize,
    values: usize,
    in_string: bool,
    escaped: bool,
    failed: Option<FrameError>,
}

impl Decoder {
    /// An empty decoder.
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            buffer: Vec::new(),
            start: 0,
            scan: 0,
            depth: 0,
            values: 0,
            in_string: false,
            escaped: false,
            failed: None,
        }
    }

    /// Takes bytes from the stream. Messages are then drawn with [`next`](Self::next) until
    /// it gives `None`; only then should more be fed.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.start > 0 && self.start == self.buffer.len() {
            self.buffer.clear();
            (self.start, self.scan) = (0, 0);
            // A large message should not keep its memory for the life of the connection.
            self.buffer.shrink_to(64 << 10);
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.scan -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held that belong to no message yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next whole message. After an error it gives that error for ever.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<Value, FrameError>> {
        if let Some(error) = &self.failed {
            return Some(Err(error.clone()));
        }
        let found = self.scan_message();
        if let Err(error) = &found {
            self.failed = Some(error.clone());
            self.buffer = Vec::new();
            (self.start, self.scan) = (0, 0);
        }
        found.transpose()
    }

    fn scan_message(&mut self) -> Result<Option<Value>, FrameError> {
        if self.depth == 0 {
            while self.buffer.get(self.scan).is_some_and(u8::is_ascii_whitespace) {
                self.scan += 1;
            }
            self.start = self.scan;
            match self.buffer.get(self.scan) {
                None => return Ok(None),
                Some(b'{') => {}
                Some(other) => return Err(FrameError::NotAnObject(*other)),
            }
        }
        while let Some(&byte) = self.buffer.get(self.scan) {
            self.scan += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    self.count_value()?;
                    if self.depth > self.limits.depth {
                        return Err(FrameError::TooDeep(self.limits.depth));
                    }
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return self.take_message().map(Some);
                    }
                }
                b',' | b':' => self.count_value()?,
                _ => {}
            }
        }
        if self.buffered() > self.limits.bytes {
            return Err(FrameError::TooLong(self.limits.bytes));
        }
        Ok(None)
    }

    fn count_value(&mut self) -> Result<(), FrameError> {
        self.values += 1;
        if self.values > self.limits.values {
            return Err(FrameError::TooManyValues(self.limits.values));
        }
        Ok(())
    }

    fn take_message(&mut self) -> Result<Value, FrameError> {
        let text = &self.buffer[self.start..self.scan];
        if text.len() > self.limits.bytes {
            return Err(FrameError::TooLong(self.limits.bytes));
        }
        let value = serde_json::from_slice(text).map_err(|e| FrameError::Json(e.to_string()))?;
        if json::has_nul(&value) {
            return Err(FrameError::Nul);
        }
        self.start = self.scan;
        self.values = 0;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(chunks: &[&[u8]], limits: FrameLimits) -> (Vec<Value>, Option<FrameError>) {
        let mut decoder = Decoder::new(limits);
        let mut out = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk);
            while let Some(result) = decoder.next() {
                match result {
                    Ok(value) => out.push(value),
                    Err(error) => return (out, Some(error)),
                }
            }
        }
        (out, None)
    }

    #[test]
    fn messages_are_found_however_the_bytes_arrive() {
        let text = br#" {"a":"}\"{"}{"b":[{},[1]]}
        {"c":"\\"} "#;
        let expected = vec![json!({"a": "}\"{"}), json!({"b": [{}, [1]]}), json!({"c": "\\"})];
        for size in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            let (found, error) = decode(&chunks, FrameLimits::default());
            assert_eq!((found, error), (expected.clone(), None), "chunks of {size}");
        }
    }

    #[test]
    fn hostile_streams_end_in_an_error() {
        let limits = FrameLimits { bytes: 64, depth: 5, values: 10 };
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
        let cases: [(&[u8], FrameError); 9] = [
            (b"nonsense", FrameError::NotAnObject(b'n')),
            (b"[1]", FrameError::NotAnObject(b'[')),
            (long.as_bytes(), FrameError::TooLong(64)),
            (&long.as_bytes()[..90], FrameError::TooLong(64)),
            (b"{\"a\":[[[[[", FrameError::TooDeep(5)),
            (b"{\"a\":[1,2,3,4,5,6,7,8,9,0", FrameError::TooManyValues(10)),
            (b"{\"a\":\"\\u0000\"}", FrameError::Nul),
            (b"{\"a\":01}", FrameError::Json(String::new())),
            (b"{\"a\":\"\xff\"}", FrameError::Json(String::new())),
        ];
        for (bytes, expected) in cases {
            let (_, error) = decode(&[bytes], limits);
            let same = match (&error, &expected) {
                (Some(FrameError::Json(_)), FrameError::Json(_)) => true,
                (error, expected) => error.as_ref() == Some(expected),
            };
            assert!(same, "{error:?} is not {expected:?}");
        }
    }

    #[test]
    fn an_error_is_final_and_holds_no_memory() {
        let mut decoder = Decoder::new(FrameLimits::default());
        decoder.feed(b"x");
        assert!(decoder.next().is_some_and(|r| r.is_err()));
        decoder.feed(b"{}");
        assert!(decoder.next().is_some_and(|r| r.is_err()));
        assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn bytes_are_looked_at_once() {
        let body = "x".repeat(4 << 20);
        let text = format!("{{\"a\":\"{body}\"}}");
        let mut decoder = Decoder::new(FrameLimits::default());
        for chunk in text.as_bytes().chunks(100) {
            decoder.feed(chunk);
            // The scan is at the end of what was fed: nothing is left to look at again.
            let done = decoder.next().is_some();
            assert!(done || decoder.scan == decoder.buffer.len());
        }
    }
}
