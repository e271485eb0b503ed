//! Which addresses has a network, and who gets them: `<ip>`?

use std::net::IpAddr;

use weft_model::{
    Dhcp, DhcpHost, DhcpRange, Gateway, IpNet, Ipv4Net, NetworkMode, NetworkSpec, Subnet, SubnetSpec,
};

use crate::cx::{At, Cx, Kept};
use crate::form;

/// Reads an `<ip>` that becomes the resource of number `index`; its name is given later.
pub(super) fn read(cx: &mut Cx, at: At, index: usize, label: &str, of: &NetworkSpec) -> Option<Subnet> {
    let mut at = at.rooted();
    let mut kept = Kept::new();
    cx.place(index, "", &at);
    let v6 = cx.attr(&mut at, "family", form::family).unwrap_or_default();
    let address = cx.need(&mut at, "address", form::ip);
    let cidr = address.and_then(|address| network(cx, &mut at, address, v6));
    let mut dhcp = Dhcp::default();
    let ours = !matches!(of.mode, NetworkMode::Bridged | NetworkMode::Private);
    match cx.one(&mut at, "dhcp") {
        None => dhcp.enabled = ours.then_some(false),
        Some(element) => {
            dhcp.enabled = (!ours).then_some(true);
            read_dhcp(cx, element, index, v6, &mut dhcp, &mut kept);
        }
    }
    let mut spec = SubnetSpec { dhcp, ..SubnetSpec::new(label, cidr?.trunc()) };
    let address = address?;
    // An isolated network has a gateway only if it is written: machines are told no router then, as by libvirt.
    if !ours || spec.service_address(of.mode) != Some(address) {
        spec.gateway = Gateway::Address(address);
        if of.mode == NetworkMode::Isolated {
            cx.differs(&at, "machines are told this address as their router, as it is not the first one");
        }
    }
    cx.rest(at, &mut kept);
    spec.libvirt = kept;
    Some(Subnet::new(String::new(), spec))
}

/// The prefix of an address with `netmask` or `prefix`, else the one of its class; host bits are left as they are.
pub(super) fn network(cx: &mut Cx, at: &mut At, address: IpAddr, v6: bool) -> Option<IpNet> {
    if address.is_ipv6() != v6 {
        let family = if address.is_ipv6() { "ipv6" } else { "ipv4" };
        cx.wrong_at(at, format!("{address} is of another family"), format!("write family='{family}'"));
        return None;
    }
    let netmask = cx.attr(at, "netmask", form::ipv4);
    let prefix = cx.attr(at, "prefix", form::prefix);
    let (net, mend) = match (address, netmask, prefix) {
        (_, Some(_), Some(_)) => {
            cx.wrong_at(at, "has netmask and prefix", "keep one of them");
            return None;
        }
        (IpAddr::V4(address), Some(mask), None) => {
            let net = Ipv4Net::with_netmask(address, mask).ok().map(IpNet::V4);
            (net, format!("{mask} is not the mask of a prefix"))
        }
        (IpAddr::V6(_), Some(_), None) => (None, "an IPv6 address has no netmask".to_owned()),
        (address, None, Some(prefix)) => {
            (IpNet::new(address, prefix).ok(), format!("a prefix of {address} is not {prefix} long"))
        }
        (IpAddr::V6(_), None, None) => (IpNet::new(address, 64).ok(), String::new()),
        (IpAddr::V4(v4), None, None) => {
            let class = match v4.octets()[0] {
                _ if v4.is_unspecified() => Some(0),
                0..=127 => Some(8),
                128..=191 => Some(16),
                192..=223 => Some(24),
                _ => None,
            };
            (class.and_then(|c| IpNet::new(address, c).ok()), format!("{address} has no class"))
        }
    };
    if net.is_none() {
        cx.wrong_at(at, mend, "write prefix='…'");
    }
    net
}

fn read_dhcp(cx: &mut Cx, mut at: At, index: usize, v6: bool, dhcp: &mut Dhcp, kept: &mut Kept) {
    cx.place(index, "spec.dhcp", &at);
    for mut range in at.many("range") {
        cx.place(index, format!("spec.dhcp.ranges[{}]", dhcp.ranges.len()), &range);
        let start = cx.need(&mut range, "start", form::ip);
        let end = cx.need(&mut range, "end", form::ip);
        let lease_seconds = lease(cx, &mut range, kept);
        if let (Some(start), Some(end)) = (start, end) {
            dhcp.ranges.push(DhcpRange { start, end, lease_seconds });
        }
        cx.rest(range, kept);
    }
    for mut host in at.many("host") {
        cx.place(index, format!("spec.dhcp.hosts[{}]", dhcp.hosts.len()), &host);
        let ip = cx.need(&mut host, "ip", form::ip);
        let name = cx.attr(&mut host, "name", form::text);
        let lease_seconds = lease(cx, &mut host, kept);
        let mut found = DhcpHost { name, ip, lease_seconds, ..DhcpHost::default() };
        if v6 {
            found.duid = cx.attr(&mut host, "id", form::duid);
            if host.element.take("mac").is_some() {
                cx.wrong_at(&host, "is known by a hardware address", "write id='…' or name='…' for IPv6");
            }
        } else {
            found.mac = cx.attr(&mut host, "mac", form::mac);
        }
        dhcp.hosts.push(found);
        cx.rest(host, kept);
    }
    if !v6 && let Some(mut bootp) = cx.one(&mut at, "bootp") {
        cx.place(index, "spec.dhcp.options", &bootp);
        dhcp.options.boot_file = cx.need(&mut bootp, "file", form::text);
        dhcp.options.next_server = cx.attr(&mut bootp, "server", form::ipv4);
        cx.rest(bootp, kept);
    }
    cx.rest(at, kept);
}

/// `<lease>` in seconds; 0 of any unit is without end.
fn lease(cx: &mut Cx, of: &mut At, kept: &mut Kept) -> Option<u32> {
    let mut at = cx.one(of, "lease")?;
    let expiry = cx.need(&mut at, "expiry", form::u64);
    let unit = cx.attr(&mut at, "unit", form::unit).unwrap_or(60);
    let seconds = match expiry? {
        0 => Some(u32::MAX),
        n => n.checked_mul(unit).and_then(|s| u32::try_from(s).ok()),
    };
    match seconds {
        None => cx.wrong_at(
            &at,
            "is longer than 4294967295 seconds",
            "shorten it, or write expiry='0' for no end",
        ),
        Some(0..120) => cx.wrong_at(&at, "is shorter than two minutes", "write 2 minutes or more"),
        Some(_) => {}
    }
    cx.rest(at, kept);
    seconds
}
