//! Who holds which address, and until when?
//!
//! The book of one network: pools (one per subnet) and leases, found by address and by client.
//! Every operation costs O(log n). What must survive a crash is returned as a [`LeaseChange`];
//! the caller stores it before it sends the reply that rests on it, and calls
//! [`LeaseBook::revert`] when it could not. Offers are promises of seconds and are not stored
//! (RFC 2131 §3.1 (2): a server need not reserve the address it offers).

mod client;
mod pool;

use core::fmt;
use core::hash::Hash;
use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use weft_wire::Mac;

pub use client::Client;
use pool::Pool;
pub use pool::PoolSpec;

/// Expiry of a lease that never expires (RFC 2131 §3.3: a lease time of 0xffff_ffff).
pub const NEVER: u64 = u64::MAX;

/// An address of either family, seen as a number.
pub trait Address: Copy + Ord + Hash + fmt::Debug + fmt::Display {
    /// Bits of an address.
    const BITS: u8;
    /// The address as a number.
    fn number(self) -> u128;
    /// The address of a number; higher bits are dropped.
    fn from_number(number: u128) -> Self;
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;
    fn number(self) -> u128 {
        u128::from(u32::from(self))
    }
    fn from_number(number: u128) -> Self {
        Self::from(number as u32)
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;
    fn number(self) -> u128 {
        u128::from(self)
    }
    fn from_number(number: u128) -> Self {
        Self::from(number)
    }
}

/// How far a lease has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// Promised for seconds, not yet taken; never stored.
    Offered,
    /// Held by the client until it expires.
    Bound,
    /// Given back; remembered, so that the client gets the same address again.
    Released,
    /// Found in use by another (RFC 2131 §4.3.3): nobody gets it until it expires.
    Declined,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease<A> {
    /// The address.
    pub address: A,
    /// Its holder.
    pub client: Client,
    /// The holder's Ethernet address, where known.
    pub mac: Option<Mac>,
    /// The name the client gave or was given: a DNS label.
    pub hostname: Option<Arc<str>>,
    /// How far it has come.
    pub state: LeaseState,
    /// When it was given or last prolonged, in seconds of the caller's clock.
    pub since: u64,
    /// When it ends, in seconds of the caller's clock; [`NEVER`] for never.
    pub expires: u64,
}

impl<A> Lease<A> {
    /// True while the client may use the address.
    #[must_use]
    pub fn is_bound(&self, now: u64) -> bool {
        self.state == LeaseState::Bound && self.expires > now
    }
}

/// A change of one address that must be durable before the reply is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseChange<A> {
    /// The address.
    pub address: A,
    /// What stood in the book before.
    pub before: Option<Lease<A>>,
    /// What stands there now; store this, or delete the record when there is none.
    pub after: Option<Lease<A>>,
}

/// The changes of one message: mostly none or one.
pub type Changes<A> = SmallVec<[LeaseChange<A>; 1]>;

/// Which pool of the book: its place in the list given to [`LeaseBook::new`].
pub type PoolId = usize;

/// In which order expired entries are taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Offer,
    Dynamic,
    Fixed,
}

/// The leases of one network.
#[derive(Debug)]
pub struct LeaseBook<A: Address> {
    pools: Vec<Pool<A>>,
    /// By addresses of ours: few enough that a quick hash does.
    leases: HashMap<A, Lease<A>, RandomState>,
    /// Stored entries that an offer of their address hides until it is taken or ends.
    hidden: HashMap<A, Lease<A>, RandomState>,
    by_client: HashMap<(PoolId, Client), A>,
    expiry: BTreeSet<(PoolId, Class, u64, A)>,
    declined: BTreeSet<(u64, A)>,
    by_mac: BTreeSet<(Mac, A)>,
}

impl<A: Address> LeaseBook<A> {
    /// An empty book over these pools.
    #[must_use]
    pub fn new(pools: Vec<PoolSpec<A>>) -> Self {
        Self {
            pools: pools.into_iter().map(Pool::new).collect(),
            leases: HashMap::default(),
            hidden: HashMap::default(),
            by_client: HashMap::new(),
            expiry: BTreeSet::new(),
            declined: BTreeSet::new(),
            by_mac: BTreeSet::new(),
        }
    }

    /// Replaces the pools and keeps every stored lease that still lies in one of their subnets.
    /// The others are returned as changes: nobody can hold them any more. Offers are forgotten.
    pub fn set_pools(&mut self, pools: Vec<PoolSpec<A>>) -> Vec<LeaseChange<A>> {
        let mut fresh = Self::new(pools);
        let mut lost = Vec::new();
        for lease in self.stored() {
            if !fresh.load(lease.clone()) {
                lost.push(LeaseChange { address: lease.address, before: Some(lease.clone()), after: None });
            }
        }
        lost.sort_by_key(|change| change.address);
        *self = fresh;
        lost
    }

    /// Takes a stored lease back after a restart. False when it lies in no pool's subnet; it is
    /// then not in the book.
    pub fn load(&mut self, lease: Lease<A>) -> bool {
        self.pool_of(lease.address).is_some() && {
            self.put(lease);
            true
        }
    }

    /// The pool whose subnet holds `address`.
    #[must_use]
    pub fn pool_of(&self, address: A) -> Option<PoolId> {
        self.pools.iter().position(|pool| pool.spec().contains(address))
    }

    /// What a pool was made of.
    #[must_use]
    pub fn pool(&self, pool: PoolId) -> Option<&PoolSpec<A>> {
        self.pools.get(pool).map(Pool::spec)
    }

    /// Number of entries: leases of every state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// True when there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Lease<A>> {
        self.leases.values()
    }

    /// Every entry that the changes so far made durable, in no order: what a restart begins with.
    pub fn stored(&self) -> impl Iterator<Item = &Lease<A>> {
        let shown = self.leases.values().filter(|lease| lease.state != LeaseState::Offered);
        shown.chain(self.hidden.values())
    }

    /// The entry of an address.
    #[must_use]
    pub fn get(&self, address: A) -> Option<&Lease<A>> {
        self.leases.get(&address)
    }

    /// The entry that a client has, or last had, in a pool.
    #[must_use]
    pub fn find(&self, pool: PoolId, client: &Client) -> Option<&Lease<A>> {
        // The key is a pair, and cloning a client counts a reference: no bytes are copied.
        self.by_client.get(&(pool, client.clone())).and_then(|address| self.leases.get(address))
    }

    /// Keeps `address` for a fixed host: it is no longer given to others.
    pub fn reserve(&mut self, address: A) {
        let entry = self.unlink(address);
        if let Some(pool) = self.pool_of(address).and_then(|at| self.pools.get_mut(at)) {
            pool.reserve(address);
        }
        entry.map(|lease| self.put(lease));
    }

    /// Gives a reserved address back to its range.
    pub fn unreserve(&mut self, address: A) {
        let entry = self.unlink(address);
        if let Some(pool) = self.pool_of(address).and_then(|at| self.pools.get_mut(at)) {
            pool.unreserve(address);
        }
        entry.map(|lease| self.put(lease));
    }

    /// True when `client` may have `address` now: nobody else holds it, was promised it, or
    /// declined it. Says nothing about ranges.
    #[must_use]
    pub fn is_open(&self, address: A, client: &Client, now: u64) -> bool {
        self.leases.get(&address).is_none_or(|lease| {
            lease.expires <= now || (lease.state != LeaseState::Declined && lease.client == *client)
        })
    }

    /// True when `address` is one that a pool gives to anybody.
    #[must_use]
    pub fn is_dynamic(&self, pool: PoolId, address: A) -> bool {
        self.pools.get(pool).is_some_and(|p| p.is_dynamic(address))
    }

    /// Chooses an address for a client (RFC 2131 §4.3.1): the one it has or had, the one it asks
    /// for (`hint`), one that nobody had — the same every time the book is empty —, one whose
    /// offer was not taken, and last the one whose lease ended longest ago.
    #[must_use]
    pub fn choose(&self, pool: PoolId, client: &Client, hint: Option<A>, now: u64) -> Option<A> {
        let had = self.find(pool, client).map(|lease| lease.address);
        let fits = |address: &A| self.is_dynamic(pool, *address) && self.is_open(*address, client, now);
        if let Some(address) = had.filter(fits).or(hint.filter(fits)) {
            return Some(address);
        }
        if let Some(address) = self.pools.get(pool)?.free_near(fnv(client.bytes())) {
            return Some(address);
        }
        let ended = |class| {
            let (low, high) = (A::from_number(0), A::from_number(u128::MAX));
            self.expiry.range((pool, class, 0, low)..=(pool, class, now, high)).next()
        };
        ended(Class::Offer).or_else(|| ended(Class::Dynamic)).map(|&(_, _, _, address)| address)
    }

    /// Writes an entry and returns the change. The caller has checked [`Self::is_open`].
    ///
    /// When the client had another address in the same pool, that entry ends now, and its change
    /// is returned too. An offer ends no lease: the client may not take it.
    pub fn set(&mut self, lease: Lease<A>) -> Changes<A> {
        let mut changes = Changes::new();
        let (now, offer) = (lease.since, lease.state == LeaseState::Offered);
        if let Some(pool) = self.pool_of(lease.address) {
            let other = self.find(pool, &lease.client).filter(|old| old.address != lease.address).cloned();
            let ends = |old: &Lease<A>| match old.state {
                LeaseState::Bound => !offer,
                state => state == LeaseState::Offered,
            };
            if let Some(old) = other.filter(ends) {
                let durable = old.state == LeaseState::Bound;
                let after = durable.then(|| Lease {
                    state: LeaseState::Released,
                    expires: old.expires.min(now),
                    ..old.clone()
                });
                match &after {
                    Some(after) => drop(self.put(after.clone())),
                    None => self.forget_offer(old.address),
                }
                if durable {
                    changes.push(LeaseChange { address: old.address, before: Some(old), after });
                }
            }
        }
        let (address, durable) = (lease.address, lease.state != LeaseState::Offered);
        let after = durable.then(|| lease.clone());
        let before = match self.put(lease) {
            Some(old) if old.state != LeaseState::Offered && !durable => {
                self.hidden.insert(address, old);
                None
            }
            Some(old) if old.state == LeaseState::Offered && durable => self.unhide(address),
            old => old,
        };
        if durable {
            changes.push(LeaseChange { address, before, after });
        }
        changes
    }

    /// Takes an offer back, if the entry is one; what it hid is seen again.
    pub fn forget_offer(&mut self, address: A) {
        if self.leases.get(&address).is_some_and(|lease| lease.state == LeaseState::Offered) {
            self.take(address);
            self.unhide(address).map(|lease| self.put(lease));
        }
    }

    /// Removes the entry of an address: an administrator's wish, or a port that is gone.
    pub fn remove(&mut self, address: A) -> Option<LeaseChange<A>> {
        let hidden = self.unhide(address);
        let before = self.take(address).filter(|old| old.state != LeaseState::Offered).or(hidden)?;
        Some(LeaseChange { address, before: Some(before), after: None })
    }

    /// Undoes a change that could not be made durable, unless the entry changed since. Changes
    /// of one message are undone last first.
    pub fn revert(&mut self, change: &LeaseChange<A>) {
        let offered =
            self.leases.get(&change.address).is_some_and(|lease| lease.state == LeaseState::Offered);
        if offered && self.hidden.get(&change.address) == change.after.as_ref() {
            self.hidden.remove(&change.address);
            change.before.clone().map(|before| self.hidden.insert(change.address, before));
        } else if self.leases.get(&change.address) == change.after.as_ref() {
            match &change.before {
                Some(before) => drop(self.put(before.clone())),
                None => drop(self.take(change.address)),
            }
        }
    }

    /// Forgets up to `limit` entries that ended at or before `ended`. Memory of old leases is a
    /// courtesy: call it with a time some days ago, or when the book grows too large.
    pub fn sweep(&mut self, ended: u64, limit: usize) -> Vec<LeaseChange<A>> {
        let (low, high) = (A::from_number(0), A::from_number(u128::MAX));
        let mut old = Vec::new();
        for pool in 0..self.pools.len() {
            for class in [Class::Offer, Class::Dynamic, Class::Fixed] {
                let range = (pool, class, 0, low)..=(pool, class, ended, high);
                let room = limit.saturating_sub(old.len());
                old.extend(self.expiry.range(range).map(|entry| entry.3).take(room));
            }
        }
        old.into_iter().filter_map(|address| self.remove(address)).collect()
    }

    /// Addresses of a pool's ranges: (free or ended, all).
    #[must_use]
    pub fn room(&self, pool: PoolId, now: u64) -> (u128, u128) {
        let Some(p) = self.pools.get(pool) else { return (0, 0) };
        let (low, high) = (A::from_number(0), A::from_number(u128::MAX));
        let ended = self.expiry.range((pool, Class::Offer, 0, low)..=(pool, Class::Offer, now, high)).count()
            + self.expiry.range((pool, Class::Dynamic, 0, low)..=(pool, Class::Dynamic, now, high)).count();
        (p.free_len() + ended as u128, p.dynamic_len())
    }

    /// Number of addresses in quarantine.
    #[must_use]
    pub fn declined(&self, now: u64) -> usize {
        let high = A::from_number(u128::MAX);
        self.declined.range((core::ops::Bound::Excluded((now, high)), core::ops::Bound::Unbounded)).count()
    }

    /// Number of addresses that an Ethernet address holds or was offered, under whatever names.
    #[must_use]
    pub fn held_by(&self, mac: Mac, now: u64) -> usize {
        let range = (mac, A::from_number(0))..=(mac, A::from_number(u128::MAX));
        let live =
            |(_, address): &&(Mac, A)| self.leases.get(address).is_some_and(|lease| lease.expires > now);
        self.by_mac.range(range).filter(live).count()
    }

    fn class(&self, pool: PoolId, lease: &Lease<A>) -> Class {
        class(self.is_dynamic(pool, lease.address), lease.state)
    }

    /// What an offer hid, if anything: mostly nothing hides.
    fn unhide(&mut self, address: A) -> Option<Lease<A>> {
        if self.hidden.is_empty() { None } else { self.hidden.remove(&address) }
    }

    /// Swaps an entry with one of the same client, whose place in the indexes it takes; false: there is none.
    fn renew(&mut self, lease: &mut Lease<A>) -> bool {
        let address = lease.address;
        let Some(pool) = self.pool_of(address) else { return false };
        let dynamic = self.is_dynamic(pool, address);
        let Some(entry) = self.leases.get_mut(&address) else { return false };
        let declined = [entry.state, lease.state].contains(&LeaseState::Declined);
        if declined || entry.client != lease.client || entry.mac != lease.mac {
            return false;
        }
        core::mem::swap(entry, lease);
        let end = |lease: &Lease<A>| (pool, class(dynamic, lease.state), lease.expires, address);
        let (before, after) = (end(lease), end(entry));
        if before != after {
            self.expiry.remove(&before);
            if after.2 != NEVER {
                self.expiry.insert(after);
            }
        }
        // It may have had another address since.
        let (client, state) = (entry.client.clone(), entry.state);
        self.find_at(pool, client, address, state);
        true
    }

    /// Has a client found at an address; at one that it was only offered, unless it holds another.
    fn find_at(&mut self, pool: PoolId, client: Client, address: A, state: LeaseState) {
        let holds = |other: &Lease<A>| other.state == LeaseState::Bound && other.address != address;
        if state != LeaseState::Offered || !self.find(pool, &client).is_some_and(holds) {
            self.by_client.insert((pool, client), address);
        }
    }

    fn put(&mut self, mut lease: Lease<A>) -> Option<Lease<A>> {
        let address = lease.address;
        if self.renew(&mut lease) {
            return Some(lease);
        }
        let old = self.unlink(address);
        if let Some(pool) = self.pool_of(address) {
            let class = self.class(pool, &lease);
            if let Some(p) = self.pools.get_mut(pool) {
                p.occupy(address);
            }
            if lease.expires != NEVER {
                self.expiry.insert((pool, class, lease.expires, address));
            }
            // A declined address is nobody's: its client shall find another.
            if lease.state == LeaseState::Declined {
                self.declined.insert((lease.expires, address));
            } else {
                self.find_at(pool, lease.client.clone(), address, lease.state);
            }
        }
        lease.mac.map(|mac| self.by_mac.insert((mac, address)));
        self.leases.insert(address, lease);
        old
    }

    fn take(&mut self, address: A) -> Option<Lease<A>> {
        let old = self.unlink(address);
        if let Some(pool) = self.pool_of(address).and_then(|at| self.pools.get_mut(at)) {
            pool.vacate(address);
        }
        old
    }

    /// Takes an entry out of every index; the pool's intervals are left as they are.
    fn unlink(&mut self, address: A) -> Option<Lease<A>> {
        let old = self.leases.remove(&address)?;
        self.declined.remove(&(old.expires, address));
        old.mac.map(|mac| self.by_mac.remove(&(mac, address)));
        if let Some(pool) = self.pool_of(address) {
            // Reserving takes an entry out and puts it back: its class is the one it came under.
            let class = self.class(pool, &old);
            self.expiry.remove(&(pool, class, old.expires, address));
            let key = (pool, old.client.clone());
            if self.by_client.get(&key) == Some(&address) {
                self.by_client.remove(&key);
            }
        }
        Some(old)
    }
}

fn class(dynamic: bool, state: LeaseState) -> Class {
    match state {
        _ if !dynamic => Class::Fixed,
        LeaseState::Offered => Class::Offer,
        _ => Class::Dynamic,
    }
}

/// FNV-1a: where in a range a client's search begins. It spreads, it protects nothing.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
