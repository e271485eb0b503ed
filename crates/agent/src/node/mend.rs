//! What becomes of flows, groups and meters of ours that somebody else changed on the bridge?
//!
//! The switch tells whose they were, and these are told again. Where it cannot be told, flows are counted.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use weft_compile::{Delta, Owner};
use weft_store::Store;

use super::Node;
use super::host::SLOW;
use crate::heal::Ledger;
use crate::resolve::Resolver;
use crate::south::Disturbed;

/// Counting costs the switch a look at each flow: it is done no more often than this.
const COUNT: Duration = Duration::from_secs(1);
/// Mends of so many objects are told one by one.
const FEW: usize = 4;
/// The cause in logs and counters.
const CAUSE: &str = "flows";

/// What is to be mended, and when flows were counted.
#[derive(Debug)]
pub(super) struct Mends {
    pub(super) disturbed: Disturbed,
    counted: Instant,
    /// All was told again because of a count, and how many flows there were more than wanted.
    recounted: Option<i64>,
    /// So many more the bridge has, whatever it is told.
    skew: i64,
}

impl Mends {
    pub(super) fn new() -> Mends {
        Mends { disturbed: Disturbed::default(), counted: Instant::now(), recounted: None, skew: 0 }
    }

    /// Something is to be done, now or when `again` says.
    pub(super) fn is_due(&self) -> bool {
        !self.disturbed.is_empty() || self.counted.elapsed() >= SLOW
    }

    /// What is to be told again; everything, if it is not known whose it was.
    pub(super) fn take(&mut self) -> (BTreeSet<Owner>, bool) {
        let Disturbed { owners, all, .. } = std::mem::take(&mut self.disturbed);
        (owners, all)
    }
}

/// Says what was mended.
pub(super) fn tell(ledger: &mut Ledger, resolver: &Resolver, owners: &BTreeSet<Owner>, all: bool) {
    if all || owners.len() > FEW {
        return ledger.told(CAUSE, true, "the flows of br-int");
    }
    for owner in owners {
        let name = match owner {
            Owner::Node => Some("br-int".to_owned()),
            Owner::Net(key) => resolver.nets.name(key.0).map(|name| format!("Network/{name}")),
            Owner::Port(key) => resolver.ports.name(key.0).map(|name| format!("Port/{name}")),
        };
        if let Some(name) = name {
            ledger.told(CAUSE, true, &format!("the flows of {name}"));
        }
    }
}

impl<S: Store> Node<S> {
    /// What the bridge is told again of objects whose flows others changed; whether that is everything.
    pub(super) fn again(&mut self) -> (BTreeSet<Owner>, bool, Delta) {
        let doubt = self.mends.disturbed.doubt;
        let (owners, all) = self.mends.take();
        self.mends.disturbed.doubt = doubt;
        if all {
            self.tell_all();
        }
        let again = self.compiler.again(&owners);
        (owners, all, again)
    }

    /// The bridge is to be told everything.
    pub(super) fn tell_all(&mut self) {
        // Which groups it has is known: others' are not ours to delete.
        let groups = self.compiler.plan().nets.keys().map(|k| k.group());
        self.whole.get_or_insert_with(|| groups.collect());
    }

    /// Counts the flows of the bridge, if that is due. True: everything is to be told again.
    pub(super) async fn miscounted(&mut self) -> bool {
        let mends = &mut self.mends;
        if !self.connected || self.whole.is_some() || self.view.bridge.is_none() {
            // What is there is not known, or told whole in any case.
            (mends.counted, mends.disturbed.doubt) = (Instant::now(), false);
            return false;
        }
        let since = mends.counted.elapsed();
        if since < COUNT && mends.disturbed.doubt && mends.recounted.is_none() {
            self.again.get_or_insert(mends.counted + COUNT);
            return false;
        }
        if since < SLOW && !mends.disturbed.doubt && mends.recounted.is_none() {
            return false;
        }
        (mends.counted, mends.disturbed.doubt) = (Instant::now(), false);
        let there = match self.flows.count().await {
            Ok(there) => there,
            Err(why) => {
                tracing::debug!(%why, "flows are not counted");
                return false;
            }
        };
        let mends = &mut self.mends;
        let more = there as i64 - self.compiler.held() as i64;
        match mends.recounted.take() {
            _ if more == mends.skew => false,
            Some(before) if before == more => {
                tracing::warn!(more, "the bridge has another number of flows than it was told");
                mends.skew = more;
                false
            }
            _ => {
                (mends.recounted, mends.disturbed.all) = (Some(more), true);
                true
            }
        }
    }
}
