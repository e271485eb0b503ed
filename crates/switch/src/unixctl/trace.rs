//! What would happen to a packet?

use std::sync::Arc;

use weft_flow::text::{Syntax, parse_actions, parse_dp_flow, parse_key};
use weft_flow::{
    Action, CT_DNAT, CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_SNAT, CT_TRK, DpPort, FlowKey, FlowMask,
    Match, OfPort, TlvTable, check_actions,
};
use weft_pipeline::{PacketOut, Trace, TraceFrom};

use super::datapath::is_ours;
use super::{Answer, Command, SWITCH};
use crate::bridge::Bridge;
use crate::clock::now_ms;
use crate::control::Control;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        daemons: SWITCH,
        name: "ofproto/trace",
        usage: "[--generate] [--ct-next STATE]... [--names] {[dpname] odp_flow | bridge br_flow} [packet]",
        arguments: (1, usize::MAX),
        run: trace,
    },
    Command {
        daemons: SWITCH,
        name: "ofproto/trace-packet-out",
        usage: "[--generate] [--consistent] [--ct-next STATE]... [--names] {[dpname] odp_flow | bridge br_flow} \
                [packet] actions",
        arguments: (2, usize::MAX),
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

/// The packet that is asked about, and where it comes in.
struct Asked<'a> {
    bridge: &'a Bridge,
    key: FlowKey,
    in_port: OfPort,
    /// Bytes of the packet, if they were given.
    frame: Option<Vec<u8>>,
}

impl<'a> Asked<'a> {
    /// Reads `[dpname] odp_flow [packet]` or `bridge br_flow [packet]`.
    fn read(control: &'a Control, words: &[String]) -> Result<Asked<'a>, String> {
        let first = words.iter().take(2).position(|word| is_dp_flow(word));
        let (mut asked, rest) = match (first, words) {
            (Some(at), _) => {
                if let Some(other) = words[..at].iter().find(|name| !is_ours(name)) {
                    return Err(format!("{other}: Cannot find datapath of this name"));
                }
                (Asked::of_datapath(control, &words[at])?, &words[at + 1..])
            }
            (None, [bridge, flow, rest @ ..]) => (Asked::of_bridge(control, bridge, flow)?, rest),
            _ => {
                return Err("a bridge and a flow are needed, or a flow of the datapath: \
                            ofproto/trace BRIDGE BR_FLOW, ofproto/trace [DPNAME] ODP_FLOW"
                    .into());
            }
        };
        match rest {
            [] => {}
            [hex] => asked.extract(bytes(hex)?, control.datapath.tuning().vlan_limit)?,
            [_, more, ..] => return Err(format!("{more}: what is this? One packet at a time is traced")),
        }
        Ok(asked)
    }

    fn of_bridge(control: &'a Control, bridge: &str, flow: &str) -> Result<Asked<'a>, String> {
        let bridge = control.world.bridges.get(bridge).ok_or_else(|| format!("{bridge}: unknown bridge"))?;
        let by_name = |name: &str| bridge.ifaces.get(name).and_then(|i| i.ofport);
        let tlv = options_of(control, bridge);
        let mut key: FlowKey = parse_key(flow, &Syntax { tlv: &tlv, ..Syntax::reading(&by_name) })
            .map_err(|e| format!("Bad openflow flow syntax: {flow}: {e}"))?;
        let in_port = OfPort(key.pipeline.in_port);
        let dp_port = bridge.by_ofport(in_port).and_then(|i| i.dp_port);
        key.packet.in_port = dp_port.map_or(u32::MAX, |p| p.0);
        Ok(Asked { bridge, key, in_port, frame: None })
    }

    /// A flow as `dpctl/dump-flows` prints it; what the datapath counted of it is not looked at.
    fn of_datapath(control: &'a Control, text: &str) -> Result<Asked<'a>, String> {
        let flow = without_masks(text.split_once(", packets:").map_or(text, |(flow, _)| flow));
        let by_name = |name: &str| {
            control.world.ifaces().find(|(_, i)| i.wanted.name == name).and_then(|(_, i)| i.dp_port)
        };
        let mut wrong = None;
        for bridge in control.world.bridges.values() {
            let key = match parse_dp_flow(&flow, &by_name, &options_of(control, bridge)) {
                Ok((key, _)) => key,
                Err(e) => {
                    wrong = Some(format!("Bad datapath flow syntax: {text}: {e}"));
                    continue;
                }
            };
            let port = Some(DpPort(key.packet.in_port));
            if let Some(iface) = bridge.ifaces.values().find(|i| i.dp_port == port) {
                let in_port = iface.ofport.unwrap_or(OfPort::NONE);
                return Ok(Asked { bridge, key, in_port, frame: None });
            }
        }
        Err(wrong.unwrap_or_else(|| format!("{text}: Invalid datapath flow: no bridge has its in_port")))
    }

    /// The packet is this one, of which so many VLAN tags are read.
    fn extract(&mut self, frame: Vec<u8>, vlans: usize) -> Result<(), String> {
        let recirc_id = self.key.packet.recirc_id;
        weft_flow::extract_packet_vlans(&frame, self.key.packet.in_port, vlans, &mut self.key.packet)
            .map_err(|reason| reason.describe().to_owned())?;
        self.key.packet.recirc_id = recirc_id;
        // What it comes with besides: a tunnel's header, a connection's state.
        self.key.note_extras();
        self.frame = Some(frame);
        Ok(())
    }

    /// What becomes of it where it comes in.
    fn walk(mut self, control: &Control, options: &Options) -> Result<Trace, String> {
        let Asked { bridge, in_port, .. } = self;
        let iface = bridge
            .by_ofport(in_port)
            .ok_or_else(|| format!("{} has no port {in_port}: give in_port=PORT", bridge.name))?;
        if iface.dp_port.is_none() {
            let name = &iface.wanted.name;
            return Err(format!("{name} is a patch port: trace from the bridge where the packet enters"));
        }
        self.key.pipeline.in_port = 0;
        let learns = options.generate || self.frame.is_some();
        Ok(run(control, TraceFrom::DpPort, &self.key, &options.states, learns))
    }
}

/// Whether a flow is written as the datapath's are: `in_port(1),eth(...)`.
fn is_dp_flow(text: &str) -> bool {
    text.starts_with("ufid:") || text.find(['(', '=', ',']).is_some_and(|at| text[at..].starts_with('('))
}

/// The tunnel options that a bridge's controllers mapped to fields.
fn options_of(control: &Control, bridge: &Bridge) -> Arc<TlvTable> {
    control.pipeline.with_bridge(bridge.id, |b| b.tlv.clone()).unwrap_or_default()
}

/// A flow of the datapath as the packet that its values are of: also those that do not count (`ttl=64/0`).
fn without_masks(flow: &str) -> String {
    let mut masked = false;
    let kept = |c: &char| {
        masked = *c == '/' || masked && !matches!(c, ',' | ')' | '}');
        !masked
    };
    flow.chars().filter(kept).collect()
}

fn trace(control: &mut Control, args: &[String]) -> Answer {
    let options = Options::parse(args, false)?;
    let recorded = Asked::read(control, &options.positional)?.walk(control, &options)?;
    Ok(if options.names { format!("{recorded:#}") } else { recorded.to_string() })
}

/// What would become of a packet-out: the actions are the last argument.
fn trace_packet_out(control: &mut Control, args: &[String]) -> Answer {
    let options = Options::parse(args, true)?;
    let [words @ .., actions] = &options.positional[..] else {
        return Err("a flow and actions are needed".into());
    };
    let Asked { bridge, key, in_port, frame } = Asked::read(control, words)?;
    let by_name = |name: &str| bridge.ifaces.get(name).and_then(|i| i.ofport);
    let tlv = options_of(control, bridge);
    let actions = parse_actions(actions, &Syntax { tlv: &tlv, ..Syntax::reading(&by_name) })
        .map_err(|e| format!("bad actions: {actions}: {e}"))?;
    let lenient = !options.consistent && !actions.iter().any(is_strict);
    check_actions(&actions, &exactly(&key), lenient).map_err(|e| format!("Bad actions: {e}"))?;
    let out = PacketOut { bridge: bridge.id, in_port, actions: &actions };
    let learns = options.generate || frame.is_some();
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
    let recorded = Asked::of_bridge(control, &args[0], &args[1])?.walk(control, &Options::default())?;
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
    fn flows_of_the_datapath_have_parentheses() {
        for flow in
            ["in_port(1),eth(src=02:00:00:00:00:01)", "recirc_id(0x3),in_port(p1)", "ufid:0-1,in_port(1)"]
        {
            assert!(is_dp_flow(flow), "{flow}");
        }
        for flow in ["in_port=1,packet_type=(1,0x800)", "ip", "tcp,in_port=1", "br0", "p(1)=2"] {
            assert_eq!(is_dp_flow(flow), flow == "p(1)=2", "{flow}");
        }
    }

    #[test]
    fn values_count_whatever_their_masks() {
        let flow =
            "ct_state(0/0x30),in_port(p1),ipv4(dst=10.0.0.0/255.0.0.0,ttl=64/0),geneve({class=1/0,0x1/0xff})";
        let whole = "ct_state(0),in_port(p1),ipv4(dst=10.0.0.0,ttl=64),geneve({class=1,0x1})";
        assert_eq!(without_masks(flow), whole);
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
