//! How does a resource tell how it fares?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a resource has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
pub enum Phase {
    /// Accepted; not everything it needs is there yet.
    #[default]
    Pending,
    /// In force.
    Ready,
    /// Cannot be put in force as it stands; a condition says why.
    Error,
}

impl Phase {
    /// The word in documents and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Ready => "Ready",
            Self::Error => "Error",
        }
    }
}

/// One aspect of how a resource fares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// What is told, a word such as `Programmed` or `AddressAllocated`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: bool,
    /// Why, one word for programs: `DeviceMissing`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, a sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When `status` changed last, seconds since 1970.
    #[serde(default)]
    pub last_transition: u64,
}

impl Condition {
    /// Puts a condition into a list: replaces the one of the same type, and keeps its time when `status` stays.
    pub fn set(list: &mut Vec<Self>, mut condition: Self) {
        match list.iter_mut().find(|c| c.kind == condition.kind) {
            Some(old) => {
                if old.status == condition.status {
                    condition.last_transition = old.last_transition;
                }
                *old = condition;
            }
            None => list.push(condition),
        }
    }
}
