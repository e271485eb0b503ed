//! What both ends do alike: negotiate, frame, answer echoes, probe, keep what is to be sent.

use super::Options;
use crate::error::{ErrorKind, ErrorMessage};
use crate::frame::Header;
use crate::message::Message;
use crate::msg::handshake::Hello;
use crate::spare::Spare;
use crate::stats::TellFlow;
use crate::{Codec, EncodeError, ErrorCode, Framer, Version, VersionSet};

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// No version in common, or something else came before the hello.
    #[error("no OpenFlow version in common")]
    Incompatible,
    /// A header gave an impossible length.
    #[error("the stream is not OpenFlow")]
    BadFrame,
    /// The peer did not answer a probe.
    #[error("no answer to a probe")]
    Timeout,
    /// More waits to be sent than may.
    #[error("the peer does not read what it is sent")]
    Backlog,
    /// The peer refused the hello.
    #[error("the peer refused the connection")]
    Refused,
}

/// Text of an error about incompatible versions.
const NO_COMMON_VERSION: &[u8] = b"no OpenFlow version in common";

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) options: Options,
    /// Set once the version is agreed on; before, its version is the highest offered.
    pub(super) codec: Codec,
    ready: bool,
    closed: Option<CloseReason>,
    framer: Framer,
    output: Vec<u8>,
    /// Bytes of `output` that were sent.
    sent: usize,
    last_heard: u64,
    probed: bool,
    next_xid: u32,
}

/// What a received message is to the layer above.
pub(super) enum Received {
    /// Nothing: it was handled here.
    Handled,
    /// The version is agreed on.
    Connected(Version),
    /// A message.
    Message(u32, Message),
    /// A message that could not be understood: the transaction and the error to send.
    Bad(u32, ErrorCode),
}

impl Channel {
    pub(super) fn new(options: Options, now: u64) -> Self {
        let highest = options.versions.highest().unwrap_or(Version::V10);
        let offered = options.versions;
        let mut channel = Channel {
            options,
            codec: Codec::new(highest),
            ready: false,
            closed: None,
            framer: Framer::new(),
            output: Vec::new(),
            sent: 0,
            last_heard: now,
            probed: false,
            next_xid: 1,
        };
        // Peers up to 1.2 know no bitmap; without one, all versions up to the header's are meant.
        let plain = highest < Version::V13 && offered == VersionSet::up_to(highest.wire());
        let versions = (!plain).then_some(offered);
        let xid = channel.xid();
        channel.send(xid, &Message::Hello(Hello { versions }));
        channel
    }

    pub(super) fn version(&self) -> Option<Version> {
        self.ready.then_some(self.codec.version)
    }
    pub(super) fn closed(&self) -> Option<CloseReason> {
        self.closed
    }
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.closed.get_or_insert(reason);
    }
    pub(super) fn xid(&mut self) -> u32 {
        let xid = self.next_xid;
        self.next_xid = xid.wrapping_add(1);
        xid
    }

    /// Cuts `bytes` into messages and calls `each` with those that are not handled here.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        now: u64,
        spare: &mut Spare,
        mut each: impl FnMut(&mut Channel, &mut Spare, &[u8], Received),
    ) {
        if self.closed.is_some() {
            return;
        }
        (self.last_heard, self.probed) = (now, false);
        let mut framer = std::mem::take(&mut self.framer);
        let framed = framer.push(bytes, |message| {
            if self.closed.is_some() {
                return;
            }
            let received = self.message(message, spare);
            if !matches!(received, Received::Handled) {
                each(self, spare, message, received);
            }
        });
        self.framer = framer;
        if framed.is_err() {
            self.close(CloseReason::BadFrame);
        }
    }

    fn message(&mut self, bytes: &[u8], spare: &mut Spare) -> Received {
        if !self.ready {
            return self.negotiate(bytes);
        }
        match self.codec.decode_with(bytes, spare) {
            Ok((_, Message::Hello(_) | Message::EchoReply(_))) => Received::Handled,
            Ok((xid, message)) => Received::Message(xid, message),
            Err(code) => Received::Bad(Header::parse(bytes).map_or(0, |h| h.xid), code),
        }
    }

    fn negotiate(&mut self, bytes: &[u8]) -> Received {
        let Ok(header) = Header::parse(bytes) else { return Received::Handled };
        let hello = match self.codec.decode(bytes) {
            Ok((_, Message::Hello(hello))) => hello,
            Ok((_, Message::Error(_))) => {
                self.close(CloseReason::Refused);
                return Received::Handled;
            }
            _ => Hello { versions: Some(VersionSet::NONE) },
        };
        let theirs = hello.versions.unwrap_or(VersionSet::up_to(header.version));
        let common = theirs.common(self.options.versions);
        let Some(version) = common.highest() else {
            let code = ErrorKind::Known(ErrorCode::OFPHFC_INCOMPATIBLE);
            self.send(header.xid, &Message::Error(ErrorMessage { code, data: NO_COMMON_VERSION.to_vec() }));
            self.close(CloseReason::Incompatible);
            return Received::Handled;
        };
        self.codec = Codec::new(version);
        self.ready = true;
        Received::Connected(version)
    }

    /// Queues a message; one that cannot be written is an error and nothing is queued. After the end, nothing is queued
    /// either: a peer may have asked for much more than it will get.
    pub(super) fn try_send(&mut self, xid: u32, message: &Message) -> Result<(), EncodeError> {
        if self.closed.is_some() {
            return Ok(());
        }
        self.codec.encode(xid, message, &mut self.output)?;
        if self.backlog() > self.options.max_backlog {
            self.close(CloseReason::Backlog);
        }
        Ok(())
    }

    /// Queues an answer about rules.
    pub(super) fn send_flows(&mut self, xid: u32, nicira: bool, tell: impl FnOnce(TellFlow<'_>) -> bool) {
        if self.closed.is_some() {
            return;
        }
        self.codec.encode_flows(xid, nicira, tell, &mut self.output);
        if self.backlog() > self.options.max_backlog {
            self.close(CloseReason::Backlog);
        }
    }

    /// Queues a message that every version can write.
    pub(super) fn send(&mut self, xid: u32, message: &Message) {
        let sent = self.try_send(xid, message);
        debug_assert!(sent.is_ok(), "{sent:?}");
    }

    pub(super) fn send_error(&mut self, xid: u32, code: ErrorCode, request: &[u8]) {
        self.send(xid, &Message::Error(ErrorMessage::new(code, request)));
    }

    pub(super) fn backlog(&self) -> usize {
        self.output.len() - self.sent
    }
    pub(super) fn congested(&self) -> bool {
        self.backlog() > self.options.backlog
    }
    pub(super) fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }
    pub(super) fn consume(&mut self, n: usize) {
        self.sent = (self.sent + n).min(self.output.len());
        // Move what is left to the front when that is little, so that the buffer neither grows nor is copied often.
        if self.sent == self.output.len() || self.sent > self.output.len() / 2 && self.sent > 64 << 10 {
            self.output.drain(..self.sent);
            self.sent = 0;
            self.output.shrink_to(self.options.backlog);
        }
    }

    /// When [`Channel::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<u64> {
        let interval = self.options.probe_interval_ms;
        let silence = interval.saturating_mul(if self.probed { 2 } else { 1 });
        (interval != 0 && self.closed.is_none()).then(|| self.last_heard.saturating_add(silence))
    }

    /// Probes a silent peer, and gives up one that stays silent.
    pub(super) fn tick(&mut self, now: u64) {
        let Some(deadline) = self.deadline() else { return };
        if now < deadline {
            return;
        }
        if self.probed || !self.ready {
            return self.close(CloseReason::Timeout);
        }
        self.probed = true;
        let xid = self.xid();
        self.send(xid, &Message::EchoRequest(Vec::new()));
    }
}
