//! Where do cached flows live, and when do they go?
//!
//! A lane owns a slab of flows. The hot half of a flow (two cache lines: counters and match values) is all that a
//! hit touches; the cold half holds what a verdict brought. The signature cache and the classifier hold indices
//! into the slab. A flow carries the epoch of the tables it was last checked against; one from an older epoch is
//! checked before it forwards anything more.

use std::sync::Arc;

use weft_flow::{
    CACHED_WORDS, DepTags, DpAction, DpPort, EXTRA_CT, EXTRA_TUN_METADATA, EXTRA_TUNNEL, FlowKey, FlowMask,
    KEY_WORDS, SparseMask, Verdict,
};

use weft_wire::Mac;

use crate::arch::prefetch;
use crate::decided::{Decided, Decisions};
use crate::megaflow::{Classifier, Values};
use crate::rule_drops::RuleDrops;
use crate::smc::SignatureCache;

/// Match words that stand in the hot half; longer matches spill to the cold half.
const INLINE: usize = 11;
/// `Flow::group`: not among the groups of the batch.
pub(crate) const NO_GROUP: u8 = u8::MAX;
/// How many flows are looked at to find an old one when there is no room. They stand side by side, and with each search
/// others are looked at: few are enough for the old ones to go.
const EVICTION_SAMPLE: usize = 8;
/// Flows from which on memory is set aside for as many as there may be, so that the slab is not copied as it grows.
/// What is not used yet takes no memory.
const RESERVE_FROM: usize = 1024;
/// Most flows that memory is set aside for.
const RESERVE_MOST: usize = 1 << 20;

/// Index of no flow.
pub(crate) const NO_FLOW: u32 = u32::MAX;
/// `Flow::table` of a slot without a flow.
const NO_TABLE: u16 = u16::MAX;

/// The hot half.
#[repr(C, align(128))]
pub(crate) struct Flow {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Last hit, in milliseconds.
    pub(crate) used_ms: u64,
    /// Epoch the flow was last found right in.
    pub(crate) epoch: u32,
    /// If the action list is a single output: its port. Else [`GENERAL`].
    pub(crate) output: u32,
    /// TCP flags seen.
    pub(crate) tcp_flags: u16,
    /// Subtable.
    table: u16,
    /// Number of match words.
    words: u8,
    /// Place among the groups of the batch being processed.
    pub(crate) group: u8,
    /// The slot holds a flow.
    live: bool,
    /// Put by hand.
    pinned: bool,
    values: [u64; INLINE],
}

/// [`Flow::output`]: the cold half has the actions.
pub(crate) const GENERAL: u32 = u32::MAX;

/// The cold half.
#[derive(Default)]
pub(crate) struct Cold {
    pub(crate) decided: Arc<Decided>,
    pub(crate) deps: DepTags,
    /// What was credited to the rules already.
    credited: (u64, u64),
    /// Values of a match with more than [`INLINE`] words.
    spill: Box<[u64]>,
}

/// The slab's two halves, side by side.
#[derive(Default)]
struct Slab {
    hot: Vec<Flow>,
    cold: Vec<Cold>,
    free: Vec<u32>,
}

impl Slab {
    /// Sets memory aside before another flow is appended.
    fn grow(&mut self, limit: usize) {
        let len = self.hot.len();
        if len == RESERVE_FROM {
            let more = limit.min(RESERVE_MOST).saturating_sub(len);
            self.hot.reserve_exact(more);
            self.cold.reserve_exact(more);
        }
    }
}

impl Values for Slab {
    #[inline]
    fn values(&self, flow: u32) -> &[u64] {
        let hot = &self.hot[flow as usize];
        match hot.values.get(..usize::from(hot.words)) {
            Some(values) => values,
            None => &self.cold[flow as usize].spill,
        }
    }
}

/// A mask as the signature cache compares by it: its first words, side by side.
#[derive(Clone, Copy)]
struct Compact {
    /// Number of words in all; may be more than stand here.
    len: u8,
    /// Place in the key, and bits that count.
    words: [(u8, u64); INLINE],
}

impl Compact {
    fn new(mask: &SparseMask) -> Self {
        let mut words = [(0, 0); INLINE];
        for (to, from) in words.iter_mut().zip(mask.words()) {
            *to = (from.index as u8, from.bits);
        }
        Compact { len: mask.len() as u8, words }
    }
}

/// All cached flows of a lane, and the two ways to find them.
pub(crate) struct FlowTable {
    slab: Slab,
    /// By subtable number.
    masks: Vec<Compact>,
    smc: SignatureCache,
    classifier: Classifier,
    decisions: Decisions,
    limit: usize,
    /// Each flow is for one kind of packet.
    exact: bool,
    /// Where dropped packets are charged to rules.
    rule_drops: Arc<RuleDrops>,
    /// Flows that were made narrower than they had to be.
    pub(crate) narrowed: u64,
    /// Where the next search for an old flow begins.
    clock: usize,
}

/// What [`FlowTable::install`] did.
pub(crate) enum Installed {
    /// The flow is cached under this index.
    Yes(u32),
    /// There are too many masks and ports: the verdict is handed back.
    No(Verdict),
}

impl FlowTable {
    pub(crate) fn new(limit: usize, seed: u64) -> Self {
        FlowTable {
            slab: Slab::default(),
            masks: Vec::new(),
            smc: SignatureCache::new(),
            classifier: Classifier::new(seed),
            decisions: Decisions::default(),
            limit: limit.max(1),
            exact: false,
            rule_drops: Arc::default(),
            narrowed: 0,
            clock: 0,
        }
    }

    /// Charges dropped packets to rules here from now on.
    pub(crate) fn charge(&mut self, drops: &Arc<RuleDrops>) {
        self.rule_drops = drops.clone();
    }

    /// Number of flows.
    pub(crate) fn len(&self) -> usize {
        self.slab.hot.len() - self.slab.free.len()
    }

    /// Number of masks.
    pub(crate) fn masks(&self) -> usize {
        self.classifier.masks()
    }

    /// Number of slots: indices below it may hold flows.
    pub(crate) fn slots(&self) -> usize {
        self.slab.hot.len()
    }

    /// Whether the slot holds a flow.
    pub(crate) fn is_live(&self, flow: u32) -> bool {
        self.slab.hot.get(flow as usize).is_some_and(|f| f.live)
    }

    #[inline(always)]
    pub(crate) fn hot(&mut self, flow: u32) -> &mut Flow {
        &mut self.slab.hot[flow as usize]
    }

    pub(crate) fn cold(&self, flow: u32) -> &Cold {
        &self.slab.cold[flow as usize]
    }

    /// First step of a look-up of many: asks for the signature bucket.
    #[inline(always)]
    pub(crate) fn prefetch_bucket(&self, hash: u64) {
        self.smc.prefetch(hash);
    }

    /// Second step: the flow that is likely to be hit, asked for; [`NO_FLOW`] if none is.
    #[inline(always)]
    pub(crate) fn guess(&self, hash: u64) -> u32 {
        let Some(flow) = self.smc.candidates(hash).next() else { return NO_FLOW };
        let Some(hot) = self.slab.hot.get(flow as usize) else { return NO_FLOW };
        prefetch(hot);
        prefetch(&hot.values[INLINE - 1]);
        flow
    }

    /// Third step: whether the flow matches, found right in `epoch`.
    #[inline(always)]
    pub(crate) fn confirm(&self, flow: u32, key: &FlowKey, epoch: u32) -> bool {
        match self.slab.hot.get(flow as usize) {
            Some(hot) => hot.epoch == epoch && self.matches(hot, flow, key),
            None => false,
        }
    }

    #[inline(always)]
    fn matches(&self, hot: &Flow, flow: u32, key: &FlowKey) -> bool {
        // A slot without a flow has no table.
        let Some(mask) = self.masks.get(usize::from(hot.table)) else { return false };
        let key = key.words();
        let mut differ = 0;
        let words = mask.words.iter().zip(&hot.values).take(usize::from(mask.len));
        for (&(index, bits), value) in words {
            differ |= (key[usize::from(index)] & bits) ^ value;
        }
        differ == 0 && (mask.len <= INLINE as u8 || self.matches_long(hot, flow, key))
    }

    /// Compares all words of a long match.
    #[cold]
    fn matches_long(&self, hot: &Flow, flow: u32, key: &[u64; KEY_WORDS]) -> bool {
        let table = self.classifier.table(hot.table);
        table.is_some_and(|table| table.mask.matches_packed(key, self.slab.values(flow)))
    }

    /// The other flows that the signature may mean.
    pub(crate) fn lookup_signature(&self, hash: u64, key: &FlowKey) -> Option<u32> {
        self.smc.candidates(hash).find(|flow| {
            let hot = self.slab.hot.get(*flow as usize);
            hot.is_some_and(|hot| self.matches(hot, *flow, key))
        })
    }

    /// The flow by classifier; remembered for the hash. Also returns how many masks were tried.
    ///
    /// Only the `most` masks that are hit most are tried.
    pub(crate) fn lookup_megaflow(&mut self, hash: u64, key: &FlowKey, most: usize) -> (Option<u32>, u32) {
        let (found, tried) = self.classifier.lookup(key, most, &self.slab);
        if let Some(flow) = found {
            self.smc.insert(hash, flow);
        }
        (found, tried)
    }

    /// Asks for what [`FlowTable::lookup_megaflow`] will look at first.
    pub(crate) fn prefetch_megaflow(&self, key: &FlowKey) {
        self.classifier.prefetch(key);
    }

    /// Caches a verdict for packets like `key`. A flow with the same match is replaced, its counters kept.
    pub(crate) fn install(
        &mut self,
        key: &FlowKey,
        hash: u64,
        verdict: Verdict,
        epoch: u32,
        now_ms: u64,
    ) -> Installed {
        self.put(key, hash, verdict, epoch, now_ms, false)
    }

    fn put(
        &mut self,
        key: &FlowKey,
        hash: u64,
        mut verdict: Verdict,
        epoch: u32,
        now_ms: u64,
        pinned: bool,
    ) -> Installed {
        complete(&mut verdict.mask);
        let wide = pinned || !self.exact;
        let mut number =
            if wide { self.classifier.table_for(key, &verdict.mask, pinned, now_ms) } else { None };
        if number.is_none() {
            // What is right for many packets is right for those alone that are like this one in everything. All flows
            // of that kind share a mask.
            verdict.mask = narrow(key);
            number = self.classifier.table_for(key, &verdict.mask, true, now_ms);
            self.narrowed += u64::from(wide);
        }
        let Some(number) = number else { return Installed::No(verdict) };
        if let Some(flow) = self.classifier.exact(number, key, &self.slab) {
            self.replace(flow, verdict, epoch);
            self.slab.hot[flow as usize].pinned |= pinned;
            self.smc.insert(hash, flow);
            return Installed::Yes(flow);
        }
        let Some(table) = self.classifier.table(number) else { return Installed::No(verdict) };
        let packed = table.mask.pack(key.words());
        let mut values = [0; INLINE];
        values.iter_mut().zip(&packed).for_each(|(to, from)| *to = *from);
        let spill = if packed.len() > INLINE { packed.to_vec().into() } else { Box::default() };
        let compact = Compact::new(&table.mask);
        if self.masks.len() <= usize::from(number) {
            self.masks.resize(usize::from(number) + 1, compact);
        }
        self.masks[usize::from(number)] = compact;
        let output = single_output(&verdict.actions);
        let hot = Flow {
            packets: 0,
            bytes: 0,
            used_ms: now_ms,
            epoch,
            output,
            tcp_flags: 0,
            table: number,
            words: packed.len() as u8,
            group: NO_GROUP,
            live: true,
            pinned,
            values,
        };
        let (deps, decided) = (verdict.deps, self.decisions.share(verdict));
        let cold = Cold { decided, deps, spill, credited: (0, 0) };
        let flow = self.slab.free.pop().unwrap_or(self.slab.hot.len() as u32);
        if flow as usize == self.slab.hot.len() {
            self.slab.grow(self.limit);
            self.slab.hot.push(hot);
            self.slab.cold.push(cold);
        } else {
            self.slab.hot[flow as usize] = hot;
            self.slab.cold[flow as usize] = cold;
        }
        self.classifier.insert(number, key, flow, &self.slab);
        self.smc.insert(hash, flow);
        Installed::Yes(flow)
    }

    /// Caches a flow put by hand.
    pub(crate) fn pin(
        &mut self,
        key: &FlowKey,
        hash: u64,
        verdict: Verdict,
        epoch: u32,
        now_ms: u64,
    ) -> Installed {
        self.put(key, hash, verdict, epoch, now_ms, true)
    }

    /// Gives a flow a new verdict over the same match.
    pub(crate) fn replace(&mut self, flow: u32, verdict: Verdict, epoch: u32) {
        let now = self.slab.hot[flow as usize].used_ms;
        self.credit(flow, now);
        let hot = &mut self.slab.hot[flow as usize];
        hot.output = single_output(&verdict.actions);
        hot.epoch = epoch;
        let cold = &mut self.slab.cold[flow as usize];
        (cold.deps, cold.decided) = (verdict.deps, self.decisions.share(verdict));
    }

    /// Adds traffic that was not credited yet to the flow's rules. Returns whether there was any.
    pub(crate) fn credit(&mut self, flow: u32, now_ms: u64) -> bool {
        let hot = &self.slab.hot[flow as usize];
        let cold = &mut self.slab.cold[flow as usize];
        let (packets, bytes) = (hot.packets - cold.credited.0, hot.bytes - cold.credited.1);
        if packets == 0 {
            return false;
        }
        cold.credited = (hot.packets, hot.bytes);
        self.classifier.used(hot.table, packets);
        let used = hot.used_ms.min(now_ms);
        let decided = &cold.decided;
        let rules = decided.rules.iter().map(|rule| &rule.stats);
        rules.chain(&decided.counters).for_each(|stats| stats.credit(packets, bytes, used));
        if let Some(reason) = decided.drop.filter(|_| DpAction::send_nothing(&decided.actions)) {
            self.rule_drops.add(&decided.rules, reason, packets, bytes);
        }
        true
    }

    /// Removes a flow, its traffic credited.
    pub(crate) fn remove(&mut self, flow: u32, now_ms: u64) {
        if !self.is_live(flow) {
            return;
        }
        self.credit(flow, now_ms);
        let number = self.slab.hot[flow as usize].table;
        self.classifier.remove(number, flow, &self.slab);
        let hot = &mut self.slab.hot[flow as usize];
        (hot.live, hot.table) = (false, NO_TABLE);
        self.slab.cold[flow as usize] = Cold { decided: self.decisions.none(), ..Cold::default() };
        self.slab.free.push(flow);
    }

    /// Makes room for one more flow if there is none: removes an old one. Returns whether it had to.
    pub(crate) fn make_room(&mut self, now_ms: u64) -> bool {
        if self.len() < self.limit {
            return false;
        }
        let slots = self.slots();
        let sample = (0..EVICTION_SAMPLE.min(slots)).map(|i| (self.clock + i) % slots);
        let hot = &self.slab.hot;
        let oldest = sample
            .filter(|i| hot[*i].live && hot[*i].group == NO_GROUP && !hot[*i].pinned)
            .min_by_key(|i| hot[*i].used_ms);
        self.clock = (self.clock + EVICTION_SAMPLE) % slots.max(1);
        if let Some(flow) = oldest {
            self.remove(flow as u32, now_ms);
        }
        true
    }

    /// Changes how many flows there may be, and whether each is for one kind of packet; what is too much goes.
    pub(crate) fn tune(&mut self, limit: usize, megaflows: bool, now_ms: u64) {
        (self.limit, self.exact) = (limit.max(1), !megaflows);
        for _ in 0..self.slots() {
            if self.len() <= self.limit {
                break;
            }
            self.make_room(now_ms);
        }
    }

    /// Whether the flow was put by hand.
    pub(crate) fn is_pinned(&self, flow: u32) -> bool {
        self.slab.hot[flow as usize].pinned
    }

    /// The match of a flow: a key with its values, and its mask.
    pub(crate) fn matching(&self, flow: u32) -> (FlowKey, FlowMask) {
        match self.classifier.table(self.slab.hot[flow as usize].table) {
            Some(table) => (unpack(&table.mask, self.slab.values(flow)), table.mask.to_mask()),
            None => (FlowKey::default(), FlowMask::empty()),
        }
    }

    /// Whether the flow's mask is `mask`.
    pub(crate) fn has_mask(&self, flow: u32, mask: &FlowMask) -> bool {
        let mut mask = *mask;
        complete(&mut mask);
        self.matching(flow).1 == mask
    }

    /// Whether the flow's mask looks at every bit of `mask`.
    pub(crate) fn mask_covers(&self, flow: u32, mask: &FlowMask) -> bool {
        let mut mask = *mask;
        complete(&mut mask);
        let (_, own) = self.matching(flow);
        let mut pairs = own.words().iter().zip(mask.words()).take(CACHED_WORDS);
        pairs.all(|(own, other)| other & !own == 0)
    }

    /// The flow with exactly this match.
    pub(crate) fn find_exact(&mut self, key: &FlowKey, mask: &FlowMask) -> Option<u32> {
        let mut mask = *mask;
        complete(&mut mask);
        let live = (0..self.slots() as u32).filter(|f| self.is_live(*f));
        live.into_iter().find(|f| {
            let (k, m) = self.matching(*f);
            m == mask && k == mask.apply(key)
        })
    }

    /// Orders the masks by use, and lets go of what is remembered only to be shared.
    pub(crate) fn sort_masks(&mut self) {
        self.classifier.sort();
        self.decisions.clear();
    }

    /// Forgets all flows; their traffic is credited.
    pub(crate) fn clear(&mut self, now_ms: u64) {
        for flow in 0..self.slots() as u32 {
            if self.is_live(flow) {
                self.credit(flow, now_ms);
            }
        }
        self.slab = Slab::default();
        self.decisions.clear();
        self.classifier.clear();
        self.smc.clear();
    }
}

/// Adds what every cached flow matches: the input port, and which sections of the key are there.
fn complete(mask: &mut FlowMask) {
    mask.0.packet.in_port = u32::MAX;
    mask.0.packet.recirc_id = u32::MAX;
    mask.0.packet.extras = u16::MAX;
    mask.0.pipeline = Default::default();
}

/// A mask that looks at everything there is of packets like `key`. [`crate::megaflow`] knows it by `pad0`, which no
/// walk looks at.
fn narrow(key: &FlowKey) -> Box<FlowMask> {
    let mut mask = Box::new(FlowMask::empty());
    mask.0.packet.words_mut().fill(u64::MAX);
    if key.packet.eth_type == 0x0800 {
        // What IPv4 packets do not have is zero in all of them.
        let p = &mut mask.0.packet;
        (p.mpls, p.ipv6_label, p.ipv6_src, p.ipv6_dst) = ([0; 3], 0, [0; 16], [0; 16]);
        (p.nd_target, p.arp_sha, p.pad1, p.arp_tha, p.pad2) = ([0; 16], Mac::ZERO, 0, Mac::ZERO, 0);
    }
    let mut sections = mask.0;
    sections.words_mut().fill(u64::MAX);
    let extras = key.packet.extras;
    if extras & EXTRA_TUNNEL != 0 {
        mask.0.tunnel = sections.tunnel;
    }
    if extras & EXTRA_TUN_METADATA != 0 {
        mask.0.tun_metadata = sections.tun_metadata;
    }
    if extras & EXTRA_CT != 0 {
        mask.0.ct = sections.ct;
    }
    mask
}

/// A key with these values, zero elsewhere.
fn unpack(mask: &SparseMask, values: &[u64]) -> FlowKey {
    let mut key = FlowKey::default();
    for (word, value) in mask.words().iter().zip(values) {
        key.words_mut()[usize::from(word.index)] = *value;
    }
    key
}

fn single_output(actions: &[DpAction]) -> u32 {
    match actions {
        [DpAction::Output(DpPort(port))] => *port,
        _ => GENERAL,
    }
}

#[cfg(test)]
mod tests;
