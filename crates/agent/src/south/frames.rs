//! What crosses between flows and services: packets that flows send to the agent, and frames that it sends.

use weft_compile::NetKey;
use weft_flow::{Action, Field, OfPort};
use weft_openflow::msg::packet_in::PacketIn;

/// A packet that a flow sent to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Punt {
    /// Cookie of the flow.
    pub cookie: u64,
    /// `OFPR_*`: 2 is an expired TTL.
    pub reason: u8,
    /// Bytes that the flow sent with it.
    pub userdata: Vec<u8>,
    /// Port that it came in by.
    pub in_port: OfPort,
    /// Network.
    pub metadata: u64,
    /// The frame.
    pub frame: Vec<u8>,
}

/// By which ports of the bridge a frame leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// By these.
    Ports(Vec<OfPort>),
    /// By all of a network, its ways out included.
    Network(NetKey),
}

/// A frame that leaves the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where.
    pub to: To,
    /// The frame.
    pub frame: Vec<u8>,
}

impl To {
    pub(super) fn actions(self, actions: &mut Vec<Action>) {
        match self {
            To::Ports(ports) => {
                actions.extend(ports.into_iter().map(|port| Action::Output { port, max_len: 0 }));
            }
            To::Network(key) => {
                let metadata = Action::set(Field::Metadata, key.0.into(), Field::Metadata.value_mask());
                actions.extend([metadata, Action::Group(key.group())]);
            }
        }
    }
}

/// What a packet-in is to the services, taken out of it.
pub(super) fn punt(packet: &mut PacketIn) -> Punt {
    let number = |field: Field| packet.metadata.get(field).map_or(0, |(value, _)| value);
    Punt {
        cookie: packet.cookie,
        reason: packet.reason,
        in_port: OfPort(number(Field::InPort) as u32),
        metadata: number(Field::Metadata) as u64,
        userdata: std::mem::take(&mut packet.userdata),
        frame: std::mem::take(&mut packet.data),
    }
}
