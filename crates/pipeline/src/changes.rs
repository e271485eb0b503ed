//! How do lanes learn that cached flows may be wrong? One mailbox per lane, written by whoever changes something.
//!
//! Reading an empty mailbox is one relaxed load of a word that nobody else reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use weft_flow::DepTags;

/// What changed since a lane last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Ports, groups or other configuration: every cached flow is to be walked again.
    pub tables: bool,
    /// Rules, MAC table entries or neighbours: cached flows whose [`weft_flow::Verdict::deps`] are touched by these are to be
    /// walked again.
    pub tags: DepTags,
}

impl Changed {
    /// Whether a flow with these dependencies is to be walked again.
    pub fn affects(&self, deps: DepTags) -> bool {
        self.tables || deps.touched_by(self.tags)
    }
}

#[derive(Debug, Default)]
struct Mailbox {
    dirty: AtomicBool,
    tables: AtomicBool,
    tags: AtomicU64,
}

/// A lane's view of changes. What happened before it subscribed is not reported.
#[derive(Debug)]
pub struct Changes(Arc<Mailbox>);

impl Changes {
    /// What changed since the last call; `None`, quickly, when nothing did.
    ///
    /// A walk that begins after this returned sees at least the state that it reports.
    #[inline]
    pub fn take(&mut self) -> Option<Changed> {
        if !self.0.dirty.load(Ordering::Relaxed) {
            return None;
        }
        self.take_slow()
    }

    #[cold]
    fn take_slow(&mut self) -> Option<Changed> {
        self.0.dirty.swap(false, Ordering::AcqRel);
        let tables = self.0.tables.swap(false, Ordering::AcqRel);
        let tags = DepTags(self.0.tags.swap(0, Ordering::AcqRel));
        (tables || tags != DepTags::default()).then_some(Changed { tables, tags })
    }
}

/// Where changes are announced.
#[derive(Debug, Default)]
pub(crate) struct ChangeHub(Mutex<Vec<Weak<Mailbox>>>);

impl ChangeHub {
    pub(crate) fn subscribe(&self) -> Changes {
        let mailbox = Arc::new(Mailbox::default());
        let mut boxes = self.0.lock();
        boxes.retain(|b| b.strong_count() > 0);
        boxes.push(Arc::downgrade(&mailbox));
        Changes(mailbox)
    }

    /// Announces a change that is already visible to walks.
    pub(crate) fn announce(&self, changed: Changed) {
        for mailbox in self.0.lock().iter().filter_map(Weak::upgrade) {
            if changed.tables {
                mailbox.tables.store(true, Ordering::Release);
            }
            mailbox.tags.fetch_or(changed.tags.0, Ordering::AcqRel);
            mailbox.dirty.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_hears_once() {
        let hub = ChangeHub::default();
        let (mut a, mut b) = (hub.subscribe(), hub.subscribe());
        assert_eq!(a.take(), None);
        hub.announce(Changed { tables: false, tags: DepTags::of(7) });
        assert_eq!(a.take(), Some(Changed { tables: false, tags: DepTags::of(7) }));
        assert_eq!(a.take(), None);
        hub.announce(Changed { tables: true, tags: DepTags::of(9) });
        let all = b.take().unwrap();
        assert!(all.tables && all.affects(DepTags::default()));
        assert!(DepTags::of(7).touched_by(all.tags) && DepTags::of(9).touched_by(all.tags));
        drop(a);
        hub.announce(Changed { tables: true, tags: DepTags::default() });
        let c = hub.subscribe();
        assert_eq!(hub.0.lock().len(), 2);
        drop(c);
    }
}
