//! What is a router: which subnets reach each other, and where does the rest go?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dhcp::check_route;
use crate::kind::Kind;
use crate::object::{Object, Spec};
use crate::problem::Checker;
use crate::scalar::{Route, check_label};
use crate::status::{Condition, Phase};

/// Routing between subnets.
pub type Router = Object<RouterSpec>;

/// What a router is to be. It joins the subnets named and all subnets of the networks named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RouterSpec {
    /// Names of subnets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Names of networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Routes beside the subnets' own. The next hop is the address of a Port in one of the router's subnets; of equal
    /// prefixes the first counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Hide what leaves the node from subnets of `routed` and `open` networks behind the node's addresses, IPv4 and IPv6.
    /// Others may still begin connections, if they know the way.
    pub nat: bool,
}

/// How a router fares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RouterStatus {
    /// How far it has come.
    pub phase: Phase,
    /// The generation of the spec that this status is about.
    pub observed_generation: u64,
    /// Subnets that it joins now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// In detail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Spec for RouterSpec {
    const KIND: Kind = Kind::Router;
    type Status = RouterStatus;

    fn check(&self, c: &mut Checker) {
        if self.subnets.is_empty() && self.networks.is_empty() {
            c.add("subnets", "is empty and so is `networks`", "name what the router joins");
        }
        for (field, names) in [("subnets", &self.subnets), ("networks", &self.networks)] {
            c.each(field, 1_024, names, |c, i, name| {
                c.text("", name, check_label(name), "write the name of a resource");
                if names.iter().take(i).any(|other| other == name) {
                    c.add("", format!("{name} is there twice"), "remove one");
                }
            });
        }
        c.each("routes", 1_024, &self.routes, |c, _, route| check_route(c, route));
    }
}
