//! Which VLANs of its network's uplink is a port in? What it sends with which tag, and what it is sent with which.
//!
//! Frames of the network's own VLAN have no tag on their way; those of another one keep theirs, and pass by all that answers
//! for the network: nothing is known of the addresses in there. Which ports such a frame leaves by is decided at the end.

use weft_flow::{Action, Field};
use weft_wire::EtherType;

use super::port::cookie;
use crate::cookie::Purpose;
use crate::flow::{Flow, put, set};
use crate::plan::{Net, Port, PortKey};
use crate::stage::{Register, Stage};

/// The bit of a tag control field that says that there is a tag.
const PRESENT: u16 = 0x1000;
/// A frame of another VLAN leaves by its members; what is of the network's own VLAN, by those that are in it.
pub(super) const MEMBER: u16 = 90;
const OWN: u16 = 85;
/// What leaves by nobody else.
pub(super) const STRANGER: u16 = 80;

/// Matches frames with this tag; 0: with a tag of no VLAN, which only tells a priority.
pub(super) fn tagged(flow: Flow, vlan: u16) -> Flow {
    flow.on_bits(Field::VlanTci, (PRESENT | vlan).into(), 0x1fff)
}

/// Matches frames without a tag.
pub(super) fn untagged(flow: Flow) -> Flow {
    flow.on_bits(Field::VlanTci, 0, 0x1fff)
}

/// Puts a tag on.
pub(super) fn tag(vlan: u16) -> [Action; 2] {
    [Action::PushVlan(EtherType::VLAN), set(Field::VlanVid, PRESENT | vlan)]
}

/// The frame is of another VLAN than the network's own.
pub(super) fn stray() -> [Action; 2] {
    [put(Register::Tagged, 1), put(Register::Direct, 1)]
}

/// Where frames of a port come in, from the flow that takes all of them.
pub(super) fn entries(key: PortKey, port: &Port, net: &Net, entry: Flow) -> Vec<Flow> {
    if net.uplink.is_none() {
        // Nothing leaves the network: tags are its machines' affair.
        return vec![entry];
    }
    let vlans = &port.vlans;
    let mut out = Vec::new();
    // What is seen with a tag is not asked for without.
    let direct = vlans.own_tag.filter(|(_, leaves)| *leaves).map(|_| put(Register::Direct, 1));
    match vlans.untagged {
        Some(0) => {
            out.push(untagged(entry.clone()).act(direct.clone()));
            out.push(tagged(entry.clone(), 0).act([Action::PopVlan]).act(direct.clone()));
        }
        Some(vlan) => {
            out.push(untagged(entry.clone()).act(tag(vlan)).act(stray()));
            out.push(tagged(entry.clone(), 0).act([set(Field::VlanVid, PRESENT | vlan)]).act(stray()));
        }
        None => {}
    }
    if let Some((vlan, _)) = vlans.own_tag {
        out.push(tagged(entry.clone(), vlan).act([Action::PopVlan]).act(direct));
    }
    out.extend(vlans.tags.iter().map(|vlan| tagged(entry.clone(), *vlan).act(stray())));
    let rest = Flow::new(Stage::Classify, 50, cookie(key, Purpose::OtherVlan));
    out.push(rest.on(Field::InPort, port.port.0));
    out
}

/// How frames leave by a port, where that is not as they are.
pub(super) fn exits(key: PortKey, port: &Port, net: &Net) -> Vec<Flow> {
    if net.uplink.is_none() {
        return Vec::new();
    }
    let vlans = &port.vlans;
    let flow = |priority, purpose, stray| {
        let flow = Flow::new(Stage::Output, priority, cookie(key, purpose));
        flow.on_register(Register::OutPort, port.port.0).on_register(Register::Tagged, stray)
    };
    let send = |flow: Flow| {
        let mut flow = flow.act([Action::Output { port: port.port, max_len: 0 }]);
        flow.instructions.meter = port.receives.map(|_| key.meters().1);
        flow
    };
    let mut out: Vec<Flow> =
        vlans.tags.iter().map(|vlan| send(tagged(flow(MEMBER, Purpose::Forward, 1), *vlan))).collect();
    if let Some(vlan) = vlans.untagged.filter(|vlan| *vlan != 0 && !vlans.tags.contains(vlan)) {
        out.push(send(tagged(flow(MEMBER, Purpose::Forward, 1), vlan).act([Action::PopVlan])));
    }
    match vlans.own_tag {
        Some((vlan, true)) => out.push(send(flow(OWN, Purpose::Forward, 0).act(tag(vlan)))),
        _ if vlans.untagged == Some(0) => {}
        _ => out.push(flow(OWN, Purpose::OtherVlan, 0)),
    }
    out
}
