//! What is a packet to its connection, and what becomes of both?

mod commit;
mod control;

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use smallvec::SmallVec;
use weft_flow::{CtKey, CtSpec, DropReason, Layout, PacketKey, SetField};
use weft_wire::checksum::Sum;
use weft_wire::locate::{Ip, Located};
use weft_wire::sctp::SctpView;
use weft_wire::{EtherType, IpProto};

use crate::conn::{Conn, Proto, Tick};
use crate::expect::Expectations;
use crate::key::{Key, NoKey, state};
use crate::ports::Pools;
use crate::reassembly::{Reassembled, Reassembly};
use crate::related::{Quoted, quoted};
use crate::sctp::{Sctp, SctpPacket};
use crate::shard::{Found, SHARDS, Shard, shard_of};
use crate::tcp::{Fit, Segment, Tcp};

pub use control::Limits;

/// A packet to be tracked: a whole datagram, not a fragment.
#[derive(Clone, Copy, Debug)]
pub struct CtPacket<'a> {
    /// The frame, from the Ethernet header on.
    pub frame: &'a [u8],
    /// Where its headers are.
    pub layout: &'a Layout,
    /// What they say.
    pub key: &'a PacketKey,
    /// Transport checksums are known to be right, or are left to a device.
    pub checksums_good: bool,
}

/// Bytes to write that the transport checksum covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Offset in the frame.
    pub at: usize,
    /// What stands there then.
    pub bytes: SmallVec<[u8; 16]>,
}

/// Text of the payload to replace; the packet changes its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Offset in the frame.
    pub at: usize,
    /// Bytes that go.
    pub remove: usize,
    /// Bytes that come.
    pub insert: Vec<u8>,
}

/// How a packet is to be changed: fields first, then patches, then the splice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Header fields.
    pub fields: SmallVec<[SetField; 2]>,
    /// Other bytes.
    pub patches: Vec<Patch>,
    /// Text.
    pub splice: Option<Box<Splice>>,
}

impl Edits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.patches.is_empty() && self.splice.is_none()
    }
}

/// What becomes of a packet: it goes on, changed, or it is dropped.
pub type CtOutcome = Result<Edits, DropReason>;

/// All connections. Shared by the threads that forward.
#[derive(Debug)]
pub struct Conntrack {
    seed: u64,
    shards: Box<[Mutex<Shard>]>,
    /// Connections, expired ones that were not swept yet included.
    count: AtomicUsize,
    zone_counts: Box<[AtomicU32]>,
    limits: ArcSwap<Limits>,
    expectations: Mutex<Expectations>,
    /// How many are expected, so that nobody asks in vain.
    expecting: AtomicUsize,
    reassembly: Mutex<Reassembly>,
    random: AtomicU64,
    /// Ports of translated addresses that are nearly used up. Locked before a shard is.
    pools: Mutex<Pools>,
    /// How many such there are, so that nobody asks in vain.
    pooling: AtomicUsize,
    /// Names of replies that are free again, which the maps do not know yet.
    given_back: Mutex<Vec<Key>>,
    created: AtomicU64,
    /// When the connections may next be searched for those that are over.
    next_reap_ms: AtomicU64,
}

/// A packet understood.
#[derive(Clone, Copy, Debug)]
struct Seen<'a> {
    packet: &'a CtPacket<'a>,
    key: Key,
    /// TCP.
    segment: Option<Segment>,
    /// SCTP.
    sctp: Option<SctpPacket<'a>>,
    /// ICMP identifier stands at this offset of the frame.
    icmp_id_at: Option<usize>,
}

/// What visiting a connection told.
struct Visited {
    fit: Fit,
    /// State bits besides `TRK`.
    bits: u16,
    /// An announcement to be registered. Few packets have one.
    news: Option<Box<commit::News>>,
}

/// What becomes of a packet: it goes on or is dropped; `None`: it is invalid. How it changes is written to `edits`, which
/// is passed down rather than handed up, for it is large.
type Fate = Option<Result<(), DropReason>>;

impl Conntrack {
    /// No connections. `seed` is a secret that keeps others from choosing hashes.
    pub fn new(seed: u64, limits: Limits) -> Conntrack {
        let zeros = |n: usize| (0..n).map(|_| AtomicU32::new(0)).collect();
        Conntrack {
            seed,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            zone_counts: zeros(1 << 16),
            limits: ArcSwap::from_pointee(limits),
            expectations: Mutex::default(),
            expecting: AtomicUsize::new(0),
            reassembly: Mutex::default(),
            random: AtomicU64::new(seed | 1),
            pools: Mutex::default(),
            pooling: AtomicUsize::new(0),
            given_back: Mutex::default(),
            created: AtomicU64::new(0),
            next_reap_ms: AtomicU64::new(0),
        }
    }

    fn hash(&self, key: &Key) -> u64 {
        key.hash(self.seed)
    }

    /// Takes in a fragment of a datagram for `zone`.
    pub fn reassemble(&self, packet: &CtPacket<'_>, zone: u16, now_ms: u64) -> Reassembled {
        self.reassembly.lock().add(packet.frame, packet.layout, packet.key, zone, now_ms)
    }

    /// Notes that a packet of no connection was shown to `zone`.
    pub fn refuse(ct: &mut CtKey, zone: u16) {
        let state = state::TRK | state::INV;
        *ct = CtKey { dp_hash: ct.dp_hash, zone, state, ..CtKey::default() };
    }

    /// Tracks a packet as `spec` asks: fills in what is known of its connection, and says what becomes of it. `ct`
    /// holds what an earlier pass found out.
    pub fn execute(&self, packet: &CtPacket<'_>, ct: &mut CtKey, spec: &CtSpec, now_ms: u64) -> CtOutcome {
        let before =
            std::mem::replace(ct, CtKey { dp_hash: ct.dp_hash, zone: spec.zone, ..CtKey::default() });
        ct.state = state::TRK;
        let mut edits = Edits::default();
        let fate = match self.understand(packet, spec.zone) {
            Ok(seen) => {
                let translated = before.zone == spec.zone && before.state & (state::SNAT | state::DNAT) != 0;
                self.track(&seen, ct, spec, translated, now_ms, &mut edits)
            }
            Err(Some(quoted)) => self.track_error(packet, &quoted, ct, spec, now_ms, &mut edits),
            Err(None) => None,
        };
        match fate {
            Some(Ok(())) => Ok(edits),
            Some(Err(reason)) => Err(reason),
            None => {
                ct.state |= state::INV;
                Ok(Edits::default())
            }
        }
    }

    /// What a packet is: one of a connection, an ICMP error that quotes one, or neither.
    fn understand<'a>(&self, packet: &'a CtPacket<'a>, zone: u16) -> Result<Seen<'a>, Option<Quoted>> {
        let p = packet.key;
        let frame = packet.frame.get(..packet.layout.end as usize).unwrap_or(packet.frame);
        let l4 = usize::from(packet.layout.l4);
        let icmp_id = (l4 != 0).then(|| frame.get(l4 + 4..l4 + 6)).flatten();
        let icmp_id = icmp_id.and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
        let has_l4 = packet.layout.payload != 0;
        match Key::of(p, icmp_id, zone) {
            Ok(key) => {
                let mut seen = Seen { packet, key, segment: None, sctp: None, icmp_id_at: None };
                if (key.has_ports() || key.is_icmp()) && !has_l4 || !self.checksum_good(packet, key.proto) {
                    return Err(None);
                }
                let transport = frame.get(l4..).unwrap_or(&[]);
                match IpProto(key.proto) {
                    IpProto::TCP => seen.segment = Some(Segment::parse(transport).ok_or(None)?),
                    IpProto::SCTP => seen.sctp = Some(SctpPacket::parse(transport).ok_or(None)?),
                    _ => {}
                }
                seen.icmp_id_at = key.is_icmp().then_some(l4 + 4);
                Ok(seen)
            }
            Err(NoKey::IcmpError) if has_l4 => {
                let v6 = p.eth_type == EtherType::IPV6.0;
                let good = self.checksum_good(packet, p.ip_proto);
                Err(quoted(frame, l4, v6, zone).filter(|q| good && q.is_for(p)))
            }
            Err(_) => Err(None),
        }
    }

    /// Whether the checksums are right, or nobody's concern here: those of the IPv4 header and of the transport.
    fn checksum_good(&self, packet: &CtPacket<'_>, proto: u8) -> bool {
        let (l3, ty) = (usize::from(packet.layout.l3), EtherType(packet.key.eth_type));
        let Ok(found) = Located::parse_network(packet.frame, l3, ty) else { return true };
        let v4 = matches!(found.ip, Ip::V4(_));
        if let Ip::V4(ip) = &found.ip
            && !ip.checksum_ok()
        {
            return false;
        }
        let pseudo = match IpProto(proto) {
            _ if packet.checksums_good => return true,
            IpProto::UDP if found.transport.get(6..8) == Some(&[0, 0]) => return true,
            IpProto::ICMP if v4 => Sum::ZERO,
            IpProto::SCTP => {
                return SctpView::parse(found.transport).is_ok_and(|packet| packet.checksum_ok());
            }
            // What a UDP-Lite checksum covers, the datagram says itself.
            IpProto::TCP | IpProto::UDP => found.pseudo_sum(found.transport.len()),
            IpProto::ICMPV6 if !v4 => found.pseudo_sum(found.transport.len()),
            _ => return true,
        };
        // Behind a routing header the destination is another than the pseudo header's.
        found.is_source_routed() || (pseudo + Sum::of(found.transport)).is_valid()
    }

    /// Looks a connection up and lets `look` at it, under its lock; one whose time is over is taken out instead.
    fn visit<R>(&self, key: &Key, now_ms: u64, look: impl FnOnce(&mut Conn, bool) -> R) -> Option<R> {
        let hash = self.hash(key);
        let mut shard = self.shards[shard_of(hash)].lock();
        let (mut guard, slot, reply) = match shard.find(hash, key)? {
            Found::Here { slot, reply } => (shard, slot, reply),
            Found::There { home, slot } => {
                drop(shard);
                shard = self.shards[usize::from(home)].lock();
                // It may have gone meanwhile, and another be in its place.
                if shard.get_mut(slot).is_none_or(|c| !c.is_reply(key)) {
                    return None;
                }
                (shard, slot, true)
            }
        };
        let now = Tick::of(now_ms);
        let conn = guard.get_mut(slot)?;
        if !conn.is_over(now) {
            let before = conn.expires;
            let result = look(conn, reply);
            let expires = conn.expires;
            if expires.since(before) < 0 {
                guard.hasten(slot, expires, now);
            }
            return Some(result);
        }
        let gone = guard.remove(slot, |k| self.hash(k));
        drop(guard);
        if let Some(gone) = gone {
            self.departed(&gone);
        }
        None
    }

    /// Tracks a packet of a connection.
    fn track(
        &self,
        seen: &Seen<'_>,
        ct: &mut CtKey,
        spec: &CtSpec,
        translated: bool,
        now_ms: u64,
        edits: &mut Edits,
    ) -> Fate {
        let limits = self.limits.load();
        let visited = self
            .visit(&seen.key, now_ms, |conn, reply| {
                self.look(conn, reply, seen, ct, spec, &limits, false, now_ms, edits)
            })
            .or_else(|| {
                // Translated before in this zone: the connection knows it by how it came.
                let other = translated.then(|| seen.key.reversed())?;
                self.visit(&other, now_ms, |conn, reply| {
                    self.look(conn, !reply, seen, ct, spec, &limits, true, now_ms, edits)
                })
            });
        match visited {
            Some(Visited { fit: Fit::Reopens, .. }) => {
                self.remove(&seen.key, now_ms);
                self.begin(seen, ct, spec, &limits, now_ms, edits)
            }
            Some(Visited { fit: Fit::Invalid, .. }) => None,
            Some(Visited { bits, news, .. }) => {
                ct.state |= bits;
                if let Some(news) = news {
                    self.announce(*news, seen, edits, now_ms);
                }
                Some(Ok(()))
            }
            None => self.begin(seen, ct, spec, &limits, now_ms, edits),
        }
    }

    /// Takes a packet into a connection, whose lock is held.
    #[expect(clippy::too_many_arguments, reason = "everything that a packet of a connection depends on")]
    fn look(
        &self,
        conn: &mut Conn,
        reply: bool,
        seen: &Seen<'_>,
        ct: &mut CtKey,
        spec: &CtSpec,
        limits: &Limits,
        translated: bool,
        now_ms: u64,
        edits: &mut Edits,
    ) -> Visited {
        let mut out = Visited { fit: Fit::Valid, bits: 0, news: None };
        if spec.force && spec.commit && reply {
            // What was the answer begins a connection of its own.
            out.fit = Fit::Reopens;
            return out;
        }
        let (fit, established) = update(conn, reply, seen, limits.check_seq);
        out.fit = fit;
        if matches!(fit, Fit::Invalid | Fit::Reopens) {
            return out;
        }
        conn.expires = Tick::after(now_ms, limits.policy(spec.zone).lifetime_ms(&conn.proto));
        out.bits = if established { state::EST } else { state::NEW };
        if reply {
            out.bits |= state::RPL;
        }
        if conn.master().is_some() {
            out.bits |= state::REL;
        }
        if spec.commit {
            set_marks(conn, spec);
        }
        if let Some(helped) = conn.helped_mut().filter(|_| spec.commit && spec.alg != 0) {
            helped.alg = spec.alg;
        }
        describe(ct, conn, seen);
        if translated {
            out.bits |= conn.nat_bits();
        } else if spec.nat.is_some() && conn.translated() {
            out.bits |= conn.nat_bits();
            translate(&seen.key, &conn.outcome(reply), seen.icmp_id_at, edits);
        }
        out.news = commit::listen(conn, reply, seen, edits);
        out
    }

    /// Tracks an ICMP error by what it quotes; one about nothing that is known is invalid.
    fn track_error(
        &self,
        packet: &CtPacket<'_>,
        quoted: &Quoted,
        ct: &mut CtKey,
        spec: &CtSpec,
        now_ms: u64,
        edits: &mut Edits,
    ) -> Fate {
        let frame = packet.frame.get(..packet.layout.end as usize).unwrap_or(packet.frame);
        // The error travels against the packet it is about: with the packets that answer that one.
        self.visit(&quoted.key.reversed(), now_ms, |conn, reply| {
            ct.state |= state::REL;
            if reply {
                ct.state |= state::RPL;
            }
            ct.mark = conn.mark;
            ct.label = conn.label().to_be_bytes();
            tuple(ct, &conn.orig(), None);
            if spec.nat.is_some() && conn.translated() {
                ct.state |= conn.nat_bits();
                let inner = conn.outcome(reply).reversed();
                quoted.patches(frame, &inner, &mut edits.patches);
                outer(edits, packet.key, &quoted.key, &inner);
            }
            Ok(())
        })
    }
}

/// Changes the outer addresses of an ICMP error as the quotation's: the receiver's always, the sender's if it is the
/// end that the quoted packet was for, and not a router on the way.
fn outer(edits: &mut Edits, p: &PacketKey, from: &Key, to: &Key) {
    let set = |edits: &mut Edits, source: bool, addr: [u8; 16]| {
        let v4 = u32::from_be_bytes([addr[12], addr[13], addr[14], addr[15]]);
        edits.fields.push(match (source, from.v6) {
            (true, false) => SetField::Ipv4Src(v4),
            (false, false) => SetField::Ipv4Dst(v4),
            (true, true) => SetField::Ipv6Src(addr),
            (false, true) => SetField::Ipv6Dst(addr),
        });
    };
    let own = |v6: [u8; 16], v4: u32| if from.v6 { v6 } else { crate::key::mapped(v4) };
    if from.src.addr != to.src.addr && own(p.ipv6_dst, p.ipv4_dst) == from.src.addr {
        set(edits, false, to.src.addr);
    }
    if from.dst.addr != to.dst.addr && own(p.ipv6_src, p.ipv4_src) == from.dst.addr {
        set(edits, true, to.dst.addr);
    }
}

/// What turns a packet named `from` into one named `to`.
fn translate(from: &Key, to: &Key, icmp_id_at: Option<usize>, edits: &mut Edits) {
    let v4 = |a: &[u8; 16]| u32::from_be_bytes([a[12], a[13], a[14], a[15]]);
    if from.src.addr != to.src.addr {
        edits.fields.push(if to.v6 {
            SetField::Ipv6Src(to.src.addr)
        } else {
            SetField::Ipv4Src(v4(&to.src.addr))
        });
    }
    if from.dst.addr != to.dst.addr {
        edits.fields.push(if to.v6 {
            SetField::Ipv6Dst(to.dst.addr)
        } else {
            SetField::Ipv4Dst(v4(&to.dst.addr))
        });
    }
    if let Some(at) = icmp_id_at {
        if from.src.port != to.src.port {
            edits.patches.push(Patch { at, bytes: SmallVec::from_slice(&to.src.port.to_be_bytes()) });
        }
    } else if from.has_ports() {
        if from.src.port != to.src.port {
            edits.fields.push(SetField::TpSrc(to.src.port));
        }
        if from.dst.port != to.dst.port {
            edits.fields.push(SetField::TpDst(to.dst.port));
        }
    }
}

/// Moves a connection's protocol on. Returns how the packet fits, and whether the connection counts as established.
fn update(conn: &mut Conn, reply: bool, seen: &Seen<'_>, check: bool) -> (Fit, bool) {
    match &mut conn.proto {
        Proto::Tcp(tcp) => {
            let Some(mut segment) = seen.segment else { return (Fit::Invalid, false) };
            if let Some(helped) = conn.extra.as_ref().and_then(|e| e.helped.as_ref()) {
                // Acknowledgments are of what the other end sent, not of what this one saw.
                segment.ack = helped.shifts[usize::from(!reply)].undo(segment.ack);
            }
            let fit = tcp.update(&segment, reply, check);
            (fit, fit == Fit::Valid)
        }
        Proto::Sctp(sctp) => {
            let before = conn.extra.as_ref().map_or([0; 2], |e| e.restart);
            let mut restart = before;
            let fit = seen.sctp.map_or(Fit::Invalid, |packet| sctp.update(&mut restart, &packet, reply));
            if restart != before {
                conn.extra.get_or_insert_default().restart = restart;
            }
            (fit, sctp.answered)
        }
        Proto::Icmp { answered } => {
            *answered |= reply;
            (Fit::Valid, *answered)
        }
        Proto::Other { answered, many } => {
            *answered |= reply;
            *many = true;
            (Fit::Valid, *answered)
        }
    }
}

/// The protocol state that a packet begins. `None`: it cannot begin a connection.
fn begins(seen: &Seen<'_>) -> Option<Proto> {
    if let Some(segment) = &seen.segment {
        return Tcp::begin(segment).map(Proto::Tcp);
    }
    if let Some(packet) = &seen.sctp {
        return Sctp::begin(packet).map(Proto::Sctp);
    }
    if seen.key.is_icmp() {
        let query = crate::key::icmp_kind(seen.key.v6, seen.packet.key.tp_src) == crate::key::IcmpKind::Query;
        return query.then_some(Proto::Icmp { answered: false });
    }
    Some(Proto::Other { answered: false, many: false })
}

fn set_marks(conn: &mut Conn, spec: &CtSpec) {
    if let Some((value, mask)) = spec.mark {
        conn.mark = conn.mark & !mask | value & mask;
    }
    if let Some((value, mask)) = spec.label {
        conn.set_label(value, mask);
    }
}

/// Tells what is known of a connection.
fn describe(ct: &mut CtKey, conn: &Conn, seen: &Seen<'_>) {
    ct.mark = conn.mark;
    ct.label = conn.label().to_be_bytes();
    match conn.master() {
        Some(master) => tuple(ct, master, Some(seen)),
        None => tuple(ct, &conn.orig(), Some(seen)),
    }
}

/// Fills in the original tuple.
fn tuple(ct: &mut CtKey, orig: &Key, seen: Option<&Seen<'_>>) {
    let v4 = |a: &[u8; 16]| u32::from_be_bytes([a[12], a[13], a[14], a[15]]);
    if orig.v6 {
        (ct.ipv6_src, ct.ipv6_dst) = (orig.src.addr, orig.dst.addr);
    } else {
        (ct.ipv4_src, ct.ipv4_dst) = (v4(&orig.src.addr), v4(&orig.dst.addr));
    }
    ct.ip_proto = orig.proto;
    (ct.tp_src, ct.tp_dst) = (orig.src.port, orig.dst.port);
    if orig.is_icmp() {
        // Type and code of the question.
        let query = if orig.v6 { 128 } else { 8 };
        let ty = seen.map_or(query, |s| s.packet.key.tp_src);
        let asked = crate::key::icmp_kind(orig.v6, ty) == crate::key::IcmpKind::Query;
        (ct.tp_src, ct.tp_dst) = (if asked { ty } else { query }, 0);
    }
}

impl Conntrack {
    /// A connection is gone from its shard: its alias and its counts go too.
    fn departed(&self, conn: &Conn) {
        if conn.translated() {
            let reply = conn.reply();
            let hash = self.hash(&reply);
            self.shards[shard_of(hash)].lock().remove_alias(hash, &reply);
            if self.pooling.load(Relaxed) > 0 {
                // Whoever finds a connection to be over may be holding the maps.
                self.given_back.lock().push(reply);
            }
        }
        self.count.fetch_sub(1, Relaxed);
        self.zone_counts[usize::from(conn.zone)].fetch_sub(1, Relaxed);
        if conn.helped().is_some_and(|h| h.alg != 0) && self.expecting.load(Relaxed) > 0 {
            let mut expectations = self.expectations.lock();
            expectations.forget(&conn.orig());
            self.expecting.store(expectations.len(), Relaxed);
        }
    }

    /// Takes the connection that a key names out.
    fn remove(&self, key: &Key, now_ms: u64) {
        let Some(orig) = self.visit(key, now_ms, |conn, _| conn.orig()) else { return };
        let hash = self.hash(&orig);
        let mut shard = self.shards[shard_of(hash)].lock();
        let gone = match shard.find(hash, &orig) {
            Some(Found::Here { slot, reply: false }) => shard.remove(slot, |k| self.hash(k)),
            _ => None,
        };
        drop(shard);
        if let Some(gone) = gone {
            self.departed(&gone);
        }
    }
}
