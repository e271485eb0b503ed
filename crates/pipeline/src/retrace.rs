//! What would become of the copies of a traced packet that are looked up again?
//!
//! Connection tracking is not asked: each packet is in the state that the caller says, or else starts a connection.

use std::collections::VecDeque;
use std::net::IpAddr;

use weft_flow::{
    CT_DNAT, CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_SNAT, CT_TRK, EXTRA_CT, FlowKey, Nat, NatSide,
};

use crate::trace::{Pending, ResumedTrace, Trace};
use crate::walk::{self, Mode, Outcome, View};

/// Passes that a trace follows.
const MAX_PASSES: usize = 64;
/// States by name, in the order in which they are written.
const STATES: [(u16, &str); 8] = [
    (CT_NEW, "new"),
    (CT_EST, "est"),
    (CT_REL, "rel"),
    (CT_RPL, "rpl"),
    (CT_INV, "inv"),
    (CT_TRK, "trk"),
    (CT_SNAT, "snat"),
    (CT_DNAT, "dnat"),
];

/// Resumes what a trace left to be resumed; `states` are those that packets have then, in order. Returns what the walks
/// came to.
pub(crate) fn follow(
    view: &View<'_>,
    trace: &mut Trace,
    states: &[u16],
    mode: Mode,
    now_ms: u64,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut waiting: VecDeque<Pending> = std::mem::take(&mut trace.pending).into();
    let mut states = states.iter().copied();
    while let Some(next) = waiting.pop_front()
        && trace.resumed.len() < MAX_PASSES
    {
        let state = states.next();
        let mut title = vec![headline(next.id, state)];
        let mut key = *next.key;
        key.packet.extras |= EXTRA_CT;
        key.ct = Default::default();
        (key.ct.state, key.ct.zone) = (state.unwrap_or(CT_TRK | CT_NEW), next.zone);
        if let Some(nat) = &next.nat {
            title.push("Replacing src/dst IP/ports to simulate NAT:".to_owned());
            title.push(format!(" Initial flow: {}", endpoints(&key, nat)));
            translate(&mut key, nat);
            title.push(format!(" Modified flow: {}", endpoints(&key, nat)));
        }
        let mut outcome = walk::received(view, &key, now_ms, mode);
        let mut later = outcome.trace.take().unwrap_or_default();
        outcomes.push(outcome);
        waiting.extend(std::mem::take(&mut later.pending));
        trace.resumed.push(ResumedTrace { title, trace: later });
    }
    outcomes
}

fn headline(id: u32, state: Option<u16>) -> String {
    match state {
        None => format!(
            "recirc({id:#x}) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)"
        ),
        Some(state) => {
            let names: Vec<_> = STATES.iter().filter(|(bit, _)| state & bit != 0).map(|(_, n)| *n).collect();
            format!("recirc({id:#x}) - resume conntrack with ct_state={}", names.join("|"))
        }
    }
}

/// What a translation may change.
fn endpoints(key: &FlowKey, nat: &Nat) -> String {
    let p = &key.packet;
    if nat.side.is_none() {
        return String::new();
    }
    let (src, dst): (IpAddr, IpAddr) = match p.eth_type {
        0x86dd => (p.ipv6_src.into(), p.ipv6_dst.into()),
        _ => (p.ipv4_src.to_be_bytes().into(), p.ipv4_dst.to_be_bytes().into()),
    };
    let name = if src.is_ipv6() { "ipv6" } else { "nw" };
    format!("{name}_src={src},tp_src={},{name}_dst={dst},tp_dst={}", p.tp_src, p.tp_dst)
}

/// Gives the packet the first address and port to translate to.
fn translate(key: &mut FlowKey, nat: &Nat) {
    let p = &mut key.packet;
    let Some(side) = nat.side else { return };
    let source = side == NatSide::Src;
    match nat.addrs.map(|(first, _)| first) {
        Some(IpAddr::V4(a)) if p.eth_type == 0x800 => {
            *(if source { &mut p.ipv4_src } else { &mut p.ipv4_dst }) = a.to_bits();
        }
        Some(IpAddr::V6(a)) if p.eth_type == 0x86dd => {
            *(if source { &mut p.ipv6_src } else { &mut p.ipv6_dst }) = a.octets();
        }
        _ => {}
    }
    if let Some((first, _)) = nat.ports {
        *(if source { &mut p.tp_src } else { &mut p.tp_dst }) = first;
    }
}
