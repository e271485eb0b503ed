//! Which words do requests and answers use?

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weft_model::{MacAddr, ObjectRef, Problem, Resource};

/// `GET` of a kind: which resources.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListQuery {
    /// Conditions on labels: `tier=web,env in (lab,test),!old`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<String>,
}

/// `GET …/watch`: changes of which resources, from when on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WatchQuery {
    /// Only this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only this resource of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Conditions on labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<String>,
    /// Changes after this version; absent: first everything that is there, then changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<u64>,
}

/// A change of one resource: under which conditions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WriteQuery {
    /// Who changes it; the fields that change are theirs then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_manager: Option<String>,
    /// Say what would happen, and change nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Only if the resource still has this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<u64>,
}

/// A server-side apply: by whom, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApplyQuery {
    /// Who says what the documents say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_manager: Option<String>,
    /// Take fields from other managers that say otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Say what would happen, and change nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Resources and the version at which they were so.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAnswer {
    /// `weft.dev/v1`.
    pub api_version: String,
    /// `List`.
    pub kind: String,
    /// The version at which it was so; watch from here.
    pub resource_version: u64,
    /// The resources.
    pub items: Vec<Resource>,
}

/// What became of one document of an apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// The resource is new.
    Created,
    /// The resource changed.
    Configured,
    /// It was so already.
    Unchanged,
}

impl Applied {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What an apply came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyAnswer {
    /// The store's version afterwards.
    pub resource_version: u64,
    /// What became of each document, in their order.
    pub results: Vec<Applied>,
    /// The resources as they are now (or would be), in the same order.
    pub items: Vec<Resource>,
    /// As they were before; `null` for new ones. For showing differences.
    pub before: Vec<Option<Resource>>,
}

/// What a deletion came to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// The store's version afterwards.
    pub resource_version: u64,
    /// What is gone (or would be).
    pub deleted: Vec<ObjectRef>,
}

/// What happened to a watched resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum WatchEventType {
    /// It is there, new, or changed.
    Put,
    /// It is gone; `object` is as it was.
    Delete,
    /// Nothing; everything up to `resourceVersion` has been told.
    Bookmark,
    /// The watch ends; `error` says why.
    Error,
}

/// One line of a watch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchEvent {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: WatchEventType,
    /// The store's version after it.
    pub resource_version: u64,
    /// The resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Resource>,
    /// Why the watch ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// A field that somebody else owns and that has another value there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldConflict {
    /// The resource.
    pub object: ObjectRef,
    /// The field: `spec.mtu`.
    pub field: String,
    /// Who owns it.
    pub manager: String,
}

/// An answer that is an error.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorAnswer {
    /// The error.
    pub error: ErrorBody,
}

/// Why something was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// One word for programs: `Invalid`, `Conflict`, `NotFound`, `InUse`, `Gone`, `BadRequest`, `Unauthorized`,
    /// `TooLarge`, `TooManyRequests`, `Internal`.
    pub code: String,
    /// For people.
    pub message: String,
    /// Everything that is wrong with what was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// Fields that others own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<FieldConflict>,
    /// Resources that refer to the one to be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<ObjectRef>,
}

/// Whether the server works.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// The store's version.
    pub resource_version: u64,
    /// Version of the program.
    pub version: String,
}

/// A lease for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    /// Network.
    pub network: String,
    /// Subnet.
    pub subnet: String,
    /// Address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Hardware address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Client identifier or DUID, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Name of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Port that the client is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// `bound`, `offered`, `declined`, `static`.
    pub state: String,
    /// When it ends, seconds since 1970; 0: never.
    pub expires: u64,
}

/// What a flow of the agent's is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowOwner {
    /// The flow's cookie, as in `0x5702200000000001`.
    pub cookie: String,
    /// The resource that it serves; absent: the node as a whole, or a resource that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// What it does, in words.
    pub purpose: String,
    /// Whether it drops.
    pub drops: bool,
}

/// How the agent of a node fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Name of the node.
    pub node: String,
    /// Version of the program.
    pub version: String,
    /// Seconds since the agent started.
    pub uptime_seconds: u64,
    /// Version of the store that is in force on the switch.
    pub programmed_version: u64,
    /// Version of the store.
    pub resource_version: u64,
    /// Whether the switch answers.
    pub switch_connected: bool,
    /// What is known of the switch: name, version, datapath.
    pub switch: String,
    /// Flows of the integration bridge.
    pub flows: u64,
    /// Counters by name: mends by cause, packets answered by service.
    pub counters: BTreeMap<String, u64>,
    /// What is wrong now.
    pub troubles: Vec<String>,
}
