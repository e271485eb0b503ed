//! How is a resource shown in a line of a table, and in full?

use weft_model::{Attachment, AttachmentRef, Condition, Kind, NetworkMode, Phase, Resource};

/// The headings of a table of a kind, without the age, which needs a clock.
#[must_use]
pub const fn columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Network => &["NAME", "PHASE", "MODE", "KEY", "MTU", "DOMAIN", "PORTS"],
        Kind::Subnet => &["NAME", "PHASE", "NETWORK", "CIDR", "GATEWAY", "DHCP", "ALLOCATED", "LEASES"],
        Kind::Port => &["NAME", "PHASE", "NETWORK", "ADDRESSES", "MAC", "NODE", "ATTACHMENT"],
        Kind::Router => &["NAME", "PHASE", "JOINS", "ROUTES", "NAT"],
        Kind::AddressPool => &["NAME", "PHASE", "ADDRESSES", "ALLOCATED"],
    }
}

/// The cells of a resource, as many as [`columns`] of its kind.
#[must_use]
pub fn row(resource: &Resource) -> Vec<String> {
    let name = resource.name().to_owned();
    let phase = phase(resource).name().to_owned();
    match resource {
        Resource::Network(o) => vec![
            name,
            phase,
            mode(o.spec.mode).to_owned(),
            or_dash(o.key()),
            or_dash(o.spec.mtu.or(o.status.mtu)),
            or_dash(o.spec.domain.as_ref().map(|d| &d.name)),
            o.status.ports.to_string(),
        ],
        Resource::Subnet(o) => vec![
            name,
            phase,
            o.spec.network.clone(),
            o.spec.cidr.to_string(),
            o.status.gateway.map_or_else(|| o.spec.gateway.to_string(), |ip| ip.to_string()),
            match o.spec.dhcp.enabled {
                Some(true) => "yes".to_owned(),
                Some(false) => "no".to_owned(),
                None => "auto".to_owned(),
            },
            o.status.allocated.to_string(),
            o.status.leases.to_string(),
        ],
        Resource::Port(o) => vec![
            name,
            phase,
            o.spec.network.clone(),
            list(if o.status.addresses.is_empty() { &o.spec.addresses } else { &o.status.addresses }),
            or_dash(o.status.mac.or(o.spec.mac)),
            or_dash(o.status.node.as_ref().or(o.spec.node.as_ref())),
            o.spec.attachment.as_ref().map_or_else(|| "-".to_owned(), attachment),
        ],
        Resource::Router(o) => {
            let joins: Vec<&String> = o.spec.subnets.iter().chain(&o.spec.networks).collect();
            vec![name, phase, list(&joins), o.spec.routes.len().to_string(), o.spec.nat.to_string()]
        }
        Resource::AddressPool(o) => {
            let cidrs = o.spec.cidrs.iter().map(ToString::to_string);
            let all: Vec<String> = cidrs.chain(o.spec.ranges.iter().map(ToString::to_string)).collect();
            vec![name, phase, list(&all), o.status.allocated.to_string()]
        }
    }
}

/// How a resource fares, line by line: phase, and each condition with its reason.
#[must_use]
pub fn describe(resource: &Resource) -> Vec<String> {
    let mut lines = vec![format!("Phase: {}", phase(resource).name())];
    for condition in conditions(resource) {
        let mut line = format!("{}: {}", condition.kind, condition.status);
        if !condition.reason.is_empty() {
            line.push_str(&format!(" ({})", condition.reason));
        }
        if !condition.message.is_empty() {
            line.push_str(&format!(" – {}", condition.message));
        }
        lines.push(line);
    }
    lines
}

fn phase(resource: &Resource) -> Phase {
    match resource {
        Resource::Network(o) => o.status.phase,
        Resource::Subnet(o) => o.status.phase,
        Resource::Port(o) => o.status.phase,
        Resource::Router(o) => o.status.phase,
        Resource::AddressPool(o) => o.status.phase,
    }
}

fn conditions(resource: &Resource) -> &[Condition] {
    match resource {
        Resource::Network(o) => &o.status.conditions,
        Resource::Subnet(o) => &o.status.conditions,
        Resource::Port(o) => &o.status.conditions,
        Resource::Router(o) => &o.status.conditions,
        Resource::AddressPool(o) => &o.status.conditions,
    }
}

const fn mode(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::Isolated => "isolated",
        NetworkMode::Nat => "nat",
        NetworkMode::Routed => "routed",
        NetworkMode::Open => "open",
        NetworkMode::Bridged => "bridged",
        NetworkMode::Private => "private",
    }
}

fn attachment(attachment: &Attachment) -> String {
    match attachment.get() {
        None => "-".to_owned(),
        Some(AttachmentRef::Netns(n)) => {
            format!("netns {}", n.name.as_deref().or(n.path.as_deref()).unwrap_or("-"))
        }
        Some(AttachmentRef::Tap(tap)) => format!("tap {}", tap.name),
        Some(AttachmentRef::VhostUser(vhost)) => format!("vhost-user {}", vhost.socket),
        Some(AttachmentRef::IfaceId(id)) => format!("iface-id {id}"),
        Some(AttachmentRef::Device(device)) => format!("device {device}"),
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn list(values: &[impl ToString]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
