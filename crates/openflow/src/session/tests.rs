//! Conversations between both ends, without a network.

use super::*;
use crate::error::ErrorKind;
use crate::msg::control::{AsyncConfig, Role, RoleMessage};
use crate::msg::flow::GROUP_ANY;
use crate::msg::handshake::{INVALID_TTL_TO_CONTROLLER, SwitchConfig, frag};
use crate::msg::monitor::{
    FlowEvent, FlowUpdate, MonitorCommand, MonitorRequest, MonitorUpdate, monitor_flags,
};
use crate::msg::notify::RoleStatus;
use crate::msg::packet_in::{PacketIn, reason};
use crate::msg::queue::QueueDesc;
use crate::stats::flow::FlowStats;
use crate::stats::{MultipartRequest, StatsReply, StatsRequest};
use crate::{Codec, ErrorCode, Message, Version};
use weft_flow::{Action, Field, FlowKey, Instructions, Match, OfPort, OptionValue};

pub(super) struct Pair {
    pub(super) switch: SwitchSession,
    pub(super) controller: ControllerSession,
}

pub(super) fn offer(list: &[Version]) -> Options {
    Options { versions: list.iter().copied().collect(), ..Options::default() }
}

impl Pair {
    pub(super) fn new(switch: Options, controller: Options) -> Pair {
        Pair { switch: SwitchSession::new(switch, 0), controller: ControllerSession::new(controller, 0) }
    }
    pub(super) fn connected(version: Version) -> Pair {
        let mut pair = Pair::new(Options::default(), offer(&[version]));
        pair.run();
        assert_eq!(pair.switch.version(), Some(version));
        pair
    }
    /// What the switch is asked by bytes, but for what every switch does.
    fn said(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut asked = Vec::new();
        for event in self.switch.receive(bytes, 1) {
            match event {
                Event::Request(to, Request::Refused(code, _)) => self.switch.refuse(&to, code),
                Event::Request(to, Request::Echo(data)) => {
                    self.switch.reply(&to, &Message::EchoReply(data)).unwrap();
                }
                event => asked.push(event),
            }
        }
        asked
    }
    /// Carries bytes both ways until nothing moves.
    pub(super) fn run(&mut self) -> (Vec<Event>, Vec<ControllerEvent>) {
        let (mut asked, mut told) = (Vec::new(), Vec::new());
        loop {
            let up = self.controller.output().to_vec();
            self.controller.consume(up.len());
            asked.extend(self.said(&up));
            let down = self.switch.output().to_vec();
            self.switch.consume(down.len());
            told.extend(self.controller.receive(&down, 1));
            if up.is_empty() && down.is_empty() {
                return (asked, told);
            }
        }
    }
    pub(super) fn ask(&mut self, message: &Message) -> (ReplyTo, Request) {
        self.controller.send(message).unwrap();
        match self.run().0.pop() {
            Some(Event::Request(to, request)) => (to, request),
            other => panic!("{other:?}"),
        }
    }
    /// The message that the controller hears next.
    pub(super) fn heard(&mut self) -> Message {
        match self.run().1.pop() {
            Some(ControllerEvent::Message(_, message)) => message,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn error_of(message: Message) -> ErrorCode {
    match message {
        Message::Error(e) => match e.code {
            ErrorKind::Known(code) => code,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn negotiation() {
    use Version::*;
    let cases: [(&[Version], &[Version], Option<Version>); 5] = [
        (&[V10, V13], &[V10, V11, V12, V13, V14], Some(V13)),
        (&[V10], &[V10, V15], Some(V10)),
        (&[V15], &[V10, V14], None),
        (&[V10, V11, V12], &[V10, V11], Some(V11)),
        (&[V10, V12], &[V11, V13], None),
    ];
    for (switch, controller, version) in cases {
        let mut pair = Pair::new(offer(switch), offer(controller));
        pair.run();
        assert_eq!(pair.switch.version(), version, "{switch:?} {controller:?}");
        assert_eq!(pair.controller.version(), version);
        assert_eq!(pair.switch.closed(), version.is_none().then_some(CloseReason::Incompatible));
    }
}

#[test]
fn a_plain_hello_offers_all_versions_up_to_its_own() {
    let mut switch = SwitchSession::new(Options::default(), 0);
    let events = switch.receive(&[3, 0, 0, 8, 0, 0, 0, 0], 0);
    assert!(matches!(events[..], [Event::Connected(Version::V12)]));
}

#[test]
fn something_else_before_the_hello_closes() {
    let mut switch = SwitchSession::new(Options::default(), 0);
    switch.receive(&[4, 5, 0, 8, 0, 0, 0, 0], 0);
    assert_eq!(switch.closed(), Some(CloseReason::Incompatible));
}

#[test]
fn unknown_messages_are_refused_with_their_first_bytes() {
    for (bytes, code) in [
        ([4, 99, 0, 8, 0, 0, 0, 9], ErrorCode::OFPBRC_BAD_TYPE),
        ([1, 5, 0, 8, 0, 0, 0, 9], ErrorCode::OFPBRC_BAD_VERSION),
        ([4, 21, 0, 8, 0, 0, 0, 9], ErrorCode::OFPBRC_BAD_TYPE),
    ] {
        let mut pair = Pair::connected(Version::V13);
        pair.said(&bytes);
        let Message::Error(error) = pair.heard() else { panic!() };
        assert_eq!((error.code, &error.data[..]), (ErrorKind::Known(code), &bytes[..]));
    }
}

#[test]
fn answers_take_the_form_of_the_question() {
    for nicira in [false, true] {
        let mut pair = Pair::connected(Version::V10);
        let body = StatsRequest::Flow(Box::default());
        let (to, _) = pair.ask(&Message::MultipartRequest(MultipartRequest { more: false, nicira, body }));
        pair.switch.reply_stats(&to, StatsReply::Flow(vec![FlowStats::default()]), false);
        let Message::MultipartReply(reply) = pair.heard() else { panic!() };
        assert_eq!(reply.nicira, nicira);
    }
}

#[test]
fn long_answers_are_cut_into_messages() {
    for version in Version::ALL {
        let mut pair = Pair::connected(version);
        let body = StatsRequest::Flow(Box::default());
        let (to, _) =
            pair.ask(&Message::MultipartRequest(MultipartRequest { more: false, nicira: false, body }));
        let note = Instructions::apply(vec![Action::Note(vec![1; 1022])]);
        let flow = |n| FlowStats { cookie: n, instructions: note.clone(), ..FlowStats::default() };
        pair.switch.reply_stats(&to, StatsReply::Flow((0..200).map(flow).collect()), false);
        let (mut cookies, mut last) = (Vec::new(), true);
        let messages = pair.run().1;
        assert!(messages.len() > 3, "{}", messages.len());
        for event in messages {
            let ControllerEvent::Message(_, Message::MultipartReply(reply)) = event else { panic!() };
            let StatsReply::Flow(list) = reply.body else { panic!() };
            cookies.extend(list.into_iter().map(|f| f.cookie));
            assert!(last, "a message after the last");
            last = reply.more;
        }
        assert!(!last);
        assert_eq!(cookies, (0..200).collect::<Vec<_>>());
    }
}

fn packet() -> PacketIn {
    PacketIn {
        buffer_id: None,
        total_len: 100_000,
        reason: reason::ACTION,
        table_id: 1,
        cookie: 2,
        metadata: PacketIn::metadata_of(&FlowKey::default()),
        data: vec![7; 100_000],
        ..PacketIn::default()
    }
}

#[test]
fn a_tool_hears_nothing_until_it_asks() {
    let mut pair = Pair::connected(Version::V13);
    assert!(!pair.switch.packet_in(0, packet()));
    let config = SwitchConfig { flags: 0, miss_send_len: 100 };
    pair.ask(&Message::SetConfig(config));
    assert!(!pair.switch.packet_in(1, packet()), "another controller's");
    assert!(pair.switch.packet_in(0, packet()));
    let Message::PacketIn(heard) = pair.heard() else { panic!() };
    assert_eq!(heard.total_len, 0xffff);
    assert!(heard.data.len() > 60_000);
}

#[test]
fn packets_whose_ttl_ran_out_are_for_those_who_ask() {
    let expired = || PacketIn { reason: reason::INVALID_TTL, ..packet() };
    for version in [Version::V10, Version::V12, Version::V13] {
        let mut pair = Pair::connected(version);
        pair.ask(&Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 100 }));
        assert!(!pair.switch.packet_in(0, expired()), "{version:?}");
        if version == Version::V13 {
            // There is no such flag any more, but a mask of reasons.
            let mut asked = AsyncConfig::default();
            asked.packet_in.0 |= 1 << reason::INVALID_TTL;
            pair.controller.send(&Message::SetAsync(asked)).unwrap();
            pair.run();
        } else {
            let config = SwitchConfig { flags: INVALID_TTL_TO_CONTROLLER | frag::DROP, miss_send_len: 100 };
            pair.ask(&Message::SetConfig(config));
            let (to, _) = pair.ask(&Message::GetConfigRequest);
            pair.switch.reply_config(&to, frag::DROP);
            assert_eq!(pair.heard(), Message::GetConfigReply(config), "{version:?}");
        }
        assert!(pair.switch.packet_in(0, expired()), "{version:?}");
        pair.heard();
        pair.ask(&Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 100 }));
        assert_eq!(pair.switch.packet_in(0, expired()), version == Version::V13, "{version:?}");
    }
}

#[test]
fn a_peer_that_does_not_read_is_not_fed() {
    let mut pair = Pair::connected(Version::V13);
    pair.ask(&Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 100 }));
    let sent = (0..1000).filter(|_| pair.switch.packet_in(0, packet())).count();
    assert!(sent > 1 && sent < 20, "{sent}");
    assert!(!pair.switch.wants_input());
    let waiting = pair.switch.backlog();
    pair.switch.consume(waiting);
    assert!(pair.switch.wants_input());
}

#[test]
fn a_secondary_may_only_look() {
    let mut pair = Pair::connected(Version::V13);
    let role = RoleMessage { role: Role::Secondary, generation_id: Some(3) };
    let (to, _) = pair.ask(&Message::RoleRequest(role));
    pair.switch.set_role(Role::Secondary);
    pair.switch.reply_role(&to, 3);
    assert_eq!(pair.heard(), Message::RoleReply(role));
    pair.controller.send(&Message::FlowMod(Box::default())).unwrap();
    assert_eq!(error_of(pair.heard()), ErrorCode::OFPBRC_IS_SECONDARY);
}

#[test]
fn silence_is_probed_and_then_ends() {
    let options = Options { probe_interval_ms: 1000, ..Options::default() };
    let mut pair = Pair::new(options, Options::default());
    pair.run();
    assert_eq!(pair.switch.deadline(), Some(1001));
    pair.switch.tick(1000);
    assert!(pair.switch.output().is_empty());
    pair.switch.tick(1001);
    assert!(!pair.switch.output().is_empty());
    pair.run();
    assert_eq!(pair.switch.deadline(), Some(1001), "the answer counts");
    pair.switch.tick(1500);
    pair.switch.tick(2001);
    assert_eq!(pair.switch.closed(), Some(CloseReason::Timeout));
}

#[test]
fn answers_to_a_peer_that_does_not_read_are_bounded() {
    let options = Options { max_backlog: 10_000, ..Options::default() };
    let mut pair = Pair::new(options, offer(&[Version::V13]));
    pair.run();
    let ask = Message::MultipartRequest(MultipartRequest {
        more: false,
        nicira: false,
        body: StatsRequest::Flow(Default::default()),
    });
    let (to, _) = pair.ask(&ask);
    for _ in 0..1000 {
        pair.switch.reply_stats(&to, StatsReply::Flow(vec![FlowStats::default(); 10]), false);
        pair.switch.refuse(&to, ErrorCode::OFPBRC_EPERM);
    }
    assert_eq!(pair.switch.closed(), Some(CloseReason::Backlog));
    assert!(pair.switch.backlog() < 20_000, "{}", pair.switch.backlog());
}

fn rule(event: FlowEvent, port: u32) -> FlowUpdate {
    let output = Action::Output { port: OfPort(port), max_len: 0 };
    FlowUpdate {
        event,
        reason: 0,
        table_id: 1,
        priority: 2,
        idle_timeout: 0,
        hard_timeout: 0,
        cookie: 3,
        matching: Match::any().with(Field::InPort, 7),
        options: Vec::new(),
        instructions: Instructions::apply(vec![output]),
    }
}

fn monitor(id: u32, flags: u16) -> MonitorRequest {
    MonitorRequest {
        id,
        command: MonitorCommand::Add,
        flags: flags | monitor_flags::EVENTS | monitor_flags::INSTRUCTIONS,
        table: None,
        out_port: OfPort(5),
        out_group: GROUP_ANY,
        matching: Match::any(),
        options: Vec::new(),
    }
}

fn question(body: StatsRequest, more: bool) -> Message {
    Message::MultipartRequest(MultipartRequest { more, nicira: false, body })
}

/// Everything that flow monitors told.
fn updates(pair: &mut Pair) -> Vec<MonitorUpdate> {
    let heard = pair.run().1.into_iter();
    heard
        .flat_map(|event| match event {
            ControllerEvent::Message(_, Message::MultipartReply(m)) => match m.body {
                StatsReply::FlowMonitor(list) => list,
                other => panic!("{other:?}"),
            },
            ControllerEvent::Message(_, Message::FlowMonitorPaused) => vec![MonitorUpdate::Paused],
            ControllerEvent::Message(_, Message::FlowMonitorResumed) => vec![MonitorUpdate::Resumed],
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn monitors_tell_what_they_watch() {
    for version in [Version::V10, Version::V13, Version::V14, Version::V15] {
        let mut pair = Pair::connected(version);
        let asked = question(StatsRequest::FlowMonitor(vec![monitor(1, monitor_flags::INITIAL)]), false);
        let (to, request) = pair.ask(&asked);
        let Request::Stats(StatsRequest::FlowMonitor(initial)) = request else { panic!("{request:?}") };
        let told: Vec<_> =
            [5, 6].iter().filter_map(|p| initial_update(&initial, &rule(FlowEvent::Added, *p))).collect();
        pair.switch.reply_stats(&to, StatsReply::FlowMonitor(told), false);
        assert_eq!(updates(&mut pair).len(), 1, "{version}: one of two outputs to port 5");
        // A number can be used once.
        pair.controller.send(&asked).unwrap();
        let error = error_of(pair.heard());
        assert_eq!(error, ErrorCode::OFPMOFC_MONITOR_EXISTS, "{version}");
        // Another's change is told, its own is named.
        pair.switch.flow_changed(&[rule(FlowEvent::Removed, 5), rule(FlowEvent::Removed, 6)], None, 0);
        let heard = updates(&mut pair);
        assert!(matches!(&heard[..], [MonitorUpdate::Full(u)] if u.event == FlowEvent::Removed), "{heard:?}");
        pair.switch.flow_changed(&[rule(FlowEvent::Added, 5), rule(FlowEvent::Added, 5)], Some(77), 0);
        assert_eq!(updates(&mut pair), [MonitorUpdate::Abbrev(77)], "{version}");
        if version < Version::V14 {
            pair.controller.send(&Message::FlowMonitorCancel(1)).unwrap();
        } else {
            let gone = MonitorRequest { command: MonitorCommand::Delete, ..monitor(1, 0) };
            let (_, request) = pair.ask(&question(StatsRequest::FlowMonitor(vec![gone]), false));
            assert!(matches!(request, Request::Stats(StatsRequest::FlowMonitor(left)) if left.is_empty()));
        }
        pair.run();
        pair.switch.flow_changed(&[rule(FlowEvent::Added, 5)], None, 0);
        assert_eq!(updates(&mut pair), []);
    }
}

#[test]
fn monitors_watch_tunnel_options() {
    let field = Field::tun_metadata(3).unwrap();
    let (narrow, wide) = (OptionValue::whole(field, &[1, 2]), OptionValue::masked(field, &[2], &[0x0f]));
    let other = OptionValue::whole(Field::tun_metadata(4).unwrap(), &[1, 2]);
    let ours = |option: &OptionValue| {
        let watching = MonitorRequest { options: vec![option.clone()], ..monitor(1, 0) };
        let rule = |option: &OptionValue| FlowUpdate {
            options: vec![other.clone(), option.clone()],
            ..rule(FlowEvent::Added, 5)
        };
        [&narrow, &wide, &OptionValue::masked(field, &[9, 2], &[0xf0, 0xff])]
            .map(|o| watching.watches(&rule(o)))
    };
    assert_eq!(ours(&narrow), [true, false, false]);
    assert_eq!(ours(&wide), [true, true, true]);
    assert_eq!(ours(&other), [true; 3]);
    assert_eq!(ours(&OptionValue::masked(field, &[3], &[0x0f])), [false; 3]);
    assert!(
        !MonitorRequest { options: vec![wide.clone()], ..monitor(1, 0) }.watches(&rule(FlowEvent::Added, 5))
    );
    // As they are on the wire.
    for version in [Version::V10, Version::V13, Version::V14, Version::V15] {
        let mut pair = Pair::connected(version);
        let asked = MonitorRequest { options: vec![wide.clone()], ..monitor(1, monitor_flags::INITIAL) };
        let (_, request) = pair.ask(&question(StatsRequest::FlowMonitor(vec![asked.clone()]), false));
        let Request::Stats(StatsRequest::FlowMonitor(heard)) = request else { panic!("{request:?}") };
        assert_eq!(heard[0].options, asked.options, "{version}");
    }
}

#[test]
fn monitors_pause_for_a_peer_that_does_not_read() {
    for version in [Version::V10, Version::V15] {
        let options = Options { backlog: 200, ..Options::default() };
        let mut pair = Pair::new(options, offer(&[version]));
        pair.run();
        pair.ask(&question(StatsRequest::FlowMonitor(vec![monitor(1, 0)]), false));
        for _ in 0..9 {
            pair.switch.flow_changed(&[rule(FlowEvent::Added, 5)], None, 44);
        }
        pair.switch.flow_changed(&[rule(FlowEvent::Removed, 5)], None, 45);
        assert_eq!(pair.switch.monitors_resumable(), None);
        let heard = updates(&mut pair);
        let paused = heard.iter().position(|u| *u == MonitorUpdate::Paused).expect("paused");
        assert!(matches!(&heard[paused + 1..], [MonitorUpdate::Full(u)] if u.event == FlowEvent::Removed));
        assert_eq!(pair.switch.monitors_resumable(), Some(44));
        pair.switch.flow_resumed(&[rule(FlowEvent::Modified, 5)], 50);
        assert!(matches!(&updates(&mut pair)[..], [MonitorUpdate::Full(_), MonitorUpdate::Resumed]));
        assert_eq!(pair.switch.monitors_resumable(), None);
    }
}

#[test]
fn questions_of_several_messages_are_put_together() {
    let mut pair = Pair::connected(Version::V15);
    let part =
        |id, more| question(StatsRequest::FlowMonitor(vec![monitor(id, monitor_flags::INITIAL)]), more);
    let codec = Codec::new(Version::V15);
    let mut bytes = Vec::new();
    codec.encode(9, &part(1, true), &mut bytes).unwrap();
    codec.encode(9, &part(2, false), &mut bytes).unwrap();
    let events = pair.switch.receive(&bytes, 1);
    let [Event::Request(to, Request::Stats(StatsRequest::FlowMonitor(list)))] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((to.xid, list.len()), (9, 2));
    // Other questions have no parts.
    pair.controller.send(&question(StatsRequest::Desc, true)).unwrap();
    assert_eq!(error_of(pair.heard()), ErrorCode::OFPBRC_MULTIPART_BUFFER_OVERFLOW);
    // The rest does not come.
    pair.controller.send(&part(3, true)).unwrap();
    pair.run();
    pair.switch.tick(500);
    assert!(pair.switch.output().is_empty());
    pair.switch.tick(1500);
    assert_eq!(error_of(pair.heard()), ErrorCode::OFPBRC_MULTIPART_REQUEST_TIMEOUT);
}

#[test]
fn notices_go_to_those_who_asked_for_them() {
    let mut pair = Pair::connected(Version::V14);
    let status = RoleStatus { role: Role::Secondary, reason: 0, generation_id: 4 };
    let change = Message::GroupMod(Box::default());
    assert!(!pair.switch.role_status(status) && !pair.switch.forward_request(1, &change));
    let wanted = AsyncConfig { role_status: (1, 0), request_forward: (0, 1), ..AsyncConfig::default() };
    pair.controller.send(&Message::SetAsync(wanted)).unwrap();
    pair.run();
    assert!(pair.switch.role_status(status) && !pair.switch.forward_request(1, &change));
    assert_eq!(pair.heard(), Message::RoleStatus(status));
    pair.switch.set_role(Role::Secondary);
    assert!(!pair.switch.role_status(status) && pair.switch.forward_request(1, &change));
    let Message::RequestForward(bytes) = pair.heard() else { panic!() };
    assert_eq!(Codec::new(Version::V14).decode(&bytes), Ok((1, change)));
    let bad = AsyncConfig { table_status: (1, 0), ..wanted };
    let mut bytes = Vec::new();
    Codec::new(Version::V14).encode(5, &Message::SetAsync(bad), &mut bytes).unwrap();
    assert_eq!(bytes.len(), 8 + 12 * 8);
    // A reason that there is not, put there by hand: property 9 is the primary's of table status.
    let at = bytes.windows(4).position(|w| w == [0, 9, 0, 8]).unwrap();
    bytes[at + 7] = 1;
    pair.said(&bytes);
    assert_eq!(error_of(pair.heard()), ErrorCode::OFPACFC_INVALID);
}

#[test]
fn queues_are_answered_as_they_were_asked() {
    let queue = QueueDesc { port_no: OfPort(2), queue_id: 1, min_rate: Some(100), max_rate: None };
    for version in [Version::V10, Version::V13] {
        let mut pair = Pair::connected(version);
        let (to, _) = pair.ask(&Message::QueueGetConfigRequest(OfPort(2)));
        pair.switch.reply_stats(&to, StatsReply::QueueDesc(vec![queue]), false);
        let Message::QueueGetConfigReply(reply) = pair.heard() else { panic!() };
        assert_eq!((reply.port_no, &reply.queues[..]), (OfPort(2), &[queue][..]));
    }
}
