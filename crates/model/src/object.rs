//! What do all resources have in common?

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::kind::Kind;
use crate::network::Network;
use crate::pool::AddressPool;
use crate::port::Port;
use crate::problem::{Checker, Problem, clip};
use crate::router::Router;
use crate::scalar::check_label;
use crate::subnet::Subnet;

/// The version of these resources.
pub const API_VERSION: &str = "weft.dev/v1";

/// What a kind of resource is made of.
pub trait Spec: Serialize + DeserializeOwned + Clone + fmt::Debug + PartialEq {
    /// The kind.
    const KIND: Kind;
    /// What the agent says about it.
    type Status: Serialize + DeserializeOwned + Clone + fmt::Debug + PartialEq + Default;

    /// Notes everything that is wrong with a spec by itself.
    fn check(&self, checker: &mut Checker);
}

/// One resource: metadata, what is wanted, and how it fares.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<S: Spec> {
    /// Name, labels, identity.
    pub metadata: Metadata,
    /// What is wanted; people write it.
    pub spec: S,
    /// How it fares; the agent writes it.
    pub status: S::Status,
}

impl<S: Spec> Object<S> {
    /// A resource as somebody would write it: without identity, without status.
    pub fn new(name: impl Into<String>, spec: S) -> Self {
        Self { metadata: Metadata::named(name), spec, status: S::Status::default() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Kind and name.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        ObjectRef { kind: S::KIND, name: self.metadata.name.clone() }
    }

    /// Everything that is wrong with it by itself; empty when it is fine.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut checker = Checker::at("metadata");
        self.metadata.check(&mut checker);
        let mut problems = checker.finish();
        let mut checker = Checker::at("spec");
        self.spec.check(&mut checker);
        problems.extend(checker.finish());
        for problem in &mut problems {
            problem.object = Some(self.reference());
        }
        problems
    }
}

impl<S: Spec> Serialize for Object<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut object = serializer.serialize_struct("Object", 5)?;
        object.serialize_field("apiVersion", API_VERSION)?;
        object.serialize_field("kind", S::KIND.name())?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("spec", &self.spec)?;
        if self.status == S::Status::default() {
            object.skip_field("status")?;
        } else {
            object.serialize_field("status", &self.status)?;
        }
        object.end()
    }
}

/// An object as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw<S, T> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
    #[serde(default = "Option::default")]
    status: Option<T>,
}

impl<'de, S: Spec> Deserialize<'de> for Object<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: Raw<S, S::Status> = Raw::deserialize(deserializer)?;
        if raw.api_version != API_VERSION {
            let got = clip(&raw.api_version);
            return Err(D::Error::custom(format!("apiVersion is {got:?} and not {API_VERSION}")));
        }
        if raw.kind != S::KIND.name() {
            return Err(D::Error::custom(format!("kind is {:?} and not {}", clip(&raw.kind), S::KIND)));
        }
        Ok(Self { metadata: raw.metadata, spec: raw.spec, status: raw.status.unwrap_or_default() })
    }
}

/// Name, labels and identity of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Its name, unique among its kind: a DNS label of lower-case letters, digits and hyphens.
    pub name: String,
    /// What it is found by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What tools remember about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Its identity, which a later resource of the same name does not share. The store gives it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Counts changes of the spec. The store gives it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// The store's version at its last change. Given back with a change, the change is refused if it is stale.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resource_version: u64,
    /// When it was created, seconds since 1970. The store gives it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub creation_timestamp: u64,
    /// Who said which field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_fields: Vec<ManagedFields>,
}

/// The fields that one manager said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedFields {
    /// Who: `weft-apply`, `libvirt`.
    pub manager: String,
    /// Which, as JSON pointers (RFC 6901): `/spec/dns/forwarders`.
    pub fields: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it by reference.
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Metadata {
    /// Metadata that say a name and nothing else.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn check(&self, c: &mut Checker) {
        let mend = "write one label of a-z, 0-9 and hyphen, at most 63 long";
        c.text("name", &self.name, check_label(&self.name), mend);
        if self.labels.len() > 64 {
            c.add("labels", format!("has {} entries", self.labels.len()), "keep to 64 at most");
        }
        for (key, value) in &self.labels {
            let field = format!("labels[{}]", clip(key));
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if key.is_empty() || key.len() > 253 || !key.chars().all(|c| fits(c) || c == '/') {
                c.add(
                    &field,
                    "is not the key of a label",
                    "use letters, digits, hyphen, underscore, dot, slash",
                );
            }
            if value.len() > 63 || !value.chars().all(fits) {
                c.add(
                    &field,
                    "is not the value of a label",
                    "use at most 63 letters, digits, hyphen, underscore, dot",
                );
            }
        }
        let size: usize = self.annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        if size > 256 * 1024 {
            c.add("annotations", format!("are {size} bytes"), "keep to 256 KiB at most");
        }
        if self.uid.len() > 64 {
            c.add("uid", "is longer than 64 bytes", "remove it; the store gives it");
        }
    }
}

/// Kind and name, written `Network/blue`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct ObjectRef {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// A reference.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl FromStr for ObjectRef {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) =
            text.split_once('/').ok_or_else(|| format!("{:?} is not KIND/NAME", clip(text)))?;
        let kind = kind.parse::<Kind>().map_err(|e| e.to_string())?;
        check_label(name).map_err(|why| format!("name {:?} {why}", clip(name)))?;
        Ok(Self::new(kind, name))
    }
}

/// A resource of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    /// A network.
    Network(Network),
    /// A subnet.
    Subnet(Subnet),
    /// A port.
    Port(Port),
    /// A router.
    Router(Router),
    /// An address pool.
    AddressPool(AddressPool),
}

/// Does the same with the object of any kind.
macro_rules! each {
    ($resource:expr, $object:ident => $result:expr) => {
        match $resource {
            Resource::Network($object) => $result,
            Resource::Subnet($object) => $result,
            Resource::Port($object) => $result,
            Resource::Router($object) => $result,
            Resource::AddressPool($object) => $result,
        }
    };
}

impl Resource {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Network(_) => Kind::Network,
            Self::Subnet(_) => Kind::Subnet,
            Self::Port(_) => Kind::Port,
            Self::Router(_) => Kind::Router,
            Self::AddressPool(_) => Kind::AddressPool,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata().name
    }

    /// Kind and name.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        each!(self, o => o.reference())
    }

    /// Name, labels, identity.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        each!(self, o => &o.metadata)
    }

    /// Name, labels, identity, to be changed.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        each!(self, o => &mut o.metadata)
    }

    /// Everything that is wrong with it by itself; empty when it is fine.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        each!(self, o => o.validate())
    }

    /// True when both want the same: kind, name and spec are equal.
    #[must_use]
    pub fn same_spec(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Network(a), Self::Network(b)) => a.spec == b.spec,
            (Self::Subnet(a), Self::Subnet(b)) => a.spec == b.spec,
            (Self::Port(a), Self::Port(b)) => a.spec == b.spec,
            (Self::Router(a), Self::Router(b)) => a.spec == b.spec,
            (Self::AddressPool(a), Self::AddressPool(b)) => a.spec == b.spec,
            _ => false,
        }
    }

    /// Takes over the status of another resource of the same kind.
    pub fn take_status(&mut self, from: &Self) {
        match (self, from) {
            (Self::Network(a), Self::Network(b)) => a.status.clone_from(&b.status),
            (Self::Subnet(a), Self::Subnet(b)) => a.status.clone_from(&b.status),
            (Self::Port(a), Self::Port(b)) => a.status.clone_from(&b.status),
            (Self::Router(a), Self::Router(b)) => a.status.clone_from(&b.status),
            (Self::AddressPool(a), Self::AddressPool(b)) => a.status.clone_from(&b.status),
            _ => {}
        }
    }

    /// The resource as a JSON value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        // Maps with text keys and numbers of 64 bits: nothing in a resource can fail to be a JSON value.
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// The resource as a YAML document without a `---` line.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_yaml_ng::to_string(self).unwrap_or_default()
    }

    /// The network, if it is one.
    #[must_use]
    pub const fn as_network(&self) -> Option<&Network> {
        if let Self::Network(o) = self { Some(o) } else { None }
    }

    /// The subnet, if it is one.
    #[must_use]
    pub const fn as_subnet(&self) -> Option<&Subnet> {
        if let Self::Subnet(o) = self { Some(o) } else { None }
    }

    /// The port, if it is one.
    #[must_use]
    pub const fn as_port(&self) -> Option<&Port> {
        if let Self::Port(o) = self { Some(o) } else { None }
    }

    /// The router, if it is one.
    #[must_use]
    pub const fn as_router(&self) -> Option<&Router> {
        if let Self::Router(o) = self { Some(o) } else { None }
    }

    /// The address pool, if it is one.
    #[must_use]
    pub const fn as_pool(&self) -> Option<&AddressPool> {
        if let Self::AddressPool(o) = self { Some(o) } else { None }
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        each!(self, o => o.serialize(serializer))
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        crate::parse::resource_from_value(value).map_err(D::Error::custom)
    }
}

macro_rules! from_object {
    ($($variant:ident),*) => { $(
        impl From<$variant> for Resource {
            fn from(object: $variant) -> Self {
                Self::$variant(object)
            }
        }
    )* };
}
from_object!(Network, Subnet, Port, Router, AddressPool);
