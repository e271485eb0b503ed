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
        // Nobody else has a number, so that there is always an answer.
        self.assign_more(|_| false, wishes).unwrap_or_default()
    }

    /// As [`Numbers::assign`] for all, when `others` have the numbers that they are to have: gives numbers to the rest.
    /// `None`: one of the others' may have to be taken away for that.
    pub(super) fn assign_more<'a>(
        &mut self,
        others: impl Fn(OfPort) -> bool,
        wishes: &BTreeMap<&'a str, Wish>,
    ) -> Option<BTreeMap<&'a str, OfPort>> {
        let (mut given, mut taken) = (BTreeMap::new(), HashSet::new());
        for round in ROUNDS {
            for (name, wish) in wishes {
                let Some(number) = round.of(wish).filter(|n| *n != OfPort::LOCAL || wish.is_local) else {
                    continue;
                };
                if given.contains_key(name) {
                    continue;
                }
                if others(number) {
                    match round {
                        // All that have a number come before.
                        Round::Last => continue,
                        _ => return None,
                    }
                }
                if taken.insert(number) {
                    given.insert(*name, number);
                }
            }
        }
        for name in wishes.keys() {
            if !given.contains_key(name)
                && let Some(number) = self.next_free(|n| others(n) || taken.contains(&n))
            {
                taken.insert(number);
                given.insert(*name, number);
            }
        }
        // Numbers in use are not "next" after a restart either.
        let new = given.iter().filter(|(name, n)| wishes[*name].current != Some(**n)).map(|(_, n)| n.0);
        let latest = new.filter(|n| *n <= MAX_AUTOMATIC).max();
        self.latest = self.latest.max(latest.unwrap_or(0));
        Some(given)
    }

    fn next_free(&mut self, taken: impl Fn(OfPort) -> bool) -> Option<OfPort> {
        for _ in 0..MAX_AUTOMATIC {
            self.latest = self.latest % MAX_AUTOMATIC + 1;
            if !taken(OfPort(self.latest)) {
                return Some(OfPort(self.latest));
            }
        }
        None
    }
}

/// In which order numbers are given.
#[derive(Clone, Copy)]
enum Round {
    Local,
    Request,
    Current,
    Last,
}

const ROUNDS: [Round; 4] = [Round::Local, Round::Request, Round::Current, Round::Last];

impl Round {
    fn of(self, wish: &Wish) -> Option<OfPort> {
        match self {
            Round::Local => wish.is_local.then_some(OfPort::LOCAL),
            Round::Request => wish.request.map(|n| OfPort(u32::from(n))),
            Round::Current => wish.current,
            Round::Last => {
                let last = wish.last.filter(|n| (1..LOCAL_IN_DATABASE).contains(n));
                last.map(|n| OfPort(u32::from(n)))
            }
        }
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
    use proptest::prelude::*;

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

    /// What an interface has and would like, of few numbers.
    fn any_wish() -> impl Strategy<Value = Wish> {
        let few = || proptest::option::weighted(0.3, 1_u16..12);
        let current = proptest::option::weighted(0.5, 1_u32..12);
        (proptest::bool::weighted(0.05), few(), current, few()).prop_map(
            |(is_local, request, current, last)| Wish {
                is_local,
                request,
                current: current.map(OfPort),
                last,
            },
        )
    }

    proptest! {
        /// Giving numbers to those that have none, or another one than they ask for, is what giving all of them anew
        /// comes to.
        #[test]
        fn more_is_all(
            wishes in proptest::collection::vec((any_wish(), any::<bool>()), 0..16),
            latest in 0_u32..14,
        ) {
            let names: Vec<String> = (0..wishes.len()).map(|n| format!("i{n:02}")).collect();
            let (mut done, mut more) = (BTreeMap::new(), BTreeMap::new());
            let mut numbers = HashSet::new();
            for (name, (wish, settled)) in names.iter().zip(wishes) {
                // One that has a number is settled when it is the one it asks for, if any.
                let has = if wish.is_local { Some(OfPort::LOCAL) } else { wish.current };
                let asks = wish.request.is_none_or(|r| has == Some(OfPort(r.into())));
                match has.filter(|n| settled && asks && (!wish.is_local || wish.request.is_none()) && numbers.insert(*n)) {
                    Some(number) => drop(done.insert(name.as_str(), Wish { current: Some(number), ..wish })),
                    None => drop(more.insert(name.as_str(), wish)),
                }
            }
            // What one of these remembers may be another's by now; what it has is not.
            let (mut a, mut b) = (Numbers { latest }, Numbers { latest });
            let Some(mut given) = b.assign_more(|n| numbers.contains(&n), &more) else { return Ok(()) };
            let mut all = more;
            given.extend(done.iter().filter_map(|(name, wish)| Some((*name, wish.current?))));
            all.extend(done);
            prop_assert_eq!(a.assign(&all), given);
            prop_assert_eq!(a.latest, b.latest);
        }

        /// Those that ask for nothing never disturb others.
        #[test]
        fn more_is_given(has in proptest::collection::btree_set(1_u32..40, 0..20), more in 0_usize..6, latest in 0_u32..50) {
            let names: Vec<String> = (0..more).map(|n| n.to_string()).collect();
            let wishes = names.iter().map(|name| (name.as_str(), Wish::default())).collect();
            let given = Numbers { latest }.assign_more(|n| has.contains(&n.0), &wishes).unwrap();
            prop_assert!(given.len() == more && given.values().all(|n| !has.contains(&n.0)));
        }
    }

    #[test]
    fn large_requests_do_not_end_the_automatic_range() {
        let mut numbers = Numbers::default();
        let big = wish(Some(65_000), None, None);
        assert_eq!(assigned(&mut numbers, &[("a", big), ("b", wish(None, None, None))]), [65_000, 1]);
    }
}
