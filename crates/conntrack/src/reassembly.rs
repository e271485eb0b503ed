//! When are all fragments of a datagram there, and what is the datagram? (RFC 791 §3.2, RFC 8200 §4.5)
//!
//! Fragments that overlap make a datagram worthless (RFC 5722 §4; for IPv4 as well, as RFC 1858 §4 advises). Memory and
//! the number of datagrams are bounded; the oldest goes when there is no room.

use std::collections::HashMap;

use weft_flow::{DropReason, L3Kind, Layout, PacketKey};
use weft_wire::{ipv4, ipv6};

/// Most datagrams at once.
const DATAGRAMS: usize = 1024;
/// Most bytes held at once.
const BYTES: usize = 8 << 20;
/// Most fragments of a datagram: 65,535 bytes in pieces for the smallest link of IPv4 would be more, but nobody sends
/// them.
const FRAGMENTS: usize = 256;
/// Milliseconds that a datagram may take to be complete (RFC 8200 §4.5 allows 60 s; memory is the switch's own).
const PATIENCE_MS: u64 = 15_000;
/// Next-header values of IPv6 that stand before a fragment header: hop-by-hop, routing, destination options.
const BEFORE_FRAGMENT: [u8; 3] = [0, 43, 60];
const FRAGMENT: u8 = 44;

/// What is demanded of fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentRules {
    /// Whether datagrams of IPv4 and of IPv6 are put together. Fragments of a family that are not are invalid.
    pub enabled: [bool; 2],
    /// Fragments that may wait.
    pub most: usize,
    /// Fewest bytes of a fragment but the last, IP header included, for IPv4 and for IPv6; 0: no matter.
    pub least: [u16; 2],
}

impl Default for FragmentRules {
    fn default() -> Self {
        FragmentRules { enabled: [true; 2], most: 5_000, least: [0; 2] }
    }
}

/// How fragments of an IP version fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentCounts {
    /// Taken in.
    pub accepted: u64,
    /// Of datagrams that were completed.
    pub completed: u64,
    /// Of datagrams that were not complete in time.
    pub expired: u64,
    /// Refused because of their size.
    pub small: u64,
    /// Of datagrams that were given up because fragments overlap or do not fit.
    pub overlapped: u64,
    /// Of datagrams that were given up for want of room.
    pub purged: u64,
}

/// What `dpctl/ipf-get-status` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FragmentStatus {
    /// What is demanded.
    pub rules: FragmentRules,
    /// Fragments that wait.
    pub waiting: usize,
    /// Counts of IPv4 and IPv6.
    pub counts: [FragmentCounts; 2],
    /// Datagrams that are not complete: addresses, identification, protocol, zone, and fragments that are there.
    pub lists: Vec<FragmentList>,
}

/// A datagram that is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentList {
    /// Source.
    pub src: std::net::IpAddr,
    /// Destination.
    pub dst: std::net::IpAddr,
    /// Identification.
    pub id: u32,
    /// Zone.
    pub zone: u16,
    /// Protocol; of IPv4 only.
    pub proto: u8,
    /// Fragments that are there.
    pub fragments: usize,
}

/// What became of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reassembled {
    /// It is not put together with others: it is invalid.
    Alone,
    /// It waits for others.
    Held,
    /// With it a datagram is complete.
    Whole {
        /// The frame that carries the datagram, checksums of the transport as they were.
        frame: Vec<u8>,
        /// Length of the longest fragment, from the IP header on: what outputs may fragment it to again.
        mru: u16,
    },
    /// It, and what waited with it, is worthless.
    Dropped(DropReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name {
    src: [u8; 16],
    dst: [u8; 16],
    id: u32,
    zone: u16,
    proto: u8,
    in_port: u32,
    v4: bool,
}

impl Name {
    /// 0: IPv4, 1: IPv6.
    fn family(&self) -> usize {
        usize::from(!self.v4)
    }
}

#[derive(Clone, Debug, Default)]
struct Datagram {
    /// Offset and bytes, by offset.
    parts: Vec<(u32, Vec<u8>)>,
    /// Everything before the data, of the first fragment.
    head: Option<Head>,
    /// Length of the whole, known from the last fragment.
    total: Option<u32>,
    mru: u16,
    began_ms: u64,
}

#[derive(Clone, Debug)]
struct Head {
    bytes: Vec<u8>,
    l3: usize,
    v6: bool,
    /// Where the next-header field stands that names the fragment header, and what that header names.
    next: Option<(usize, u8)>,
}

/// Where the data of a fragment is.
struct Place {
    id: u32,
    offset: u32,
    more: bool,
    /// End of the headers before the fragment header, or of the IPv4 header.
    head_end: usize,
    data: usize,
    next: Option<(usize, u8)>,
    proto: u8,
}

/// Datagrams that are not complete.
#[derive(Debug, Default)]
pub struct Reassembly {
    waiting: HashMap<Name, Datagram>,
    bytes: usize,
    fragments: usize,
    pub(crate) rules: FragmentRules,
    counts: [FragmentCounts; 2],
}

impl Reassembly {
    /// Number of datagrams that are not complete.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a fragment in; `key` says that it is one.
    pub fn add(
        &mut self,
        frame: &[u8],
        layout: &Layout,
        key: &PacketKey,
        zone: u16,
        now_ms: u64,
    ) -> Reassembled {
        let bad = Reassembled::Dropped(DropReason::CtFragment);
        let family = usize::from(layout.kind == L3Kind::Ipv6);
        if !self.rules.enabled[family] {
            return Reassembled::Alone;
        }
        let frame = &frame[..frame.len().min(layout.end as usize)];
        let Some(place) = place(frame, layout) else { return bad };
        let v6 = layout.kind == L3Kind::Ipv6;
        let (src, dst) = if v6 {
            (key.ipv6_src, key.ipv6_dst)
        } else {
            (crate::key::mapped(key.ipv4_src), crate::key::mapped(key.ipv4_dst))
        };
        let name = Name { src, dst, id: place.id, zone, proto: place.proto, in_port: key.in_port, v4: !v6 };
        let l3 = usize::from(layout.l3);
        if place.more && frame.len() - l3 < usize::from(self.rules.least[family]) {
            self.counts[family].small += 1;
            return bad;
        }
        self.make_room();
        let counts = &mut self.counts[family];
        let entry =
            self.waiting.entry(name).or_insert_with(|| Datagram { began_ms: now_ms, ..Datagram::default() });
        if entry.began_ms + PATIENCE_MS <= now_ms {
            counts.expired += entry.parts.len() as u64;
            self.fragments -= entry.parts.len();
            self.bytes -= entry.held();
            *entry = Datagram { began_ms: now_ms, ..Datagram::default() };
        }
        let data = &frame[place.data..];
        counts.accepted += 1;
        if entry.has(&place, data) {
            return Reassembled::Held;
        }
        let fits = entry.add(&place, data, frame, l3, v6);
        if fits {
            self.bytes += data.len();
            self.fragments += 1;
        } else {
            counts.overlapped += entry.parts.len() as u64 + 1;
            self.forget(&name);
            return bad;
        }
        if !entry.complete() {
            return Reassembled::Held;
        }
        let whole = entry.whole();
        counts.completed += entry.parts.len() as u64;
        self.forget(&name);
        whole.unwrap_or(bad)
    }

    fn forget(&mut self, name: &Name) {
        if let Some(gone) = self.waiting.remove(name) {
            self.bytes = self.bytes.saturating_sub(gone.held());
            self.fragments = self.fragments.saturating_sub(gone.parts.len());
        }
    }

    /// Forgets the oldest when there is too much.
    fn make_room(&mut self) {
        while self.waiting.len() >= DATAGRAMS
            || self.bytes >= BYTES
            || self.fragments > 0 && self.fragments >= self.rules.most
        {
            let oldest = self.waiting.iter().min_by_key(|(_, d)| d.began_ms);
            let Some((name, fragments)) = oldest.map(|(name, d)| (*name, d.parts.len())) else { break };
            self.counts[name.family()].purged += fragments as u64;
            self.forget(&name);
        }
    }

    /// Forgets datagrams that were not complete in time; returns how many.
    pub fn expire(&mut self, now_ms: u64) -> usize {
        let before = self.waiting.len();
        let counts = &mut self.counts;
        self.waiting.retain(|name, d| {
            let keep = d.began_ms + PATIENCE_MS > now_ms;
            counts[name.family()].expired += if keep { 0 } else { d.parts.len() as u64 };
            keep
        });
        self.bytes = self.waiting.values().map(Datagram::held).sum();
        self.fragments = self.waiting.values().map(|d| d.parts.len()).sum();
        before - self.waiting.len()
    }

    /// How fragments fare.
    pub fn status(&self) -> FragmentStatus {
        let list = |(name, datagram): (&Name, &Datagram)| FragmentList {
            src: crate::key::address(&name.src, name.family() == 1),
            dst: crate::key::address(&name.dst, name.family() == 1),
            id: name.id,
            zone: name.zone,
            proto: name.proto,
            fragments: datagram.parts.len(),
        };
        FragmentStatus {
            rules: self.rules,
            waiting: self.fragments,
            counts: self.counts,
            lists: self.waiting.iter().map(list).collect(),
        }
    }
}

impl Datagram {
    fn held(&self) -> usize {
        self.parts.iter().map(|(_, p)| p.len()).sum()
    }

    /// Whether this very part is there already: sent twice, which harms nobody (RFC 8200 §4.5).
    fn has(&self, place: &Place, data: &[u8]) -> bool {
        let last = self.total.is_some_and(|total| total == place.offset + data.len() as u32);
        let same = |(o, p): &(u32, Vec<u8>)| *o == place.offset && p == data;
        place.more != last && self.parts.iter().any(same)
    }

    /// Adds a part. False: it overlaps with another, or does not fit.
    fn add(&mut self, place: &Place, data: &[u8], frame: &[u8], l3: usize, v6: bool) -> bool {
        let (from, len) = (place.offset, data.len() as u32);
        let to = from + len;
        if len == 0 || to > 0xffff || self.parts.len() >= FRAGMENTS || place.more && !len.is_multiple_of(8) {
            return false;
        }
        if !place.more && self.total.replace(to).is_some_and(|old| old != to) {
            return false;
        }
        if self.total.is_some_and(|total| to > total) {
            return false;
        }
        let at = self.parts.partition_point(|(o, _)| *o < from);
        let before = at.checked_sub(1).map(|i| &self.parts[i]);
        let overlaps = before.is_some_and(|(o, p)| o + p.len() as u32 > from)
            || self.parts.get(at).is_some_and(|(o, _)| *o < to);
        if overlaps {
            return false;
        }
        self.parts.insert(at, (from, data.to_vec()));
        self.mru = self.mru.max(u16::try_from(frame.len() - l3).unwrap_or(u16::MAX));
        if from == 0 {
            let bytes = frame[..place.head_end].to_vec();
            self.head = Some(Head { bytes, l3, v6, next: place.next });
        }
        true
    }

    fn complete(&self) -> bool {
        let Some(total) = self.total else { return false };
        let mut at = 0;
        for (offset, part) in &self.parts {
            if *offset != at {
                return false;
            }
            at += part.len() as u32;
        }
        at == total && self.head.is_some()
    }

    fn whole(&self) -> Option<Reassembled> {
        let head = self.head.as_ref()?;
        let mut frame = head.bytes.clone();
        self.parts.iter().for_each(|(_, part)| frame.extend_from_slice(part));
        let len = frame.len() - head.l3;
        let l3 = head.l3;
        if head.v6 {
            let payload = u16::try_from(len - ipv6::HEADER_LEN).ok()?;
            frame[l3 + 4..l3 + 6].copy_from_slice(&payload.to_be_bytes());
            let (at, next) = head.next?;
            *frame.get_mut(at)? = next;
        } else {
            let len = u16::try_from(len).ok()?;
            frame[l3 + 2..l3 + 4].copy_from_slice(&len.to_be_bytes());
            // Neither more fragments nor an offset.
            frame[l3 + 6..l3 + 8].fill(0);
            let header = frame.len().min(l3 + usize::from(frame[l3] & 0xf) * 4);
            ipv4::fill_checksum(&mut frame[l3..header]).ok()?;
        }
        Some(Reassembled::Whole { frame, mru: self.mru })
    }
}

/// Finds the fragment's place in its datagram.
fn place(frame: &[u8], layout: &Layout) -> Option<Place> {
    let l3 = usize::from(layout.l3);
    let byte = |at: usize| frame.get(at).copied();
    let word = |at: usize| Some(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
    match layout.kind {
        L3Kind::Ipv4 => {
            let field = word(l3 + 6)?;
            let data = l3 + usize::from(byte(l3)? & 0xf) * 4;
            frame.get(data..)?;
            Some(Place {
                id: word(l3 + 4)?.into(),
                offset: u32::from(field & 0x1fff) * 8,
                more: field & 0x2000 != 0,
                head_end: data,
                data,
                next: None,
                proto: byte(l3 + 9)?,
            })
        }
        L3Kind::Ipv6 => {
            let (mut named_at, mut at) = (l3 + 6, l3 + ipv6::HEADER_LEN);
            while byte(named_at)? != FRAGMENT {
                if !BEFORE_FRAGMENT.contains(&byte(named_at)?) {
                    return None;
                }
                (named_at, at) = (at, at + 8 + usize::from(byte(at + 1)?) * 8);
            }
            let field = word(at + 2)?;
            frame.get(at + 8..)?;
            Some(Place {
                id: u32::from(word(at + 4)?) << 16 | u32::from(word(at + 6)?),
                offset: u32::from(field >> 3) * 8,
                more: field & 1 != 0,
                head_end: at,
                data: at + 8,
                next: Some((named_at, byte(at)?)),
                proto: 0,
            })
        }
        _ => None,
    }
}
