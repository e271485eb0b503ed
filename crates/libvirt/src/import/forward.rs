//! How does a network reach what is outside: `<forward>` and `<bridge>`?

use weft_model::{AddressRange, Bridged, Nat, NetworkMode, NetworkSpec, PortRange};

use crate::cx::{At, Cx, Kept};
use crate::form::{self, Form};
use crate::xml::Child;

/// The words of `mode`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Nat,
    Route,
    Open,
    Bridge,
    Private,
    Vepa,
    Passthrough,
    Hostdev,
}

fn word(text: &str) -> Form<Word> {
    Ok(match text {
        "nat" => Word::Nat,
        "route" => Word::Route,
        "open" => Word::Open,
        "bridge" => Word::Bridge,
        "private" => Word::Private,
        "vepa" => Word::Vepa,
        "passthrough" => Word::Passthrough,
        "hostdev" => Word::Hostdev,
        _ => {
            return Err(
                "one of `nat`, `route`, `open`, `bridge`, `private`, `vepa`, `passthrough`, `hostdev`",
            );
        }
    })
}

/// Reads both elements.
pub(super) fn read(cx: &mut Cx, at: &mut At, spec: &mut NetworkSpec, kept: &mut Kept) {
    let mut bridge = cx.one(at, "bridge");
    match cx.one(at, "forward") {
        None => spec.mode = NetworkMode::Isolated,
        Some(mut forward) => {
            cx.place(0, "spec.mode", &forward);
            let mode = forward.element.attributes.iter().find(|(n, ..)| n == "mode").cloned();
            let word = cx.attr(&mut forward, "mode", word).unwrap_or(Word::Nat);
            match word {
                Word::Nat => spec.mode = NetworkMode::Nat,
                Word::Route => spec.mode = NetworkMode::Routed,
                Word::Open => spec.mode = NetworkMode::Open,
                _ => joined(cx, word, &mut forward, bridge.as_mut(), spec, kept),
            }
            if let Some(why) = kept_mode(word, spec) {
                // The word is not the one that the mode is written with.
                let (_, value, line) = mode.unwrap_or_default();
                cx.keep(at, "forward/@mode".to_owned(), value, line, Some(why), kept);
            }
            if !matches!(word, Word::Hostdev) && spec.bridged.is_none() {
                drop_twin(&mut forward);
            }
            if let Some(nat) = cx.one(&mut forward, "nat") {
                read_nat(cx, nat, spec, kept);
            }
            cx.rest(forward, kept);
        }
    }
    if let Some(bridge) = bridge {
        cx.rest(bridge, kept);
    }
}

/// Why the word of a mode is kept, if the mode here does not say it.
fn kept_mode(word: Word, spec: &NetworkSpec) -> Option<&'static str> {
    match word {
        Word::Vepa => {
            Some("it becomes mode private: the switch outside sends back what goes from machine to machine")
        }
        Word::Passthrough if spec.bridged.is_some() => {
            Some("it becomes mode bridged: the machines share the first device")
        }
        Word::Bridge | Word::Passthrough if spec.bridged.is_none() => {
            Some("it names no bridge and no device; the network becomes isolated")
        }
        Word::Hostdev => Some("devices of the host are not given to machines; the network becomes isolated"),
        _ => None,
    }
}

/// `dev` and the first `<interface>` say the same; libvirt writes both when one was given.
fn drop_twin(forward: &mut At) {
    let dev = forward.element.attributes.iter().find(|(n, ..)| n == "dev").map(|(_, v, _)| v.clone());
    let Some(dev) = dev else { return };
    let twin = |child: &Child| match child {
        Child::Element(e) if e.name == "interface" && e.index == 1 => {
            matches!(e.attributes.as_slice(), [(name, value, _)] if name == "dev" && *value == dev)
                && e.children.is_empty()
        }
        _ => false,
    };
    let before = forward.element.children.len();
    forward.element.children.retain(|child| !twin(child));
    if forward.element.children.len() < before {
        for child in &mut forward.element.children {
            if let Child::Element(e) = child
                && e.name == "interface"
            {
                e.index -= 1;
            }
        }
    }
}

/// Networks that are a part of one outside.
fn joined(
    cx: &mut Cx,
    word: Word,
    forward: &mut At,
    bridge: Option<&mut At>,
    spec: &mut NetworkSpec,
    kept: &mut Kept,
) {
    let mut place = None;
    if word == Word::Bridge
        && let Some(bridge) = bridge
        && let Some(name) = cx.attr(bridge, "name", form::text)
    {
        cx.place(0, "spec.bridged", bridge);
        place = Some(Bridged { uplink: None, bridge: Some(name) });
    }
    if word != Word::Hostdev {
        let uplink = uplink(cx, forward, kept);
        if uplink.is_some() && place.is_some() {
            let mend = "keep <bridge> or the devices of <forward>";
            cx.wrong_at(forward, "names a device beside a bridge", mend);
        } else if let Some(uplink) = uplink {
            cx.place(0, "spec.bridged", forward);
            place = Some(Bridged { uplink: Some(uplink), bridge: None });
        }
    }
    spec.mode = match word {
        Word::Private | Word::Vepa => NetworkMode::Private,
        _ if place.is_some() => NetworkMode::Bridged,
        _ => NetworkMode::Isolated,
    };
    spec.bridged = place;
}

/// The device of `dev` or of the first `<interface>`; the others stay for those who keep them.
fn uplink(cx: &mut Cx, forward: &mut At, kept: &mut Kept) -> Option<String> {
    let dev = cx.attr(forward, "dev", form::text);
    let mut all = forward.many("interface").into_iter();
    let mut found = dev.clone();
    if let Some(mut first) = all.next() {
        let name = cx.need(&mut first, "dev", form::text);
        if dev.is_some() && dev != name {
            cx.wrong_at(&first, "is not the device of <forward dev='…'>", "name the same device first");
        }
        found = found.or(name);
        cx.rest(first, kept);
    }
    forward.element.children.extend(all.map(|i| Child::Element(i.element)));
    found
}

fn read_nat(cx: &mut Cx, mut at: At, spec: &mut NetworkSpec, kept: &mut Kept) {
    if spec.mode != NetworkMode::Nat {
        cx.wrong_at(&at, "needs mode='nat'", "write <forward mode='nat'> or remove <nat>");
    }
    cx.place(0, "spec.nat", &at);
    let mut nat = Nat { ipv6: cx.attr(&mut at, "ipv6", form::yes_no).unwrap_or_default(), ..Nat::default() };
    if let Some(mut address) = cx.one(&mut at, "address") {
        let start = cx.need(&mut address, "start", form::ipv4);
        let end = cx.need(&mut address, "end", form::ipv4);
        if let (Some(start), Some(end)) = (start, end) {
            nat.address_range = Some(AddressRange { start: start.into(), end: end.into() });
        }
        cx.place(0, "spec.nat.addressRange", &address);
        cx.rest(address, kept);
    }
    if let Some(mut port) = cx.one(&mut at, "port") {
        let start = cx.need(&mut port, "start", form::u16);
        let end = cx.need(&mut port, "end", form::u16);
        if let (Some(start), Some(end)) = (start, end) {
            nat.port_range = PortRange { start, end };
        }
        cx.place(0, "spec.nat.portRange", &port);
        cx.rest(port, kept);
    }
    spec.nat = Some(nat).filter(|nat| *nat != Nat::default());
    cx.rest(at, kept);
}
