//! How are messages sent to the switch that no client would send? A bare OpenFlow connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use weft_flow::text::{Syntax, parse_addition};
use weft_openflow::msg::flow::FlowMod;
use weft_openflow::{Codec, Message, Version};

/// A connection on which the hellos were exchanged.
pub(crate) struct Raw {
    stream: UnixStream,
    version: u8,
    buffer: Vec<u8>,
}

/// `OFPT_HELLO`, `OFPT_ERROR`, `OFPT_ECHO_REQUEST`, `OFPT_ECHO_REPLY`.
const HELLO: u8 = 0;
const ERROR: u8 = 1;
const ECHO_REQUEST: u8 = 2;
const ECHO_REPLY: u8 = 3;
/// Transaction number of the echo that follows what is sent.
const BEHIND: [u8; 4] = [0xec, 0x40, 0, 1];

impl Raw {
    /// Connects and agrees on `version` (1 is OpenFlow 1.0, 6 is 1.5).
    pub(crate) fn connect(socket: &Path, version: u8) -> Raw {
        let stream = UnixStream::connect(socket).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let mut raw = Raw { stream, version, buffer: Vec::new() };
        raw.stream.write_all(&[version, HELLO, 0, 8, 0, 0, 0, 1]).expect("hello");
        let hello = raw.next().expect("a hello");
        assert_eq!(hello[1], HELLO);
        raw
    }

    /// The next message; `None` when the switch ends the connection.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if self.buffer.len() >= 8 {
                let len = usize::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])).max(8);
                if self.buffer.len() >= len {
                    return Some(self.buffer.drain(..len).collect());
                }
            }
            let mut more = [0u8; 65536];
            let n = self.stream.read(&mut more).expect("something from the switch");
            if n == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&more[..n]);
        }
    }

    /// Sends bytes as they are, and returns what the switch says to them, up to the answer to an echo sent behind.
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut all = bytes.to_vec();
        all.extend([self.version, ECHO_REQUEST, 0, 8]);
        all.extend(BEHIND);
        self.stream.write_all(&all).expect("send");
        let mut out = Vec::new();
        while let Some(message) = self.next() {
            match message[1] {
                ECHO_REPLY if message[4..8] == BEHIND => break,
                ECHO_REQUEST => {
                    let mut reply = message.clone();
                    reply[1] = ECHO_REPLY;
                    self.stream.write_all(&reply).expect("answer");
                }
                _ => out.push(message),
            }
        }
        out
    }
}

/// Type and code of the first error among messages.
pub(crate) fn error_of(messages: &[Vec<u8>]) -> Option<(&[u8], u16, u16)> {
    let message = messages.iter().find(|m| m[1] == ERROR && m.len() >= 12)?;
    Some((
        message,
        u16::from_be_bytes([message[8], message[9]]),
        u16::from_be_bytes([message[10], message[11]]),
    ))
}

/// The flow-mod that adds a rule written as for `ovs-ofctl add-flow`.
pub(crate) fn addition(version: Version, flow: &str) -> Result<Vec<u8>, String> {
    let rule = parse_addition(flow, &Syntax::default()).map_err(|e| format!("{flow}: {e}"))?;
    let message = Message::FlowMod(Box::new(FlowMod {
        table: Some(rule.table.unwrap_or(0)),
        priority: rule.priority,
        new_cookie: Some(rule.cookie),
        matching: rule.matching,
        instructions: rule.instructions.unwrap_or_default(),
        ..FlowMod::default()
    }));
    let mut out = Vec::new();
    Codec::new(version).encode(1, &message, &mut out).map_err(|e| format!("{flow}: {e}"))?;
    Ok(out)
}

/// Bytes of a text of hexadecimal digits; spaces and line ends do not count.
pub(crate) fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).map_err(|e| e.to_string())?;
        u8::from_str_radix(text, 16).map_err(|e| format!("{text}: {e}"))
    };
    if !digits.len().is_multiple_of(2) {
        return Err("half a byte".to_owned());
    }
    digits.chunks(2).map(byte).collect()
}
