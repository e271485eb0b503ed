//! Which OpenFlow number does an interface get?

use std::collections::{BTreeMap, HashSet};

use weft_flow::OfPort;

/// Largest number given without being asked for (ovs-vswitchd.conf.db(5), "OpenFlow Port Number").
const MAX_AUTOMATIC: u32 = 32_767;
/// The local port as the database writes it.
const LOCAL_IN_DATABASE: u16 = 65_534;

/// What an interface would like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// Is the local port.
    pub(super) is_local: bool,
    /// `ofport_request`.
    pub(super) request: Option<u16>,
    /// What it has now.
    pub(super) current: Option<OfPort>,
    /// What it had before a restart.
    pub(super) last: Option<u16>,
}

/// Numbers of one bridge. A number is not given to another interface before all others were.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    latest: u32,
}

impl Numbers {
    /// Gives every interface a number: first those that are asked for, then those that are or were in use, then free
    /// ones. Wishes that cannot be had are treated as none.
    pub(super) fn assign<'a>(&mut self, wishes: &BTreeMap<&'a str, Wish>) -> BTreeMap<&'a str, OfPort> {
        let mut given = BTreeMap::new();
        let mut taken = HashSet::new();
        let rounds: [fn(&Wish) -> Option<OfPort>; 4] = [
            |w| w.is_local.then_some(OfPort::LOCAL),
            |w| w.request.map(|n| OfPort(u32::from(n))),
            |w| w.current,
            |w| w.last.filter(|n| (1..LOCAL_IN_DATABASE).contains(n)).map(|n| OfPort(u32::from(n))),
        ];
        for round in rounds {
            for (name, wish) in wishes {
                if let Some(number) = round(wish).filter(|n| *n != OfPort::LOCAL || wish.is_local)
                    && !given.contains_key(name)
                    && taken.insert(number)
                {
                    given.insert(*name, number);
                }
            }
        }
        for name in wishes.keys() {
            if !given.contains_key(name)
                && let Some(number) = self.next_free(&taken)
            {
                taken.insert(number);
                given.insert(*name, number);
            }
        }
        self.remember(taken.iter());
        given
    }

    /// As [`Numbers::assign`] for all, when the numbers that are `taken` stay as they are: gives numbers to the others.
    /// `None`: one of these may have to be taken away for that.
    pub(super) fn assign_more<'a>(
        &mut self,
        taken: HashSet<OfPort>,
        wishes: &BTreeMap<&'a str, Wish>,
    ) -> Option<BTreeMap<&'a str, OfPort>> {
        let remembered = |w: &Wish| w.current.or(w.last.map(|n| OfPort(u32::from(n))));
        let plain = |w: &Wish| !w.is_local && w.request.is_none() && remembered(w).is_none();
        if !wishes.values().all(plain) {
            return None;
        }
        let mut taken = taken;
        let mut given = BTreeMap::new();
        for name in wishes.keys() {
            if let Some(number) = self.next_free(&taken) {
                taken.insert(number);
                given.insert(*name, number);
            }
        }
        self.remember(taken.iter());
        Some(given)
    }

    /// Numbers in use are not "next" after a restart either.
    fn remember<'a>(&mut self, taken: impl Iterator<Item = &'a OfPort>) {
        let automatic = taken.map(|n| n.0).filter(|n| *n <= MAX_AUTOMATIC).max();
        self.latest = self.latest.max(automatic.unwrap_or(0));
    }

    fn next_free(&mut self, taken: &HashSet<OfPort>) -> Option<OfPort> {
        for _ in 0..MAX_AUTOMATIC {
            self.latest = self.latest % MAX_AUTOMATIC + 1;
            if !taken.contains(&OfPort(self.latest)) {
                return Some(OfPort(self.latest));
            }
        }
        None
    }
}

/// The number as the database writes it.
pub(super) fn for_database(ofport: OfPort) -> i64 {
    match ofport {
        OfPort::LOCAL => i64::from(LOCAL_IN_DATABASE),
        other => i64::from(other.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(request: Option<u16>, current: Option<u32>, last: Option<u16>) -> Wish {
        Wish { is_local: false, request, current: current.map(OfPort), last }
    }

    fn assigned(numbers: &mut Numbers, wishes: &[(&str, Wish)]) -> Vec<u32> {
        let map = wishes.iter().copied().collect();
        let given = numbers.assign(&map);
        wishes.iter().map(|(name, _)| given[name].0).collect()
    }

    #[test]
    fn numbers_are_given() {
        let mut numbers = Numbers::default();
        let none = wish(None, None, None);
        let local = Wish { is_local: true, ..none };
        assert_eq!(
            assigned(&mut numbers, &[("br", local), ("a", none), ("b", none)]),
            [OfPort::LOCAL.0, 1, 2]
        );
        // A number that was asked for is taken from whoever has it by chance.
        let a = wish(None, Some(1), None);
        assert_eq!(assigned(&mut numbers, &[("a", a), ("c", wish(Some(1), None, None))]), [3, 1]);
        // Two ask for one: the first by name has it.
        let five = wish(Some(5), None, None);
        assert_eq!(assigned(&mut numbers, &[("a", five), ("b", five)]), [5, 4]);
        // Numbers survive a restart, unless the number is no ordinary one.
        let mut restarted = Numbers::default();
        assert_eq!(
            assigned(
                &mut restarted,
                &[("a", wish(None, None, Some(9))), ("b", wish(None, None, Some(65_534)))]
            ),
            [9, 1]
        );
        assert_eq!(assigned(&mut restarted, &[("a", wish(None, Some(9), None)), ("c", none)]), [9, 10]);
    }

    proptest::proptest! {
        /// Giving numbers to those that have none is what giving all of them anew comes to.
        #[test]
        fn more_is_all(has in proptest::collection::btree_set(1_u32..40, 0..20), more in 0_usize..6, latest in 0_u32..50) {
            let old: Vec<String> = has.iter().map(|n| format!("i{n}")).collect();
            let new: Vec<String> = (0..more).map(|n| format!("{n}")).collect();
            let new: BTreeMap<&str, Wish> = new.iter().map(|name| (name.as_str(), Wish::default())).collect();
            let mut all = new.clone();
            all.extend(old.iter().zip(&has).map(|(name, n)| (name.as_str(), wish(None, Some(*n), None))));
            let (mut a, mut b) = (Numbers { latest }, Numbers { latest });
            let mut given = b.assign_more(has.iter().map(|n| OfPort(*n)).collect(), &new).unwrap();
            given.extend(old.iter().zip(&has).map(|(name, n)| (name.as_str(), OfPort(*n))));
            proptest::prop_assert_eq!(a.assign(&all), given);
            proptest::prop_assert_eq!(a.latest, b.latest);
        }
    }

    #[test]
    fn large_requests_do_not_end_the_automatic_range() {
        let mut numbers = Numbers::default();
        let big = wish(Some(65_000), None, None);
        assert_eq!(assigned(&mut numbers, &[("a", big), ("b", wish(None, None, None))]), [65_000, 1]);
    }
}
