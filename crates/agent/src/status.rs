//! How do resources fare on this node? What the agent writes back.

use weft_model::{Bandwidth, Catalog, Condition, Network, Phase, Port};

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

/// Whether limits are held as they are written, where there are any: a meter drops, it does not shape.
fn limits(conditions: &mut Vec<Condition>, bandwidth: Option<&Bandwidth>, now: u64) {
    const KIND: &str = "BandwidthAsWritten";
    let rates = bandwidth.into_iter().flat_map(|b| [&b.inbound, &b.outbound]).flatten();
    if !rates.into_iter().any(|rate| rate.peak.is_some() || rate.floor.is_some()) {
        conditions.retain(|c| c.kind != KIND);
        return;
    }
    let message =
        "what exceeds `average` is dropped, after a `burst`; `peak` and `floor` have no effect".into();
    let (kind, reason) = (KIND.into(), "Policed".into());
    Condition::set(conditions, Condition { kind, status: false, reason, message, last_transition: now });
}

/// A port with what is known of it.
pub(crate) fn port(port: &Port, fault: &Fault, at: Option<(String, u32)>, node: &str, now: u64) -> Port {
    let mut out = port.clone();
    let status = &mut out.status;
    status.mac = Some(port.mac());
    status.observed_generation = port.metadata.generation;
    status.phase = ready(&mut status.conditions, fault, now);
    limits(&mut status.conditions, port.spec.bandwidth.as_ref(), now);
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
    limits(&mut status.conditions, network.spec.bandwidth.as_ref(), now);
    out
}
