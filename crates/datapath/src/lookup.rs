//! How does a packet find its actions? Parse, caches, and on a miss the walk of the flow tables.
//!
//! Each step runs over the whole batch before the next begins, and asks for the memory the next one needs, so that
//! the processor fetches it meanwhile.

use weft_flow::{
    CT_WORDS, DropReason, EXTRA_CT, EXTRA_TUN_METADATA, EXTRA_TUNNEL, FlowKey, PACKET_WORDS, PacketKey,
    TUN_METADATA_WORDS, TUNNEL_WORDS, Verdict, extract_bare, extract_into,
};

use crate::arch::ticks;
use crate::clock::now_us;
use crate::flows::{GENERAL, Installed, NO_FLOW, NO_GROUP};
use crate::lane::Lane;
use crate::packet::BATCH;
use crate::police::Policer;

/// How many masks are tried for a packet when the slow path had its share.
const FEW_MASKS: usize = 2;

impl Lane {
    /// Fills in the keys and hashes of the batch.
    #[inline]
    pub(crate) fn parse(&mut self) {
        let (batch, limit) = (&mut self.batch, self.vlan_limit);
        let len = batch.len.min(BATCH);
        // Packets of which more is known than their headers.
        let known = batch.tunnelled | batch.resumed;
        for i in 0..len {
            let packet = self.exec.pool.get_mut(batch.slots[i]);
            if packet.read != 0 && packet.read == batch.read[i] && batch.resumed & (1 << i) != 0 {
                // Looked up again as it was, in the same place: its key still stands there.
                batch.complete_key(i, &packet.meta);
                continue;
            }
            batch.readings += 1;
            (packet.read, batch.read[i]) = (batch.readings, batch.readings);
            let key = &mut batch.keys[i].packet;
            let (in_port, fault) = (packet.in_port, packet.fault);
            let bare = if known & (1 << i) != 0 { packet.meta.bare } else { 0 };
            let (frame, layout) = packet.parse();
            let parsed = match bare {
                0 => extract_into(frame, in_port.0, limit, key, layout),
                bare => {
                    extract_bare(frame, bare, in_port.0, key, layout);
                    Ok(())
                }
            };
            packet.ip_proto = key.ip_proto;
            if let Some(reason) = fault.or(parsed.err()) {
                batch.no_flow(i);
                self.exec.drop_received(in_port, reason, 1);
            } else if known & (1 << i) != 0 {
                batch.complete_key(i, &self.exec.pool.get(batch.slots[i]).meta);
            }
        }
        // Hashed apart, for words that were just written in pieces are slow to read back.
        let seed = self.shared.seed;
        for i in 0..len {
            let key = &batch.keys[i];
            let mut hash = signature(&key.packet, seed);
            if known & (1 << i) != 0 {
                hash = hash_sections(hash, key);
            }
            batch.hashes[i] = hash;
            self.flows.prefetch_bucket(hash);
        }
    }

    /// Drops what the port took in beyond its policing rates.
    #[inline]
    pub(crate) fn police(&mut self) {
        if let Some(policer) = self.batch.policer.take() {
            self.police_by(&policer);
        }
    }

    #[cold]
    fn police_by(&mut self, policer: &Policer) {
        let (batch, pool) = (&self.batch, &self.exec.pool);
        let good = (0..batch.len.min(BATCH)).filter(|i| batch.done & (1 << i) == 0);
        let sizes = good.map(|i| {
            let (packets, bytes, _) = pool.get(batch.slots[i]).segments();
            (i, packets, bytes)
        });
        let mut refused = 0u32;
        policer.police(sizes, now_us(), |i| refused |= 1 << i);
        while refused != 0 {
            let i = refused.trailing_zeros() as usize;
            refused &= refused - 1;
            self.batch.no_flow(i);
            self.exec.drop_slot(self.batch.slots[i], DropReason::PolicingExceeded);
        }
    }

    /// Finds the flow of each packet, in the caches or by walking the tables, and groups packets by flow.
    #[inline]
    pub(crate) fn look_up(&mut self) {
        let (len, epoch) = (self.batch.len.min(BATCH), self.epochs.now());
        let mut guesses = [NO_FLOW; BATCH];
        for (guess, hash) in guesses[..len].iter_mut().zip(&self.batch.hashes) {
            *guess = self.flows.guess(*hash);
        }
        let mut missed = 0u32;
        for (i, guess) in guesses[..len].iter().enumerate() {
            if self.flows.confirm(*guess, &self.batch.keys[i], epoch) {
                self.group(i, *guess);
            } else {
                missed |= 1 << i;
            }
        }
        let counters = &self.handle().counters;
        counters.cache_hit.add(len as u64 - u64::from(missed.count_ones()));
        counters.lane_packets.add(len as u64);
        counters.lane_batches.add(1);
        self.fair.hits(len - missed.count_ones() as usize);
        missed &= !self.batch.done;
        if missed != 0 {
            let start = ticks();
            while missed != 0 {
                let i = missed.trailing_zeros() as usize;
                missed &= missed - 1;
                if missed != 0 {
                    // A walk lies between: time enough for memory to answer.
                    self.flows.prefetch_megaflow(&self.batch.keys[missed.trailing_zeros() as usize]);
                }
                self.look_up_slowly(i);
            }
            self.fair.slow_ends(start);
        }
    }

    /// Puts packet `i` among those of `flow`.
    #[inline(always)]
    fn group(&mut self, i: usize, flow: u32) {
        let hot = self.flows.hot(flow);
        if hot.group == NO_GROUP {
            hot.group = self.batch.open_group(flow);
        }
        let group = hot.group;
        self.batch.join(group, i);
    }

    /// By the classifier, else by a walk.
    #[inline(never)]
    fn look_up_slowly(&mut self, i: usize) {
        let (hash, key) = (self.batch.hashes[i], &self.batch.keys[i]);
        let (found, masks) = match self.flows.lookup_signature(hash, key) {
            Some(flow) => (Some(flow), 0),
            None if self.fair.is_spent() => self.flows.lookup_megaflow(hash, key, FEW_MASKS),
            None => self.flows.lookup_megaflow(hash, key, usize::MAX),
        };
        let counters = &self.shared.lanes[self.number].counters;
        counters.megaflow_masks_looked_at.add(u64::from(masks));
        if let Some(flow) = found {
            counters.megaflow_hit.add(1);
            let (epoch, now) = (self.flows.hot(flow).epoch, self.epochs.now());
            if epoch == now {
                return self.group(i, flow);
            }
            if !self.is_stale(flow, epoch) {
                self.flows.hot(flow).epoch = now;
                return self.group(i, flow);
            }
            counters.flow_revalidate.add(1);
        } else if self.fair.is_spent() {
            self.batch.done |= 1 << i;
            counters.upcall_refused.add(1);
            return self.exec.drop_slot(self.batch.slots[i], DropReason::UpcallOverload);
        } else {
            counters.upcall.add(1);
        }
        let verdict = self.shared.pipeline.walk(&self.batch.keys[i], self.now_ms);
        self.adopt(i, found, verdict);
    }

    /// Whether a flow found right in `epoch` has to be walked again.
    pub(crate) fn is_stale(&self, flow: u32, epoch: u32) -> bool {
        !self.flows.is_pinned(flow) && self.epochs.is_stale(epoch, self.flows.cold(flow).deps)
    }

    /// Caches the verdict on packet `i` in place of the stale flow it hit, if any, or else acts on it at once.
    fn adopt(&mut self, i: usize, stale: Option<u32>, verdict: Verdict) {
        let (key, hash, epoch) = (&self.batch.keys[i], self.batch.hashes[i], self.epochs.now());
        if let Some(flow) = stale {
            let same_mask = verdict.cacheable && self.flows.has_mask(flow, &verdict.mask);
            if !same_mask {
                self.flows.remove(flow, self.now_ms);
                self.handle().counters.flow_invalidate.add(1);
            }
        }
        if !verdict.cacheable {
            return self.act_once(i, &verdict);
        }
        if self.flows.make_room(self.now_ms) {
            self.handle().counters.flow_evict.add(1);
        }
        let counters = &self.shared.lanes[self.number].counters;
        match self.flows.install(key, hash, verdict, epoch, self.now_ms) {
            Installed::Yes(flow) => {
                counters.flow_install.add(u64::from(stale.is_none()));
                counters.flows.set(self.flows.len() as u64);
                counters.masks.set(self.flows.masks() as u64);
                counters.flow_narrow.set(self.flows.narrowed);
                self.group(i, flow);
            }
            Installed::No(verdict) => self.act_once(i, &verdict),
        }
    }

    /// Acts on packet `i` by a verdict that is not cached, and credits it to the rules.
    fn act_once(&mut self, i: usize, verdict: &Verdict) {
        let slot = self.batch.slots[i];
        let packet = self.exec.pool.get_mut(slot);
        packet.flow_hash = self.batch.keys[i].packet.flow_hash5(self.shared.seed);
        let (len, in_port) = (packet.len() as u64, packet.in_port);
        packet.meta.load(&self.batch.keys[i]);
        let rules = verdict.rules.iter().map(|rule| &rule.stats);
        rules.chain(&verdict.counters).for_each(|stats| stats.credit(1, len, self.now_ms));
        for entry in &verdict.refresh {
            self.shared.pipeline.refresh(entry, self.now_ms);
        }
        self.batch.done |= 1 << i;
        if verdict.actions.is_empty() {
            let reason = verdict.drop.unwrap_or(DropReason::RuleDrop);
            self.shared.rule_drops.add(&verdict.rules, reason, 1, len);
            self.exec.drop_received(in_port, reason, 1);
        } else {
            self.exec.run(&[slot], &verdict.actions);
            if let Some(reason) = verdict.drop {
                self.shared.rule_drops.add(&verdict.rules, reason, 1, len);
                self.exec.drop_received(in_port, reason, 1);
            }
        }
    }

    /// Counts each group for its flow and applies the flow's actions to it.
    #[inline]
    pub(crate) fn act(&mut self) {
        let Lane { batch, flows, exec, .. } = self;
        for group in batch.groups() {
            let members = group.members();
            let hot = flows.hot(group.flow);
            hot.group = NO_GROUP;
            hot.used_ms = self.now_ms;
            hot.packets += members.len() as u64;
            for &i in members {
                let i = usize::from(i) % BATCH;
                hot.bytes += exec.pool.get(batch.slots[i]).len() as u64;
                hot.tcp_flags |= batch.keys[i].packet.tcp_flags;
            }
            let output = hot.output;
            if output != GENERAL {
                exec.output_members(output, members, &batch.slots);
                continue;
            }
            let cold = &flows.cold(group.flow).decided;
            let slots = members.iter().map(|i| batch.slots[usize::from(*i) % BATCH]);
            let slots: smallvec::SmallVec<[_; BATCH]> = slots.collect();
            if cold.actions.is_empty() {
                let reason = cold.drop.unwrap_or(DropReason::RuleDrop);
                slots.iter().for_each(|slot| exec.drop_slot(*slot, reason));
                continue;
            }
            for (slot, &i) in slots.iter().zip(members) {
                let (key, packet) = (&batch.keys[usize::from(i) % BATCH], exec.pool.get_mut(*slot));
                packet.flow_hash = key.packet.flow_hash5(self.shared.seed);
                if cold.carries {
                    packet.meta.load(key);
                }
            }
            let known = members.iter().map(|&i| &batch.keys[usize::from(i) % BATCH].packet);
            exec.run_known(&slots, known, &cold.actions);
            // What is exported may go nowhere all the same.
            if let Some(reason) = cold.drop {
                slots.iter().for_each(|slot| exec.drop_slot(*slot, reason));
            }
        }
    }
}

/// Hash of what tells connections apart. Bits that change from packet to packet of one (TTL, TCP flags) are left out,
/// so that a connection takes one entry of the signature cache.
#[inline(always)]
fn signature(key: &PacketKey, seed: u64) -> u64 {
    let w = key.words();
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let salt = |n: u64| seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let network = u64::from(key.ip_proto) | u64::from(key.ip_frag) << 8 | w[3] << 16;
    let a = fold(w[1] ^ salt(1), w[2] ^ salt(2));
    let b = fold(w[6] ^ salt(3), w[12] ^ salt(4));
    let mut c = fold(w[0] ^ salt(5), network ^ salt(6));
    if key.eth_type == 0x86dd {
        c ^= fold(w[7] ^ salt(7), w[8] ^ salt(8)).wrapping_add(fold(w[9] ^ salt(9), w[10] ^ salt(10)));
    }
    fold(a ^ salt(11), b ^ c.rotate_left(32) ^ salt(12))
}

/// Mixes the sections that few packets have into the hash of the packet section.
#[inline]
fn hash_sections(mut hash: u64, key: &FlowKey) -> u64 {
    let mut mix = |words: &[u64]| {
        hash = words.iter().fold(hash, |h, w| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23));
    };
    let extras = key.packet.extras;
    if extras & EXTRA_TUNNEL != 0 {
        mix(key.tunnel.words());
    }
    if extras & EXTRA_CT != 0 {
        const FIRST: usize = PACKET_WORDS + TUNNEL_WORDS + TUN_METADATA_WORDS;
        mix(&key.words()[FIRST..FIRST + CT_WORDS]);
    }
    if extras & EXTRA_TUN_METADATA != 0 {
        // Which options there are, and what stands first in them: enough to tell connections apart.
        const FIRST: usize = PACKET_WORDS + TUNNEL_WORDS;
        mix(&key.words()[FIRST..FIRST + 5]);
    }
    hash
}
