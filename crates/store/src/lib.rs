//! Where is intent kept, so that nothing that was acknowledged is ever lost?
//!
//! [`Store`] is the contract: resources under kind and name, changed by transactions, watched from a version on; and
//! leases, which change often and are watched by nobody. [`Embedded`] keeps them in one file on the node. What a
//! transaction acknowledged is on disk. Every transaction that changes something gets the next *version*; all resources
//! that it changed carry it as `metadata.resourceVersion`.
//!
//! The store also keeps resources consistent: a transaction after which a resource would be invalid, would contradict
//! another one, or would refer to one that is gone is refused as a whole.
//!
//! ```text
//!   commit(), write_leases() ──▶ writer thread ──▶ redb, one fsync for all that waited ──▶ published catalog + history
//!                                                                                                │          │
//!                                                          get(), list() ◀───────────────────────┘          └──▶ watch()
//! ```

mod embedded;
mod error;
mod history;
mod selector;
mod txn;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::{Catalog, Kind, ObjectRef, Resource};

pub use embedded::{Embedded, Options};
pub use error::StoreError;
pub use history::{Change, Event, Watch};
pub use selector::{Selector, SelectorError};
pub use txn::{Expect, Op, Outcome, Transaction};

/// A store of resources and leases.
pub trait Store: Send + Sync + 'static {
    /// The resource of this kind and name.
    fn get(
        &self,
        reference: &ObjectRef,
    ) -> impl Future<Output = Result<Option<Arc<Resource>>, StoreError>> + Send;

    /// All resources of a kind (of all kinds without one) that a selector chooses, with the version at which that was so.
    fn list(
        &self,
        kind: Option<Kind>,
        selector: &Selector,
    ) -> impl Future<Output = Result<Listing, StoreError>> + Send;

    /// All resources with their indexes, and the version at which they were so.
    fn catalog(&self) -> impl Future<Output = Result<(Catalog, u64), StoreError>> + Send;

    /// Does all operations of a transaction or none. When it returns, they are durable.
    fn commit(&self, txn: Transaction) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// All changes after a version, each once, in order: those that happened and those to come.
    ///
    /// [`StoreError::Compacted`] when the history does not reach back that far; then list, and watch from there.
    fn watch(&self, after: u64) -> impl Future<Output = Result<Watch, StoreError>> + Send;

    /// The version of the last change.
    fn version(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// All leases of a subnet, or of all subnets.
    fn leases(&self, subnet: Option<&str>) -> impl Future<Output = Result<Vec<Lease>, StoreError>> + Send;

    /// Writes leases, all or none. When it returns, they are durable.
    fn write_leases(&self, writes: Vec<LeaseWrite>) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What [`Store::list`] found.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The version at which it was so; watch from here.
    pub version: u64,
    /// The resources, in the order of [`Kind::ALL`] and by name.
    pub items: Vec<Arc<Resource>>,
}

/// One lease as it is kept. The store does not look into `value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Name of the subnet.
    pub subnet: String,
    /// The address.
    pub address: IpAddr,
    /// Who has it, until when: written and read by whoever gives leases.
    pub value: Vec<u8>,
}

/// A change of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseWrite {
    /// The address is leased, or its lease changed.
    Put(Lease),
    /// The address is no longer leased.
    Remove {
        /// Name of the subnet.
        subnet: String,
        /// The address.
        address: IpAddr,
    },
}
