//! What does NORMAL do? A learning switch with VLANs, as `ovs-vswitchd.conf.db(5)` describes ports.

use weft_flow::{DropReason, FdbRef, Field, OfPort, VLAN_PRESENT, Vlan};
use weft_wire::{EtherType, Mac};

use super::Walk;
use super::packet::Tags;
use crate::config::{PortConfig, PriorityTags, VlanMode};

/// Multicast addresses besides 01:80:c2:00:00:0x that bridges keep, with the bits that count: Extreme's EDP and EAPS,
/// Cisco's CDP, VTP, CFM, PVST+, STP uplink fast and ISL.
const RESERVED: [(u64, u64); 6] = [
    (0x00e0_2b00_0000, 0xffff_ffff_ffff),
    (0x00e0_2b00_0004, 0xffff_ffff_ffff),
    (0x00e0_2b00_0006, 0xffff_ffff_ffff),
    (0x0100_0ccc_ccc0, 0xffff_ffff_fff0),
    (0x0100_0ccd_cdcd, 0xffff_ffff_ffff),
    (0x0100_0c00_0000, 0xffff_ffff_ffff),
];

/// How the VLAN of a frame is shown in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Not at all.
    No,
    /// Not at all, but there is a tag that holds a priority (VID 0).
    Priority,
    /// By its outermost tag.
    Tag,
    /// Not at all; whatever tags there are belong to the customer. The service tag has this TPID.
    Service(u16),
}

/// What to do to the tags for one output port, in the order in which outputs are best done: changes that take most to
/// undo come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Keep,
    Push(Vlan),
    SetVid(u16),
    Pop,
}

impl Change {
    fn rank(self) -> u8 {
        match self {
            Change::Keep => 0,
            Change::Push(_) => 1,
            Change::SetVid(_) => 2,
            Change::Pop => 3,
        }
    }
}

/// A frame with its VLAN.
#[derive(Clone, Copy, Debug)]
struct Frame {
    vlan: u16,
    shown: Shown,
}

impl<'a> Walk<'a> {
    pub(super) fn normal(&mut self) {
        if self.packet.is_bare() {
            self.note(|| "only frames are switched".to_owned());
            return self.blame(DropReason::PacketType);
        }
        let bridge = self.bridge;
        let input = bridge.port(self.in_port());
        if let Some(input) = input
            && bridge.active_member(input).ofport != input.ofport
        {
            return self.blame(DropReason::LoopSuspected);
        }
        let Some(frame) = self.classify(input) else { return };
        let src = Mac::from_u64(self.get(Field::EthSrc) as u64);
        let dst = Mac::from_u64(self.get(Field::EthDst) as u64);
        if !bridge.config.forward_bpdu && is_reserved(dst) {
            return self.blame(DropReason::ReservedMulticast);
        }
        let learns = !bridge.config.flood_vlans.contains(frame.vlan);
        if let Some(input) = input
            && learns
            && !src.is_multicast()
        {
            self.learn(frame.vlan, src, input.ofport);
        }
        if dst.is_multicast() || !learns {
            return self.flood_vlan(frame, input);
        }
        self.deps.add(bridge.fdb.tag(frame.vlan, dst));
        let known = self.taught(frame.vlan, dst).or_else(|| bridge.fdb.lookup(frame.vlan, dst));
        let Some(port) = known else {
            self.note(|| format!("no learned MAC for destination {dst} in VLAN {}, flooding", frame.vlan));
            return self.flood_vlan(frame, input);
        };
        self.note(|| format!("{dst} was learned on port {port} in VLAN {}", frame.vlan));
        let output = bridge.port(port).map(|port| bridge.active_member(port));
        if let (Some(input), Some(output)) = (input, output)
            && one_port(input, output)
        {
            return self.blame(DropReason::HairpinRefused);
        }
        match output {
            Some(output) if carries(output, frame.vlan) && !both_protected(input, output) => {
                if let Some(change) = self.change_for(frame, output) {
                    self.send_changed(change, output);
                }
            }
            _ => self.blame(DropReason::NoOtherPort),
        }
    }

    /// The VLAN of the frame by the port it came in by; `None` if that port does not take it.
    fn classify(&mut self, input: Option<&PortConfig>) -> Option<Frame> {
        let default = Default::default();
        let config = input.map_or(&default, |p| &p.vlan);
        if config.mode == VlanMode::Dot1qTunnel {
            if config.cvlans != crate::VlanSet::all() && !config.cvlans.contains(self.top_vid().unwrap_or(0))
            {
                self.blame(DropReason::InputVlanNotAllowed);
                return None;
            }
            let tpid = if config.qinq_tpid == 0 { EtherType::QINQ.0 } else { config.qinq_tpid };
            return Some(Frame { vlan: config.tag, shown: Shown::Service(tpid) });
        }
        let tagged = self.top_vid();
        let shown = match tagged {
            None => Shown::No,
            Some(0) => Shown::Priority,
            Some(_) => Shown::Tag,
        };
        let vid = tagged.unwrap_or(0);
        let vlan = match config.mode {
            VlanMode::Access if vid != 0 => {
                self.blame(DropReason::TaggedOnAccessPort);
                return None;
            }
            VlanMode::Access => config.tag,
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => config.tag,
            _ => vid,
        };
        if input.is_some_and(|port| !carries(port, vlan)) {
            self.blame(DropReason::InputVlanNotAllowed);
            return None;
        }
        Some(Frame { vlan, shown })
    }

    /// The VID of the outermost tag, looked at; `None`: there is no tag.
    fn top_vid(&mut self) -> Option<u16> {
        self.look_field(Field::VlanTci, u128::from(VLAN_PRESENT | 0xfff));
        let tag = self.packet.key.packet.vlan[0];
        tag.is_present().then(|| tag.vid())
    }

    fn learn(&mut self, vlan: u16, mac: Mac, port: OfPort) {
        let fdb = &self.bridge.fdb;
        self.deps.add(fdb.tag(vlan, mac));
        self.refresh.push(FdbRef { bridge: self.bridge.config.id, vlan, mac, port });
        if self.mode.learns() {
            let changed = fdb.learn(vlan, mac, port, self.now_ms);
            self.learned.0 |= changed.0;
            if changed != Default::default() {
                self.note(|| format!("learned that {mac} is on port {port} in VLAN {vlan}"));
            }
        } else if fdb.would_learn(vlan, mac, port) {
            self.cacheable = false;
            self.note(|| format!("{mac} would be learned on port {port} in VLAN {vlan}"));
        }
    }

    /// Where an address is as the packet itself taught in this walk: that counts for it even where nothing is learned.
    fn taught(&self, vlan: u16, mac: Mac) -> Option<OfPort> {
        let (id, fdb) = (self.bridge.config.id, &self.bridge.fdb);
        let by_this = |r: &&FdbRef| r.bridge == id && r.vlan == vlan && r.mac == mac;
        let last = self.refresh.iter().rev().find(by_this)?;
        fdb.would_learn(vlan, mac, last.port).then_some(last.port)
    }

    /// To every other port that carries the VLAN.
    fn flood_vlan(&mut self, frame: Frame, input: Option<&PortConfig>) {
        let (bridge, before) = (self.bridge, self.emitted);
        let mut outputs: Vec<(Change, &'a PortConfig)> = Vec::new();
        for port in bridge.config.ports.iter() {
            let elsewhere = bridge.active_member(port).ofport != port.ofport;
            if elsewhere
                || input.is_some_and(|i| one_port(i, port))
                || port.flags.no_flood
                || both_protected(input, port)
                || !carries(port, frame.vlan)
            {
                continue;
            }
            if let Some(change) = self.change_for(frame, port) {
                outputs.push((change, port));
            }
        }
        outputs.sort_by_key(|(change, _)| change.rank());
        for (change, port) in outputs {
            self.send_changed(change, port);
        }
        if self.emitted == before {
            self.blame(DropReason::NoOtherPort);
        }
    }

    /// How the frame's tags change on the way out by a port that carries its VLAN; `None`: it may not leave there.
    fn change_for(&mut self, frame: Frame, output: &PortConfig) -> Option<Change> {
        let config = &output.vlan;
        let tagged = match config.mode {
            VlanMode::Access | VlanMode::Dot1qTunnel => false,
            VlanMode::Trunk | VlanMode::NativeTagged => frame.vlan != 0,
            VlanMode::NativeUntagged => frame.vlan != 0 && frame.vlan != config.tag,
        };
        if config.mode == VlanMode::Dot1qTunnel {
            return self.change_for_customer(frame, output);
        }
        let new_tag = |tpid: u16| Change::Push(Vlan { tpid, tci: VLAN_PRESENT | frame.vlan });
        Some(match (frame.shown, tagged) {
            (Shown::No, true) => new_tag(EtherType::VLAN.0),
            (Shown::Service(tpid), true) => new_tag(tpid),
            (Shown::Priority, true) => Change::SetVid(frame.vlan),
            (Shown::Tag, true) | (Shown::No | Shown::Service(_), false) => Change::Keep,
            (Shown::Priority | Shown::Tag, false) => {
                let keeps = match config.priority_tags {
                    PriorityTags::Never => false,
                    PriorityTags::IfNonzero => {
                        self.look_field(Field::VlanTci, 0xe000);
                        self.packet.key.packet.vlan[0].pcp() != 0
                    }
                    PriorityTags::Always => true,
                };
                match (keeps, frame.shown) {
                    (false, _) => Change::Pop,
                    (true, Shown::Priority) => Change::Keep,
                    (true, _) => Change::SetVid(0),
                }
            }
        })
    }

    /// The same for a dot1q-tunnel port, which shows the customer's tags only.
    fn change_for_customer(&mut self, frame: Frame, output: &PortConfig) -> Option<Change> {
        let has_service_tag = matches!(frame.shown, Shown::Tag | Shown::Priority);
        let cvlans = &output.vlan.cvlans;
        if *cvlans != crate::VlanSet::all() {
            let slot = usize::from(has_service_tag);
            let mut looked = weft_flow::FlowMask::empty();
            looked.0.packet.vlan[slot].tci = VLAN_PRESENT | 0xfff;
            self.look(&looked);
            if !cvlans.contains(self.packet.key.packet.vlan[slot].vid()) {
                return None;
            }
        }
        Some(if has_service_tag { Change::Pop } else { Change::Keep })
    }

    /// Sends the frame with other tags, and leaves it as it was.
    fn send_changed(&mut self, change: Change, port: &'a PortConfig) {
        let tags: Tags = self.packet.tags.clone();
        let fits = match change {
            Change::Keep => true,
            Change::Push(tag) => self.packet.push_tag(tag),
            Change::Pop => self.packet.pop_tag(&mut self.mask),
            Change::SetVid(vid) => {
                let tag = self.packet.top_tag(&mut self.mask);
                let tci = tag.tci & !0xfff | vid;
                self.packet.set_top_tag(Vlan { tci, ..tag }, &mut self.mask)
            }
        };
        if fits {
            self.send(port);
        } else {
            self.blame(DropReason::BadAction);
        }
        self.packet.set_tags(tags);
    }
}

/// Whether two ports are the same, or members of one bond.
fn one_port(a: &PortConfig, b: &PortConfig) -> bool {
    a.ofport == b.ofport || a.bond.is_some() && a.bond == b.bond
}

/// Whether a port carries a VLAN.
fn carries(port: &PortConfig, vlan: u16) -> bool {
    let config = &port.vlan;
    match config.mode {
        VlanMode::Access | VlanMode::Dot1qTunnel => config.tag == vlan,
        VlanMode::Trunk => config.trunks.contains(vlan),
        VlanMode::NativeTagged | VlanMode::NativeUntagged => {
            config.tag == vlan || config.trunks.contains(vlan)
        }
    }
}

fn both_protected(input: Option<&PortConfig>, output: &PortConfig) -> bool {
    output.flags.protected && input.is_some_and(|i| i.flags.protected)
}

fn is_reserved(mac: Mac) -> bool {
    let n = mac.to_u64();
    mac.is_link_reserved() || RESERVED.iter().any(|(value, bits)| n & bits == *value)
}
