//! What is an address pool: which addresses do several subnets share?

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::kind::Kind;
use crate::object::{Object, Spec};
use crate::problem::Checker;
use crate::scalar::AddressRange;
use crate::status::{Condition, Phase};
use crate::subnet::check_ranges;

/// Addresses that several subnets share.
pub type AddressPool = Object<AddressPoolSpec>;

/// What an address pool is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AddressPoolSpec {
    /// Prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub cidrs: Vec<IpNet>,
    /// Ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<AddressRange>,
}

impl AddressPoolSpec {
    /// All its ranges.
    pub fn all(&self) -> impl Iterator<Item = AddressRange> {
        self.cidrs.iter().map(|net| AddressRange::of(*net)).chain(self.ranges.iter().copied())
    }
}

/// How an address pool fares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AddressPoolStatus {
    /// How far it has come.
    pub phase: Phase,
    /// The generation of the spec that this status is about.
    pub observed_generation: u64,
    /// Addresses that are taken.
    pub allocated: u64,
    /// In detail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Spec for AddressPoolSpec {
    const KIND: Kind = Kind::AddressPool;
    type Status = AddressPoolStatus;

    fn check(&self, c: &mut Checker) {
        if self.cidrs.is_empty() && self.ranges.is_empty() {
            c.add("cidrs", "is empty and so is `ranges`", "add a prefix or a range");
        }
        c.each("cidrs", 256, &self.cidrs, |c, i, net| {
            if net.trunc() != *net {
                c.add("", format!("{net} has bits behind the prefix"), format!("write {}", net.trunc()));
            }
            let range = AddressRange::of(*net);
            if let Some(other) = self.cidrs.iter().take(i).find(|o| AddressRange::of(**o).overlaps(&range)) {
                c.add("", format!("{net} overlaps {other}"), "make the prefixes disjoint");
            }
        });
        check_ranges(c, "ranges", &self.ranges, None);
        for (i, range) in self.ranges.iter().take(256).enumerate() {
            if let Some(net) = self.cidrs.iter().find(|net| AddressRange::of(**net).overlaps(range)) {
                let field = format!("ranges[{i}]");
                c.add(&field, format!("{range} overlaps {net}"), "make prefixes and ranges disjoint");
            }
        }
    }
}
