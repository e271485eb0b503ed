//! Which connections are to be looked at when? A timing wheel whose entries are not moved when packets come.
//!
//! Each connection stands in the list of the four seconds in which it was to end when it was last looked at. Packets only
//! change its own time; when its list is due it is looked at, and it ends or is put into a later list. Only one that is to
//! end sooner than it was gets an entry more; the other is recognised as void by `places`.

use crate::conn::Tick;

/// Lists; a power of two.
const LISTS: u32 = 64;
/// Ticks of a list, as a power of two: 4.1 s.
const SPAN: u32 = 8;
/// Numbers of spans of time, which wrap.
const ALL: u32 = u32::MAX >> SPAN;
/// Farthest list that is used. Connections that end later are looked at then, and put off again.
const FARTHEST: u32 = LISTS - 2;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    /// Made with the first connection.
    lists: Box<[Vec<u32>]>,
    /// The list in which each slot stands.
    places: Vec<u8>,
    /// The list that was due last, counted from the beginning of time, and what is left of it.
    at: u32,
    taken: Vec<u32>,
}

impl Wheel {
    /// A connection begins, or is put off. Whatever was said of its slot before is void.
    pub(crate) fn begin(&mut self, slot: u32, expires: Tick, now: Tick) {
        if self.lists.is_empty() {
            self.lists = (0..LISTS).map(|_| Vec::new()).collect();
            self.at = (now.0 >> SPAN).wrapping_sub(1) & ALL;
        }
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, 0);
        }
        let list = list_of(expires, now);
        self.places[slot as usize] = list as u8;
        self.lists[list as usize].push(slot);
    }

    /// A connection is to end sooner than it was.
    pub(crate) fn hasten(&mut self, slot: u32, expires: Tick, now: Tick) {
        let Some(place) = self.places.get(slot as usize) else { return };
        let first = now.0 >> SPAN;
        let ahead = |list: u32| list.wrapping_sub(first) % LISTS;
        if ahead(list_of(expires, now)) < ahead(u32::from(*place)) {
            self.begin(slot, expires, now);
        }
    }

    /// The next slot to be looked at, which is in no list any more.
    pub(crate) fn due(&mut self, now: Tick) -> Option<u32> {
        if self.lists.is_empty() {
            return None;
        }
        let now = now.0 >> SPAN;
        loop {
            while let Some(slot) = self.taken.pop() {
                if u32::from(self.places[slot as usize]) == self.at % LISTS {
                    return Some(slot);
                }
            }
            // Nobody may have asked for longer than the wheel is round: then each list is due but that which is now.
            if now.wrapping_sub(self.at) & ALL > LISTS {
                self.at = now.wrapping_sub(LISTS) & ALL;
            }
            let next = (self.at + 1) & ALL;
            if next == now || self.at == now {
                self.taken = Vec::new();
                return None;
            }
            // Taken out whole: what is put off may get into the same list.
            self.at = next;
            self.taken = std::mem::take(&mut self.lists[(next % LISTS) as usize]);
        }
    }

    /// The slots of the list that is now, which are in no list any more.
    pub(crate) fn take_current(&mut self, now: Tick) -> Vec<u32> {
        let list = (now.0 >> SPAN) % LISTS;
        let Some(slots) = self.lists.get_mut(list as usize) else { return Vec::new() };
        let mut slots = std::mem::take(slots);
        slots.retain(|slot| u32::from(self.places[*slot as usize]) == list);
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        let lists = self.lists.iter().map(|list| size_of::<Vec<u32>>() + list.capacity() * size_of::<u32>());
        lists.sum::<usize>() + self.places.capacity()
    }
}

/// The list for a connection that is to end then.
fn list_of(expires: Tick, now: Tick) -> u32 {
    let first = now.0 >> SPAN;
    let ahead = (expires.0 >> SPAN).wrapping_sub(first) & ALL;
    let ahead = if expires.since(now) <= 0 { 0 } else { ahead.min(FARTHEST) };
    first.wrapping_add(ahead) % LISTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_due(wheel: &mut Wheel, now: u32) -> Vec<u32> {
        let mut due: Vec<u32> = std::iter::from_fn(|| wheel.due(Tick(now << SPAN))).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn slots_are_due_once_and_not_before_their_time() {
        // Also where the count of ticks begins anew.
        for start in [0u32, 1000, (u32::MAX >> SPAN) - 20] {
            let tick = |list: u32| Tick(start.wrapping_add(list) << SPAN);
            let mut wheel = Wheel::default();
            assert_eq!(wheel.due(tick(0)), None);
            for slot in 0..40 {
                wheel.begin(slot, tick(1 + slot), tick(0));
            }
            // Far ahead: looked at early. Sooner than it was: at once. Later than it was: as before.
            wheel.begin(40, tick(5000), tick(0));
            wheel.hasten(39, tick(2), tick(0));
            wheel.hasten(3, tick(30), tick(0));
            let now = |list: u32| (start + list) & ALL;
            assert_eq!(all_due(&mut wheel, now(3)), [0, 1, 39]);
            assert_eq!(all_due(&mut wheel, now(5)), [2, 3]);
            assert_eq!(wheel.take_current(tick(5)), [4]);
            assert_eq!(all_due(&mut wheel, now(41)), (5..39).collect::<Vec<_>>());
            assert_eq!(all_due(&mut wheel, now(70)), [40]);
            wheel.begin(7, tick(80), tick(70));
            assert_eq!(all_due(&mut wheel, now(1000)), [7], "after a long silence");
        }
    }
}
