//! Which outer header does a packet get, and where do encapsulated packets end?
//!
//! Where the route to the remote end leads through one of our bridges, the outer headers are built here and the result
//! walks on, as a frame that the bridge's internal port sent. Otherwise the datapath encapsulates by the host's stack.

use std::net::IpAddr;
use std::sync::Arc;

use weft_flow::{
    DpAction, DpPort, DropReason, Field, FlowKey, FlowMask, TUN_CSUM, TUN_DF, TUN_GBP, TUN_KEY, TUN_OAM,
    TunnelKey, TunnelKind, TunnelOut,
};
use weft_wire::{EtherType, IpProto};

use super::packet::Packet;
use super::{MAX_DEPTH, Walk, seal};
use crate::config::{PortConfig, TunnelAddr, TunnelByte, TunnelConfig, TunnelId};
use crate::pipeline::Resolve;
use crate::trace::StepKind;
use crate::tunnel::{self, Route, outer};

/// The ECN bits of a TOS byte; all set: congestion experienced.
const ECN: u8 = 3;

impl<'a> Walk<'a> {
    /// Carries congestion marks of the outer header over to the inner one (RFC 6040 §4.2). False: the packet must be
    /// dropped.
    pub(super) fn decapsulated(&mut self) -> bool {
        let mut looked = FlowMask::empty();
        looked.0.tunnel.tos = ECN;
        self.look(&looked);
        if self.packet.key.tunnel.tos & ECN != ECN || !self.is_ip() {
            return true;
        }
        if self.get(Field::NwEcn) == 0 {
            self.blame(DropReason::TunnelEcn);
            return false;
        }
        self.packet.write(Field::NwEcn, ECN.into(), ECN.into(), &mut self.mask);
        true
    }

    /// The tunnel listener for which the packet at hand is an outer packet, if one of `addrs` is its destination.
    pub(super) fn terminates(&mut self, addrs: &[IpAddr]) -> Option<DpPort> {
        let snapshot = self.snapshot;
        if addrs.is_empty() || !snapshot.tunnel_listeners().any(|_| true) || !self.is_ip() {
            return None;
        }
        let (kind_is_gre, dst_port) = match IpProto(self.get(Field::NwProto) as u8) {
            IpProto::GRE => (true, 0),
            IpProto::UDP if self.get(Field::IpFrag) == 0 => (false, self.get(Field::UdpDst) as u16),
            _ => return None,
        };
        let listener = snapshot
            .tunnel_listeners()
            .find(|l| (l.kind == TunnelKind::Gre) == kind_is_gre && l.dst_port == dst_port)?;
        let dst: IpAddr = match self.eth_type() {
            EtherType::IPV4 => (self.get(Field::IpDst) as u32).to_be_bytes().into(),
            _ => self.get(Field::Ipv6Dst).to_be_bytes().into(),
        };
        addrs.contains(&dst).then(|| {
            self.note(|| format!("a {:?} tunnel ends here", listener.kind));
            listener.port
        })
    }

    /// Sends the packet by a tunnel port.
    pub(super) fn encapsulate(&mut self, port: &PortConfig, config: &TunnelConfig) {
        let Some(dp_port) = port.dp_port else { return self.blame(DropReason::PortGone) };
        if self.tunnels.contains(&dp_port) {
            return self.blame(DropReason::TunnelLoop);
        }
        let Some(key) = self.outer_key(config) else { return self.blame(DropReason::TunnelNoRemote) };
        let snapshot = self.snapshot;
        self.note(|| format!("tunnel to {} via {}, id {:#x}", key.dst(), port.name, key.id));
        if let Some(route) = snapshot.underlay().route(key.dst())
            && snapshot.bridge(route.bridge).is_some()
        {
            return self.encapsulate_natively(dp_port, config, key, route);
        }
        self.commit();
        self.sample_output(dp_port, Some(key));
        let options = if config.kind == TunnelKind::Geneve { self.options() } else { Vec::new() };
        self.out.push(DpAction::SetTunnel(Arc::new(TunnelOut { key, options })));
        self.cut();
        self.emit(DpAction::Output(dp_port));
    }

    /// The outer header that the port's options and the packet's tunnel fields ask for; `None`: no remote address.
    pub(super) fn outer_key(&mut self, config: &TunnelConfig) -> Option<TunnelKey> {
        let mut key = TunnelKey { tp_dst: config.dst_port, ..TunnelKey::default() };
        match config.remote {
            TunnelAddr::Addr(addr) => key.set_dst(addr),
            _ => key.set_dst(self.tunnel_addr(Field::TunDst, Field::TunIpv6Dst)?),
        }
        let local = match config.local {
            TunnelAddr::Addr(addr) => Some(addr),
            TunnelAddr::Flow => self.tunnel_addr(Field::TunSrc, Field::TunIpv6Src),
            TunnelAddr::Any => None,
        };
        if let Some(local) = local.filter(|l| l.is_ipv4() == key.dst().is_ipv4()) {
            key.set_src(local);
        }
        match config.out_key {
            TunnelId::None => {}
            TunnelId::Key(id) => (key.id, key.flags) = (id, TUN_KEY),
            TunnelId::Flow => (key.id, key.flags) = (self.get(Field::TunId) as u64, TUN_KEY),
        }
        let ip = self.is_ip();
        key.tos = match config.tos {
            TunnelByte::Value(tos) => tos & !ECN,
            TunnelByte::Inherit if ip => (self.get(Field::IpDscp) as u8) << 2,
            TunnelByte::Inherit => 0,
        };
        if ip {
            // RFC 6040 §4.1, normal mode.
            key.tos |= self.get(Field::NwEcn) as u8;
        }
        key.ttl = match config.ttl {
            TunnelByte::Value(0) => 64,
            TunnelByte::Value(ttl) => ttl,
            TunnelByte::Inherit if ip => self.get(Field::NwTtl) as u8,
            TunnelByte::Inherit => 64,
        };
        key.flags |= if config.df { TUN_DF } else { 0 };
        key.flags |= if config.csum { TUN_CSUM } else { 0 };
        if config.kind == TunnelKind::Geneve && self.get(Field::TunFlags) != 0 {
            key.flags |= TUN_OAM;
        }
        if config.gbp {
            key.gbp_id = self.get(Field::TunGbpId) as u16;
            key.gbp_flags = self.get(Field::TunGbpFlags) as u8;
            if (key.gbp_id, key.gbp_flags) != (0, 0) {
                key.flags |= TUN_GBP;
            }
        }
        Some(key)
    }

    /// The address that rules set in one of two fields. What a packet came in with is not an address to send to.
    fn tunnel_addr(&mut self, v4: Field, v6: Field) -> Option<IpAddr> {
        for field in [v4, v6] {
            if field.mask_of(&self.packet.settled) != field.value_mask() {
                continue;
            }
            let addr = field.get(&self.packet.key);
            if addr != 0 {
                let bytes = addr.to_be_bytes();
                let v4_bytes = [bytes[12], bytes[13], bytes[14], bytes[15]];
                return Some(if field == v4 { v4_bytes.into() } else { bytes.into() });
            }
        }
        None
    }

    fn encapsulate_natively(
        &mut self,
        tunnel: DpPort,
        config: &TunnelConfig,
        mut key: TunnelKey,
        route: &Route,
    ) {
        let snapshot = self.snapshot;
        let Some(bridge) = snapshot.bridge(route.bridge) else { return self.blame(DropReason::PortGone) };
        let Some(local) = bridge.port(route.port) else { return self.blame(DropReason::TunnelNoRoute) };
        let has_src = key.ipv4_src != 0 || key.ipv6_src != [0; 16];
        if !has_src {
            key.set_src(route.src);
        }
        if key.src().is_ipv4() != key.dst().is_ipv4() {
            return self.blame(DropReason::TunnelNoRoute);
        }
        let next_hop = route.gateway.unwrap_or(key.dst());
        self.deps.add(tunnel::neighbour_tag(route.bridge, next_hop));
        let Some(mac) = snapshot.underlay().neighbour(route.bridge, next_hop) else {
            let resolve = Resolve { bridge: route.bridge, port: route.port, addr: next_hop, src: route.src };
            self.resolves.push(resolve);
            return self.blame(DropReason::TunnelNeighbourPending);
        };
        let options = if config.kind == TunnelKind::Geneve { self.options() } else { Vec::new() };
        let inner = match self.packet.packet_type() {
            0 => EtherType::TEB,
            bare => EtherType(bare as u16),
        };
        let Some(header) = outer::build(config, &key, &options, (local.mac, mac), inner) else {
            return self.blame(DropReason::BadAction);
        };
        if self.depth >= MAX_DEPTH {
            return self.fatal(DropReason::RecursionTooDeep);
        }
        self.commit();
        self.sample_output(tunnel, Some(key));
        self.cut();
        let in_port = local.dp_port.map_or(u32::MAX, |p| p.0);
        let actions = self.underlay(tunnel, outer::key(config, &key, local.mac, mac, in_port), route);
        if !actions.is_empty() {
            self.emit(DpAction::TunnelPush { header: Arc::new(header), actions: actions.into() });
        }
    }

    /// Walks an encapsulated packet on, as sent by the underlay bridge's internal port. Returns what becomes of it.
    fn underlay(&mut self, tunnel: DpPort, key: FlowKey, route: &Route) -> Vec<DpAction> {
        let snapshot = self.snapshot;
        let Some(bridge) = snapshot.bridge(route.bridge) else { return Vec::new() };
        let saved = self.save();
        let trunc = self.trunc.take();
        self.depth += 1;
        self.tunnels.push(tunnel);
        self.packet = Packet::made(&key);
        self.bridge = bridge;
        self.action_set.clear();
        self.stack.clear();
        self.record(StepKind::Bridge, || format!("bridge(\"{}\")", bridge.config.name));
        if self.admit(route.port) {
            self.enter(route.port);
        }
        self.leave();
        self.tunnels.pop();
        self.depth -= 1;
        self.trunc = trunc;
        // What the underlay does is not done to the packet itself.
        let actions = seal(std::mem::take(&mut self.out));
        self.restore(*saved);
        actions
    }
}
