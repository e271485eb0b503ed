//! The switch's end of a connection: which requests does the controller make?

use weft_flow::OfPort;

use super::bundles::{Asked, BundleCommit, Bundles};
use super::channel::{Channel, CloseReason, Received};
use super::monitors::Monitors;
use super::multipart::Assembly;
use super::{ConnectionKind, Options};
use crate::error::{ERROR_DATA, ErrorMessage};
use crate::message::Message;
use crate::msg::bundle::BundleControl;
use crate::msg::control::{Role, RoleMessage};
use crate::msg::ct_flush::CtFlush;
use crate::msg::flow::FlowMod;
use crate::msg::group::GroupMod;
use crate::msg::handshake::SwitchConfig;
use crate::msg::meter::MeterMod;
use crate::msg::packet_in::PacketIn;
use crate::msg::packet_out::PacketOut;
use crate::msg::port::PortMod;
use crate::msg::table::TableMod;
use crate::msg::tlv::TlvTableMod;
use crate::spare::Spare;
use crate::stats::{QUEUE_ALL, StatsRequest};
use crate::{ActionKind, ErrorCode, Version};

/// What an answer must refer to: the transaction, the form of the question and its first bytes.
#[derive(Clone, Debug)]
pub struct ReplyTo {
    /// Transaction.
    pub xid: u32,
    pub(super) nicira: bool,
    pub(super) bundle: Option<BundleControl>,
    /// The port whose queues were asked for by a message of its own (up to OpenFlow 1.3).
    pub(super) queues_of: Option<OfPort>,
    head: [u8; ERROR_DATA],
    head_len: u8,
}

impl ReplyTo {
    pub(super) fn new(xid: u32, nicira: bool, request: &[u8]) -> Self {
        let n = request.len().min(ERROR_DATA);
        let mut head = [0; ERROR_DATA];
        head[..n].copy_from_slice(&request[..n]);
        ReplyTo { xid, nicira, bundle: None, queues_of: None, head, head_len: n as u8 }
    }
    /// The first bytes of the request, as an error message quotes them.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }
}

/// What a controller asks of the switch. Those that say "answer" want one by [`SwitchSession::reply`]; any may be
/// refused by [`SwitchSession::refuse`].
#[derive(Clone, Debug)]
pub enum Request {
    /// Answer [`Message::EchoReply`] with the same bytes.
    Echo(Vec<u8>),
    /// It cannot be understood, or asks what may not be: [`SwitchSession::refuse`] it, behind what was asked before.
    /// Where an action is the reason, it is named.
    Refused(ErrorCode, Option<ActionKind>),
    /// Answer [`Message::FeaturesReply`].
    Features,
    /// Answer [`Message::GetConfigReply`].
    GetConfig,
    /// Treat fragments so; the miss-send length is kept by the session.
    SetConfig(SwitchConfig),
    /// Send a packet.
    PacketOut(Box<PacketOut>),
    /// Change the flow tables.
    FlowMod(Box<FlowMod>),
    /// Change a port.
    PortMod(PortMod),
    /// Change a table's configuration.
    TableMod(TableMod),
    /// Answer [`Message::MultipartReply`], by [`SwitchSession::reply_stats`].
    Stats(StatsRequest),
    /// Answer [`Message::BarrierReply`] when everything before has taken effect.
    Barrier,
    /// Elect; then [`SwitchSession::set_role`] and [`SwitchSession::reply_role`].
    Role(RoleMessage),
    /// Change a group.
    GroupMod(Box<GroupMod>),
    /// Change a meter.
    MeterMod(Box<MeterMod>),
    /// Change which tunnel options are which fields.
    TlvTableMod(TlvTableMod),
    /// Answer [`Message::TlvTableReply`].
    TlvTable,
    /// Let a paused packet go on.
    Resume(Box<PacketIn>),
    /// Forget tracked connections.
    CtFlush(Box<CtFlush>),
    /// Apply together; answer by [`SwitchSession::reply_commit`].
    BundleCommit(Box<BundleCommit>),
}

/// What happened on a connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// The version is agreed on.
    Connected(Version),
    /// The controller asks something.
    Request(ReplyTo, Request),
    /// The controller says that something went wrong.
    Error(ErrorMessage),
}

/// The switch's end of a connection.
#[derive(Debug)]
pub struct SwitchSession {
    pub(super) channel: Channel,
    pub(super) role: Role,
    pub(super) controller_id: u16,
    pub(super) miss_send_len: u16,
    pub(super) monitors: Monitors,
    assembly: Assembly,
    bundles: Bundles,
}

/// Miss-send length of a controller's connection before it sets one.
const DEFAULT_MISS_SEND_LEN: u16 = 128;

impl SwitchSession {
    /// A connection that was just made; its hello waits in [`SwitchSession::output`].
    pub fn new(options: Options, now_ms: u64) -> Self {
        let controller = options.kind == ConnectionKind::Controller;
        SwitchSession {
            channel: Channel::new(options, now_ms),
            role: Role::Equal,
            controller_id: 0,
            miss_send_len: if controller { DEFAULT_MISS_SEND_LEN } else { 0 },
            monitors: Monitors::default(),
            assembly: Assembly::default(),
            bundles: Bundles::default(),
        }
    }

    /// Takes bytes from the peer and returns what they ask, in order.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) -> Vec<Event> {
        self.receive_with(bytes, now_ms, &mut Spare::default())
    }

    /// As [`SwitchSession::receive`], into flow-mods that are done with: give each back when it is carried out.
    pub fn receive_with(&mut self, bytes: &[u8], now_ms: u64, spare: &mut Spare) -> Vec<Event> {
        // About as many as flow-mods, which come in masses.
        let mut events = Vec::with_capacity((bytes.len() / 96).min(64));
        let SwitchSession { channel, role, controller_id, miss_send_len, monitors, assembly, bundles } = self;
        channel.receive(bytes, now_ms, spare, |channel, spare, raw, received| match received {
            Received::Handled => {}
            Received::Connected(version) => events.push(Event::Connected(version)),
            Received::Bad(xid, code) => {
                let code = if channel.codec.is_of_switch(raw) { ErrorCode::OFPBRC_BAD_TYPE } else { code };
                let refused = Request::Refused(code, channel.codec.refused_action(raw));
                events.push(Event::Request(ReplyTo::new(xid, false, raw), refused));
            }
            Received::Message(xid, message) => {
                let role = *role;
                let mut connection = Connection {
                    channel,
                    role,
                    controller_id,
                    miss_send_len,
                    monitors,
                    assembly,
                    bundles,
                    now: now_ms,
                };
                match connection.message(xid, message, raw, spare) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => {}
                    Err(code) => {
                        events.push(Event::Request(
                            ReplyTo::new(xid, false, raw),
                            Request::Refused(code, None),
                        ));
                    }
                }
            }
        });
        events
    }

    /// The version, once it is agreed on.
    pub fn version(&self) -> Option<Version> {
        self.channel.version()
    }
    /// Why the connection is over, if it is: send what [`SwitchSession::output`] still has, then close.
    pub fn closed(&self) -> Option<CloseReason> {
        self.channel.closed()
    }
    /// Bytes to send.
    pub fn output(&self) -> &[u8] {
        self.channel.output()
    }
    /// Says that `n` bytes of [`SwitchSession::output`] were sent.
    pub fn consume(&mut self, n: usize) {
        self.channel.consume(n);
    }
    /// Whether to read from the peer: not while it does not read what it is sent.
    pub fn wants_input(&self) -> bool {
        self.channel.closed().is_none() && !self.channel.congested()
    }
    /// When [`SwitchSession::tick`] wants to be called, in the clock of `now_ms`.
    pub fn deadline(&self) -> Option<u64> {
        self.channel.deadline()
    }
    /// Probes a silent peer, closes when it stays silent, and gives up questions and bundles that are not finished.
    pub fn tick(&mut self, now_ms: u64) {
        if let Some(xid) = self.assembly.expire(now_ms) {
            self.channel.send_error(xid, ErrorCode::OFPBRC_MULTIPART_REQUEST_TIMEOUT, &[]);
        }
        let idle = self.channel.options.bundles.idle_ms();
        for opened in self.bundles.expire(idle, now_ms) {
            self.channel.send_error(opened.xid, ErrorCode::OFPBFC_TIMEOUT, opened.head());
        }
        self.channel.tick(now_ms);
    }
    /// What the controller is to the switch.
    pub fn role(&self) -> Role {
        self.role
    }
    /// Number the controller gave itself; actions that name it send here.
    pub fn controller_id(&self) -> u16 {
        self.controller_id
    }
    /// Bytes of a missed packet the controller wants; 0xffff: all.
    pub fn miss_send_len(&self) -> u16 {
        self.miss_send_len
    }
    /// Bytes waiting to be sent.
    pub fn backlog(&self) -> usize {
        self.channel.backlog()
    }
    /// Whether so much waits to be sent that long answers should pause.
    pub fn congested(&self) -> bool {
        self.channel.congested()
    }
}

/// The parts of a session that a message may change while the channel cuts the stream.
struct Connection<'a> {
    channel: &'a mut Channel,
    role: Role,
    controller_id: &'a mut u16,
    miss_send_len: &'a mut u16,
    monitors: &'a mut Monitors,
    assembly: &'a mut Assembly,
    bundles: &'a mut Bundles,
    now: u64,
}

impl Connection<'_> {
    /// Handles a message here, or makes an event of it.
    fn message(
        &mut self,
        xid: u32,
        message: Message,
        raw: &[u8],
        spare: &mut Spare,
    ) -> Result<Option<Event>, ErrorCode> {
        let mut nicira = false;
        let request = match message {
            Message::Error(error) => return Ok(Some(Event::Error(error))),
            Message::EchoRequest(data) => Request::Echo(data),
            Message::FeaturesRequest => Request::Features,
            Message::GetConfigRequest => Request::GetConfig,
            Message::SetConfig(config) => {
                *self.miss_send_len = config.miss_send_len;
                self.channel.codec.async_config.ask_for_expired(self.channel.codec.version, config.flags);
                // A secondary controller's own is set, and nothing of the switch's.
                if self.role == Role::Secondary {
                    return Ok(None);
                }
                Request::SetConfig(config)
            }
            Message::PacketOut(m) => self.writable().map(|()| Request::PacketOut(m))?,
            Message::FlowMod(m) => self.writable().map(|()| Request::FlowMod(m))?,
            Message::PortMod(m) => self.writable().map(|()| Request::PortMod(m))?,
            Message::GroupMod(m) => self.writable().map(|()| Request::GroupMod(m))?,
            Message::MeterMod(m) => self.writable().map(|()| Request::MeterMod(m))?,
            Message::TlvTableMod(m) => self.writable().map(|()| Request::TlvTableMod(m))?,
            Message::TlvTableRequest => Request::TlvTable,
            Message::Resume(m) => self.writable().map(|()| Request::Resume(m))?,
            Message::CtFlushZone(zone) => Request::CtFlush(Box::new(CtFlush::zone(zone))),
            Message::CtFlush(m) => Request::CtFlush(m),
            Message::FlowAge => return Ok(None),
            Message::TableMod(m) => self.writable().map(|()| Request::TableMod(m))?,
            Message::MultipartRequest(m) => {
                let Some(m) = self.assembly.push(xid, m, self.now)? else { return Ok(None) };
                nicira = m.nicira;
                Request::Stats(self.question(m.body)?)
            }
            Message::QueueGetConfigRequest(port) => {
                let to = ReplyTo { queues_of: Some(port), ..ReplyTo::new(xid, false, raw) };
                let question = StatsRequest::QueueDesc { port, queue: QUEUE_ALL };
                return Ok(Some(Event::Request(to, Request::Stats(question))));
            }
            Message::BarrierRequest => Request::Barrier,
            Message::RoleRequest(m) => {
                nicira = m.generation_id.is_none();
                Request::Role(m)
            }
            Message::BundleControl(control) => {
                self.writable()?;
                return self.bundle(xid, control, raw);
            }
            Message::BundleAdd(add) => {
                self.writable()?;
                let Channel { codec, options, .. } = &*self.channel;
                self.bundles.add(&Asked { codec, options, xid, raw, now: self.now }, &add, spare)?;
                return Ok(None);
            }
            message => return self.setting(xid, message).map(|()| None),
        };
        Ok(Some(Event::Request(ReplyTo::new(xid, nicira, raw), request)))
    }

    /// What of a question the switch must answer: monitors are kept here.
    fn question(&mut self, body: StatsRequest) -> Result<StatsRequest, ErrorCode> {
        Ok(match body {
            StatsRequest::FlowMonitor(list) => StatsRequest::FlowMonitor(self.monitors.change(list)?),
            body => {
                if matches!(&body, StatsRequest::TableFeatures(list) if !list.is_empty()) {
                    self.writable()?;
                }
                body
            }
        })
    }

    /// Refuses changes by a secondary controller.
    fn writable(&self) -> Result<(), ErrorCode> {
        if self.role == Role::Secondary { Err(ErrorCode::OFPBRC_IS_SECONDARY) } else { Ok(()) }
    }

    fn bundle(&mut self, xid: u32, control: BundleControl, raw: &[u8]) -> Result<Option<Event>, ErrorCode> {
        let Channel { codec, options, .. } = &*self.channel;
        match self.bundles.control(&Asked { codec, options, xid, raw, now: self.now }, &control)? {
            Some(commit) => {
                let mut to = ReplyTo::new(xid, false, raw);
                to.bundle = Some(control);
                Ok(Some(Event::Request(to, Request::BundleCommit(Box::new(commit)))))
            }
            None => {
                let reply = BundleControl { step: control.step.reply(), ..control };
                self.channel.send(xid, &Message::BundleControl(reply));
                Ok(None)
            }
        }
    }

    /// Settings of this connection alone.
    fn setting(&mut self, xid: u32, message: Message) -> Result<(), ErrorCode> {
        let codec = &mut self.channel.codec;
        match message {
            Message::SetFlowFormat(format) => codec.flow_format = format,
            Message::FlowModTableId(on) => codec.table_ids = on,
            Message::SetPacketInFormat(format) => codec.packet_in_format = format,
            Message::SetControllerId(id) => *self.controller_id = id,
            Message::SetAsync(config) => {
                codec.async_config = config;
                // A tool that says what it wants to hear hears it.
                if self.channel.options.kind == ConnectionKind::Service && *self.miss_send_len == 0 {
                    *self.miss_send_len = DEFAULT_MISS_SEND_LEN;
                }
            }
            Message::FlowMonitorCancel(id) => self.monitors.cancel(id)?,
            Message::GetAsyncRequest => {
                let reply = Message::GetAsyncReply(codec.async_config);
                self.channel.send(xid, &reply);
            }
            // What only a switch says, said by a controller.
            _ => return Err(ErrorCode::OFPBRC_BAD_TYPE),
        }
        Ok(())
    }
}
