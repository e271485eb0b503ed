//! Which address is free?

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::scalar::{AddressRange, number};

/// Hands out addresses of some ranges of one family, always the lowest one that is free at or after where it is asked to
/// look. The same calls in the same order give the same addresses. Every call costs O(log n) of the number of holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocator {
    /// Free intervals: first → last, disjoint and not adjacent.
    free: BTreeMap<u128, u128>,
    /// The intervals it was made of, in the same form.
    all: BTreeMap<u128, u128>,
    ipv6: bool,
}

/// Why an address is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// Nothing is free.
    #[error("no address is free")]
    Exhausted,
    /// It is taken.
    #[error("{0} is taken")]
    Taken(IpAddr),
    /// It is in none of the ranges.
    #[error("{0} is outside of the ranges")]
    Outside(IpAddr),
}

impl Allocator {
    /// An allocator of the union of ranges; those of another family than the first and those that are none are ignored.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = AddressRange>) -> Self {
        let mut new = Self { free: BTreeMap::new(), all: BTreeMap::new(), ipv6: false };
        for range in ranges {
            if range.check().is_err() {
                continue;
            }
            if new.all.is_empty() {
                new.ipv6 = range.start.is_ipv6();
            }
            if range.start.is_ipv6() == new.ipv6 {
                insert(&mut new.all, number(range.start), number(range.end));
            }
        }
        new.free.clone_from(&new.all);
        new
    }

    /// How many addresses are free, at most `u128::MAX`.
    #[must_use]
    pub fn available(&self) -> u128 {
        self.free.iter().map(|(first, last)| (last - first).saturating_add(1)).fold(0, u128::saturating_add)
    }

    /// True when the address belongs to the ranges and is free.
    #[must_use]
    pub fn is_free(&self, ip: IpAddr) -> bool {
        ip.is_ipv6() == self.ipv6 && holds(&self.free, number(ip)).is_some()
    }

    /// True when the address belongs to the ranges.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv6() == self.ipv6 && holds(&self.all, number(ip)).is_some()
    }

    /// Takes the lowest free address.
    ///
    /// # Errors
    /// [`AllocError::Exhausted`].
    pub fn allocate(&mut self) -> Result<IpAddr, AllocError> {
        let first = *self.free.keys().next().ok_or(AllocError::Exhausted)?;
        Ok(self.cut(first))
    }

    /// Takes the lowest free address at or after `hint`, or the lowest of all if there is none.
    ///
    /// # Errors
    /// [`AllocError::Exhausted`].
    pub fn allocate_near(&mut self, hint: IpAddr) -> Result<IpAddr, AllocError> {
        let hint = number(hint);
        let here = holds(&self.free, hint).map(|_| hint);
        match here.or_else(|| self.free.range(hint..).next().map(|(first, _)| *first)) {
            Some(n) => Ok(self.cut(n)),
            None => self.allocate(),
        }
    }

    /// Takes this address.
    ///
    /// # Errors
    /// [`AllocError::Taken`] or [`AllocError::Outside`].
    pub fn take(&mut self, ip: IpAddr) -> Result<(), AllocError> {
        if !self.contains(ip) {
            return Err(AllocError::Outside(ip));
        }
        if !self.is_free(ip) {
            return Err(AllocError::Taken(ip));
        }
        self.cut(number(ip));
        Ok(())
    }

    /// Takes all addresses of a range that belong here, free or not.
    pub fn reserve(&mut self, range: AddressRange) {
        if range.check().is_err() || range.start.is_ipv6() != self.ipv6 {
            return;
        }
        cut_out(&mut self.free, number(range.start), number(range.end));
    }

    /// Takes all addresses of a range that belong here for good: [`Self::release`] does not bring them back.
    pub fn withdraw(&mut self, range: AddressRange) {
        if range.check().is_err() || range.start.is_ipv6() != self.ipv6 {
            return;
        }
        for map in [&mut self.free, &mut self.all] {
            cut_out(map, number(range.start), number(range.end));
        }
    }

    /// Gives an address back; `false` when it was free already or does not belong here.
    pub fn release(&mut self, ip: IpAddr) -> bool {
        if !self.contains(ip) || self.is_free(ip) {
            return false;
        }
        insert(&mut self.free, number(ip), number(ip));
        true
    }

    /// Removes `n`, which is free, from the free intervals.
    fn cut(&mut self, n: u128) -> IpAddr {
        if let Some((first, last)) = holds(&self.free, n) {
            self.free.remove(&first);
            if first < n {
                self.free.insert(first, n - 1);
            }
            if n < last {
                self.free.insert(n + 1, last);
            }
        }
        self.address(n)
    }

    fn address(&self, n: u128) -> IpAddr {
        match u32::try_from(n) {
            Ok(v4) if !self.ipv6 => IpAddr::V4(Ipv4Addr::from_bits(v4)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(n)),
        }
    }
}

/// The interval that holds `n`.
fn holds(map: &BTreeMap<u128, u128>, n: u128) -> Option<(u128, u128)> {
    map.range(..=n).next_back().filter(|(_, last)| **last >= n).map(|(first, last)| (*first, *last))
}

/// Removes `low` to `high` from intervals.
fn cut_out(map: &mut BTreeMap<u128, u128>, low: u128, high: u128) {
    let begin = holds(map, low).map_or(low, |(first, _)| first);
    let touched: Vec<(u128, u128)> = map.range(begin..=high).map(|(f, l)| (*f, *l)).collect();
    for (first, last) in touched {
        map.remove(&first);
        if first < low {
            map.insert(first, low - 1);
        }
        if last > high {
            map.insert(high + 1, last);
        }
    }
}

/// Adds an interval and joins it with those that it overlaps or touches.
fn insert(map: &mut BTreeMap<u128, u128>, mut first: u128, mut last: u128) {
    if let Some((f, l)) = map.range(..=first).next_back().map(|(f, l)| (*f, *l))
        && l.saturating_add(1) >= first
    {
        map.remove(&f);
        first = f;
        last = last.max(l);
    }
    while let Some((f, l)) = map.range(first..=last.saturating_add(1)).next().map(|(f, l)| (*f, *l)) {
        map.remove(&f);
        last = last.max(l);
    }
    map.insert(first, last);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(a: &str, b: &str) -> AddressRange {
        AddressRange::new(a.parse().unwrap(), b.parse().unwrap()).unwrap()
    }

    #[test]
    fn lowest_first_and_back() {
        let mut pool = Allocator::new([range("10.0.0.10", "10.0.0.12"), range("10.0.0.20", "10.0.0.20")]);
        assert_eq!(pool.available(), 4);
        let got: Vec<String> = std::iter::from_fn(|| pool.allocate().ok()).map(|ip| ip.to_string()).collect();
        assert_eq!(got, ["10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.20"]);
        assert_eq!(pool.allocate(), Err(AllocError::Exhausted));
        assert!(pool.release("10.0.0.11".parse().unwrap()));
        assert!(!pool.release("10.0.0.11".parse().unwrap()));
        assert!(!pool.release("10.0.0.99".parse().unwrap()));
        let mut withdrawn = pool.clone();
        withdrawn.withdraw(range("10.0.0.11", "10.0.0.12"));
        assert!(!withdrawn.release("10.0.0.12".parse().unwrap()), "it is gone for good");
        assert!(withdrawn.release("10.0.0.10".parse().unwrap()));
        assert_eq!(pool.allocate_near("10.0.0.15".parse().unwrap()), Ok("10.0.0.11".parse().unwrap()));
    }

    #[test]
    fn whole_of_ipv6() {
        let mut pool = Allocator::new([range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]);
        assert_eq!(pool.take("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()), Ok(()));
        assert_eq!(pool.take("::".parse().unwrap()), Ok(()));
        pool.reserve(range("::", "ffff::"));
        assert_eq!(pool.allocate(), Ok("ffff::1".parse().unwrap()));
        assert!(pool.release("ffff::1".parse().unwrap()) && pool.release("::".parse().unwrap()));
        assert_eq!(pool.allocate(), Ok("::".parse().unwrap()));
    }

    proptest! {
        /// The same calls on a plain set give the same answers.
        #[test]
        fn as_a_set(calls in prop::collection::vec((0u8..5, 0u8..64, 0u8..64), 0..200)) {
            let ip = |n: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
            let member = |n: u8| (8..=20).contains(&n) || (30..=40).contains(&n);
            let mut set: BTreeSet<u8> = (0..64).filter(|n| member(*n)).collect();
            let mut pool = Allocator::new([range("10.0.0.30", "10.0.0.40"), range("10.0.0.8", "10.0.0.20")]);
            for (call, a, b) in calls {
                match call {
                    0 => prop_assert_eq!(pool.allocate().ok(), set.pop_first().map(ip)),
                    1 => prop_assert_eq!(pool.take(ip(a)).is_ok(), set.remove(&a)),
                    2 => {
                        let back = member(a) && set.insert(a);
                        prop_assert_eq!(pool.release(ip(a)), back);
                    }
                    3 => {
                        let want = set.range(a..).next().or(set.first()).copied();
                        if let Some(n) = want { set.remove(&n); }
                        prop_assert_eq!(pool.allocate_near(ip(a)).ok(), want.map(ip));
                    }
                    _ => {
                        if a <= b {
                            pool.reserve(AddressRange { start: ip(a), end: ip(b) });
                            set.retain(|n| *n < a || *n > b);
                        }
                    }
                }
                prop_assert_eq!(pool.available(), set.len() as u128);
            }
        }
    }
}
