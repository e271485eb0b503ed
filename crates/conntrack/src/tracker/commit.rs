//! How does a connection begin, and what does it announce?

use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;
use weft_flow::{CtKey, CtSpec, DropReason};
use weft_wire::{IpProto, tcp, tcp_option};

use super::{
    Conntrack, Edits, Fate, Limits, Patch, Seen, Splice, begins, describe, set_marks, translate, tuple,
};
use crate::conn::{Conn, Helped, Tick};
use crate::expect::{Expectation, Expected};
use crate::helper::{Announcement, FTP, TFTP, ftp};
use crate::key::{End, Key, address, octets, state};
use crate::nat::{self, Chance};
use crate::ports::Pools;
use crate::shard::{Alias, Found, PENDING, shard_of};

/// Ports tried for an announced connection.
const ANNOUNCED_PORTS: u16 = 256;

/// Something that a connection announced, to be registered when its lock is free again.
pub(super) struct News {
    orig: Key,
    reply_key: Key,
    mark: u32,
    label: u128,
    /// Whether the announcer is the end that answers.
    reply: bool,
    what: What,
}

enum What {
    /// Text in the payload, which is at this offset of the frame.
    Ftp { said: Announcement, payload_at: usize },
    /// The port that the question came from.
    Tftp,
}

/// What a packet of a connection announces. Sequence numbers are put right on the way.
pub(super) fn listen(conn: &Conn, reply: bool, seen: &Seen<'_>, edits: &mut Edits) -> Option<Box<News>> {
    let helped = conn.helped()?;
    if let Some(segment) = &seen.segment {
        shift_sequence(helped, reply, segment.seq, segment.ack, segment.flags, seen, edits);
    }
    let what = match (helped.alg, IpProto(seen.key.proto)) {
        (FTP, IpProto::TCP) => {
            let payload_at = usize::from(seen.packet.layout.payload);
            let payload = seen.packet.frame.get(payload_at..seen.packet.layout.end as usize)?;
            What::Ftp { said: ftp(payload, reply)?, payload_at }
        }
        (TFTP, IpProto::UDP) if !reply => What::Tftp,
        _ => return None,
    };
    let (orig, reply_key, label) = (conn.orig(), conn.reply(), conn.label());
    Some(Box::new(News { orig, reply_key, mark: conn.mark, label, reply, what }))
}

fn shift_sequence(
    helped: &Helped,
    reply: bool,
    seq: u32,
    ack: u32,
    flags: u16,
    seen: &Seen<'_>,
    edits: &mut Edits,
) {
    let (own, other) = (helped.shifts[usize::from(reply)], helped.shifts[usize::from(!reply)]);
    let l4 = usize::from(seen.packet.layout.l4);
    let mut put = |at: usize, old: u32, new: u32| {
        if old != new {
            edits.patches.push(Patch { at: l4 + at, bytes: SmallVec::from_slice(&new.to_be_bytes()) });
        }
    };
    put(tcp::field::SEQ, seq, own.apply(seq));
    if flags & tcp::TcpFlags::ACK == 0 {
        return;
    }
    put(tcp::field::ACK, ack, other.undo(ack));
    if other.is_none() {
        return;
    }
    let header = seen.packet.frame.get(l4 + tcp::field::OPTIONS..usize::from(seen.packet.layout.payload));
    for (at, edge) in sack_edges(header.unwrap_or_default()) {
        put(tcp::field::OPTIONS + at, edge, other.undo(edge));
    }
}

/// The edges of the blocks that were received out of order (RFC 2018 §3), and where among the options they stand.
fn sack_edges(options: &[u8]) -> SmallVec<[(usize, u32); 8]> {
    let (mut found, mut at) = (SmallVec::new(), 0);
    while let Some(&kind) = options.get(at) {
        let len = match (kind, options.get(at + 1)) {
            (tcp_option::kind::END, _) | (_, None) => break,
            (tcp_option::kind::NOP, _) => 1,
            (_, Some(len)) => usize::from(*len).max(2),
        };
        let body = options.get(at + 2..at + len).filter(|_| kind == tcp_option::kind::SACK);
        for (i, edge) in body.unwrap_or_default().as_chunks::<4>().0.iter().enumerate() {
            found.push((at + 2 + 4 * i, u32::from_be_bytes(*edge)));
        }
        at += len;
    }
    found
}

impl Conntrack {
    /// Tracks a packet that no connection knows.
    pub(super) fn begin(
        &self,
        seen: &Seen<'_>,
        ct: &mut CtKey,
        spec: &CtSpec,
        limits: &Limits,
        now_ms: u64,
        edits: &mut Edits,
    ) -> Fate {
        let proto = begins(seen)?;
        let expected = self.expected(&seen.key, now_ms);
        ct.state |= state::NEW | if expected.is_some() { state::REL } else { 0 };
        tuple(ct, expected.as_ref().map_or(&seen.key, |e| &e.master), Some(seen));
        if !spec.commit {
            return Some(Ok(()));
        }
        let room = || self.count.load(Relaxed) < limits.connections;
        if !self.has(room, now_ms) && !self.give_way(now_ms) {
            return Some(Err(DropReason::CtTableFull));
        }
        let most = limits.zone(spec.zone).unwrap_or(u32::MAX);
        if !self.has(|| self.zone_count(spec.zone) < most, now_ms) {
            return Some(Err(DropReason::CtZoneFull));
        }
        let expires = Tick::after(now_ms, limits.policy(spec.zone).lifetime_ms(&proto));
        let mut conn = Conn::new(&seen.key, proto, expires);
        let mut helped = Helped { alg: spec.alg, ..Helped::default() };
        if let Some(e) = &expected {
            (conn.mark, helped.master) = (e.mark, Some(e.master));
            conn.set_label(e.label, u128::MAX);
        }
        set_marks(&mut conn, spec);
        if helped.alg != 0 || helped.master.is_some() {
            conn.extra_mut().helped = Some(Box::new(helped));
        }
        describe(ct, &conn, seen);
        if let Some(reply) = self.translation(&seen.key, spec, expected.as_ref(), now_ms) {
            match reply {
                Some(reply) => conn.translate(reply),
                None => return Some(Err(DropReason::NatExhausted)),
            }
        }
        ct.state |= conn.nat_bits();
        translate(&seen.key, &conn.outcome(false), seen.icmp_id_at, edits);
        let news = listen(&conn, false, seen, edits);
        if !self.enter(&seen.key, conn, now_ms) {
            return Some(Err(DropReason::NatExhausted));
        }
        if expected.is_some() {
            self.fulfilled(&seen.key);
        }
        if let Some(news) = news {
            self.announce(*news, seen, edits, now_ms);
        }
        Some(Ok(()))
    }

    /// How the replies of a new connection are named, if it is to be translated; `Some(None)`: nothing is free. The
    /// name is reserved.
    fn translation(
        &self,
        key: &Key,
        spec: &CtSpec,
        expected: Option<&Expectation>,
        now_ms: u64,
    ) -> Option<Option<Key>> {
        let nat = spec.nat.as_ref()?;
        if let Some(e) = expected
            && nat.side.is_none()
        {
            let from = End { addr: e.from, port: key.src.port };
            let reply = Key { src: e.to, dst: from, ..*key };
            if reply == key.reversed() {
                return None;
            }
            return Some(self.reserve(&reply, now_ms).then_some(reply));
        }
        nat.side?;
        let random = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let chance =
            Chance { seed: self.seed, random: crate::key::fold(random, self.seed ^ 0xc2b2_ae3d_27d4_eb4f) };
        let plain = key.reversed();
        let free = |reply: &Key| {
            if *reply == plain { !self.in_use(reply, now_ms) } else { self.reserve(reply, now_ms) }
        };
        let choose = || {
            nat::choose(key, nat, chance, free, |reply, side, range, begin| {
                let mut pools = self.pools.lock();
                self.take_back(&mut pools);
                let found = pools.search(reply, side, range, begin, now_ms, |k| self.in_use(k, now_ms), free);
                self.pooling.store(pools.len(), Relaxed);
                found
            })
        };
        // Ports of connections that are over are free.
        Some(choose().or_else(|| if self.reap(now_ms, || false) { choose() } else { None }))
    }

    /// Whether there is room, if need be when what is over is gone.
    fn has(&self, room: impl Fn() -> bool, now_ms: u64) -> bool {
        room() || self.reap(now_ms, &room) && room()
    }

    /// Tells the maps of names that are free again.
    pub(super) fn take_back(&self, pools: &mut Pools) {
        let names = std::mem::take(&mut *self.given_back.lock());
        names.iter().for_each(|name| pools.give_back(name));
    }

    /// Whether a connection has the name. One whose time is over is taken out instead.
    fn in_use(&self, key: &Key, now_ms: u64) -> bool {
        let hash = self.hash(key);
        let found = |key| self.shards[shard_of(hash)].lock().find(hash, key).is_some();
        // What was only found to be over now is no more; a name that is being reserved stays.
        found(key) && (self.visit(key, now_ms, |_, _| ()).is_some() || found(key))
    }

    /// Reserves the name of a translated connection's replies. False: it is taken.
    fn reserve(&self, reply: &Key, now_ms: u64) -> bool {
        if self.in_use(reply, now_ms) {
            return false;
        }
        let hash = self.hash(reply);
        let mut shard = self.shards[shard_of(hash)].lock();
        if shard.find(hash, reply).is_some() {
            return false;
        }
        shard.set_alias(hash, Alias { key: *reply, slot: PENDING, home: 0 }, |k| self.hash(k));
        true
    }

    /// Enters a connection. One of the same name that another thread entered meanwhile stays. False: its replies could
    /// not be told from those of another connection, which is translated.
    fn enter(&self, orig: &Key, conn: Conn, now_ms: u64) -> bool {
        let hash = self.hash(orig);
        let home = shard_of(hash);
        let (translated, reply, zone) = (conn.translated(), conn.reply(), conn.zone);
        let mut shard = self.shards[home].lock();
        // Both directions of what is not translated are of this shard.
        let ambiguous = !translated && matches!(shard.find(hash, &reply), Some(Found::There { .. }));
        let entered = !ambiguous && shard.find(hash, orig).is_none();
        let slot =
            if entered { shard.insert(hash, conn, Tick::of(now_ms), |k| self.hash(k)) } else { PENDING };
        drop(shard);
        if translated {
            let hash = self.hash(&reply);
            let mut shard = self.shards[shard_of(hash)].lock();
            if entered {
                shard.set_alias(hash, Alias { key: reply, slot, home: home as u8 }, |k| self.hash(k));
            } else {
                shard.remove_alias(hash, &reply);
            }
        }
        if entered {
            self.count.fetch_add(1, Relaxed);
            self.created.fetch_add(1, Relaxed);
            self.zone_counts[usize::from(zone)].fetch_add(1, Relaxed);
        }
        !ambiguous
    }

    fn expected(&self, key: &Key, now_ms: u64) -> Option<Expectation> {
        if self.expecting.load(Relaxed) == 0 {
            return None;
        }
        self.expectations.lock().get(key, now_ms)
    }

    fn fulfilled(&self, key: &Key) {
        let mut expectations = self.expectations.lock();
        expectations.done(key);
        self.expecting.store(expectations.len(), Relaxed);
    }

    /// Expects what was announced, and changes the announcement to what the other end sees of the announcer.
    pub(super) fn announce(&self, news: News, seen: &Seen<'_>, edits: &mut Edits, now_ms: u64) {
        let News { orig, reply_key, mark, label, reply, what } = news;
        // The announcer itself, how the other end sees it, the other end, and how the announcer sees that.
        let (own, shown, other, seen_as) = if reply {
            (reply_key.src, orig.dst, orig.src, reply_key.dst)
        } else {
            (orig.src, reply_key.dst, reply_key.src, orig.dst)
        };
        let port = match &what {
            What::Ftp { said, .. } => said.port,
            What::Tftp => own.port,
        };
        if let What::Ftp { said, .. } = &what
            && said.addr.is_some_and(|a| octets(a) != own.addr)
        {
            // Whoever announces someone else's address is after something.
            return;
        }
        let to = End { addr: own.addr, port };
        let expect = |port: u16| {
            let key =
                Key { src: End { addr: other.addr, port: 0 }, dst: End { addr: shown.addr, port }, ..orig };
            Expected::by(&key)
        };
        let mut expectations = self.expectations.lock();
        let offered = match what {
            What::Tftp => Some(shown.port),
            What::Ftp { .. } => {
                let free = |p: &u16| !expectations.taken(&expect(*p), &to, now_ms);
                (0..ANNOUNCED_PORTS).map(|i| port.wrapping_add(i).max(1)).find(free)
            }
        };
        let Some(offered) = offered else { return };
        let expectation = Expectation::new(to, seen_as.addr, orig, mark, label, now_ms);
        expectations.add(expect(offered), expectation, now_ms);
        self.expecting.store(expectations.len(), Relaxed);
        drop(expectations);
        if let What::Ftp { said, payload_at } = what
            && (shown.addr != own.addr || offered != port)
        {
            let text = said.rewritten(address(&shown.addr, orig.v6), offered).into_bytes();
            self.lengthen(&orig, reply, seen, text.len() as i32 - said.text.len() as i32, now_ms);
            let at = payload_at + said.text.start;
            edits.splice = Some(Box::new(Splice { at, remove: said.text.len(), insert: text }));
        }
    }

    /// The text that a segment carries becomes longer: what is sent after it counts from further on.
    fn lengthen(&self, orig: &Key, reply: bool, seen: &Seen<'_>, by: i32, now_ms: u64) {
        let Some(segment) = seen.segment else { return };
        self.visit(orig, now_ms, |conn, _| {
            if let Some(helped) = conn.helped_mut() {
                helped.shifts[usize::from(reply)].note(segment.seq, by);
            }
        });
    }
}
