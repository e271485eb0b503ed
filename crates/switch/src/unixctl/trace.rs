//! What would happen to a packet?

use weft_flow::text::{Syntax, parse_actions, parse_key};
use weft_flow::{CT_DNAT, CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_SNAT, CT_TRK, FlowKey, OfPort};
use weft_pipeline::{PacketOut, TraceFrom};

use super::{Answer, Command, SWITCH};
use crate::clock::now_ms;
use crate::control::Control;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        daemons: SWITCH,
        name: "ofproto/trace",
        usage: "bridge br_flow [packet] [--names] [--ct-next STATE]...",
        arguments: (1, usize::MAX),
        run: trace,
    },
    Command {
        daemons: SWITCH,
        name: "ofproto/trace-packet-out",
        usage: "bridge br_flow [packet] actions",
        arguments: (3, usize::MAX),
        run: trace_packet_out,
    },
    Command {
        daemons: SWITCH,
        name: "weft/trace",
        usage: "bridge br_flow [--json]",
        arguments: (2, 3),
        run: weft_trace,
    },
];

/// States of connections by name.
const STATES: [(&str, u16); 8] = [
    ("new", CT_NEW),
    ("est", CT_EST),
    ("rel", CT_REL),
    ("rpl", CT_RPL),
    ("inv", CT_INV),
    ("trk", CT_TRK),
    ("snat", CT_SNAT),
    ("dnat", CT_DNAT),
];

/// Takes `--ct-next STATE` and `--ct-next=STATE` out of the arguments. Returns the rest, and the states.
fn ct_next(args: &[String]) -> Result<(Vec<String>, Vec<u16>), String> {
    let (mut rest, mut states) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let list = match arg.strip_prefix("--ct-next") {
            Some("") => args.next().ok_or("--ct-next: a state is needed, such as trk,est")?,
            Some(list) if list.starts_with('=') => &list[1..],
            _ => {
                rest.push(arg.clone());
                continue;
            }
        };
        let bit = |name: &str| STATES.iter().find(|(n, _)| *n == name).map(|(_, bit)| *bit);
        let mut state = 0;
        for name in list.split([',', '|']).filter(|n| !n.is_empty()) {
            state |= bit(name).ok_or_else(|| format!("{name}: unknown connection tracking state"))?;
        }
        states.push(state | CT_TRK);
    }
    Ok((rest, states))
}

fn trace(control: &mut Control, args: &[String]) -> Answer {
    let (args, states) = ct_next(args)?;
    let mut positional = args.iter().filter(|a| !a.starts_with('-'));
    let (Some(bridge), Some(flow)) = (positional.next(), positional.next()) else {
        return Err("a bridge and a flow are needed: ofproto/trace BRIDGE FLOW".into());
    };
    let packet = positional.next().map(|hex| bytes(hex)).transpose()?;
    let recorded = record(control, bridge, flow, packet.as_deref(), &states)?;
    let named = args.iter().any(|a| a == "--names");
    Ok(if named { format!("{recorded:#}") } else { recorded.to_string() })
}

/// What would become of a packet-out: the actions are the last argument.
fn trace_packet_out(control: &mut Control, args: &[String]) -> Answer {
    let (args, states) = ct_next(args)?;
    let positional: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let [bridge, flow, rest @ .., actions] = &positional[..] else {
        return Err("a bridge, a flow and actions are needed".into());
    };
    let found =
        control.world.bridges.get(bridge.as_str()).ok_or_else(|| format!("{bridge}: unknown bridge"))?;
    let by_name = |name: &str| found.ifaces.get(name).and_then(|i| i.ofport);
    let syntax = Syntax::reading(&by_name);
    let mut key: FlowKey =
        parse_key(flow, &syntax).map_err(|e| format!("Bad openflow flow syntax: {flow}: {e}"))?;
    let actions = parse_actions(actions, &syntax).map_err(|e| format!("bad actions: {actions}: {e}"))?;
    let in_port = OfPort(key.pipeline.in_port);
    let dp_port = found.by_ofport(in_port).and_then(|i| i.dp_port).map_or(u32::MAX, |p| p.0);
    if let Some(hex) = rest.first() {
        weft_flow::extract_packet(&bytes(hex)?, dp_port, &mut key.packet)
            .map_err(|reason| reason.describe().to_owned())?;
    }
    let out = PacketOut { bridge: found.id, in_port, actions: &actions };
    Ok(control.pipeline.trace_through(TraceFrom::PacketOut(out), &key, &states, now_ms()).1.to_string())
}

/// The bytes of a frame that is written in hexadecimal digits.
fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let digit = |d: u8| char::from(d).to_digit(16).map(|d| d as u8);
    let pair = |p: &[u8]| match p {
        [a, b] => Some(digit(*a)? << 4 | digit(*b)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(pair).collect();
    bytes.ok_or_else(|| format!("{hex}: a packet is written as hexadecimal digits"))
}

fn weft_trace(control: &mut Control, args: &[String]) -> Answer {
    let recorded = record(control, &args[0], &args[1], None, &[])?;
    match args.get(2).map(String::as_str) {
        None => Ok(recorded.to_string()),
        Some("--json") => serde_json::to_string(&recorded).map_err(|e| e.to_string()),
        Some(other) => Err(format!("{other}: unknown option, use --json")),
    }
}

fn record(
    control: &Control,
    bridge: &str,
    flow: &str,
    packet: Option<&[u8]>,
    states: &[u16],
) -> Result<weft_pipeline::Trace, String> {
    let found = control.world.bridges.get(bridge).ok_or_else(|| format!("{bridge}: unknown bridge"))?;
    let by_name = |name: &str| found.ifaces.get(name).and_then(|i| i.ofport);
    let syntax = Syntax::reading(&by_name);
    let mut key: FlowKey =
        parse_key(flow, &syntax).map_err(|e| format!("Bad openflow flow syntax: {flow}: {e}"))?;
    let number = OfPort(key.pipeline.in_port);
    let iface =
        found.by_ofport(number).ok_or_else(|| format!("{bridge} has no port {number}: give in_port=PORT"))?;
    let port = iface.dp_port.ok_or_else(|| {
        format!("{} is a patch port: trace from the bridge where the packet enters", iface.wanted.name)
    })?;
    key.pipeline.in_port = 0;
    key.packet.in_port = port.0;
    if let Some(frame) = packet {
        weft_flow::extract_packet(frame, port.0, &mut key.packet)
            .map_err(|reason| reason.describe().to_owned())?;
    }
    Ok(control.pipeline.trace_through(TraceFrom::DpPort, &key, states, now_ms()).1)
}
