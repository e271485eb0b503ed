//! What would happen to a packet?

use weft_flow::text::{Syntax, parse_actions, parse_key};
use weft_flow::{
    Action, CT_DNAT, CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_SNAT, CT_TRK, FlowKey, FlowMask, Match,
    OfPort, check_actions,
};
use weft_pipeline::{PacketOut, Trace, TraceFrom};

use super::{Answer, Command, SWITCH};
use crate::clock::now_ms;
use crate::control::Control;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        daemons: SWITCH,
        name: "ofproto/trace",
        usage: "[--generate] [--ct-next STATE]... [--names] bridge br_flow [packet]",
        arguments: (1, usize::MAX),
        run: trace,
    },
    Command {
        daemons: SWITCH,
        name: "ofproto/trace-packet-out",
        usage: "[--generate] [--consistent] [--ct-next STATE]... [--names] bridge br_flow [packet] actions",
        arguments: (3, usize::MAX),
        run: trace_packet_out,
    },
    Command {
        daemons: SWITCH,
        name: "weft/trace",
        usage: "bridge br_flow [--names] [--json]",
        arguments: (2, 4),
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

/// What the options of a trace say.
#[derive(Debug, Default)]
struct Options {
    /// Arguments that are no options.
    positional: Vec<String>,
    /// States of connections that copies have.
    states: Vec<u16>,
    /// A packet is there: what it teaches is learned.
    generate: bool,
    /// Actions have to fit the packet.
    consistent: bool,
    /// Ports are shown by name.
    names: bool,
}

impl Options {
    fn parse(args: &[String], packet_out: bool) -> Result<Options, String> {
        let mut out = Options::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (arg.as_str(), None),
            };
            let mut value = |what: &str| {
                let next = value.clone().or_else(|| args.next().cloned());
                next.ok_or_else(|| format!("{name}: {what} is needed"))
            };
            match name {
                "--ct-next" => out.states.push(ct_state(&value("a state, such as trk,est,")?)?),
                "--generate" | "-generate" => out.generate = true,
                // What a packet carries has no part in what becomes of it.
                "--l7" => drop(value("a payload")?),
                "--l7-len" => {
                    let text = value("a length")?;
                    text.parse::<u16>().map_err(|_| format!("{text}: a length is a number of bytes"))?;
                }
                "--consistent" | "-consistent" if packet_out => out.consistent = true,
                "--names" | "--no-names" => out.names = name == "--names",
                _ if name.starts_with('-') => return Err(format!("{name}: unknown option")),
                _ => out.positional.push(arg.clone()),
            }
        }
        Ok(out)
    }
}

/// The state of a connection: names separated by commas.
fn ct_state(list: &str) -> Result<u16, String> {
    let bit = |name: &str| STATES.iter().find(|(n, _)| *n == name).map(|(_, bit)| *bit);
    let mut state = CT_TRK;
    for name in list.split([',', '|', ' ']).filter(|n| !n.is_empty()) {
        state |= bit(name).ok_or_else(|| format!("{name}: unknown connection tracking state"))?;
    }
    Ok(state)
}

fn trace(control: &mut Control, args: &[String]) -> Answer {
    let options = Options::parse(args, false)?;
    let [bridge, flow, rest @ ..] = &options.positional[..] else {
        return Err("a bridge and a flow are needed: ofproto/trace BRIDGE FLOW".into());
    };
    let packet = rest.first().map(|hex| bytes(hex)).transpose()?;
    let recorded = record(control, bridge, flow, packet.as_deref(), &options)?;
    Ok(if options.names { format!("{recorded:#}") } else { recorded.to_string() })
}

/// What would become of a packet-out: the actions are the last argument.
fn trace_packet_out(control: &mut Control, args: &[String]) -> Answer {
    let options = Options::parse(args, true)?;
    let [bridge, flow, rest @ .., actions] = &options.positional[..] else {
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
        let vlans = control.datapath.tuning().vlan_limit;
        weft_flow::extract_packet_vlans(&bytes(hex)?, dp_port, vlans, &mut key.packet)
            .map_err(|reason| reason.describe().to_owned())?;
    }
    let lenient = !options.consistent && !actions.iter().any(is_strict);
    check_actions(&actions, &exactly(&key), lenient).map_err(|e| format!("Bad actions: {e}"))?;
    let out = PacketOut { bridge: found.id, in_port, actions: &actions };
    let learns = options.generate || !rest.is_empty();
    let recorded = run(control, TraceFrom::PacketOut(out), &key, &options.states, learns);
    Ok(if options.names { format!("{recorded:#}") } else { recorded.to_string() })
}

/// Whether an action is of OpenFlow 1.1 and later only, where actions have to fit the packet.
fn is_strict(action: &Action) -> bool {
    matches!(
        action,
        Action::SetField { load: false, .. }
            | Action::PushVlan(_)
            | Action::Group(_)
            | Action::Meter(_)
            | Action::Encap(_)
            | Action::Decap(_)
    )
}

/// A match of this packet alone.
fn exactly(key: &FlowKey) -> Match {
    let mut mask = FlowMask::empty();
    mask.0.words_mut().fill(u64::MAX);
    Match::new(key, mask)
}

fn run(control: &Control, from: TraceFrom<'_>, key: &FlowKey, states: &[u16], learns: bool) -> Trace {
    let pipeline = &control.pipeline;
    if learns {
        pipeline.trace_and_learn(from, key, states, now_ms()).1
    } else {
        pipeline.trace_through(from, key, states, now_ms()).1
    }
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
    let recorded = record(control, &args[0], &args[1], None, &Options::default())?;
    let (mut json, mut names) = (false, false);
    for option in &args[2..] {
        match option.as_str() {
            "--json" => json = true,
            "--names" => names = true,
            other => return Err(format!("{other}: unknown option, use --names or --json")),
        }
    }
    match (json, names) {
        (true, _) => serde_json::to_string(&recorded).map_err(|e| e.to_string()),
        (false, true) => Ok(format!("{recorded:#}")),
        (false, false) => Ok(recorded.to_string()),
    }
}

fn record(
    control: &Control,
    bridge: &str,
    flow: &str,
    packet: Option<&[u8]>,
    options: &Options,
) -> Result<Trace, String> {
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
        let vlans = control.datapath.tuning().vlan_limit;
        weft_flow::extract_packet_vlans(frame, port.0, vlans, &mut key.packet)
            .map_err(|reason| reason.describe().to_owned())?;
    }
    let learns = options.generate || packet.is_some();
    Ok(run(control, TraceFrom::DpPort, &key, &options.states, learns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, packet_out: bool) -> Result<Options, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Options::parse(&words, packet_out)
    }

    #[test]
    fn options_stand_anywhere() {
        let options =
            parse("--names br0 --generate in_port=1,tcp --l7-len 10 --ct-next trk,est --ct-next=new", false);
        let options = options.expect("options");
        assert_eq!(options.positional, ["br0", "in_port=1,tcp"]);
        assert_eq!(options.states, [CT_TRK | CT_EST, CT_TRK | CT_NEW]);
        assert!(options.names && options.generate && !options.consistent);
        assert!(parse("-generate br0 in_port=1", false).expect("options").generate);
        assert!(parse("br0 in_port=1 --consistent output:1", true).expect("options").consistent);
    }

    #[test]
    fn what_is_no_option_is_said() {
        for (line, said) in [
            ("br0 in_port=1 --bogus", "--bogus: unknown option"),
            ("br0 in_port=1 --consistent", "--consistent: unknown option"),
            ("br0 in_port=1 --l7-len x", "x: a length is a number of bytes"),
            ("br0 in_port=1 --ct-next", "--ct-next: a state, such as trk,est, is needed"),
            ("br0 in_port=1 --ct-next=old", "old: unknown connection tracking state"),
        ] {
            assert_eq!(parse(line, false).expect_err("an error"), said, "{line}");
        }
    }
}
