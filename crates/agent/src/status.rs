//! How do resources fare on this node? What the agent writes back.

use weft_model::{Catalog, Condition, Network, Phase, Port};

/// Why a port is not ready, in a word and in words; `None`: it is.
pub(crate) type Fault = Option<(&'static str, String)>;

fn ready(conditions: &mut Vec<Condition>, fault: &Fault, now: u64) -> Phase {
    let (reason, message) = fault.clone().map_or(("Programmed", String::new()), |(r, m)| (r, m));
    let condition = Condition {
        kind: "Ready".into(),
        status: fault.is_none(),
        reason: reason.into(),
        message,
        last_transition: now,
    };
    Condition::set(conditions, condition);
    match fault {
        None => Phase::Ready,
        Some(("NotPlugged" | "SwitchGone" | "Elsewhere", _)) => Phase::Pending,
        Some(_) => Phase::Error,
    }
}

/// A port with what is known of it.
pub(crate) fn port(port: &Port, fault: &Fault, at: Option<(String, u32)>, node: &str, now: u64) -> Port {
    let mut out = port.clone();
    let status = &mut out.status;
    status.mac = Some(port.mac());
    status.observed_generation = port.metadata.generation;
    status.phase = ready(&mut status.conditions, fault, now);
    status.node = at.as_ref().map(|_| node.to_owned());
    (status.interface, status.ofport) = at.map_or((None, None), |(name, number)| (Some(name), Some(number)));
    out
}

/// A network with what is known of it.
pub(crate) fn network(network: &Network, catalog: &Catalog, fault: &Fault, mtu: u16, now: u64) -> Network {
    let mut out = network.clone();
    let status = &mut out.status;
    status.observed_generation = network.metadata.generation;
    status.mtu = Some(network.mtu(mtu));
    status.ports = catalog.port_count(network.name()) as u32;
    status.phase = ready(&mut status.conditions, fault, now);
    out
}
