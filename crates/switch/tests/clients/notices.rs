//! What do controllers hear without asking? Roles taken away, requests of others, controllers that come and go, rules
//! that change, with the tunnel options they match.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use weft_flow::{Action, Field, Match, OfPort};
use weft_openflow::msg::bundle::{BundleAdd, BundleControl, BundleStep};
use weft_openflow::msg::control::{AsyncConfig, Role, RoleMessage};
use weft_openflow::msg::flow::{FlowCommand, FlowMod, GROUP_ANY, flow_flags};
use weft_openflow::msg::group::GroupMod;
use weft_openflow::msg::meter::{MeterCommand, MeterMod, meter_flags};
use weft_openflow::msg::monitor::{FlowEvent, MonitorCommand, MonitorRequest, MonitorUpdate, monitor_flags};
use weft_openflow::msg::packet_out::PacketOut;
use weft_openflow::msg::port::{PortMod, port_config};
use weft_openflow::msg::table::TableReason;
use weft_openflow::session::{ControllerEvent, ControllerSession, Options};
use weft_openflow::stats::{MultipartRequest, StatsReply, StatsRequest};
use weft_openflow::{Codec, ErrorCode, ErrorKind, Message, Version};

use crate::harness::{PATIENCE, Switch};

/// A controller at the management socket.
struct Controller {
    stream: UnixStream,
    session: ControllerSession,
    heard: Vec<Message>,
}

impl Controller {
    fn connect(s: &Switch, version: Version) -> Controller {
        let stream = UnixStream::connect(s.path("br0.mgmt")).expect("connect");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let options = Options { versions: [version].into_iter().collect(), ..Options::default() };
        let session = ControllerSession::new(options, 0);
        let mut controller = Controller { stream, session, heard: Vec::new() };
        let until = Instant::now() + PATIENCE;
        while controller.session.version().is_none() {
            assert!(Instant::now() < until, "no version is agreed on");
            controller.run();
        }
        controller
    }

    /// Carries bytes both ways once.
    fn run(&mut self) {
        let out = self.session.output().to_vec();
        self.session.consume(out.len());
        self.stream.write_all(&out).expect("write");
        let mut buffer = [0; 65536];
        if let Ok(n) = self.stream.read(&mut buffer) {
            assert_ne!(n, 0, "the switch ends the connection");
            for event in self.session.receive(&buffer[..n], 0) {
                match event {
                    ControllerEvent::Message(_, message) => self.heard.push(message),
                    ControllerEvent::Bad(_, code) => panic!("a message cannot be read: {code}"),
                    ControllerEvent::Connected(_) => {}
                }
            }
        }
    }

    fn send(&mut self, message: &Message) {
        self.session.send(message).expect("a message of this version");
        self.run();
    }

    /// Sends a message under a transaction of the caller's.
    fn send_as(&mut self, xid: u32, message: &Message) {
        let mut bytes = Vec::new();
        let version = self.session.version().expect("a version");
        Codec::new(version).encode(xid, message, &mut bytes).expect("a message of this version");
        self.stream.write_all(&bytes).expect("write");
    }

    /// The first message that `pick` wants, of those not taken yet.
    fn hears<T>(&mut self, what: &str, pick: impl Fn(&Message) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.heard.iter().position(|m| pick(m).is_some()) {
                return pick(&self.heard.remove(at)).expect("just seen");
            }
            assert!(Instant::now() < until, "not heard: {what}: {:?}", self.heard);
            self.run();
        }
    }

    /// Sets which notices come, and asks for them, so that they do from now on.
    fn wants_all(&mut self, version: Version) {
        let all = (u32::MAX, u32::MAX);
        let mut config = AsyncConfig {
            role_status: (7, 7),
            table_status: (0x18, 0x18),
            request_forward: (3, 3),
            controller_status: (0x3f, 0x3f),
            ..AsyncConfig::default()
        };
        if version < Version::V15 {
            config.controller_status = (0, 0);
        }
        if version < Version::V14 {
            config.packet_in = all;
        }
        self.send(&Message::SetAsync(config));
        self.send(&Message::BarrierRequest);
        self.hears("the barrier", |m| matches!(m, Message::BarrierReply).then_some(()));
    }
}

fn role(role: Role, generation: u64) -> Message {
    Message::RoleRequest(RoleMessage { role, generation_id: Some(generation) })
}

#[test]
fn controllers_hear_of_each_other() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    for version in [Version::V14, Version::V15] {
        let (mut a, mut b) = (Controller::connect(&s, version), Controller::connect(&s, version));
        a.wants_all(version);
        // Changes of groups and meters are handed on, to others only.
        b.send(&Message::GroupMod(Box::new(GroupMod { group_id: 7, ..GroupMod::default() })));
        let forwarded = |m: &Message| match m {
            Message::RequestForward(bytes) => Some(bytes.clone()),
            _ => None,
        };
        assert_eq!(a.hears("the group", forwarded)[1], 15, "{version}");
        let band = weft_flow::Band { kind: weft_flow::BandKind::Drop, rate: 9, burst: 0 };
        let meter =
            MeterMod { command: MeterCommand::Add, meter_id: 3, flags: meter_flags::KBPS, bands: vec![band] };
        b.send(&Message::MeterMod(Box::new(meter)));
        assert_eq!(a.hears("the meter", forwarded)[1], 29, "{version}");
        // A role that is taken away.
        let generation = if version == Version::V14 { 10 } else { 20 };
        a.send(&role(Role::Primary, generation));
        b.send(&role(Role::Primary, generation + 1));
        let taken = a.hears("the role", |m| match m {
            Message::RoleStatus(status) => Some(*status),
            _ => None,
        });
        assert_eq!((taken.role, taken.generation_id), (Role::Secondary, generation + 1), "{version}");
        drop(b);
        s.ok("ovs-ofctl -O OpenFlow15 del-groups br0");
        s.ok("ovs-ofctl -O OpenFlow15 del-meters br0");
    }
}

#[test]
fn controllers_come_and_go() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let mut a = Controller::connect(&s, Version::V15);
    a.wants_all(Version::V15);
    s.vsctl("set-controller br0 ptcp:16653:127.0.0.1");
    let told = |m: &Message| match m {
        Message::ControllerStatus(status) => Some(status.clone()),
        _ => None,
    };
    let added = a.hears("a controller was added", told);
    assert_eq!((added.reason, added.connected, added.uri.as_str()), (3, false, "ptcp:16653:127.0.0.1"));
    let mut monitor = std::process::Command::new("ip")
        .args(["netns", "exec", &s.ns, "ovs-ofctl", "-OOpenFlow13", "monitor", "tcp:127.0.0.1:16653"])
        .env("OVS_RUNDIR", s.dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("run ovs-ofctl");
    let up = a.hears("it is connected", told);
    assert_eq!((up.reason, up.connected), (1, true));
    let question = MultipartRequest { more: false, nicira: false, body: StatsRequest::ControllerStatus };
    a.send(&Message::MultipartRequest(question));
    let list = a.hears("the list", |m| match m {
        Message::MultipartReply(reply) => match &reply.body {
            StatsReply::ControllerStatus(list) => Some(list.clone()),
            _ => None,
        },
        _ => None,
    });
    assert!(list.len() == 1 && list[0].connected && list[0].uri == "ptcp:16653:127.0.0.1", "{list:?}");
    monitor.kill().expect("end the monitor");
    monitor.wait().expect("end the monitor");
    assert!(!a.hears("it is gone", told).connected);
    s.vsctl("del-controller br0");
    assert_eq!(a.hears("it was removed", told).reason, 4);
}

#[test]
fn monitors_and_removed_rules_tell_tunnel_options() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    s.ok("ovs-ofctl add-tlv-map br0 {class=0xffff,type=1,len=4}->tun_metadata1");
    for version in [Version::V10, Version::V13, Version::V14, Version::V15] {
        let mut a = Controller::connect(&s, version);
        a.send(&Message::SetConfig(weft_openflow::msg::handshake::SwitchConfig {
            flags: 0,
            miss_send_len: 128,
        }));
        let monitor = MonitorRequest {
            id: 5,
            command: MonitorCommand::Add,
            flags: monitor_flags::EVENTS | monitor_flags::INSTRUCTIONS,
            table: Some(6),
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
            matching: Match::any(),
            options: Vec::new(),
        };
        let body = StatsRequest::FlowMonitor(vec![monitor]);
        a.send(&Message::MultipartRequest(MultipartRequest { more: false, nicira: false, body }));
        a.hears("the monitor begins", |m| matches!(m, Message::MultipartReply(_)).then_some(()));
        s.ok("ovs-ofctl add-flow br0 table=6,tun_metadata1=0x1234,send_flow_rem,actions=drop");
        let update = |event: FlowEvent| {
            move |m: &Message| match m {
                Message::MultipartReply(reply) => match &reply.body {
                    StatsReply::FlowMonitor(list) => list.iter().find_map(|u| match u {
                        MonitorUpdate::Full(u) if u.event == event => Some((**u).clone()),
                        _ => None,
                    }),
                    _ => None,
                },
                _ => None,
            }
        };
        let added = a.hears("a rule was added", update(FlowEvent::Added));
        let option = |options: &[weft_flow::OptionValue]| {
            options.iter().find(|o| Some(o.field) == Field::tun_metadata(1)).map(|o| o.value.clone())
        };
        let is_it = |value: Option<Vec<u8>>| value.is_some_and(|v| v.ends_with(&[0x12, 0x34]));
        assert!(added.table_id == 6 && is_it(option(&added.options)), "{version}: {added:?}");
        s.ok("ovs-ofctl del-flows br0 table=6");
        let gone = a.hears("the rule went", update(FlowEvent::Removed));
        assert!(is_it(option(&gone.options)), "{version}: {gone:?}");
        let removed = a.hears("flow removed", |m| match m {
            Message::FlowRemoved(removed) => Some((**removed).clone()),
            _ => None,
        });
        // OpenFlow 1.0's own form has no room for options.
        assert!(version == Version::V10 || is_it(option(&removed.options)), "{version}: {removed:?}");
        // What a controller changed itself is told in brief, when it asked for that.
        let own = FlowMod {
            command: FlowCommand::Add,
            table: Some(6),
            flags: flow_flags::SEND_FLOW_REM,
            ..FlowMod::default()
        };
        if version >= Version::V14 {
            a.send(&Message::FlowMod(Box::new(own)));
            a.hears("the rule in brief", |m| match m {
                Message::MultipartReply(reply) => match &reply.body {
                    StatsReply::FlowMonitor(list) => {
                        list.iter().any(|u| matches!(u, MonitorUpdate::Abbrev(_))).then_some(())
                    }
                    _ => None,
                },
                _ => None,
            });
            s.ok("ovs-ofctl del-flows br0 table=6");
        }
    }
}

/// What monitors tell of rules that were added or were there: their cookies.
fn added(m: &Message) -> Option<Vec<u64>> {
    let Message::MultipartReply(reply) = m else { return None };
    let StatsReply::FlowMonitor(list) = &reply.body else { return None };
    let cookie = |u: &MonitorUpdate| match u {
        MonitorUpdate::Full(u) if matches!(u.event, FlowEvent::Added | FlowEvent::Initial) => Some(u.cookie),
        _ => None,
    };
    Some(list.iter().filter_map(cookie).collect())
}

#[test]
fn a_monitor_of_a_tunnel_option_hears_of_rules_that_match_it() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    s.ok("ovs-ofctl add-tlv-map br0 {class=0xffff,type=1,len=4}->tun_metadata1");
    s.ok("ovs-ofctl add-tlv-map br0 {class=0xffff,type=2,len=8}->tun_metadata2");
    for version in [Version::V10, Version::V13, Version::V14, Version::V15] {
        s.ok("ovs-ofctl del-flows br0");
        s.ok("ovs-ofctl add-flow br0 cookie=1,tun_metadata1=0x1234,actions=drop");
        s.ok("ovs-ofctl add-flow br0 cookie=2,tun_metadata1=0x1235,actions=drop");
        let mut a = Controller::connect(&s, version);
        let field = Field::tun_metadata(1).expect("a field");
        let monitor = MonitorRequest {
            id: 5,
            command: MonitorCommand::Add,
            flags: monitor_flags::EVENTS | monitor_flags::INITIAL,
            table: None,
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
            matching: Match::any(),
            options: vec![weft_flow::OptionValue::masked(field, &[0x34], &[0xff])],
        };
        let body = StatsRequest::FlowMonitor(vec![monitor]);
        a.send(&Message::MultipartRequest(MultipartRequest { more: false, nicira: false, body }));
        assert_eq!(a.hears("what is there", added), [1], "{version}");
        s.ok("ovs-ofctl add-flow br0 cookie=3,tun_metadata2=0x1234,actions=drop");
        s.ok("ovs-ofctl add-flow br0 cookie=4,tun_metadata1=0x4/0xf,actions=drop");
        s.ok("ovs-ofctl add-flow br0 cookie=5,tun_metadata1=0x734/0xfff,tun_metadata2=7,actions=drop");
        assert_eq!(a.hears("what was added", added), [5], "{version}");
    }
}

#[test]
fn a_table_tells_when_it_fills_up_and_empties() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- --id=@t create Flow_Table flow_limit=10 -- set bridge br0 flow_tables:3=@t");
    // What it takes is told, and stays what it is when it gets a name.
    for version in ["OpenFlow13", "OpenFlow15"] {
        s.ok(&format!("ovs-ofctl -O {version} mod-table br0 3 name:{version}"));
        let features = s.ok(&format!("ovs-ofctl -O {version} dump-table-features br0"));
        let limits: Vec<&str> =
            features.lines().filter_map(|l| l.trim().strip_prefix("max_entries=")).collect();
        assert!(limits.contains(&"10") && limits.contains(&"16777216"), "{features}");
        assert!(features.contains(&format!("table 3 (\"{version}\")")), "{features}");
    }
    for (n, version) in [Version::V14, Version::V15].into_iter().enumerate() {
        let mut a = Controller::connect(&s, version);
        a.wants_all(version);
        s.ok(&format!("ovs-ofctl -O OpenFlow1{} mod-table br0 3 vacancy:30,60", 4 + n));
        let told = |m: &Message| match m {
            Message::TableStatus(status) => Some(*status),
            _ => None,
        };
        let add = |i: usize| s.ok(&format!("ovs-ofctl add-flow br0 table=3,in_port={i},actions=drop"));
        (1..=9).for_each(|i| drop(add(i)));
        let status = a.hears("the table fills up", told);
        let vacancy = status.table.vacancy.expect("limits");
        assert_eq!((status.reason, status.table.table_id), (TableReason::VacancyDown, 3), "{version}");
        assert_eq!((vacancy.down, vacancy.up, vacancy.now), (30, 60, 20), "{version}");
        add(10);
        let full = s.run("ovs-ofctl add-flow br0 table=3,in_port=11,actions=drop");
        assert!(full.err.contains("OFPFMFC_TABLE_FULL"), "{}", full.err);
        s.ok("ovs-ofctl add-flow br0 table=4,in_port=11,actions=drop");
        for i in 1..=7 {
            s.ok(&format!("ovs-ofctl del-flows br0 table=3,in_port={i}"));
        }
        let status = a.hears("the table empties", told);
        assert_eq!(status.reason, TableReason::VacancyUp, "{version}");
        assert_eq!(status.table.vacancy.expect("limits").now, 70, "{version}");
        s.ok("ovs-ofctl del-flows br0");
        a.send(&Message::BarrierRequest);
        a.hears("the barrier", |m| matches!(m, Message::BarrierReply).then_some(()));
        assert!(a.heard.iter().all(|m| told(m).is_none()), "each is told once: {:?}", a.heard);
    }
    // What is full gives way where the configuration says so, rules for ever excepted.
    s.vsctl("set flow_table . flow_limit=2 overflow_policy=evict");
    s.ok("ovs-ofctl add-flow br0 table=3,in_port=1,actions=drop");
    s.ok("ovs-ofctl add-flow br0 table=3,in_port=2,idle_timeout=600,actions=drop");
    s.ok("ovs-ofctl add-flow br0 table=3,in_port=3,idle_timeout=900,actions=drop");
    let left = s.ok("ovs-ofctl dump-flows br0 table=3");
    assert!(
        left.contains("in_port=1 ") && left.contains("in_port=3 ") && !left.contains("in_port=2 "),
        "{left}"
    );
    s.vsctl("clear bridge br0 flow_tables");
    (10..20).for_each(|i| drop(s.ok(&format!("ovs-ofctl add-flow br0 table=3,in_port={i},actions=drop"))));
}

/// Opens a bundle with these messages in it and commits it; the last answer is the commit's, or the errors are these.
fn bundle(a: &mut Controller, id: u32, messages: &[Message]) -> Vec<ErrorCode> {
    let control = |step| Message::BundleControl(BundleControl { id, step, flags: 3 });
    a.send_as(1, &control(BundleStep::OpenRequest));
    for (xid, message) in (10..).zip(messages) {
        let mut bytes = Vec::new();
        let version = a.session.version().expect("a version");
        Codec::new(version).encode(xid, message, &mut bytes).expect("a message of this version");
        a.send_as(xid, &Message::BundleAdd(BundleAdd { id, flags: 3, message: bytes }));
    }
    a.send_as(2, &control(BundleStep::CommitRequest));
    a.send_as(3, &Message::BarrierRequest);
    a.hears("the barrier", |m| matches!(m, Message::BarrierReply).then_some(()));
    let code = |m: Message| match m {
        Message::Error(e) => match e.code {
            ErrorKind::Known(code) => Some(code),
            ErrorKind::Unknown(_) => None,
        },
        _ => None,
    };
    a.heard.drain(..).filter_map(code).collect()
}

#[test]
fn a_bundle_is_all_or_nothing() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- add-port br0 t1 -- set interface t1 type=tap ofport_request=1");
    s.vsctl("set bridge br0 fail_mode=secure");
    let mac = s.vsctl("get interface t1 mac_in_use").trim_matches('"').parse().expect("an address");
    let port = |config| PortMod {
        port_no: OfPort(1),
        hw_addr: mac,
        config,
        mask: port_config::NO_FWD,
        advertise: 0,
    };
    let rule =
        |priority| Message::FlowMod(Box::new(FlowMod { table: Some(7), priority, ..FlowMod::default() }));
    let packet =
        |actions| Message::PacketOut(Box::new(PacketOut::new(OfPort::CONTROLLER, actions, vec![0x55; 60])));
    for version in [Version::V13, Version::V14, Version::V15] {
        let mut a = Controller::connect(&s, version);
        let down = Message::PortMod(port(port_config::NO_FWD));
        // What comes last is wrong: what came before it is not done either.
        let cases = [
            (packet(vec![Action::Group(99)]), ErrorCode::OFPBAC_BAD_OUT_GROUP),
            (Message::PortMod(PortMod { port_no: OfPort(77), ..port(0) }), ErrorCode::OFPPMFC_BAD_PORT),
            (
                Message::PortMod(PortMod { hw_addr: "02:00:00:00:00:99".parse().expect("one"), ..port(0) }),
                ErrorCode::OFPPMFC_BAD_HW_ADDR,
            ),
        ];
        for (id, (wrong, code)) in (1..).zip(cases) {
            let said = bundle(&mut a, id, &[rule(1), down.clone(), packet(Vec::new()), wrong]);
            assert_eq!(said, [code, ErrorCode::OFPBFC_MSG_FAILED], "{version}");
            assert!(s.ok("ovs-ofctl dump-aggregate br0 table=7").contains("flow_count=0"), "{version}");
            assert!(!s.ok("ovs-ofctl show br0").contains("NO_FWD"), "{version}");
        }
        let whole = [rule(1), down, packet(Vec::new()), rule(2)];
        assert_eq!(bundle(&mut a, 9, &whole), [], "{version}");
        assert!(s.ok("ovs-ofctl dump-aggregate br0 table=7").contains("flow_count=2"), "{version}");
        assert!(s.ok("ovs-ofctl show br0").contains("NO_FWD"), "{version}");
        assert_eq!(bundle(&mut a, 9, &[Message::PortMod(port(0))]), [], "{version}");
        s.ok("ovs-ofctl del-flows br0 table=7");
    }
    // A packet is decided on by the rules before it in its bundle.
    let arp = "ffffffffffff02000000000a0806000108000604000102000000000a0a0100630000000000000a010002";
    let lines = format!(
        "flow add table=0,arp,actions=resubmit(,1)\npacket-out in_port=1,packet={arp},actions=table\n\
         flow add table=1,arp,actions=drop\npacket-out in_port=1,packet={arp},actions=table\n"
    );
    std::fs::write(s.path("bundle"), lines).expect("write the bundle");
    s.ok(&format!("ovs-ofctl -O OpenFlow14 bundle br0 {}", s.path("bundle").display()));
    assert!(s.ok("ovs-ofctl dump-flows br0 table=0").contains("n_packets=2"));
    assert!(s.ok("ovs-ofctl dump-flows br0 table=1").contains("n_packets=1"));
}
