//! What do people mean when they ask for a network?
//!
//! Five kinds of resource, `apiVersion: weft.dev/v1`: [`Network`], [`Subnet`], [`Port`], [`Router`] and [`AddressPool`].
//! Each is an [`Object`]: metadata, a *spec* that people write and a *status* that the agent writes.
//!
//! The way of a document: [`parse`] turns YAML or JSON into [`Resource`]s or into [`Problem`]s that name line, field and
//! mend; [`Resource::validate`] says everything that is wrong with one resource by itself; a [`Catalog`] says what is
//! wrong between resources. [`Allocator`] hands out addresses.
//!
//! Pure: no I/O, no clock, no randomness. Whoever stores resources gives them identity and time.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod alloc;
mod catalog;
mod derive;
mod dhcp;
mod dns;
mod kind;
mod network;
mod object;
mod parse;
mod pool;
mod port;
mod problem;
mod router;
mod scalar;
mod schema;
mod status;
mod subnet;

pub use alloc::{AllocError, Allocator};
pub use catalog::Catalog;
pub use derive::{DEFAULT_UNDERLAY_MTU, stable_mac};
pub use dhcp::{
    Dhcp, DhcpHost, DhcpOptions, DhcpRange, IpxeBoot, PxeBoot, RawOption, RouterAdvertisement, parse_hex,
};
pub use dns::{Dns, DnsHost, Domain, Forwarder, SrvProtocol, SrvRecord, TxtRecord};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use kind::{Kind, UnknownKind};
pub use network::{
    Bandwidth, Bridged, Forward, ForwardTarget, Listen, Nat, Network, NetworkMode, NetworkSpec,
    NetworkStatus, Overlay, OverlayKind, Protocol, Rate, Vlan, VlanNativeMode,
};
pub use object::{API_VERSION, ManagedFields, Metadata, Object, ObjectRef, Resource, Spec};
pub use parse::{
    Draft, MAX_DOCUMENT, MAX_DOCUMENTS, MAX_TEXT, Parsed, parse, parse_drafts, parse_one, resource_from_value,
};
pub use pool::{AddressPool, AddressPoolSpec, AddressPoolStatus};
pub use port::{
    AddressPair, Attachment, AttachmentRef, Netns, Port, PortSpec, PortStatus, Tap, VhostMode, VhostUser,
};
pub use problem::{Checker, Problem, Problems};
pub use router::{Router, RouterSpec, RouterStatus};
pub use scalar::{AddressRange, MacAddr, PortRange, RangeError, Route, check_domain, check_label};
pub use status::{Condition, Phase};
pub use subnet::{Gateway, Subnet, SubnetSpec, SubnetStatus};
