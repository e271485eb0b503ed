//! Which packets are compared? Frames of every kind the rules look at, from the same pools of values.

use weft_wire::arp::ArpRepr;
use weft_wire::build::Frame;
use weft_wire::{EtherType, IpProto, Mac};

use crate::rules::{IP6S, IPS, L4, LABELS, MACS, PORTS};
use crate::support::Dice;

/// A packet and the port it comes in by.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) port: u64,
    pub(crate) frame: Vec<u8>,
    /// What a connection tracker found before, in the syntax of flows, if there was one.
    tracked: String,
}

impl Packet {
    /// What it comes with, in the syntax of flows.
    pub(crate) fn flow(&self) -> String {
        format!("in_port={}{}", self.port, self.tracked)
    }
    /// The frame as `ofproto/trace` takes it.
    pub(crate) fn hex(&self) -> String {
        self.frame.iter().map(|b| format!("{b:02x}")).collect()
    }
}

fn mac(dice: &mut Dice) -> Mac {
    dice.pick(&MACS).parse().expect("an address of the pool")
}

fn v4(dice: &mut Dice) -> std::net::Ipv4Addr {
    dice.pick(&IPS).parse().expect("an address of the pool")
}

fn v6(dice: &mut Dice) -> std::net::Ipv6Addr {
    dice.pick(&IP6S).parse().expect("an address of the pool")
}

/// Any packet.
pub(crate) fn generate(dice: &mut Dice) -> Packet {
    let (src, dst) = (mac(dice), mac(dice));
    let mut frame = Frame::eth(src, dst);
    if dice.once_in(3) {
        if dice.once_in(4) {
            frame = frame.qinq(1 + dice.below(3) as u16);
        }
        frame = frame.vlan(1 + dice.below(3) as u16);
    }
    let kind = dice.below(12);
    frame = match kind {
        0 => {
            let (sender, target) = (v4(dice), v4(dice));
            let arp = if dice.once_in(2) {
                ArpRepr::request(src, sender, target)
            } else {
                ArpRepr::request(src, sender, target).reply(dst)
            };
            return finish(dice, frame.arp(arp));
        }
        1 => {
            for _ in 0..1 + dice.below(3) {
                frame = frame.mpls(*dice.pick(&LABELS));
            }
            frame.ipv4(v4(dice), v4(dice))
        }
        2..=7 => frame.ipv4(v4(dice), v4(dice)),
        8..=10 => frame.ipv6(v6(dice), v6(dice)),
        _ => return finish(dice, frame.ether_type(EtherType(0x88b5)).payload([0; 50])),
    };
    frame = frame.ttl(*dice.pick(&[1, 2, 64, 255])).tos(*dice.pick(&[0, 32, 184, 3]));
    let (from, to) = (*dice.pick(&L4), *dice.pick(&L4));
    frame = match dice.below(6) {
        0 | 1 => frame.tcp(from, to).flags(*dice.pick(&[0x02, 0x10, 0x12, 0x11, 0x04])),
        2 | 3 => frame.udp(from, to),
        4 => frame.sctp(from, to),
        _ => frame.proto(IpProto(89)),
    };
    let len = *dice.pick(&[10usize, 100, 400]);
    let packet = finish(dice, frame.payload(vec![0x5a; len]));
    let tracked = if (2..=7).contains(&kind) && dice.once_in(5) { tracked(dice) } else { String::new() };
    Packet { tracked, ..packet }
}

fn finish(dice: &mut Dice, frame: Frame) -> Packet {
    Packet { port: 1 + dice.below(PORTS), frame: frame.build(), tracked: String::new() }
}

/// What a connection tracker may have found of an IPv4 packet: its connection, maybe translated.
fn tracked(dice: &mut Dice) -> String {
    let state = dice.pick(&["trk|new", "trk|est", "trk|est|rpl", "trk|est|dnat", "trk|inv"]);
    let connection = format!(
        ",ct_nw_src={},ct_nw_dst={},ct_nw_proto={},ct_tp_src={},ct_tp_dst={}",
        dice.pick(&IPS),
        dice.pick(&IPS),
        dice.pick(&[6, 17]),
        dice.pick(&L4),
        dice.pick(&L4)
    );
    let known = if state.contains("inv") { "" } else { &connection };
    format!(",ip,ct_state={state},ct_zone={},ct_mark={}{known}", dice.below(3), dice.below(4))
}
