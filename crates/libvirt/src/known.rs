//! Which parts of libvirt's format are kept without a meaning, why, and which values may they have?

use crate::form;
use crate::xml::Element;

/// What a value must look like, as the reader that refuses others.
type Check = fn(&str) -> Result<(), &'static str>;

fn any(_: &str) -> Result<(), &'static str> {
    Ok(())
}

fn some(value: &str) -> Result<(), &'static str> {
    form::text(value).map(|_| ())
}

fn yes_no(value: &str) -> Result<(), &'static str> {
    form::yes_no(value).map(|_| ())
}

fn number(value: &str) -> Result<(), &'static str> {
    form::u64(value).map(|_| ())
}

fn vlan(value: &str) -> Result<(), &'static str> {
    form::u16(value).ok().filter(|v| *v <= 4_095).map(|_| ()).ok_or("a VLAN from 0 to 4095")
}

/// One of some words.
macro_rules! word {
    ($($word:literal),+) => {
        |value| if [$($word),+].contains(&value) { Ok(()) } else { Err(concat!("one of", $(" `", $word, "`"),+)) }
    };
}

const NO_BRIDGE: &str = "the network is a part of br-int and has no bridge of its own";
const HOST_DEVICES: &str = "a machine is plugged into the switch, not into a device of the host";
const MACVTAP: &str = "the switch takes one uplink; the first device is used";
const BY_PORT: &str = "say it in the Port of each machine";

/// Path without numbers → what it must look like, and why it has no meaning here. Below an element that is not listed
/// itself, its own parts are.
const KNOWN: &[(&str, Check, &str)] = &[
    ("@ipv6", yes_no, "machines may always speak IPv6 with each other"),
    ("@trustGuestRxFilters", yes_no, BY_PORT),
    ("@connections", number, "it is a state of libvirt's"),
    ("name", any, "the resource has a name made of it"),
    ("uuid", form::uuid, "the resource has an identity of its own"),
    ("title", any, "it is text for people"),
    ("description", any, "it is text for people"),
    ("metadata", any, "it belongs to other programs"),
    ("forward/@dev", some, "what leaves goes the way of the node's routing table"),
    ("forward/@managed", yes_no, HOST_DEVICES),
    ("forward/interface", any, MACVTAP),
    ("forward/interface/@dev", some, MACVTAP),
    ("forward/interface/@connections", number, "it is a state of libvirt's"),
    ("forward/address", any, HOST_DEVICES),
    ("forward/address/@type", word!("pci"), HOST_DEVICES),
    ("forward/pf", any, HOST_DEVICES),
    ("forward/pf/@dev", some, HOST_DEVICES),
    ("forward/driver", any, HOST_DEVICES),
    ("bridge/@name", some, NO_BRIDGE),
    ("bridge/@stp", word!("on", "off"), NO_BRIDGE),
    ("bridge/@delay", number, NO_BRIDGE),
    ("bridge/@macTableManager", word!("kernel", "libvirt"), NO_BRIDGE),
    ("bridge/@zone", some, "the firewall is Weft's own table of nftables"),
    ("domain/@register", yes_no, "the node's resolver is left to its operator"),
    ("bandwidth/@classID", number, "it is a state of libvirt's"),
    ("bandwidth/inbound", any, "a rate without average is no limit"),
    ("bandwidth/outbound", any, "a rate without average is no limit"),
    ("virtualport", any, "how a machine is plugged in is said in its Port"),
    ("virtualport/@type", word!("802.1Qbg", "802.1Qbh", "openvswitch", "midonet"), BY_PORT),
    ("portgroup", any, BY_PORT),
    ("portgroup/@name", some, BY_PORT),
    ("portgroup/@default", yes_no, BY_PORT),
    ("portgroup/@trustGuestRxFilters", yes_no, BY_PORT),
    ("portgroup/virtualport/@type", word!("802.1Qbg", "802.1Qbh", "openvswitch", "midonet"), BY_PORT),
    ("portgroup/vlan/@trunk", yes_no, BY_PORT),
    ("portgroup/vlan/tag/@id", vlan, BY_PORT),
    ("portgroup/vlan/tag/@nativeMode", word!("tagged", "untagged"), BY_PORT),
    ("portgroup/bandwidth/inbound/@average", number, BY_PORT),
    ("portgroup/bandwidth/inbound/@peak", number, BY_PORT),
    ("portgroup/bandwidth/inbound/@burst", number, BY_PORT),
    ("portgroup/bandwidth/inbound/@floor", number, BY_PORT),
    ("portgroup/bandwidth/outbound/@average", number, BY_PORT),
    ("portgroup/bandwidth/outbound/@peak", number, BY_PORT),
    ("portgroup/bandwidth/outbound/@burst", number, BY_PORT),
    ("ip/@localPtr", yes_no, "names of the network's addresses are always answered here"),
    ("ip/tftp", any, "no TFTP is served; a boot server is named in the Subnet"),
    ("ip/tftp/@root", some, "no TFTP is served; a boot server is named in the Subnet"),
    ("ip/dhcp/host/@id", form_duid, "IPv4 machines are known by their hardware address or name"),
    ("ip/dhcp/bootp", any, "IPv6 machines are told a boot file by the Subnet's options"),
    ("dnsmasq:options", any, "no dnsmasq runs"),
];

fn form_duid(value: &str) -> Result<(), &'static str> {
    form::duid(value).map(|_| ())
}

/// Elements that must have an attribute.
const NEEDS: &[(&str, &str)] =
    &[("portgroup", "name"), ("forward/interface", "dev"), ("forward/pf", "dev"), ("ip/tftp", "root")];

/// A path without the numbers of its elements.
pub(crate) fn plain(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

fn find(path: &str) -> Option<&'static (&'static str, Check, &'static str)> {
    KNOWN.iter().find(|(known, ..)| *known == path)
}

/// Why a part has no meaning here; `None` for one that libvirt's format does not have either.
pub(crate) fn why(path: &str) -> Option<&'static str> {
    find(&plain(path)).map(|(_, _, why)| *why)
}

/// Something wrong with a value: path, line, what, mend.
pub(crate) type Wrong = (String, u32, String, String);

fn check(path: String, value: &str, line: u32, wrong: &mut Vec<Wrong>) {
    if let Some((_, check, _)) = find(&plain(&path))
        && let Err(form) = check(value)
    {
        let shown: String = value.chars().take(80).collect();
        wrong.push((path, line, format!("{shown:?} is not {form}"), format!("write {form}")));
    }
}

/// Checks an attribute that is kept.
pub(crate) fn check_attribute(path: String, value: &str, line: u32) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    check(path, value, line, &mut wrong);
    wrong
}

/// Checks an element that is kept as a whole.
pub(crate) fn check_element(path: &str, element: &Element, wrong: &mut Vec<Wrong>) {
    let short = plain(path);
    if short == "metadata" {
        return;
    }
    for (name, value, line) in &element.attributes {
        check(format!("{path}/@{name}"), value, *line, wrong);
    }
    if let Some((_, name)) = NEEDS.iter().find(|(known, _)| *known == short)
        && !element.attributes.iter().any(|(n, ..)| n == name)
    {
        let (at, mend) = (format!("{path}/@{name}"), format!("add {name}='…'"));
        wrong.push((at, element.line, "is missing".to_owned(), mend));
    }
    if element.elements().next().is_none() && short == "uuid" {
        check(path.to_owned(), &element.clone().take_text(), element.line, wrong);
    }
    for child in element.elements() {
        check_element(&format!("{path}/{}", child.name), child, wrong);
    }
}
