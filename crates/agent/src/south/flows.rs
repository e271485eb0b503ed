//! How do flows get into the integration bridge, and packets for services out of it?
//!
//! Changes go in bundles, atomic and ordered: the bridge has all of a change or nothing of it. The connection is the
//! bridge's management socket; the switch tells packets there once it is asked to.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use weft_compile::{METER_BASE, Stage};
use weft_flow::OfPort;
use weft_openflow::msg::bundle::{BundleControl, BundleStep, OFPBF_ATOMIC, OFPBF_ORDERED};
use weft_openflow::msg::control::AsyncConfig;
use weft_openflow::msg::group::GROUP_ALL;
use weft_openflow::msg::handshake::SwitchConfig;
use weft_openflow::msg::meter::{METER_ALL, MeterCommand, MeterMod};
use weft_openflow::msg::packet_in::PacketInFormat;
use weft_openflow::msg::packet_out::PacketOut;
use weft_openflow::session::{ControllerEvent, ControllerSession, Options, Spare};
use weft_openflow::stats::{MultipartReply, MultipartRequest, StatsReply, StatsRequest};
use weft_openflow::{Message, Version, VersionSet};

use super::frames::{Outgoing, Punt, To, punt};
use super::watch::{self, Disturbed, Watcher};
use super::{BACKOFF, PATIENCE, SouthError, idle};

/// What may wait to be sent.
const COMMANDS: usize = 4096;
/// Bytes that are written together.
const TOGETHER: usize = 64 << 10;
/// Messages in one bundle: more go in several, each atomic by itself.
const BUNDLE_MESSAGES: usize = 100_000;
/// What others change so close together is told once.
const CALM: Duration = Duration::from_millis(50);
/// Every reason there is to send a packet, expired TTLs included.
const ALL_REASONS: u32 = 0b11_1111;

/// What the switch says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is there, anew: what the bridge holds is not known but for the groups it has.
    Connected(Vec<u32>),
    /// The connection is gone.
    Disconnected,
    /// Others changed what is ours.
    Disturbed(Disturbed),
}

enum Command {
    Commit(Vec<Message>, oneshot::Sender<Result<(), SouthError>>),
    Send(Vec<Outgoing>),
    Count(oneshot::Sender<Result<u64, SouthError>>),
}

/// The way to the integration bridge's tables.
#[derive(Clone, Debug)]
pub struct Flows {
    commands: mpsc::Sender<Command>,
    path: PathBuf,
}

impl Flows {
    /// Starts the task that keeps a connection to `path`, the bridge's management socket. Packets for services go to
    /// `punts`, which must not block: whoever answers them need not wait for whoever programs the bridge.
    pub fn start(path: PathBuf, punts: impl FnMut(Punt) + Send + 'static) -> (Flows, mpsc::Receiver<Event>) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (events, out) = mpsc::channel(64);
        tokio::spawn(keep(path.clone(), receiver, events, punts));
        (Flows { commands, path }, out)
    }

    /// Applies messages: all of them or none, but for meters. When it returns, packets are handled by them.
    ///
    /// No bundle takes changes of meters: those to add, or to change if they are there, go before all else, and those to
    /// delete last. To delete all is to delete those that are not among the former.
    ///
    /// # Errors
    /// There is no connection, the switch is silent, or it refused one of them.
    pub async fn commit(&self, messages: Vec<Message>) -> Result<(), SouthError> {
        if messages.is_empty() {
            return Ok(());
        }
        let gone = || SouthError::Disconnected(self.path.display().to_string());
        let (done, answer) = oneshot::channel();
        self.commands.send(Command::Commit(messages, done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// How many flows carry our mark, learned ones left out.
    ///
    /// # Errors
    /// As [`Flows::commit`].
    pub async fn count(&self) -> Result<u64, SouthError> {
        let gone = || SouthError::Disconnected(self.path.display().to_string());
        let (done, answer) = oneshot::channel();
        self.commands.send(Command::Count(done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Sends frames. They are lost when there is no connection.
    pub async fn send(&self, frames: Vec<Outgoing>) {
        if !frames.is_empty() {
            let _ = self.commands.send(Command::Send(frames)).await;
        }
    }

    /// Sends a frame by a port, if there is room in the queue: a full one is a busy cable.
    pub fn try_send(&self, port: OfPort, frame: Vec<u8>) {
        let _ = self.commands.try_send(Command::Send(vec![Outgoing { to: To::Ports(vec![port]), frame }]));
    }
}

/// Connects again and again.
async fn keep(
    path: PathBuf,
    mut commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    mut punts: impl FnMut(Punt) + Send,
) {
    let mut wait = BACKOFF.0;
    loop {
        match Link::open(&path, &mut punts).await {
            Ok((mut link, groups)) => {
                wait = BACKOFF.0;
                if events.send(Event::Connected(groups)).await.is_err() {
                    return;
                }
                if let Err(why) = link.serve(&mut commands, &events).await {
                    tracing::warn!(bridge = %path.display(), %why, "the connection to the integration bridge broke");
                }
                if events.send(Event::Disconnected).await.is_err() {
                    return;
                }
            }
            Err(why) => {
                tracing::debug!(bridge = %path.display(), %why, "no connection to the integration bridge")
            }
        }
        let gone = || SouthError::Disconnected(path.display().to_string());
        let refuse = |command| match command {
            Command::Commit(_, done) => drop(done.send(Err(gone()))),
            Command::Count(done) => drop(done.send(Err(gone()))),
            Command::Send(_) => {}
        };
        if !idle(wait, &mut commands, refuse).await {
            return;
        }
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// One connection.
struct Link<'a, P> {
    stream: UnixStream,
    session: ControllerSession,
    /// Memory of packets that were passed on.
    spare: Spare,
    /// What frames are sent by, one after the other: it is too large to be made for each.
    out: Message,
    /// Who takes packets for services.
    punts: &'a mut P,
    started: Instant,
    bundle: u32,
    /// Messages received while something else was waited for.
    pending: VecDeque<(u32, Message)>,
    /// Meters of ours that the bridge has.
    meters: BTreeSet<u32>,
    watcher: Watcher,
    name: String,
}

impl<'a, P: FnMut(Punt)> Link<'a, P> {
    /// Connects, and asks what is there.
    async fn open(path: &Path, punts: &'a mut P) -> Result<(Self, Vec<u32>), SouthError> {
        let name = path.display().to_string();
        let stream = UnixStream::connect(path).await.map_err(|_| SouthError::Disconnected(name.clone()))?;
        let options = Options { versions: VersionSet::NONE.with(Version::V15), ..Options::default() };
        let session = ControllerSession::new(options, 0);
        let (started, pending, meters) = (Instant::now(), VecDeque::new(), BTreeSet::new());
        let out = Message::PacketOut(Box::new(PacketOut::new(OfPort::CONTROLLER, Vec::new(), Vec::new())));
        let spare = Spare::default();
        let (watcher, bundle) = (Watcher::default(), 0);
        let mut link =
            Link { stream, session, spare, out, punts, started, bundle, pending, meters, watcher, name };
        let groups = timeout(PATIENCE, link.hello()).await.map_err(|_| SouthError::Silent)??;
        Ok((link, groups))
    }

    async fn hello(&mut self) -> Result<Vec<u32>, SouthError> {
        self.flush().await?;
        while self.session.version().is_none() {
            self.read().await?;
        }
        self.post(&Message::SetPacketInFormat(PacketInFormat::Nxt2))?;
        self.post(&Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: u16::MAX }))?;
        let asked = AsyncConfig {
            packet_in: (ALL_REASONS, ALL_REASONS),
            request_forward: (0b11, 0b11),
            ..AsyncConfig::default()
        };
        self.post(&Message::SetAsync(asked))?;
        let request =
            MultipartRequest { more: false, nicira: false, body: StatsRequest::GroupDesc(GROUP_ALL) };
        let asked = self.post(&Message::MultipartRequest(request))?;
        let mut groups = Vec::new();
        loop {
            match self.answer(|xid| xid == asked).await? {
                Message::MultipartReply(MultipartReply {
                    more, body: StatsReply::GroupDesc(found), ..
                }) => {
                    groups.extend(found.iter().map(|g| g.group_id));
                    if !more {
                        break;
                    }
                }
                other => return Err(refused("a list of groups".into(), &other)),
            }
        }
        self.look_for_meters().await?;
        let asked = self.post(&watch::monitors())?;
        if let other @ Message::Error(_) = self.answer(|xid| xid == asked).await? {
            let why = refused("a flow monitor".into(), &other);
            tracing::warn!(%why, "what others change of the flows is seen late");
        }
        Ok(groups)
    }

    /// Notes which meters of ours the bridge has; none, if its datapath has no meters.
    async fn look_for_meters(&mut self) -> Result<(), SouthError> {
        let body = StatsRequest::MeterConfig(METER_ALL);
        let request = MultipartRequest { more: false, nicira: false, body };
        let asked = self.post(&Message::MultipartRequest(request))?;
        while let Message::MultipartReply(MultipartReply {
            more, body: StatsReply::MeterConfig(found), ..
        }) = self.answer(|xid| xid == asked).await?
        {
            self.meters.extend(found.iter().map(|m| m.meter_id).filter(|id| *id >= METER_BASE));
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Does what is asked until the connection breaks.
    async fn serve(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), SouthError> {
        let mut buffer = vec![0; 64 << 10];
        let mut told = Instant::now();
        loop {
            let calm = CALM.saturating_sub(told.elapsed());
            if !self.watcher.seen.is_empty() && calm.is_zero() {
                told = Instant::now();
                if let Ok(room) = events.try_reserve() {
                    room.send(Event::Disturbed(std::mem::take(&mut self.watcher.seen)));
                }
            }
            // Answers that nobody waits for.
            for (_, message) in self.pending.drain(..) {
                if let Message::Error(e) = message {
                    tracing::warn!(why = ?e.code, "the switch refused something");
                }
            }
            tokio::select! {
                command = commands.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    self.act(command).await?;
                    while self.session.output().len() < TOGETHER
                        && let Ok(command) = commands.try_recv()
                    {
                        self.act(command).await?;
                    }
                    self.flush().await?;
                }
                () = sleep(calm), if !self.watcher.seen.is_empty() => {}
                read = self.stream.read(&mut buffer) => {
                    self.take(read.ok(), &buffer)?;
                    self.flush().await?;
                }
            }
        }
    }

    /// Flows with our mark, but for learned ones.
    async fn count(&mut self) -> Result<u64, SouthError> {
        let mut counts = [0; 2];
        for (count, table) in counts.iter_mut().zip([None, Some(Stage::Learned.table())]) {
            let asked = self.post(&watch::count(table))?;
            let answer = timeout(PATIENCE, self.answer(|xid| xid == asked)).await;
            match answer.map_err(|_| SouthError::Silent)?? {
                Message::MultipartReply(MultipartReply { body: StatsReply::Aggregate(sum), .. }) => {
                    *count = u64::from(sum.flows)
                }
                other => return Err(refused("a count of flows".into(), &other)),
            }
        }
        let [all, learned] = counts;
        Ok(all.saturating_sub(learned))
    }

    /// Does one thing; packets wait to be written with others.
    async fn act(&mut self, command: Command) -> Result<(), SouthError> {
        match command {
            Command::Commit(messages, done) => {
                let result = self.commit(messages).await;
                let fatal = fatal(&result);
                let _ = done.send(result);
                fatal
            }
            Command::Count(done) => {
                let result = self.count().await;
                let fatal = fatal(&result);
                let _ = done.send(result);
                fatal
            }
            Command::Send(frames) => {
                for Outgoing { to, frame } in frames {
                    if let Message::PacketOut(out) = &mut self.out {
                        out.actions.clear();
                        to.actions(&mut out.actions);
                        out.data = frame;
                    }
                    if let Err(why) = self.session.send(&self.out) {
                        tracing::warn!(%why, "a packet could not be sent");
                    }
                }
                Ok(())
            }
        }
    }

    async fn commit(&mut self, mut messages: Vec<Message>) -> Result<(), SouthError> {
        let is_meter = |m: &mut Message| matches!(m, Message::MeterMod(_));
        let meters: Vec<Message> = messages.extract_if(.., is_meter).collect();
        let (gone, new): (Vec<Message>, Vec<Message>) = meters
            .into_iter()
            .partition(|m| matches!(m, Message::MeterMod(m) if m.command == MeterCommand::Delete));
        self.meter(new.clone()).await?;
        // Where the switch has no meters, packets pass without a limit rather than not at all.
        for message in &mut messages {
            if let Message::FlowMod(m) = message {
                m.instructions.meter = m.instructions.meter.filter(|id| self.meters.contains(id));
            }
        }
        for messages in messages.chunks(BUNDLE_MESSAGES) {
            timeout(PATIENCE, self.bundle(messages)).await.map_err(|_| SouthError::Silent)??;
        }
        let all = |m: &Message| matches!(m, Message::MeterMod(m) if m.meter_id == METER_ALL);
        if !gone.iter().any(all) {
            return self.meter(gone).await;
        }
        let kept: BTreeSet<u32> = new.iter().filter_map(meter_of).collect();
        let delete = |id: &u32| {
            let change = MeterMod { command: MeterCommand::Delete, meter_id: *id, ..MeterMod::default() };
            Message::MeterMod(Box::new(change))
        };
        let stale: Vec<Message> = self.meters.difference(&kept).map(delete).collect();
        self.meter(stale).await
    }

    /// Changes of meters. Those to add that are there are changed; what is refused is told.
    async fn meter(&mut self, changes: Vec<Message>) -> Result<(), SouthError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut sent = HashMap::new();
        for mut change in changes {
            if let Message::MeterMod(m) = &mut change {
                let there = match m.command {
                    MeterCommand::Delete => self.meters.remove(&m.meter_id),
                    _ => !self.meters.insert(m.meter_id),
                };
                if there && m.command == MeterCommand::Add {
                    m.command = MeterCommand::Modify;
                }
            }
            sent.insert(self.post(&change)?, change);
        }
        let last = self.post(&Message::BarrierRequest)?;
        self.flush().await?;
        loop {
            let answered = self.answer_with_xid(|xid| xid == last || sent.contains_key(&xid));
            let (xid, answer) = timeout(PATIENCE, answered).await.map_err(|_| SouthError::Silent)??;
            let Some(change) = sent.get(&xid) else { return Ok(()) };
            let why = refused(describe(change), &answer);
            tracing::warn!(%why, "a port's bandwidth is not limited");
            if let Some(id) = meter_of(change) {
                self.meters.remove(&id);
            }
        }
    }

    /// One bundle: open, fill, close; when nothing was refused, commit.
    async fn bundle(&mut self, messages: &[Message]) -> Result<(), SouthError> {
        self.bundle = self.bundle.wrapping_add(1);
        let (id, flags) = (self.bundle, OFPBF_ATOMIC | OFPBF_ORDERED);
        let control = |step| Message::BundleControl(BundleControl { id, step, flags });
        let first = self.post(&control(BundleStep::OpenRequest))?;
        let mut transactions = HashMap::with_capacity(messages.len());
        for message in messages {
            let sent = self.session.send_bundled(id, flags, message);
            let xid = sent.map_err(|e| SouthError::Encode(format!("{}: {e}", describe(message))))?;
            transactions.insert(xid, message);
            if self.session.output().len() > 1 << 20 {
                self.flush().await?;
            }
        }
        let last = self.post(&control(BundleStep::CloseRequest))?;
        self.flush().await?;
        let name = |xid: u32| transactions.get(&xid).map_or_else(|| "a bundle".to_owned(), |m| describe(m));
        let mine = |xid: u32| xid.wrapping_sub(first) <= last.wrapping_sub(first);
        loop {
            let (xid, message) = self.answer_with_xid(mine).await?;
            match message {
                Message::BundleControl(BundleControl { step: BundleStep::CloseReply, .. }) => break,
                Message::BundleControl(_) => {}
                other => {
                    let error = refused(name(xid), &other);
                    self.post(&control(BundleStep::DiscardRequest))?;
                    self.flush().await?;
                    return Err(error);
                }
            }
        }
        let commit = self.post(&control(BundleStep::CommitRequest))?;
        self.flush().await?;
        let mut blamed = None;
        loop {
            let (xid, message) = self.answer_with_xid(|xid| xid == commit || mine(xid)).await?;
            match message {
                Message::BundleControl(BundleControl { step: BundleStep::CommitReply, .. }) => return Ok(()),
                Message::BundleControl(_) => {}
                // The message that is to blame comes first, then the commit itself.
                other if xid == commit => return Err(blamed.unwrap_or_else(|| refused(name(xid), &other))),
                other => blamed = Some(refused(name(xid), &other)),
            }
        }
    }

    fn post(&mut self, message: &Message) -> Result<u32, SouthError> {
        self.session.send(message).map_err(|e| SouthError::Encode(e.to_string()))
    }

    /// The next message of a transaction that is waited for. Packets meanwhile are passed on.
    async fn answer_with_xid(&mut self, mine: impl Fn(u32) -> bool) -> Result<(u32, Message), SouthError> {
        loop {
            let found = self.pending.iter().position(|(xid, _)| mine(*xid));
            if let Some(message) = found.and_then(|at| self.pending.remove(at)) {
                return Ok(message);
            }
            self.read().await?;
        }
    }

    async fn answer(&mut self, mine: impl Fn(u32) -> bool) -> Result<Message, SouthError> {
        self.flush().await?;
        Ok(self.answer_with_xid(mine).await?.1)
    }

    async fn read(&mut self) -> Result<(), SouthError> {
        let mut buffer = [0; 16 << 10];
        let read = self.stream.read(&mut buffer).await;
        self.take(read.ok(), &buffer)?;
        self.flush().await
    }

    /// Takes bytes in: packets are passed on, answers wait for whoever waits for them.
    fn take(&mut self, read: Option<usize>, buffer: &[u8]) -> Result<(), SouthError> {
        let bytes = read.filter(|n| *n > 0).and_then(|n| buffer.get(..n));
        let bytes = bytes.ok_or_else(|| SouthError::Disconnected(self.name.clone()))?;
        let now = self.started.elapsed().as_millis() as u64;
        let Link { session, spare, punts, pending, watcher, meters, .. } = self;
        session.receive_with(bytes, now, spare, |event, spare| match event {
            ControllerEvent::Message(_, Message::PacketIn(mut packet)) => {
                punts(punt(&mut packet));
                spare.put_packet_in(packet);
            }
            ControllerEvent::Message(_, Message::PortStatus(_) | Message::FlowRemoved(_))
            | ControllerEvent::Connected(_) => {}
            ControllerEvent::Message(
                0,
                Message::MultipartReply(MultipartReply { body: StatsReply::FlowMonitor(updates), .. }),
            ) => watcher.take(updates),
            ControllerEvent::Message(_, Message::RequestForward(request)) => {
                watcher.forwarded(&request, meters);
            }
            ControllerEvent::Message(xid, message) => pending.push_back((xid, message)),
            ControllerEvent::Bad(_, code) => {
                tracing::warn!(?code, "the switch sent what cannot be read");
            }
        });
        if self.session.closed().is_some() {
            return Err(SouthError::Disconnected(self.name.clone()));
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SouthError> {
        while !self.session.output().is_empty() {
            let sent = self.stream.write(self.session.output()).await;
            let sent = sent.ok().filter(|n| *n > 0);
            self.session.consume(sent.ok_or_else(|| SouthError::Disconnected(self.name.clone()))?);
        }
        Ok(())
    }
}

/// The connection is of no use any more.
fn fatal<T>(result: &Result<T, SouthError>) -> Result<(), SouthError> {
    match result {
        Err(e @ (SouthError::Disconnected(_) | SouthError::Silent)) => Err(e.clone()),
        _ => Ok(()),
    }
}

fn refused(what: String, answer: &Message) -> SouthError {
    let why = match answer {
        Message::Error(e) => format!("{:?}", e.code),
        other => other.name().to_owned(),
    };
    SouthError::Refused { what, why }
}

/// The meter that a message is about.
fn meter_of(message: &Message) -> Option<u32> {
    if let Message::MeterMod(m) = message { Some(m.meter_id) } else { None }
}

/// A message, for people who read why it was refused.
fn describe(message: &Message) -> String {
    match message {
        Message::FlowMod(m) => {
            format!("a flow of table {} ({:?})", m.table.unwrap_or(u8::MAX), m.matching)
        }
        Message::GroupMod(m) => format!("a change of group {:#x}", m.group_id),
        Message::MeterMod(m) => format!("a change of meter {}", m.meter_id),
        other => other.name().to_owned(),
    }
}
