//! Which addresses of a subnet may be given to anybody, and which of them did nobody have yet?

use std::collections::{BTreeMap, BTreeSet};

use super::Address;

/// A subnet and the part of it that is given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec<A> {
    /// The subnet's address.
    pub network: A,
    /// Bits of its prefix.
    pub prefix_len: u8,
    /// First and last address of each range; empty when only fixed hosts are served.
    pub ranges: Vec<(A, A)>,
    /// Addresses inside ranges that are not given out: gateways, servers, fixed hosts.
    pub reserved: Vec<A>,
}

impl<A: Address> PoolSpec<A> {
    /// True when the subnet holds `address`.
    #[must_use]
    pub fn contains(&self, address: A) -> bool {
        let host_bits = u32::from(A::BITS.saturating_sub(self.prefix_len));
        // A shift by all 128 bits is a prefix of length 0, which holds everything.
        (address.number() ^ self.network.number()).checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// A pool at work.
#[derive(Debug)]
pub(super) struct Pool<A> {
    spec: PoolSpec<A>,
    /// Joined ranges: first → last.
    ranges: BTreeMap<u128, u128>,
    reserved: BTreeSet<u128>,
    /// Runs of addresses without an entry in the book: first → last.
    free: BTreeMap<u128, u128>,
    free_len: u128,
}

impl<A: Address> Pool<A> {
    pub(super) fn new(spec: PoolSpec<A>) -> Self {
        let mut pool = Self {
            ranges: joined(&spec),
            reserved: BTreeSet::new(),
            free: BTreeMap::new(),
            free_len: 0,
            spec,
        };
        pool.free.clone_from(&pool.ranges);
        pool.free_len = length(&pool.free);
        for address in pool.spec.reserved.clone() {
            pool.reserve(address);
        }
        pool
    }

    pub(super) fn spec(&self) -> &PoolSpec<A> {
        &self.spec
    }

    pub(super) fn is_dynamic(&self, address: A) -> bool {
        let number = address.number();
        holds(&self.ranges, number) && !self.reserved.contains(&number)
    }

    pub(super) fn reserve(&mut self, address: A) {
        self.reserved.insert(address.number());
        self.occupy(address);
    }

    pub(super) fn unreserve(&mut self, address: A) {
        self.reserved.remove(&address.number());
        self.vacate(address);
    }

    /// Takes an address out of the free runs.
    pub(super) fn occupy(&mut self, address: A) {
        let number = address.number();
        let Some((&first, end)) = self.free.range_mut(..=number).next_back() else { return };
        let last = *end;
        if last < number {
            return;
        }
        if first < number {
            *end = number - 1;
        } else {
            self.free.remove(&first);
        }
        if number < last {
            self.free.insert(number + 1, last);
        }
        self.free_len -= 1;
    }

    /// Gives an address back to the free runs, if it is one that is given out.
    pub(super) fn vacate(&mut self, address: A) {
        let number = address.number();
        if !self.is_dynamic(address) || holds(&self.free, number) {
            return;
        }
        let (mut first, mut last) = (number, number);
        if let Some((&f, &l)) = self.free.range(..number).next_back()
            && l.checked_add(1) == Some(number)
        {
            self.free.remove(&f);
            first = f;
        }
        if let Some(next) = number.checked_add(1)
            && let Some(l) = self.free.remove(&next)
        {
            last = l;
        }
        self.free.insert(first, last);
        self.free_len += 1;
    }

    /// A free address at or behind the place that `hash` points to, around the end if need be.
    pub(super) fn free_near(&self, hash: u64) -> Option<A> {
        let mut left = u128::from(hash) % self.dynamic_len().max(1);
        let mut start = 0;
        for (&first, &last) in &self.ranges {
            let len = (last - first).saturating_add(1);
            start = first;
            if left < len {
                start = first + left;
                break;
            }
            left -= len;
        }
        let inside = self.free.range(..=start).next_back().filter(|(_, last)| **last >= start).map(|_| start);
        inside
            .or_else(|| self.free.range(start..).next().map(|(first, _)| *first))
            .or_else(|| self.free.keys().next().copied())
            .map(A::from_number)
    }

    pub(super) fn free_len(&self) -> u128 {
        self.free_len
    }

    /// Addresses of all ranges, reserved ones included.
    pub(super) fn dynamic_len(&self) -> u128 {
        length(&self.ranges)
    }
}

fn holds(runs: &BTreeMap<u128, u128>, number: u128) -> bool {
    runs.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
}

fn length(runs: &BTreeMap<u128, u128>) -> u128 {
    runs.iter().fold(0, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
}

/// The ranges, cut to the subnet, sorted and joined where they touch or overlap.
fn joined<A: Address>(spec: &PoolSpec<A>) -> BTreeMap<u128, u128> {
    let mut ranges: Vec<(u128, u128)> = spec
        .ranges
        .iter()
        .filter(|(first, last)| first <= last && spec.contains(*first) && spec.contains(*last))
        .map(|(first, last)| (first.number(), last.number()))
        .collect();
    ranges.sort_unstable();
    let mut out: BTreeMap<u128, u128> = BTreeMap::new();
    for (first, last) in ranges {
        match out.last_entry() {
            Some(mut run) if first <= run.get().saturating_add(1) => {
                let longest = last.max(*run.get());
                run.insert(longest);
            }
            _ => drop(out.insert(first, last)),
        }
    }
    out
}
