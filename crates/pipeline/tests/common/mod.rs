//! What do tests of the pipeline share? Bridges in a line, frames in a line, verdicts as short text.
#![allow(dead_code, unreachable_pub)]

pub mod twins;

use weft_flow::text::{Syntax, parse_flow, parse_instructions, parse_key};
use weft_flow::{
    Action, DpAction, DpPort, FlowKey, Match, OfPort, SetField, TunnelKind, VLAN_PRESENT, Verdict, Vlan,
};
use weft_pipeline::{
    BridgeConfig, FlowMod, FlowModCommand, Pipeline, PortConfig, PortKind, Snapshot, TableSet, TunnelAddr,
    TunnelConfig, VlanConfig,
};
use weft_wire::Mac;

/// Port `n` of bridge `bridge`: datapath port 100 × bridge + n.
pub fn device(bridge: u32, n: u32) -> PortConfig {
    let name = format!("p{}", 100 * bridge + n);
    PortConfig::new(OfPort(n), Some(DpPort(100 * bridge + n)), &name, PortKind::Device)
}

/// A device with VLANs.
pub fn vlan_port(bridge: u32, n: u32, vlan: VlanConfig) -> PortConfig {
    PortConfig { vlan, ..device(bridge, n) }
}

/// A cable to port `peer` of another bridge.
pub fn patch(bridge: u32, n: u32, peer: (u32, u32)) -> PortConfig {
    let kind = PortKind::Patch { peer: Some((peer.0, OfPort(peer.1))) };
    PortConfig { kind, dp_port: None, ..device(bridge, n) }
}

/// The LOCAL port of a bridge: datapath port 100 × bridge + 99, MAC 02:00:00:00:ff:bridge.
pub fn local(bridge: u32, addrs: &[&str]) -> PortConfig {
    let addrs = addrs.iter().map(|a| a.parse().unwrap()).collect();
    let mut port = device(bridge, 99);
    port.ofport = OfPort::LOCAL;
    port.kind = PortKind::Internal { addrs };
    port.mac = Mac([2, 0, 0, 0, 0xff, bridge as u8]);
    port
}

/// A tunnel port with options.
pub fn tunnel(
    bridge: u32,
    n: u32,
    kind: TunnelKind,
    remote: &str,
    change: impl FnOnce(&mut TunnelConfig),
) -> PortConfig {
    let mut config = TunnelConfig::new(kind, addr(remote));
    change(&mut config);
    PortConfig { kind: PortKind::Tunnel(config.into()), ..device(bridge, n) }
}

/// `flow`, `any` or an address.
pub fn addr(text: &str) -> TunnelAddr {
    match text {
        "flow" => TunnelAddr::Flow,
        "any" => TunnelAddr::Any,
        _ => TunnelAddr::Addr(text.parse().unwrap()),
    }
}

/// A bridge `br<id>` with ports.
pub fn bridge(id: u32, ports: Vec<PortConfig>) -> BridgeConfig {
    BridgeConfig { ports: ports.into(), ..BridgeConfig::new(id, &format!("br{id}")) }
}

/// A pipeline with bridges, which all start with `actions=NORMAL`.
pub fn pipeline(bridges: Vec<BridgeConfig>) -> Pipeline {
    let pipeline = Pipeline::new();
    let mut snapshot = Snapshot::new();
    for config in bridges {
        snapshot.set_bridge(config);
    }
    pipeline.publish(snapshot);
    pipeline
}

/// Gives a bridge another configuration.
pub fn configure(pipeline: &Pipeline, config: BridgeConfig) {
    let set = |s: &mut Snapshot| {
        s.set_bridge(config);
        Ok::<_, ()>(())
    };
    pipeline.update(set).unwrap();
}

/// Adds a rule.
pub fn add(
    pipeline: &Pipeline,
    bridge: u32,
    table: u8,
    priority: u16,
    matching: Match,
    actions: Vec<Action>,
) {
    let rule = FlowMod::add(table, priority, matching, actions);
    let added = pipeline.update(|s| s.tables_mut(bridge).unwrap().apply(&rule, 0));
    assert_eq!(added.unwrap().added.len(), 1);
}

/// Replaces the rules of a bridge by these, one a line, as `ovs-ofctl add-flow` takes them.
pub fn flows(pipeline: &Pipeline, bridge: u32, lines: &str) {
    let done = pipeline.update(|s| {
        let tables = s.tables_mut(bridge).unwrap();
        *tables = TableSet::new();
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
            tables.apply(&flow_mod(line), 0)?;
        }
        Ok::<_, weft_pipeline::FlowModError>(())
    });
    done.unwrap();
}

/// A flow-mod that adds the rule of a line.
pub fn flow_mod(line: &str) -> FlowMod {
    flow_mod_in(line, &Syntax::default())
}

/// [`flow_mod`] where a bridge maps tunnel options to fields.
pub fn flow_mod_in(line: &str, syntax: &Syntax<'_>) -> FlowMod {
    // Read apart, so that actions may be tried on packets that they do not fit.
    let (flow, actions) = line.split_once("actions=").unwrap_or_else(|| panic!("{line}: no actions"));
    let flow = parse_flow(flow.trim_end_matches(','), syntax).unwrap_or_else(|e| panic!("{line}: {e}"));
    let instructions = parse_instructions(actions, &flow.matching, syntax);
    let instructions = instructions.unwrap_or_else(|e| panic!("{line}: {e}"));
    FlowMod {
        cookie: flow.cookie,
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        instructions,
        ..FlowMod::new(FlowModCommand::Add, flow.table.unwrap_or(0), flow.priority, flow.matching)
    }
}

/// A packet as a flow in text; `in_port` is the port's OpenFlow number on `bridge`.
pub fn packet(bridge: u32, text: &str) -> FlowKey {
    let mut key = parse_key(text, &Syntax::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
    key.packet.in_port = 100 * bridge + key.pipeline.in_port;
    key.pipeline = Default::default();
    if key.tunnel.is_present() {
        key.packet.extras |= weft_flow::EXTRA_TUNNEL;
    }
    key
}

pub fn output(port: OfPort) -> Action {
    Action::Output { port, max_len: u16::MAX }
}

/// A station's address.
pub fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

/// A tag.
pub fn tag(vid: u16) -> Vlan {
    Vlan { tpid: 0x8100, tci: VLAN_PRESENT | vid }
}

/// A frame of type 0x1234 from station `src` to station `dst` (255: broadcast) with tags.
pub fn frame(in_port: u32, src: u8, dst: u8, tags: &[Vlan]) -> FlowKey {
    let mut key = FlowKey::default();
    key.packet.in_port = in_port;
    key.packet.eth_type = 0x1234;
    key.packet.eth_src = mac(src);
    key.packet.eth_dst = if dst == 255 { Mac::BROADCAST } else { mac(dst) };
    for (slot, tag) in key.packet.vlan.iter_mut().zip(tags) {
        *slot = *tag;
    }
    key
}

/// An IPv4 packet.
pub fn ipv4(in_port: u32, src: u8, dst: u8, proto: u8, ports: (u16, u16)) -> FlowKey {
    let mut key = frame(in_port, src, dst, &[]);
    let p = &mut key.packet;
    p.eth_type = 0x800;
    p.ipv4_src = 0x0a00_0000 | u32::from(src);
    p.ipv4_dst = 0x0a00_0000 | u32::from(dst);
    p.ip_ttl = 64;
    p.ip_proto = proto;
    (p.tp_src, p.tp_dst) = ports;
    key
}

/// Actions as text: `5` outputs, `push10` and `pop` change tags, `(…)` is a clone.
pub fn short(actions: &[DpAction]) -> String {
    let one = |action: &DpAction| match action {
        DpAction::Output(port) => port.to_string(),
        DpAction::PushVlan { tpid: 0x8100, tci } => format!("push{tci}"),
        DpAction::PushVlan { tpid, tci } => format!("push{tci}/{tpid:x}"),
        DpAction::PopVlan => "pop".to_owned(),
        DpAction::Set(SetField::VlanTci(tci)) => format!("tci{tci:x}"),
        DpAction::Set(set) => format!("{set:?}"),
        DpAction::Trunc(n) => format!("trunc{n}"),
        DpAction::Clone(inner) => format!("({})", short(inner)),
        DpAction::SetTunnel(t) => format!(
            "tunnel[{}>{} id={} tos={} ttl={} flags={:x} dport={}]",
            t.key.src(),
            t.key.dst(),
            t.key.id,
            t.key.tos,
            t.key.ttl,
            t.key.flags,
            t.key.tp_dst
        ),
        DpAction::TunnelPush { header, actions } => {
            format!("encap{}({})", header.bytes.len(), short(actions))
        }
        DpAction::Ct(spec) => {
            let mut text = format!("ct(zone={}", spec.zone);
            for (name, on) in [("commit", spec.commit), ("force", spec.force), ("nat", spec.nat.is_some())] {
                text += &if on { format!(",{name}") } else { String::new() };
            }
            text += &spec.mark.map_or(String::new(), |(v, m)| format!(",mark={v:#x}/{m:#x}"));
            text += &spec.label.map_or(String::new(), |(v, m)| format!(",label={v:#x}/{m:#x}"));
            text + ")"
        }
        DpAction::CtClear => "ct_clear".to_owned(),
        DpAction::Hash { basis, .. } => format!("hash{basis}"),
        DpAction::Recirc(_) => "recirc".to_owned(),
        DpAction::Meter(meter) => format!("meter{}", meter.id),
        DpAction::Sample { share, .. } => format!("sample{share}"),
        DpAction::PushMpls { lse, ethertype } => format!("push_mpls{lse:x}/{ethertype:x}"),
        DpAction::CopyTtl { outwards } => (if *outwards { "copy_ttl_out" } else { "copy_ttl_in" }).to_owned(),
        DpAction::PopMpls(ethertype) => format!("pop_mpls/{ethertype:x}"),
        DpAction::AddMpls { lse, ethertype } => format!("add_mpls{lse:x}/{ethertype:x}"),
        DpAction::PushEth { src, dst } => format!("push_eth({src}>{dst})"),
        DpAction::PopEth => "pop_eth".to_owned(),
        DpAction::PushNsh(h) => format!("push_nsh(np={},ttl={},path={:x})", h.next, h.ttl, h.path),
        DpAction::PopNsh => "pop_nsh".to_owned(),
        DpAction::CheckPktLen { len, greater, not_greater } => {
            format!("len>{len}?({}):({})", short(greater), short(not_greater))
        }
        DpAction::TunnelPop(port) => format!("decap{port}"),
        DpAction::Controller(c) => format!("controller(reason={},max={})", c.reason, c.max_len),
    };
    actions.iter().map(one).collect::<Vec<_>>().join(",")
}

/// A verdict as text: its actions, or why it drops.
pub fn outcome(verdict: &Verdict) -> String {
    match verdict.drop {
        Some(reason) => format!("drop:{reason}"),
        None => short(&verdict.actions),
    }
}

/// The verdict on the packet that recirculates by the last such action of a verdict, after `change` of its key.
pub fn recirculated(
    pipeline: &Pipeline,
    key: &FlowKey,
    verdict: &Verdict,
    change: impl FnOnce(&mut FlowKey),
) -> Verdict {
    let id = verdict.actions.iter().rev().find_map(|a| match a {
        DpAction::Recirc(recirc) => Some(recirc.id),
        _ => None,
    });
    let mut key = *key;
    key.packet.recirc_id = id.expect("no recirculation");
    change(&mut key);
    pipeline.walk(&key, 0)
}

/// Makes a change to groups.
pub fn group(pipeline: &Pipeline, bridge: u32, group_mod: &weft_pipeline::group::GroupMod) {
    pipeline.update(|s| s.group_mod(bridge, group_mod, 0)).unwrap();
}

/// Adds a group whose buckets are weights and actions.
pub fn add_group(
    pipeline: &Pipeline,
    bridge: u32,
    id: u32,
    kind: weft_pipeline::group::GroupKind,
    buckets: &[(u16, &str)],
) {
    use weft_pipeline::group::{Bucket, GroupCommand, GroupMod};
    let actions = |text: &str| flow_mod(&format!("actions={text}")).instructions.apply;
    let mut add = GroupMod::new(GroupCommand::Add, id, kind);
    add.buckets =
        buckets.iter().enumerate().map(|(i, (w, text))| Bucket::new(i as u32, *w, actions(text))).collect();
    group(pipeline, bridge, &add);
}
