//! A toy switch that shows how sessions are used: it keeps a list of rules and two ports, forwards nothing, and
//! answers `ovs-ofctl` on a Unix socket.
//!
//! ```text
//! cargo run -p weft-openflow --example ofserve -- /tmp/toy.mgmt &
//! ovs-ofctl add-flow unix:/tmp/toy.mgmt in_port=1,actions=2
//! ovs-ofctl dump-flows unix:/tmp/toy.mgmt
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use weft_flow::{Action, Instructions, Match, OfPort};
use weft_openflow::msg::flow::{FlowCommand, FlowMod, flow_flags};
use weft_openflow::msg::handshake::{Features, SwitchConfig, capability};
use weft_openflow::msg::packet_in::{PacketIn, reason};
use weft_openflow::msg::packet_out::PacketOut;
use weft_openflow::msg::port::{PortDesc, PortMod, port_feature};
use weft_openflow::msg::tlv::{TLV_FIELDS, TLV_SPACE, TlvTableReply};
use weft_openflow::session::{BundleCommit, ConnectionKind, Event, Options, ReplyTo, Request, SwitchSession};
use weft_openflow::stats::flow::{AggregateStats, FlowStats, FlowStatsRequest};
use weft_openflow::stats::group::GroupFeatures;
use weft_openflow::stats::meter::MeterFeatures;
use weft_openflow::stats::misc::{BundleFeatures, IpfixStats};
use weft_openflow::stats::port::PortStats;
use weft_openflow::stats::table::{TableDesc, TableStats};
use weft_openflow::stats::table_features::TableFeatures;
use weft_openflow::stats::{StatsReply, StatsRequest, SwitchDesc};
use weft_openflow::{ErrorCode, Message, Version};
use weft_wire::Mac;

const TABLES: u8 = 254;

#[derive(Clone)]
struct Rule {
    table: u8,
    priority: u16,
    cookie: u64,
    idle_timeout: u16,
    hard_timeout: u16,
    flags: u16,
    importance: u16,
    matching: Match,
    instructions: Instructions,
    added: Instant,
}

#[derive(Default)]
struct Switch {
    rules: Vec<Rule>,
    ports: Vec<PortDesc>,
    config: SwitchConfig,
    connections: Vec<Sender<PacketIn>>,
}

/// Whether everything that `inner` matches is matched by `outer`.
fn within(inner: &Match, outer: &Match) -> bool {
    let words = outer.mask.words().iter().zip(inner.mask.words());
    let keys = outer.key.words().iter().zip(inner.key.words());
    words.zip(keys).all(|((om, im), (ok, ik))| om & im == *om && ik & om == *ok)
}

/// Whether some packet is matched by both.
fn overlap(a: &Match, b: &Match) -> bool {
    let masks = a.mask.words().iter().zip(b.mask.words());
    masks.zip(a.key.words().iter().zip(b.key.words())).all(|((am, bm), (ak, bk))| (ak ^ bk) & am & bm == 0)
}

fn outputs_to(rule: &Rule, port: OfPort) -> bool {
    let lists = rule.instructions.apply.iter().chain(&rule.instructions.write);
    port == OfPort::ANY
        || lists.into_iter().any(|a| matches!(a, Action::Output { port: p, .. } if *p == port))
}

impl Switch {
    fn new() -> Switch {
        let port = |n: u32, name: &str| PortDesc {
            port_no: if n == 0 { OfPort::LOCAL } else { OfPort(n) },
            hw_addr: Mac([2, 0, 0, 0, 0, n as u8]),
            name: name.to_string(),
            curr: port_feature::GB10_FD | port_feature::COPPER,
            curr_speed: 10_000_000,
            ..PortDesc::default()
        };
        Switch { ports: vec![port(1, "p1"), port(2, "p2"), port(0, "toy")], ..Switch::default() }
    }

    fn chosen(rule: &Rule, f: &FlowMod) -> bool {
        let strict = matches!(f.command, FlowCommand::ModifyStrict | FlowCommand::DeleteStrict);
        let deletes = matches!(f.command, FlowCommand::Delete | FlowCommand::DeleteStrict);
        let fits = if strict {
            rule.matching == f.matching && rule.priority == f.priority
        } else {
            within(&rule.matching, &f.matching)
        };
        fits && f.table.is_none_or(|t| t == rule.table)
            && (rule.cookie ^ f.cookie) & f.cookie_mask == 0
            && (!deletes || outputs_to(rule, f.out_port))
    }

    fn flow_mod(&mut self, f: &FlowMod) -> Result<(), ErrorCode> {
        match f.command {
            FlowCommand::Add => self.add(f),
            FlowCommand::Modify | FlowCommand::ModifyStrict => {
                let mut changed = false;
                for rule in self.rules.iter_mut().filter(|r| Self::chosen(r, f)) {
                    rule.instructions = f.instructions.clone();
                    rule.cookie = f.new_cookie.unwrap_or(rule.cookie);
                    changed = true;
                }
                if changed || f.cookie_mask != 0 { Ok(()) } else { self.add(f) }
            }
            FlowCommand::Delete | FlowCommand::DeleteStrict => {
                self.rules.retain(|r| !Self::chosen(r, f));
                Ok(())
            }
        }
    }

    fn add(&mut self, f: &FlowMod) -> Result<(), ErrorCode> {
        let table = f.table.unwrap_or(0);
        let rule = Rule {
            table,
            priority: f.priority,
            cookie: f.new_cookie.unwrap_or(0),
            idle_timeout: f.idle_timeout,
            hard_timeout: f.hard_timeout,
            flags: f.flags & flow_flags::KEPT,
            importance: f.importance,
            matching: f.matching,
            instructions: f.instructions.clone(),
            added: Instant::now(),
        };
        let rival = |r: &&mut Rule| r.table == table && r.priority == f.priority;
        if f.flags & flow_flags::CHECK_OVERLAP != 0
            && self.rules.iter_mut().filter(rival).any(|r| overlap(&r.matching, &f.matching))
        {
            return Err(ErrorCode::OFPFMFC_OVERLAP);
        }
        match self.rules.iter_mut().filter(rival).find(|r| r.matching == f.matching) {
            Some(old) => *old = rule,
            None => self.rules.push(rule),
        }
        Ok(())
    }

    fn selected<'a>(&'a self, q: &'a FlowStatsRequest) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(|r| {
            within(&r.matching, &q.matching)
                && q.table.is_none_or(|t| t == r.table)
                && (r.cookie ^ q.cookie) & q.cookie_mask == 0
                && outputs_to(r, q.out_port)
        })
    }

    fn flow_stats(&self, q: &FlowStatsRequest) -> Vec<FlowStats> {
        let mut list: Vec<&Rule> = self.selected(q).collect();
        list.sort_by_key(|r| (r.table, std::cmp::Reverse(r.priority)));
        let stats = |r: &Rule| FlowStats {
            table_id: r.table,
            priority: r.priority,
            duration: r.added.elapsed(),
            idle_timeout: r.idle_timeout,
            hard_timeout: r.hard_timeout,
            flags: r.flags,
            importance: r.importance,
            cookie: r.cookie,
            matching: r.matching,
            instructions: r.instructions.clone(),
            ..FlowStats::default()
        };
        list.into_iter().map(stats).collect()
    }

    fn stats(&self, version: Version, request: &StatsRequest) -> StatsReply {
        let wanted = |port: &OfPort| {
            let port = *port;
            self.ports.iter().filter(move |p| port == OfPort::ANY || port == p.port_no)
        };
        match request {
            StatsRequest::Desc => StatsReply::Desc(SwitchDesc {
                manufacturer: "The Weft authors".to_string(),
                hardware: "none".to_string(),
                software: "ofserve".to_string(),
                serial: "None".to_string(),
                datapath: "a toy".to_string(),
            }),
            StatsRequest::Flow(q) => StatsReply::Flow(self.flow_stats(q)),
            StatsRequest::Aggregate(q) => StatsReply::Aggregate(AggregateStats {
                flows: self.selected(q).count() as u32,
                ..Default::default()
            }),
            StatsRequest::Table => {
                let active = |t: u8| self.rules.iter().filter(|r| r.table == t).count() as u32;
                let table = |t| TableStats {
                    table_id: t,
                    name: format!("table{t}"),
                    max_entries: 1_000_000,
                    active: active(t),
                    ..TableStats::default()
                };
                StatsReply::Table((0..TABLES).map(table).collect())
            }
            StatsRequest::TableFeatures(_) => {
                let table = |t| TableFeatures::capable(version, t, TABLES, format!("table{t}"), 1_000_000);
                StatsReply::TableFeatures((0..TABLES).map(table).collect())
            }
            StatsRequest::TableDesc => StatsReply::TableDesc(
                (0..TABLES).map(|table_id| TableDesc { table_id, ..TableDesc::default() }).collect(),
            ),
            StatsRequest::Port(port) => {
                let stats =
                    |p: &PortDesc| PortStats { port_no: p.port_no, rx_packets: 7, ..PortStats::default() };
                StatsReply::Port(wanted(port).map(stats).collect())
            }
            StatsRequest::PortDesc(port) => StatsReply::PortDesc(wanted(port).cloned().collect()),
            StatsRequest::Queue { .. } => StatsReply::Queue(Vec::new()),
            StatsRequest::Group(_) => StatsReply::Group(Vec::new()),
            StatsRequest::GroupDesc(_) => StatsReply::GroupDesc(Vec::new()),
            StatsRequest::GroupFeatures => StatsReply::GroupFeatures(GroupFeatures::default()),
            StatsRequest::Meter(_) => StatsReply::Meter(Vec::new()),
            StatsRequest::MeterConfig(_) => StatsReply::MeterConfig(Vec::new()),
            StatsRequest::QueueDesc { .. } => StatsReply::QueueDesc(Vec::new()),
            StatsRequest::FlowCounts(q) => StatsReply::FlowCounts(self.flow_stats(q)),
            StatsRequest::FlowMonitor(_) => StatsReply::FlowMonitor(Vec::new()),
            StatsRequest::ControllerStatus => StatsReply::ControllerStatus(Vec::new()),
            StatsRequest::BundleFeatures => StatsReply::BundleFeatures(BundleFeatures::default()),
            StatsRequest::IpfixBridge => StatsReply::IpfixBridge(IpfixStats::default()),
            StatsRequest::IpfixFlow => StatsReply::IpfixFlow(Vec::new()),
            StatsRequest::MeterFeatures => StatsReply::MeterFeatures(MeterFeatures::default()),
        }
    }

    fn port_mod(&mut self, m: &PortMod) -> Result<(), ErrorCode> {
        let port =
            self.ports.iter_mut().find(|p| p.port_no == m.port_no).ok_or(ErrorCode::OFPPMFC_BAD_PORT)?;
        if port.hw_addr != m.hw_addr {
            return Err(ErrorCode::OFPPMFC_BAD_HW_ADDR);
        }
        port.config = port.config & !m.mask | m.config & m.mask;
        Ok(())
    }

    /// The toy forwards nothing, but a packet sent to the controller comes back.
    fn packet_out(&mut self, m: &PacketOut) -> Result<(), ErrorCode> {
        for action in &m.actions {
            if matches!(action, Action::Output { port: OfPort::CONTROLLER, .. } | Action::Controller { .. }) {
                let packet = PacketIn {
                    buffer_id: None,
                    total_len: m.data.len() as u32,
                    reason: reason::ACTION,
                    table_id: 0,
                    cookie: 0x77,
                    metadata: PacketIn::metadata_of(&m.matching.key),
                    data: m.data.clone(),
                    ..PacketIn::default()
                };
                self.connections.retain(|c| c.send(packet.clone()).is_ok());
            }
        }
        Ok(())
    }

    fn commit<'a>(&mut self, requests: &'a [(ReplyTo, Request)]) -> Result<(), (&'a ReplyTo, ErrorCode)> {
        let before = self.rules.clone();
        for (to, request) in requests {
            let done = match request {
                Request::FlowMod(f) => self.flow_mod(f),
                Request::PacketOut(p) => self.packet_out(p),
                Request::PortMod(p) => self.port_mod(p),
                _ => Err(ErrorCode::OFPBFC_MSG_UNSUP),
            };
            if let Err(code) = done {
                self.rules = before;
                return Err((to, code));
            }
        }
        Ok(())
    }

    fn features(&self) -> Features {
        Features {
            datapath_id: 0x0000_0200_0000_0000,
            n_tables: TABLES,
            capabilities: capability::FLOW_STATS
                | capability::TABLE_STATS
                | capability::PORT_STATS
                | capability::ARP_MATCH_IP,
            actions: 0xfff,
            ports: self.ports.clone(),
            ..Features::default()
        }
    }
}

fn lock(switch: &Mutex<Switch>) -> MutexGuard<'_, Switch> {
    switch.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(session: &mut SwitchSession, switch: &mut Switch, to: &ReplyTo, request: Request) {
    let done = match request {
        Request::Features => {
            let reply = Message::FeaturesReply(switch.features());
            return session.reply(to, &reply).unwrap_or_else(|e| eprintln!("{e}"));
        }
        Request::GetConfig => {
            let config = SwitchConfig { miss_send_len: session.miss_send_len(), ..switch.config };
            return session.reply(to, &Message::GetConfigReply(config)).unwrap_or_else(|e| eprintln!("{e}"));
        }
        Request::Stats(question) => {
            let body = switch.stats(session.version_or_oldest(), &question);
            return session.reply_stats(to, body, false);
        }
        Request::Barrier => return session.reply_barrier(to),
        Request::Role(m) => {
            session.set_role(m.role);
            return session.reply_role(to, m.generation_id.unwrap_or(u64::MAX));
        }
        Request::BundleCommit(commit) => return apply(session, switch, to, &commit),
        Request::SetConfig(config) => {
            switch.config = config;
            Ok(())
        }
        Request::PacketOut(m) => switch.packet_out(&m),
        Request::FlowMod(m) => switch.flow_mod(&m),
        Request::PortMod(m) => switch.port_mod(&m),
        Request::TableMod(_) => Ok(()),
        Request::GroupMod(_) => Err(ErrorCode::OFPGMFC_OUT_OF_GROUPS),
        Request::MeterMod(_) => Err(ErrorCode::OFPMMFC_OUT_OF_METERS),
        Request::TlvTableMod(_) => Err(ErrorCode::NXTTMFC_TABLE_FULL),
        Request::TlvTable => {
            let reply = TlvTableReply { max_space: TLV_SPACE, max_fields: TLV_FIELDS, maps: Vec::new() };
            return session.reply(to, &Message::TlvTableReply(reply)).unwrap_or_else(|e| eprintln!("{e}"));
        }
        Request::Resume(_) => Err(ErrorCode::OFPBRC_EPERM),
        Request::Refused(code, _) => Err(code),
        Request::Echo(data) => {
            return session.reply(to, &Message::EchoReply(data)).unwrap_or_else(|e| eprintln!("{e}"));
        }
        Request::CtFlush(_) => Ok(()),
    };
    if let Err(code) = done {
        session.refuse(to, code);
    }
}

fn apply(session: &mut SwitchSession, switch: &mut Switch, to: &ReplyTo, commit: &BundleCommit) {
    let requests: Vec<_> = commit.iter().collect();
    session.reply_commit(to, switch.commit(&requests));
}

fn serve(mut stream: UnixStream, switch: &Mutex<Switch>, packets: &Receiver<PacketIn>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    let options = Options { kind: ConnectionKind::Service, ..Options::default() };
    let start = Instant::now();
    let mut session = SwitchSession::new(options, 0);
    let mut buffer = vec![0; 16 << 10];
    loop {
        while !session.output().is_empty() {
            let n = stream.write(session.output())?;
            session.consume(n);
        }
        if session.closed().is_some() {
            return Ok(());
        }
        for packet in packets.try_iter() {
            session.packet_in(0, packet);
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                for event in session.receive(&buffer[..n], start.elapsed().as_millis() as u64) {
                    if let Event::Request(to, request) = event {
                        answer(&mut session, &mut lock(switch), &to, request);
                    }
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
}

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: ofserve SOCKET"))?;
    serve_all(&UnixListener::bind(&path)?)
}

/// Serves every connection in a thread of its own, for ever.
pub(crate) fn serve_all(listener: &UnixListener) -> io::Result<()> {
    let switch = Arc::new(Mutex::new(Switch::new()));
    for stream in listener.incoming() {
        let (stream, switch) = (stream?, switch.clone());
        let (sender, packets) = channel();
        lock(&switch).connections.push(sender);
        thread::spawn(move || {
            if let Err(e) = serve(stream, &switch, &packets) {
                eprintln!("connection: {e}");
            }
        });
    }
    Ok(())
}
