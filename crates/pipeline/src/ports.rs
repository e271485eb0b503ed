//! Which port has a number? Tables by small numbers, of which copies share all but what differs.
//!
//! A picture of a bridge with ten thousand ports is copied whenever one of them comes, goes or changes. Both copies share
//! the pages that are the same, so that a change costs one page, and what differs is found without looking at the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_flow::OfPort;

use crate::config::PortConfig;

/// Entries of a page.
const PAGE: usize = 64;
/// Numbers from here on are rare (OFPP_LOCAL and the like) and kept apart.
const FAR: u32 = 1 << 16;

type Page<T> = [Option<T>; PAGE];

/// A table by number. Looking up is indexing twice.
#[derive(Clone, Debug)]
pub(crate) struct Paged<T> {
    pages: Vec<Option<Arc<Page<T>>>>,
    far: Arc<BTreeMap<u32, T>>,
    len: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged { pages: Vec::new(), far: Arc::default(), len: 0 }
    }
}

/// What changed under a number: what was there, and what is.
pub(crate) type Difference<'a, T> = (u32, Option<&'a T>, Option<&'a T>);

impl<T: Clone + PartialEq> Paged<T> {
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        if number >= FAR {
            return self.far.get(&number);
        }
        self.pages.get(number as usize / PAGE)?.as_ref()?[number as usize % PAGE].as_ref()
    }

    /// Puts an entry in; returns the one that had the number.
    pub(crate) fn insert(&mut self, number: u32, entry: T) -> Option<T> {
        let old = if number >= FAR {
            Arc::make_mut(&mut self.far).insert(number, entry)
        } else {
            let (page, at) = (number as usize / PAGE, number as usize % PAGE);
            if self.pages.len() <= page {
                self.pages.resize(page + 1, None);
            }
            let page = self.pages[page].get_or_insert_with(|| Arc::new([const { None }; PAGE]));
            Arc::make_mut(page)[at].replace(entry)
        };
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes an entry out. Pages without entries are given up.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        self.get(number)?;
        self.len -= 1;
        if number >= FAR {
            return Arc::make_mut(&mut self.far).remove(&number);
        }
        let slot = &mut self.pages[number as usize / PAGE];
        let page = Arc::make_mut(slot.as_mut()?);
        let old = page[number as usize % PAGE].take();
        if page.iter().all(Option::is_none) {
            *slot = None;
            let used = self.pages.iter().rposition(Option::is_some);
            self.pages.truncate(used.map_or(0, |last| last + 1));
        }
        old
    }

    /// The entries, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let near = self.pages.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_ref()?)));
        let near = near.flat_map(|(at, page)| {
            let number = move |i: usize| (at * PAGE + i) as u32;
            page.iter().enumerate().filter_map(move |(i, entry)| Some((number(i), entry.as_ref()?)))
        });
        near.chain(self.far.iter().map(|(number, entry)| (*number, entry)))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What is not the same as in `old`, by number. Pages that both share are passed over.
    pub(crate) fn differences<'a>(&'a self, old: &'a Self) -> Vec<Difference<'a, T>> {
        let mut out = Vec::new();
        let mut add = |number, old: Option<&'a T>, new: Option<&'a T>| {
            if old != new {
                out.push((number, old, new));
            }
        };
        for at in 0..self.pages.len().max(old.pages.len()) {
            let page = |of: &'a Self| of.pages.get(at).and_then(Option::as_ref);
            match (page(old), page(self)) {
                (Some(a), Some(b)) if Arc::ptr_eq(a, b) => {}
                (None, None) => {}
                (a, b) => (0..PAGE).for_each(|i| {
                    let entry = |page: Option<&'a Arc<Page<T>>>| page.and_then(|page| page[i].as_ref());
                    add((at * PAGE + i) as u32, entry(a), entry(b));
                }),
            }
        }
        if !Arc::ptr_eq(&self.far, &old.far) {
            let gone = old.far.iter().filter(|(number, _)| !self.far.contains_key(number));
            gone.for_each(|(number, entry)| add(*number, Some(entry), None));
            self.far.iter().for_each(|(number, entry)| add(*number, old.far.get(number), Some(entry)));
        }
        out
    }
}

impl<T: Clone + PartialEq> PartialEq for Paged<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences(other).is_empty()
    }
}

/// The ports of a bridge, by OpenFlow number. A copy costs as good as nothing, and shares what is not changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ports(Paged<Arc<PortConfig>>);

impl Eq for Ports {}

impl Ports {
    /// The port with this number.
    #[inline]
    pub fn get(&self, ofport: OfPort) -> Option<&PortConfig> {
        self.0.get(ofport.0).map(Arc::as_ref)
    }
    /// Adds a port, or puts it in place of the one that has its number.
    pub fn insert(&mut self, port: PortConfig) {
        self.0.insert(port.ofport.0, Arc::new(port));
    }
    /// Removes a port. False: there is none of this number.
    pub fn remove(&mut self, ofport: OfPort) -> bool {
        self.0.remove(ofport.0).is_some()
    }
    /// The ports, by number.
    pub fn iter(&self) -> impl Iterator<Item = &PortConfig> {
        self.0.iter().map(|(_, port)| port.as_ref())
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The ports that are not as in `old`: as they were, and as they are.
    pub(crate) fn differences<'a>(
        &'a self,
        old: &'a Ports,
    ) -> impl Iterator<Item = (Option<&'a PortConfig>, Option<&'a PortConfig>)> {
        let differences = self.0.differences(&old.0).into_iter();
        differences.map(|(_, old, new)| (old.map(Arc::as_ref), new.map(Arc::as_ref)))
    }
}

impl FromIterator<PortConfig> for Ports {
    fn from_iter<I: IntoIterator<Item = PortConfig>>(ports: I) -> Ports {
        let mut all = Ports::default();
        ports.into_iter().for_each(|port| all.insert(port));
        all
    }
}

impl From<Vec<PortConfig>> for Ports {
    fn from(ports: Vec<PortConfig>) -> Ports {
        ports.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A number, near ones rather than far ones, and what is put there.
    fn step() -> impl Strategy<Value = (u32, Option<u8>)> {
        let number = prop_oneof![4 => 0_u32..300, 1 => FAR - 2..FAR + 2, 1 => Just(OfPort::LOCAL.0)];
        (number, proptest::option::of(0_u8..3))
    }

    fn act(table: &mut Paged<u8>, model: &mut BTreeMap<u32, u8>, steps: &[(u32, Option<u8>)]) {
        for (number, entry) in steps {
            let (was, had) = match entry {
                Some(entry) => (table.insert(*number, *entry), model.insert(*number, *entry)),
                None => (table.remove(*number), model.remove(number)),
            };
            assert_eq!(was, had);
        }
    }

    proptest! {
        /// A table is the map it stands for, its copies stay as they were, and differences are all that differs.
        #[test]
        fn tables_are_maps(
            first in proptest::collection::vec(step(), 0..40),
            then in proptest::collection::vec(step(), 0..40),
        ) {
            let (mut table, mut model) = (Paged::default(), BTreeMap::new());
            act(&mut table, &mut model, &first);
            let (old, before) = (table.clone(), model.clone());
            act(&mut table, &mut model, &then);
            for (table, model) in [(&old, &before), (&table, &model)] {
                prop_assert_eq!(table.iter().map(|(n, e)| (n, *e)).collect::<BTreeMap<_, _>>(), model.clone());
                prop_assert!(table.iter().map(|(n, _)| n).is_sorted());
                prop_assert_eq!(table.len(), model.len());
                prop_assert!((0..400).all(|n| table.get(n) == model.get(&n)));
                prop_assert!(table.pages.last().is_none_or(Option::is_some));
                prop_assert!(table.pages.iter().flatten().all(|page| page.iter().any(Option::is_some)));
            }
            let differs: BTreeMap<u32, _> =
                table.differences(&old).into_iter().map(|(n, a, b)| (n, (a.copied(), b.copied()))).collect();
            let numbers = before.keys().chain(model.keys());
            let expected = numbers.map(|n| (*n, (before.get(n).copied(), model.get(n).copied())));
            prop_assert_eq!(&differs, &expected.filter(|(_, (a, b))| a != b).collect::<BTreeMap<_, _>>());
            prop_assert_eq!(table == old, differs.is_empty());
        }
    }

    #[test]
    fn copies_share_what_is_the_same() {
        let mut table: Paged<u8> = Paged::default();
        (0..1_000).for_each(|n| _ = table.insert(n, 0));
        let old = table.clone();
        table.insert(70, 1);
        let shared = table.pages.iter().zip(&old.pages);
        let shared = shared.filter(|(a, b)| Arc::ptr_eq(a.as_ref().unwrap(), b.as_ref().unwrap())).count();
        assert_eq!(shared, table.pages.len() - 1);
    }
}
