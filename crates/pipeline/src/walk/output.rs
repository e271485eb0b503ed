//! Where does the packet leave? Ports, floods, patch cables, controllers.

use std::sync::Arc;

use weft_flow::{
    ControllerAction, DpAction, DropReason, ETH_TYPE_NONE, EXTRA_CT, EXTRA_TUN_METADATA, EXTRA_TUNNEL, Field,
    FlowKey, OfPort, Opaque, PipelineKey, ToController,
};
use weft_wire::Mac;

use super::{MAX_DEPTH, Origin, Walk, reason};
use crate::config::{PacketTypes, PortConfig, PortKind};
use crate::trace::StepKind;

/// Where frames of the spanning tree protocol go (IEEE 802.1D).
const STP: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0]);

impl<'a> Walk<'a> {
    /// Whether the bridge takes packets from a port.
    pub(super) fn admit(&mut self, port: OfPort) -> bool {
        let Some(config) = self.bridge.port(port) else {
            self.blame(DropReason::NotAttached);
            return false;
        };
        if config.flags.down {
            self.blame(DropReason::PortDown);
            return false;
        }
        // What kind of frame it is counts where they are treated differently.
        let (others, stp) = (config.flags.no_receive, config.flags.no_receive_stp);
        let refused = if others != stp && self.is_stp() { stp } else { others };
        if refused {
            self.blame(DropReason::PortNoReceive);
            return false;
        }
        config.tunnel().is_none() || self.decapsulated()
    }

    /// Whether the packet is a frame of the spanning tree protocol: to its address, behind an LLC header.
    fn is_stp(&mut self) -> bool {
        self.packet.key.packet.eth_type == ETH_TYPE_NONE
            && self.get(Field::EthDst) == u128::from(STP.to_u64())
    }

    pub(super) fn output(&mut self, port: OfPort, max_len: u16, origin: Origin) {
        match port {
            OfPort::IN_PORT => self.output_to(self.in_port()),
            OfPort::TABLE if self.packet_out => self.output_table(),
            OfPort::NORMAL => self.normal(),
            OfPort::FLOOD => self.flood(false),
            OfPort::ALL => self.flood(true),
            OfPort::CONTROLLER => {
                let reason = if self.packet_out { reason::PACKET_OUT } else { origin.reason };
                self.packet_in(max_len, 0, reason, origin);
            }
            OfPort::NONE | OfPort::TABLE | OfPort::UNSET | OfPort::ANY => self.blame(DropReason::RuleDrop),
            port if port == self.in_port() => {
                self.warn(|| "skipping output to input port".to_owned());
                self.blame.get_or_insert(DropReason::HairpinRefused);
            }
            port => self.output_to(port),
        }
    }

    /// Packet-out to TABLE: the flow tables decide. Such a packet is not looked up twice.
    fn output_table(&mut self) {
        self.packet_out = false;
        let port = self.in_port();
        let set = std::mem::take(&mut self.action_set);
        if let Some(frame) = self.frame_for(0, port, false) {
            self.run(vec![frame]);
        }
        self.action_set = set;
        self.packet_out = true;
    }

    /// To all ports but the one it came from; without `all` not to those that are excluded from flooding.
    fn flood(&mut self, all: bool) {
        let (bridge, in_port, before) = (self.bridge, self.in_port(), self.emitted);
        for port in bridge.config.ports.iter().filter(|p| p.ofport != in_port && (all || !p.flags.no_flood)) {
            self.send(port);
        }
        if self.emitted == before {
            self.blame(DropReason::NoOtherPort);
        }
    }

    pub(super) fn output_to(&mut self, port: OfPort) {
        let bridge = self.bridge;
        match bridge.port(port) {
            Some(port) => self.send(port),
            None => self.blame_on(DropReason::PortGone, || format!("port {port}")),
        }
    }

    /// Sends the packet as it is by a port of the bridge.
    pub(super) fn send(&mut self, port: &'a PortConfig) {
        if self.fatal.is_some() {
            return;
        }
        if port.flags.down || !port.link_up {
            return self.blame_on(DropReason::PortDown, || format!("port {} \"{}\"", port.ofport, port.name));
        }
        if port.flags.no_forward {
            return self
                .blame_on(DropReason::PortNoForward, || format!("port {} \"{}\"", port.ofport, port.name));
        }
        if !self.type_fits(port) {
            self.warn(|| {
                "Trying to send non-Ethernet packet through legacy L2 port. Dropping packet.".to_owned()
            });
            return self
                .blame_on(DropReason::PacketType, || format!("port {} \"{}\"", port.ofport, port.name));
        }
        match &port.kind {
            PortKind::Patch { peer: Some((bridge, peer)) } => self.patch(*bridge, *peer),
            PortKind::Patch { peer: None } => self.blame(DropReason::PortGone),
            PortKind::Tunnel(config) if config.packets == PacketTypes::LegacyL3 && !self.packet.is_bare() => {
                self.send_bare(port, config);
            }
            PortKind::Tunnel(config) => self.encapsulate(port, config),
            PortKind::Internal { addrs } => {
                if let Some(tunnel) = self.terminates(addrs) {
                    self.commit();
                    self.emit(DpAction::TunnelPop(tunnel));
                } else {
                    self.send_device(port);
                }
            }
            PortKind::Device => self.send_device(port),
        }
    }

    fn send_device(&mut self, port: &PortConfig) {
        let Some(dp_port) = port.dp_port else { return self.blame(DropReason::PortGone) };
        self.commit();
        self.sample_output(dp_port, None);
        self.cut();
        self.emit(DpAction::Output(dp_port));
    }

    pub(super) fn commit(&mut self) {
        self.packet.commit(&mut self.mask, &mut self.out);
    }

    pub(super) fn cut(&mut self) {
        if let Some(bytes) = self.trunc {
            self.out.push(DpAction::Trunc(bytes));
        }
    }

    /// Sends the packet through a cable: it is received by a port of another bridge, with everything that belongs to
    /// this bridge's pipeline forgotten.
    fn patch(&mut self, bridge: u32, port: OfPort) {
        let snapshot = self.snapshot;
        let Some(next) = snapshot.bridge(bridge) else { return self.blame(DropReason::PortGone) };
        if self.depth >= MAX_DEPTH {
            return self.fatal(DropReason::RecursionTooDeep);
        }
        self.depth += 1;
        let saved = self.save();
        self.bridge = next;
        self.record(StepKind::Bridge, || format!("bridge(\"{}\")", next.config.name));
        self.clear_tracking();
        let queue = self.packet.key.pipeline.skb_priority;
        let mark = self.packet.key.pipeline.pkt_mark;
        let packet_type = self.packet.packet_type();
        self.packet.key.pipeline = PipelineKey { packet_type, ..PipelineKey::default() };
        (self.packet.key.pipeline.skb_priority, self.packet.key.pipeline.pkt_mark) = (queue, mark);
        self.packet.forget_origin();
        self.action_set.clear();
        self.stack.clear();
        if self.admit(port) {
            self.enter(port);
        }
        self.leave();
        self.restore(*saved);
        self.depth -= 1;
    }

    /// Sends the packet as it is to controllers.
    pub(super) fn packet_in(&mut self, max_len: u16, id: u16, reason: u8, origin: Origin) {
        let plain = ControllerAction { max_len, id, reason, userdata: Vec::new(), pause: false, meter: None };
        self.tell_controllers(&plain, origin, None);
    }

    /// What a packet-in tells besides the frame: registers and the like, and where the packet came from, which is looked
    /// at. What would take too wide a look is not cached.
    fn told(&mut self, paused: bool) -> FlowKey {
        let FlowKey { packet, tun_metadata, pipeline, .. } = self.packet.key;
        self.cacheable &= !paused && packet.extras & EXTRA_TUN_METADATA == 0 && !self.packet.options_written;
        let mut told = FlowKey { tun_metadata, pipeline, ..FlowKey::default() };
        let sections = [(&ToController::TUNNEL[..], EXTRA_TUNNEL), (&ToController::TRACKED[..], EXTRA_CT)];
        for (fields, section) in sections {
            for field in fields {
                // A packet that came without the section has only what was set since.
                if packet.extras & section != 0 {
                    self.look_field(*field, u128::MAX);
                }
                field.set(&mut told, field.get(&self.packet.key));
            }
        }
        told
    }

    /// Sends the packet as it is to controllers, with what the rule says besides, and the rest of the walk if that waits.
    pub(super) fn tell_controllers(&mut self, to: &ControllerAction, origin: Origin, paused: Option<Opaque>) {
        let told = self.told(paused.is_some());
        self.commit();
        let bridge = self.bridge;
        let meter = bridge.meters.get(to.meter.unwrap_or(crate::meter::METER_CONTROLLER)).cloned();
        self.emit(DpAction::Controller(Arc::new(ToController {
            bridge: bridge.config.id,
            controller_id: to.id,
            max_len: to.max_len,
            reason: to.reason,
            table: origin.table,
            cookie: origin.cookie,
            key: Box::new(told),
            userdata: to.userdata.clone(),
            paused,
            meter,
        })));
    }
}
