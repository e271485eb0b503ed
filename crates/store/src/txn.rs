//! What does a transaction make of the resources?
//!
//! Pure but for the identity that new resources get: changes are made in a working catalog, with what is needed to undo
//! them, and written to disk only afterwards.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::{Catalog, ObjectRef, Problem, Problems, Resource};

use crate::error::StoreError;
use crate::history::{Change, Event};

/// What must be so for an operation to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// The resource does not exist.
    Absent,
    /// The resource has this version.
    Version(u64),
}

/// One operation.
#[derive(Debug, Clone)]
pub enum Op {
    /// Creates a resource or replaces what is wanted of it: labels, annotations, managed fields and spec. Status and
    /// identity stay.
    Put {
        /// The resource.
        resource: Resource,
        /// On which condition.
        expect: Expect,
    },
    /// Replaces the status of a resource that exists.
    PutStatus {
        /// The resource with its new status.
        resource: Resource,
        /// On which condition.
        expect: Expect,
    },
    /// Deletes a resource that exists.
    Delete {
        /// Which.
        reference: ObjectRef,
        /// On which condition.
        expect: Expect,
    },
}

/// Operations that are done together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// The operations, in order.
    pub ops: Vec<Op>,
    /// Says what would happen, and changes nothing.
    pub dry_run: bool,
}

impl Transaction {
    /// A transaction that puts one resource.
    pub fn put(resource: impl Into<Resource>, expect: Expect) -> Self {
        Self { ops: vec![Op::Put { resource: resource.into(), expect }], dry_run: false }
    }

    /// A transaction that puts the status of one resource.
    pub fn put_status(resource: impl Into<Resource>, expect: Expect) -> Self {
        Self { ops: vec![Op::PutStatus { resource: resource.into(), expect }], dry_run: false }
    }

    /// A transaction that deletes one resource.
    #[must_use]
    pub fn delete(reference: ObjectRef, expect: Expect) -> Self {
        Self { ops: vec![Op::Delete { reference, expect }], dry_run: false }
    }
}

/// What a transaction did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The store's version afterwards.
    pub version: u64,
    /// The resources of the operations, in their order: as they are now, or as they were before they were deleted.
    pub resources: Vec<Arc<Resource>>,
    /// What changed; empty when everything was so already.
    pub events: Vec<Event>,
}

/// What undoes changes of a catalog: in reverse order, what was there before.
#[derive(Debug, Default)]
pub(crate) struct Undo(Vec<(ObjectRef, Option<Arc<Resource>>)>);

impl Undo {
    /// Takes all changes back.
    pub(crate) fn undo(self, catalog: &mut Catalog) {
        for (reference, before) in self.0.into_iter().rev() {
            match before {
                Some(resource) => drop(catalog.insert(resource)),
                None => drop(catalog.remove(&reference)),
            }
        }
    }
}

/// Does a transaction in a catalog. On error the catalog is as before.
///
/// `version` is the version that changes get, `now` seconds since 1970, `room` how many resources there may be.
pub(crate) fn apply(
    catalog: &mut Catalog,
    txn: &Transaction,
    version: u64,
    now: u64,
    room: usize,
) -> Result<(Outcome, Undo), StoreError> {
    let mut work = Work { catalog, version, now, outcome: Outcome::default(), undo: Undo::default() };
    match work.run(&txn.ops, room) {
        Ok(()) => {
            let Work { mut outcome, undo, .. } = work;
            outcome.version = if outcome.events.is_empty() { version - 1 } else { version };
            Ok((outcome, undo))
        }
        Err(error) => {
            let undo = std::mem::take(&mut work.undo);
            undo.undo(work.catalog);
            Err(error)
        }
    }
}

struct Work<'a> {
    catalog: &'a mut Catalog,
    version: u64,
    now: u64,
    outcome: Outcome,
    undo: Undo,
}

impl Work<'_> {
    fn run(&mut self, ops: &[Op], room: usize) -> Result<(), StoreError> {
        let mut wanted = BTreeSet::new();
        let mut gone = BTreeSet::new();
        for op in ops {
            match op {
                Op::Put { resource, expect } => {
                    if self.put(resource, *expect)? {
                        gone.remove(&resource.reference());
                        wanted.insert(resource.reference());
                    }
                }
                Op::PutStatus { resource, expect } => self.put_status(resource, *expect)?,
                Op::Delete { reference, expect } => {
                    self.delete(reference, *expect)?;
                    wanted.remove(reference);
                    gone.insert(reference.clone());
                }
            }
        }
        if self.catalog.len() > room && !wanted.is_empty() {
            return Err(StoreError::Full(room));
        }
        self.check(&wanted, &gone)
    }

    /// Everything that was put must be valid and fit to the rest; nothing that is gone may be referred to.
    fn check(&self, wanted: &BTreeSet<ObjectRef>, gone: &BTreeSet<ObjectRef>) -> Result<(), StoreError> {
        // What was there before the transaction, by resource.
        let mut before = HashMap::new();
        for (reference, resource) in &self.undo.0 {
            before.entry(reference).or_insert(resource.as_ref());
        }
        let before = |reference: &ObjectRef| before.get(reference).copied().flatten();
        let mut problems: Vec<Problem> = Vec::new();
        let mut told = BTreeSet::new();
        for resource in wanted.iter().filter_map(|r| self.catalog.get(r)) {
            problems.extend(resource.validate());
            problems.extend(self.catalog.check(resource));
            for dependent in dependents(self.catalog, before(&resource.reference()), resource) {
                if !wanted.contains(&dependent) && told.insert(dependent.clone()) {
                    problems.extend(
                        self.catalog.get(&dependent).map(|r| self.catalog.check(r)).unwrap_or_default(),
                    );
                }
            }
            if problems.len() > 200 {
                break;
            }
        }
        if !problems.is_empty() {
            problems.truncate(200);
            return Err(StoreError::Invalid(Problems(problems)));
        }
        for object in gone {
            let mut users = self.catalog.users(object);
            if let Some(Resource::Subnet(subnet)) = before(object).map(Arc::as_ref) {
                let inside = |ip: &std::net::IpAddr| subnet.spec.cidr.contains(ip);
                let ports = self.catalog.ports_of(&subnet.spec.network);
                let stranded =
                    ports.filter(|p| p.spec.addresses.iter().chain(&p.status.addresses).any(inside));
                users.extend(stranded.map(weft_model::Port::reference));
            }
            if !users.is_empty() {
                return Err(StoreError::InUse { object: object.clone(), users });
            }
        }
        Ok(())
    }

    fn expect(&self, object: &ObjectRef, expect: Expect) -> Result<Option<Arc<Resource>>, StoreError> {
        let current = self.catalog.get(object).cloned();
        let found = current.as_ref().map_or(0, |r| r.metadata().resource_version);
        let expected = match expect {
            Expect::Any => found,
            Expect::Absent => 0,
            Expect::Version(version) => version,
        };
        if expected != found {
            return Err(StoreError::Conflict { object: object.clone(), expected, found });
        }
        Ok(current)
    }

    /// Puts a resource; `false` when it was so already.
    fn put(&mut self, wanted: &Resource, expect: Expect) -> Result<bool, StoreError> {
        let reference = wanted.reference();
        let current = self.expect(&reference, expect)?;
        let mut new = wanted.clone();
        let changed = match &current {
            Some(current) => {
                new.take_status(current);
                let old = current.metadata();
                let same_spec = current.same_spec(wanted);
                let meta = new.metadata_mut();
                meta.uid.clone_from(&old.uid);
                meta.creation_timestamp = old.creation_timestamp;
                meta.generation = if same_spec { old.generation } else { old.generation + 1 };
                meta.resource_version = old.resource_version;
                new != **current
            }
            None => {
                let mut blank = Resource::clone(wanted);
                clear_status(&mut blank);
                new = blank;
                let meta = new.metadata_mut();
                meta.uid = uuid::Uuid::new_v4().to_string();
                meta.creation_timestamp = self.now;
                meta.generation = 1;
                true
            }
        };
        match current {
            Some(current) if !changed => self.outcome.resources.push(current),
            current => self.store(new, current),
        }
        Ok(changed)
    }

    fn put_status(&mut self, wanted: &Resource, expect: Expect) -> Result<(), StoreError> {
        let reference = wanted.reference();
        let current = self.expect(&reference, expect)?.ok_or(StoreError::NotFound(reference))?;
        let mut new = Resource::clone(&current);
        new.take_status(wanted);
        if new == *current {
            self.outcome.resources.push(current);
        } else {
            self.store(new, Some(current));
        }
        Ok(())
    }

    fn store(&mut self, mut new: Resource, before: Option<Arc<Resource>>) {
        new.metadata_mut().resource_version = self.version;
        let new = Arc::new(new);
        self.undo.0.push((new.reference(), before));
        self.catalog.insert(Arc::clone(&new));
        self.outcome.resources.push(Arc::clone(&new));
        self.outcome.events.push(Event { version: self.version, change: Change::Put, resource: new });
    }

    fn delete(&mut self, reference: &ObjectRef, expect: Expect) -> Result<(), StoreError> {
        let current =
            self.expect(reference, expect)?.ok_or_else(|| StoreError::NotFound(reference.clone()))?;
        self.undo.0.push((reference.clone(), Some(Arc::clone(&current))));
        self.catalog.remove(reference);
        self.outcome.resources.push(Arc::clone(&current));
        self.outcome.events.push(Event { version: self.version, change: Change::Delete, resource: current });
        Ok(())
    }
}

/// What may no longer be right when a network or subnet is changed: what is in it.
fn dependents(catalog: &Catalog, before: Option<&Arc<Resource>>, after: &Resource) -> BTreeSet<ObjectRef> {
    let mut found = BTreeSet::new();
    if before.is_some_and(|before| before.same_spec(after)) {
        return found;
    }
    let mut inside = |network: &str| found.extend(catalog.ports_of(network).map(weft_model::Port::reference));
    match after {
        Resource::Network(network) if before.is_some() => {
            inside(network.name());
            found.extend(catalog.subnets_of(network.name()).map(weft_model::Subnet::reference));
        }
        Resource::Subnet(subnet) => {
            inside(&subnet.spec.network);
            if let Some(before) = before.and_then(|b| b.as_subnet()) {
                inside(&before.spec.network);
            }
            found.extend(catalog.routers_of(subnet).map(weft_model::Router::reference));
        }
        _ => {}
    }
    found
}

fn clear_status(resource: &mut Resource) {
    match resource {
        Resource::Network(o) => o.status = Default::default(),
        Resource::Subnet(o) => o.status = Default::default(),
        Resource::Port(o) => o.status = Default::default(),
        Resource::Router(o) => o.status = Default::default(),
        Resource::AddressPool(o) => o.status = Default::default(),
    }
}
