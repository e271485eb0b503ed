//! What does the switch say: answers, and what happens by itself?

use super::ConnectionKind;
use super::switch::{ReplyTo, SwitchSession};
use crate::message::Message;
use crate::msg::bundle::BundleControl;
use crate::msg::control::{AsyncConfig, Role, RoleMessage};
use crate::msg::flow_removed::FlowRemoved;
use crate::msg::handshake::SwitchConfig;
use crate::msg::notify::{ControllerStatus, RoleStatus};
use crate::msg::packet_in::PacketIn;
use crate::msg::port::PortStatus;
use crate::msg::queue::QueueConfig;
use crate::msg::table::TableStatus;
use crate::spare::Spare;
use crate::stats::{MultipartReply, StatsReply, TellFlow};
use crate::{EncodeError, ErrorCode, Version};

/// Bytes of a frame that a packet-in carries at most, so that what stands before it fits the message too.
const MAX_PACKET_IN: usize = crate::MAX_MESSAGE;
/// Room for everything else in a packet-in.
const PACKET_IN_ROOM: usize = 2048;

impl SwitchSession {
    /// Answers a request.
    ///
    /// # Errors
    /// The version cannot write the answer; nothing was queued.
    pub fn reply(&mut self, to: &ReplyTo, message: &Message) -> Result<(), EncodeError> {
        self.channel.try_send(to.xid, message)
    }

    /// Answers a question with a long answer, in the form in which it was asked. With `more`, further calls follow
    /// for the same question; look at [`SwitchSession::backlog`] between them.
    pub fn reply_stats(&mut self, to: &ReplyTo, body: StatsReply, more: bool) {
        let reply = match (to.queues_of, body) {
            (Some(port_no), StatsReply::QueueDesc(queues)) => {
                Message::QueueGetConfigReply(QueueConfig { port_no, queues })
            }
            (_, body) => Message::MultipartReply(MultipartReply { more, nicira: to.nicira, body }),
        };
        self.channel.send(to.xid, &reply);
    }

    /// [`SwitchSession::reply_stats`] about rules, which `tell` names one by one, so that none of them is copied;
    /// it returns whether others follow in another call.
    pub fn reply_flows(&mut self, to: &ReplyTo, tell: impl FnOnce(TellFlow<'_>) -> bool) {
        self.channel.send_flows(to.xid, to.nicira, tell);
    }

    /// Answers the question for the configuration: `fragments` is the switch's, the rest this connection's own.
    pub fn reply_config(&mut self, to: &ReplyTo, fragments: u16) {
        let expired = self.channel.codec.async_config.expired_flag(self.version_or_oldest());
        let config = SwitchConfig { flags: fragments | expired, miss_send_len: self.miss_send_len };
        self.channel.send(to.xid, &Message::GetConfigReply(config));
    }

    /// Answers a barrier.
    pub fn reply_barrier(&mut self, to: &ReplyTo) {
        self.channel.send(to.xid, &Message::BarrierReply);
    }

    /// Answers a role request with the role held now.
    pub fn reply_role(&mut self, to: &ReplyTo, generation_id: u64) {
        let generation_id = (!to.nicira).then_some(generation_id);
        let reply = Message::RoleReply(RoleMessage { role: self.role, generation_id });
        self.channel.send(to.xid, &reply);
    }

    /// Answers a commit: done, or the index of the message that failed and why.
    pub fn reply_commit(&mut self, to: &ReplyTo, result: Result<(), (&ReplyTo, ErrorCode)>) {
        match result {
            Ok(()) => {
                if let Some(control) = to.bundle {
                    let reply = BundleControl { step: control.step.reply(), ..control };
                    self.channel.send(to.xid, &Message::BundleControl(reply));
                }
            }
            Err((failed, code)) => {
                self.refuse(failed, code);
                self.refuse(to, ErrorCode::OFPBFC_MSG_FAILED);
            }
        }
    }

    /// Refuses a request.
    pub fn refuse(&mut self, to: &ReplyTo, code: ErrorCode) {
        self.channel.send_error(to.xid, code, to.head());
    }

    /// Changes what the controller is to the switch, as an election decided.
    pub fn set_role(&mut self, role: Role) {
        if role != Role::NoChange {
            self.role = role;
        }
    }

    /// Whether messages that nobody asked for may go out, by `mask` (primary or equal, secondary) and reason.
    fn wants(&self, mask: impl Fn(&AsyncConfig) -> (u32, u32), reason: u8) -> bool {
        let silent = self.channel.options.kind == ConnectionKind::Service && self.miss_send_len == 0;
        let (primary, secondary) = mask(&self.channel.codec.async_config);
        let mask = if self.role == Role::Secondary { secondary } else { primary };
        let ready = self.channel.version().is_some() && self.channel.closed().is_none();
        ready && !silent && mask.checked_shr(reason.into()).unwrap_or(0) & 1 != 0
    }

    fn send_async(&mut self, message: &Message) -> bool {
        if self.channel.congested() {
            return false;
        }
        let xid = 0;
        self.channel.try_send(xid, message).is_ok()
    }

    /// Sends a packet to controller number `controller_id`. False: this connection does not want it, or too much
    /// waits already.
    pub fn packet_in(&mut self, controller_id: u16, packet: PacketIn) -> bool {
        self.packet_in_with(controller_id, Box::new(packet), &mut Spare::default())
    }

    /// As [`SwitchSession::packet_in`]; the packet-in is given back.
    pub fn packet_in_with(
        &mut self,
        controller_id: u16,
        mut packet: Box<PacketIn>,
        spare: &mut Spare,
    ) -> bool {
        let reason = packet.wire_reason(self.version_or_oldest());
        let wanted = controller_id == self.controller_id && self.wants(|a| a.packet_in, reason);
        packet.data.truncate(MAX_PACKET_IN - PACKET_IN_ROOM);
        let message = Message::PacketIn(packet);
        let sent = wanted && self.send_async(&message);
        if let Message::PacketIn(packet) = message {
            spare.put_packet_in(packet);
        }
        sent
    }

    /// Tells of a change of a port. False: not wanted, or too much waits already.
    pub fn port_status(&mut self, status: PortStatus) -> bool {
        self.wants(|a| a.port_status, status.reason as u8)
            && self.send_async(&Message::PortStatus(Box::new(status)))
    }

    /// Tells of a rule that went. False: not wanted, or too much waits already.
    pub fn flow_removed(&mut self, removed: FlowRemoved) -> bool {
        self.wants(|a| a.flow_removed, removed.reason)
            && self.send_async(&Message::FlowRemoved(Box::new(removed)))
    }

    /// Tells that a table fills up or empties (OpenFlow 1.4). False: not wanted, or too much waits already.
    pub fn table_status(&mut self, status: TableStatus) -> bool {
        self.wants(|a| a.table_status, status.reason as u8) && self.send_async(&Message::TableStatus(status))
    }

    /// Tells that the role was taken away (OpenFlow 1.4; ONF extension in 1.3): call it before
    /// [`SwitchSession::set_role`]. False: not wanted, or too much waits already.
    pub fn role_status(&mut self, status: RoleStatus) -> bool {
        self.wants(|a| a.role_status, status.reason) && self.send_async(&Message::RoleStatus(status))
    }

    /// Hands on a change of a group or a meter that another controller made. False: not wanted, or too much waits
    /// already.
    pub fn forward_request(&mut self, xid: u32, request: &Message) -> bool {
        let reason = match request {
            Message::GroupMod(_) => 0,
            Message::MeterMod(_) => 1,
            _ => return false,
        };
        let mut bytes = Vec::new();
        self.wants(|a| a.request_forward, reason)
            && self.channel.codec.encode(xid, request, &mut bytes).is_ok()
            && self.send_async(&Message::RequestForward(bytes))
    }

    /// Tells that a controller came, went or changed (OpenFlow 1.5). False: not wanted, or too much waits already.
    pub fn controller_status(&mut self, status: ControllerStatus) -> bool {
        self.wants(|a| a.controller_status, status.reason)
            && self.send_async(&Message::ControllerStatus(status))
    }

    /// The version in force, the oldest before it is agreed on.
    pub fn version_or_oldest(&self) -> Version {
        self.version().unwrap_or(Version::V10)
    }
}
