//! Which actions does a line of datapath actions hold? Read from the text that either switch prints.

/// One datapath action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DpAction {
    Output(String),
    /// Header, field, value, bits that are set.
    Set(String, Vec<(String, Value)>),
    PushVlan {
        tpid: u16,
        tci: u16,
    },
    PopVlan,
    PushMpls {
        lse: u32,
        eth_type: u16,
    },
    PopMpls(u16),
    /// Source and destination.
    PushEth([u128; 2]),
    PopEth,
    /// The header as printed.
    PushNsh(String),
    PopNsh,
    Clone(Vec<DpAction>),
    CheckPktLen {
        size: i64,
        greater: Vec<DpAction>,
        not_greater: Vec<DpAction>,
    },
    Trunc(u64),
    Ct(String),
    CtClear,
    Hash(String),
    Meter(String),
    Recirc(String),
    Sample(String, Vec<DpAction>),
    Userspace(String),
}

/// A value, and the bits of it that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) value: u128,
    pub(crate) mask: u128,
}

/// Reads a list of actions; what is not known is said.
pub(crate) fn parse(text: &str) -> Result<Vec<DpAction>, String> {
    match text {
        "" | "drop" => Ok(Vec::new()),
        text => split(text).into_iter().map(one).collect(),
    }
}

fn one(text: &str) -> Result<DpAction, String> {
    let unknown = || format!("what is the action {text}?");
    let Some((name, rest)) = text.split_once('(') else {
        return Ok(match text {
            "pop_vlan" => DpAction::PopVlan,
            "pop_eth" => DpAction::PopEth,
            "ct_clear" => DpAction::CtClear,
            "ct" => DpAction::Ct(String::new()),
            port => DpAction::Output(port.to_owned()),
        });
    };
    let inner = rest.strip_suffix(')').ok_or_else(unknown)?;
    Ok(match name {
        "set" => {
            let (header, fields) = inner.split_once('(').ok_or_else(unknown)?;
            let fields = fields.strip_suffix(')').ok_or_else(unknown)?;
            let fields: Result<Vec<_>, _> = split(fields).into_iter().map(field).collect();
            DpAction::Set(header.to_owned(), fields?)
        }
        "push_vlan" => {
            let tpid = member(inner, "tpid").unwrap_or("0x8100");
            DpAction::PushVlan { tpid: number(tpid)? as u16, tci: tci(inner)? }
        }
        "push_mpls" => DpAction::PushMpls {
            lse: lse(inner)?,
            eth_type: number(member(inner, "eth_type").ok_or_else(unknown)?)? as u16,
        },
        "push_eth" => {
            let end = |name| member(inner, name).ok_or_else(unknown).and_then(number);
            DpAction::PushEth([end("src")?, end("dst")?])
        }
        "push_nsh" => DpAction::PushNsh(inner.to_owned()),
        "pop_nsh" => DpAction::PopNsh,
        "pop_mpls" => DpAction::PopMpls(number(member(inner, "eth_type").ok_or_else(unknown)?)? as u16),
        "clone" => DpAction::Clone(parse(inner)?),
        "check_pkt_len" => match split(inner)[..] {
            [size, gt, le] => DpAction::CheckPktLen {
                size: number(member(size, "size").ok_or_else(unknown)?)? as i64,
                greater: parse(within(gt, "gt").ok_or_else(unknown)?)?,
                not_greater: parse(within(le, "le").ok_or_else(unknown)?)?,
            },
            _ => return Err(unknown()),
        },
        "trunc" => DpAction::Trunc(number(inner)? as u64),
        // Zero is written with or without `0x`.
        "ct" => DpAction::Ct(inner.replace("=0x0/", "=0/")),
        "hash" => DpAction::Hash(inner.to_owned()),
        "meter" => DpAction::Meter(inner.to_owned()),
        "recirc" => DpAction::Recirc(inner.to_owned()),
        "sample" => match split(inner)[..] {
            [share, list] => {
                DpAction::Sample(share.to_owned(), parse(within(list, "actions").ok_or_else(unknown)?)?)
            }
            _ => return Err(unknown()),
        },
        "userspace" => DpAction::Userspace(inner.to_owned()),
        _ => return Err(unknown()),
    })
}

/// Inside of `name(…)`.
fn within<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')
}

/// Value of `name=…` among others.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    split(text).into_iter().find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// `name=value`, `name=value/mask`, or a value alone.
fn field(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').unwrap_or(("", text));
    let (value, mask) = match value.split_once('/') {
        Some((value, mask)) => (number(value)?, number(mask)?),
        None => (number(value)?, u128::MAX),
    };
    Ok((name.to_owned(), Value { value, mask }))
}

/// A number, or an address as one.
pub(crate) fn number(text: &str) -> Result<u128, String> {
    let wrong = || format!("{text} is no number");
    if let Some(hex) = text.strip_prefix("0x") {
        return u128::from_str_radix(hex, 16).map_err(|_| wrong());
    }
    if let Ok(n) = text.parse::<u128>() {
        return Ok(n);
    }
    match text.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(a)) => return Ok(a.to_bits().into()),
        Ok(std::net::IpAddr::V6(a)) => return Ok(a.to_bits()),
        Err(_) => {}
    }
    let digits = text.replace(':', "");
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 12).ok_or_else(wrong)
}

/// VID, PCP and DEI as on the wire.
fn tci(text: &str) -> Result<u16, String> {
    let get = |name, default| member(text, name).map_or(Ok(default), number);
    // The DEI bit is written as `cfi`, which is turned round: set unless said otherwise.
    let dei = 1 - get("cfi", 1)?;
    Ok((get("pcp", 0)? << 13 | dei << 12 | get("vid", 0)?) as u16)
}

/// A label stack entry.
fn lse(text: &str) -> Result<u32, String> {
    let get = |name| member(text, name).ok_or_else(|| format!("{text}: {name}?")).and_then(number);
    Ok((get("label")? << 12 | get("tc")? << 9 | get("bos")? << 8 | get("ttl")?) as u32)
}

impl DpAction {
    /// The header that a `set` of a whole VLAN tag or label stack entry writes.
    pub(crate) fn whole(fields: &[(String, Value)], header: &str) -> Result<u32, String> {
        let text: Vec<String> = fields.iter().map(|(n, v)| format!("{n}={}", v.value)).collect();
        if header == "vlan" { tci(&text.join(",")).map(u32::from) } else { lse(&text.join(",")) }
    }
}

/// Splits at the commas outside parentheses and braces.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let (mut out, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}
