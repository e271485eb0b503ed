//! How do resources fare on this node? What the agent writes back.

use weft_model::{Bandwidth, Catalog, Condition, Network, NetworkMode, Phase, Port};

use crate::{nat, resolve};

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

/// Whether all that is written has its effect; what has none is named, with the mend.
fn effects(conditions: &mut Vec<Condition>, idle: &[String], now: u64) {
    const KIND: &str = "AsWritten";
    if idle.is_empty() {
        conditions.retain(|c| c.kind != KIND);
        return;
    }
    let (kind, reason, message) = (KIND.into(), "NoEffect".into(), idle.join("; "));
    Condition::set(conditions, Condition { kind, status: false, reason, message, last_transition: now });
}

/// What of a network has no effect.
fn idle(network: &Network, catalog: &Catalog) -> Vec<String> {
    let spec = &network.spec;
    let mut out = nat::idle(catalog, network);
    if spec.mode == NetworkMode::Private && spec.bridged.is_none() {
        out.push("mode: private reaches nothing without `bridged`: add `bridged: {uplink: DEVICE}`".into());
    }
    match &spec.vlan {
        Some(_) if spec.bridged.is_none() => {
            out.push("vlan: nothing is tagged without `bridged`: add it, or take `vlan` out".into());
        }
        _ => {}
    }
    out
}

/// What of a port's VLANs has no effect.
fn unheard(port: &Port, network: Option<&Network>) -> Option<String> {
    let (vlan, network) = port.spec.vlan.as_ref().zip(network)?;
    if network.spec.bridged.is_none() {
        return Some("vlan: tags lead nowhere in a network without `bridged`: take `vlan` out".into());
    }
    let missing = vlan.id.iter().chain(&vlan.trunk).filter(|id| !resolve::has_vlan(&network.spec, **id));
    let missing: Vec<String> = missing.map(u16::to_string).collect();
    let (ids, name) = (missing.join(", "), network.name());
    (!missing.is_empty()).then(|| {
        format!(
            "vlan: {ids} not in `vlan.trunk` of Network/{name}, and not carried: add there what is to pass"
        )
    })
}

/// A port with what is known of it.
pub(crate) fn port(
    port: &Port,
    network: Option<&Network>,
    fault: &Fault,
    at: Option<(String, u32)>,
    node: &str,
    now: u64,
) -> Port {
    let mut out = port.clone();
    let status = &mut out.status;
    status.mac = Some(port.mac());
    status.observed_generation = port.metadata.generation;
    status.phase = ready(&mut status.conditions, fault, now);
    limits(&mut status.conditions, port.spec.bandwidth.as_ref(), now);
    effects(&mut status.conditions, unheard(port, network).as_slice(), now);
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
    effects(&mut status.conditions, &idle(network, catalog), now);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_effect_is_named_until_it_is_gone() {
        let read = |spec: &str| {
            let text =
                format!("apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: n}}\nspec: {{{spec}}}\n");
            let resource = weft_model::parse_one(&text).unwrap();
            resource.as_network().cloned().unwrap()
        };
        let told = |network: &Network| {
            let out = super::network(network, &Catalog::new(), &None, 1500, 7);
            out.status.conditions.into_iter().find(|c| c.kind == "AsWritten").map(|c| c.message)
        };
        for (spec, word) in [
            ("mode: private", "mode: private reaches nothing without `bridged`"),
            ("mode: nat, vlan: {id: 7}", "vlan: nothing is tagged"),
            ("mode: nat, nat: {forwards: [{listen: {port: 80}, to: {name: web}}]}", "there is no Port web"),
        ] {
            let mut network = read(spec);
            let message = told(&network).unwrap_or_default();
            assert!(message.contains(word), "{spec}: {message:?}");
            network.status = super::network(&network, &Catalog::new(), &None, 1500, 7).status;
            network.spec = read("mode: isolated").spec;
            assert_eq!(told(&network), None);
        }
        assert_eq!(told(&read("mode: private, bridged: {uplink: up0}, vlan: {id: 7}")), None);
    }
}
