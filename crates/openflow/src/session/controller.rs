//! The controller's end of a connection: small, for agents and tests.

use super::Options;
use super::channel::{Channel, CloseReason, Received};
use crate::message::Message;
use crate::msg::bundle::BundleAdd;
use crate::spare::Spare;
use crate::{EncodeError, ErrorCode, Version};

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControllerEvent {
    /// The version is agreed on.
    Connected(Version),
    /// A message of the switch: its transaction and what it says.
    Message(u32, Message),
    /// A message of the switch that could not be understood.
    Bad(u32, ErrorCode),
}

/// The controller's end of a connection.
#[derive(Debug)]
pub struct ControllerSession {
    channel: Channel,
}

impl ControllerSession {
    /// A connection that was just made; its hello waits in [`ControllerSession::output`].
    pub fn new(options: Options, now_ms: u64) -> Self {
        ControllerSession { channel: Channel::new(options, now_ms) }
    }
    /// Takes bytes from the switch and returns what they say, in order.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) -> Vec<ControllerEvent> {
        let mut events = Vec::new();
        self.receive_with(bytes, now_ms, &mut Spare::default(), |event, _| events.push(event));
        events
    }
    /// As [`ControllerSession::receive`], an event at a time, into packet-ins that are done with: `each` may give them
    /// back.
    pub fn receive_with(
        &mut self,
        bytes: &[u8],
        now_ms: u64,
        spare: &mut Spare,
        mut each: impl FnMut(ControllerEvent, &mut Spare),
    ) {
        self.channel.receive(bytes, now_ms, spare, |channel, spare, _, received| match received {
            Received::Handled => {}
            Received::Connected(version) => each(ControllerEvent::Connected(version), spare),
            Received::Bad(xid, code) => each(ControllerEvent::Bad(xid, code), spare),
            Received::Message(xid, Message::EchoRequest(data)) => {
                channel.send(xid, &Message::EchoReply(data))
            }
            Received::Message(xid, message) => each(ControllerEvent::Message(xid, message), spare),
        });
    }
    /// Queues a message and returns its transaction.
    ///
    /// # Errors
    /// The version cannot write it; nothing was queued.
    pub fn send(&mut self, message: &Message) -> Result<u32, EncodeError> {
        let codec = &mut self.channel.codec;
        match message {
            Message::SetFlowFormat(format) => codec.flow_format = *format,
            Message::FlowModTableId(on) => codec.table_ids = *on,
            _ => {}
        }
        let xid = self.channel.xid();
        self.channel.try_send(xid, message)?;
        Ok(xid)
    }
    /// Queues a message as part of a bundle, in the transaction that is returned (OpenFlow 1.4 §7.3.9.6).
    ///
    /// # Errors
    /// The version cannot write it; nothing was queued.
    pub fn send_bundled(&mut self, bundle: u32, flags: u16, message: &Message) -> Result<u32, EncodeError> {
        let xid = self.channel.xid();
        let mut inner = Vec::new();
        self.channel.codec.encode(xid, message, &mut inner)?;
        let add = BundleAdd { id: bundle, flags, message: inner };
        self.channel.try_send(xid, &Message::BundleAdd(add))?;
        Ok(xid)
    }
    /// The version, once it is agreed on.
    pub fn version(&self) -> Option<Version> {
        self.channel.version()
    }
    /// Why the connection is over, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.channel.closed()
    }
    /// Bytes to send.
    pub fn output(&self) -> &[u8] {
        self.channel.output()
    }
    /// Says that `n` bytes of [`ControllerSession::output`] were sent.
    pub fn consume(&mut self, n: usize) {
        self.channel.consume(n);
    }
    /// When [`ControllerSession::tick`] wants to be called, in the clock of `now_ms`.
    pub fn deadline(&self) -> Option<u64> {
        self.channel.deadline()
    }
    /// Probes a silent switch, and closes when it stays silent.
    pub fn tick(&mut self, now_ms: u64) {
        self.channel.tick(now_ms);
    }
}
