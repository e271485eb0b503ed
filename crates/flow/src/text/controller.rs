//! How are `controller(...)` and `sample(...)` written?

use super::Syntax;
use super::error::{ParseError, Result, bad};
use super::lex::{Pair, pairs};
use super::value::{hex_bytes, int};
use crate::{Action, ControllerAction, OfPort, Sample, SampleDirection};

/// Words for packet-in reasons (`OFPR_*`), by number.
const REASONS: &[&str] = &["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];
/// `OFPR_ACTION`.
const REASON_ACTION: u8 = 1;

/// Reads `controller`, `controller:max_len` or `controller(...)`. What asks for nothing but a length is a plain output.
pub(super) fn parse_controller(pair: &Pair<'_>) -> Result<Action> {
    let text = pair.text();
    if !pair.parens {
        let max_len = if text.is_empty() { u16::MAX } else { int("controller", text)? };
        return Ok(Action::Output { port: OfPort::CONTROLLER, max_len });
    }
    let mut to = ControllerAction {
        max_len: u16::MAX,
        id: 0,
        reason: REASON_ACTION,
        userdata: Vec::new(),
        pause: false,
        meter: None,
    };
    for pair in pairs(text)? {
        match pair.key {
            "max_len" => to.max_len = int("max_len", pair.text())?,
            "id" => to.id = int("id", pair.text())?,
            "reason" => match REASONS.iter().position(|r| *r == pair.text()) {
                Some(n) => to.reason = n as u8,
                None => to.reason = int("reason", pair.text())?,
            },
            "userdata" => {
                let bytes = hex_bytes(&pair.text().replace('.', ""));
                to.userdata = bytes.ok_or_else(|| bad("userdata", pair.text(), "hexadecimal bytes"))?;
            }
            "pause" => to.pause = true,
            "meter_id" => to.meter = Some(int("meter_id", pair.text())?),
            key => return Err(ParseError::UnknownKeyword(key.to_owned())),
        }
    }
    if is_plain(&to) {
        return Ok(Action::Output { port: OfPort::CONTROLLER, max_len: to.max_len });
    }
    Ok(Action::Controller(Box::new(to)))
}

fn is_plain(to: &ControllerAction) -> bool {
    to.id == 0 && to.reason == REASON_ACTION && to.userdata.is_empty() && !to.pause && to.meter.is_none()
}

pub(super) fn format_controller(to: &ControllerAction) -> String {
    if is_plain(to) {
        return format!("CONTROLLER:{}", to.max_len);
    }
    let mut parts = Vec::new();
    if to.reason != REASON_ACTION {
        let name = REASONS.get(usize::from(to.reason));
        parts.push(format!("reason={}", name.map_or_else(|| to.reason.to_string(), |r| (*r).to_owned())));
    }
    if to.max_len != u16::MAX {
        parts.push(format!("max_len={}", to.max_len));
    }
    if to.id != 0 {
        parts.push(format!("id={}", to.id));
    }
    if !to.userdata.is_empty() {
        parts.push(format!("userdata={}", dotted(&to.userdata)));
    }
    if to.pause {
        parts.push("pause".to_owned());
    }
    if let Some(meter) = to.meter {
        parts.push(format!("meter_id={meter}"));
    }
    format!("controller({})", parts.join(","))
}

/// Bytes with periods between them.
pub(super) fn dotted(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    bytes.join(".")
}

pub(super) fn parse_sample(text: &str, syntax: &Syntax<'_>) -> Result<Action> {
    let mut sample = Sample {
        probability: 0,
        collector_set_id: 0,
        obs_domain_id: 0,
        obs_point_id: 0,
        sampling_port: OfPort::NONE,
        direction: SampleDirection::Default,
    };
    for pair in pairs(text)? {
        let text = pair.text();
        match pair.key {
            "probability" => sample.probability = int(pair.key, text)?,
            "collector_set_id" => sample.collector_set_id = int(pair.key, text)?,
            "obs_domain_id" => sample.obs_domain_id = int(pair.key, text)?,
            "obs_point_id" => sample.obs_point_id = int(pair.key, text)?,
            "sampling_port" => {
                let unknown = || ParseError::UnknownPort(text.to_owned());
                sample.sampling_port = syntax.parse_port(text).ok_or_else(unknown)?;
            }
            "ingress" => sample.direction = SampleDirection::Ingress,
            "egress" => sample.direction = SampleDirection::Egress,
            key => return Err(ParseError::UnknownKeyword(key.to_owned())),
        }
    }
    if sample.probability == 0 {
        return Err(bad("sample", text, "a probability that is not zero"));
    }
    Ok(Action::Sample(Box::new(sample)))
}

pub(super) fn format_sample(s: &Sample, syntax: &Syntax<'_>) -> String {
    let mut out = format!(
        "sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={}",
        s.probability, s.collector_set_id, s.obs_domain_id, s.obs_point_id
    );
    if s.sampling_port != OfPort::NONE {
        out.push_str(&format!(",sampling_port={}", syntax.port(s.sampling_port)));
    }
    out.push_str(match s.direction {
        SampleDirection::Default => ")",
        SampleDirection::Ingress => ",ingress)",
        SampleDirection::Egress => ",egress)",
    });
    out
}
