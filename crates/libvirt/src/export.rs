//! How is a Network with its Subnets written as a `<network>` of libvirt?

use std::net::IpAddr;

use weft_model::{
    Bandwidth, DhcpHost, Dns, Gateway, IpNet, Nat, Network, NetworkMode, NetworkSpec, Problem, Problems,
    Rate, Resource, SrvProtocol, Subnet, Vlan, VlanNativeMode,
};

use crate::carry::{self, Change};
use crate::xml::{self, Child, Element};
use crate::{import, name, overlay};

/// The shortest lease that libvirt takes, in seconds.
const SHORTEST: u32 = 120;

/// A document for libvirt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The document; it ends with a line feed.
    pub xml: String,
    /// Fields that libvirt has no words for; they travel in `<metadata>` and libvirt does not act on them.
    pub carried: Vec<String>,
    /// Fields that no document can hold, and kept words that have no place any more.
    pub lost: Vec<String>,
}

/// Writes a Network and its Subnets.
///
/// # Errors
/// When what the resources keep of libvirt (`spec.libvirt`) cannot be read again.
pub fn export(network: &Network, subnets: &[&Subnet]) -> Result<Export, Problems> {
    let mut subnets = subnets.to_vec();
    // Those that were numbered by `import` come in the order of their numbers.
    subnets.sort_by_key(|s| (s.name().len(), s.name()));
    let wanted: Vec<Resource> = std::iter::once(Resource::Network(network.clone()))
        .chain(subnets.iter().map(|s| Resource::Subnet((*s).clone())))
        .collect();
    let mut lost = Vec::new();
    let mut root = document(network, &subnets, &mut lost);
    drop_unwritable(&mut root, "", &mut lost);
    let carried = missing(&wanted, &xml::pretty(&root))?;
    if !carried.is_empty() {
        let element = carry::write(&carried);
        let old = root.children.iter_mut().find_map(|c| match c {
            Child::Element(e) if e.name == "metadata" => Some(e),
            _ => None,
        });
        match old {
            Some(metadata) => metadata.children.push(Child::Element(element)),
            None => root.children.push(Child::Element(Element::new("metadata").child(element))),
        }
        drop_unwritable(&mut root, "", &mut lost);
        overlay::sort(&mut root);
    }
    let text = xml::pretty(&root);
    let gone = missing(&wanted, &text)?;
    lost.extend(gone.iter().map(words));
    let carried = carried.iter().filter(|c| !gone.contains(c)).map(words).collect();
    Ok(Export { xml: text, carried, lost })
}

fn words(change: &Change) -> String {
    let field = change.path.trim_start_matches('/').replace('/', ".");
    change.subnet.map_or(field.clone(), |cidr| format!("{cidr}: {field}"))
}

/// What a document does not say of the resources that it was made of.
fn missing(wanted: &[Resource], text: &str) -> Result<Vec<Change>, Problems> {
    let read = import(text).map_err(|problems| {
        let told = problems.0.into_iter().map(|p| Problem {
            what: format!("what is kept of libvirt makes no document: {}", p.what),
            mend: "correct or remove it in spec.libvirt".to_owned(),
            ..p
        });
        Problems(told.collect())
    })?;
    let pairs = wanted.iter().zip(&read.resources);
    Ok(pairs.flat_map(|(wanted, read)| carry::differences(wanted, read)).collect())
}

/// Takes out what XML cannot hold.
fn drop_unwritable(element: &mut Element, path: &str, lost: &mut Vec<String>) {
    element.children.retain_mut(|child| {
        let Child::Element(child) = child else { return true };
        let path = format!("{path}{}", child.name);
        if child.elements().next().is_some() {
            drop_unwritable(child, &format!("{path}/"), lost);
            return true;
        }
        let fine = xml::is_writable(child);
        if !fine {
            lost.push(format!("{path} (it has characters that XML has not)"));
        }
        fine
    });
}

fn document(network: &Network, subnets: &[&Subnet], lost: &mut Vec<String>) -> Element {
    let spec = &network.spec;
    let mut kept = spec.libvirt.clone();
    let title = kept.remove("name").filter(|n| name::network(n) == network.name());
    let mut root = Element::new("network");
    root = root.child(Element::new("name").text(title.as_deref().unwrap_or(network.name())));
    root = forward(root, spec, kept.remove("forward/@mode").as_deref());
    let ours = !network.is_foreign();
    let mut add = |element: Option<Element>| root.children.extend(element.map(Child::Element));
    add(spec.mtu.filter(|_| ours).map(|mtu| Element::new("mtu").with("size", mtu)));
    add(spec.gateway_mac.map(|mac| Element::new("mac").with("address", mac)));
    add(spec.domain.as_ref().map(|domain| {
        let local = domain.local_only.then_some("yes");
        Element::new("domain").with("name", &domain.name).maybe("localOnly", local)
    }));
    add(dns(&spec.dns));
    add(spec.bandwidth.as_ref().map(bandwidth));
    add(spec.vlan.as_ref().map(vlan));
    add(spec.port_isolation.then(|| Element::new("port").with("isolated", "yes")));
    for subnet in subnets {
        let mut element = ip(subnet, spec);
        let gone = overlay::lay(&mut element, &subnet.spec.libvirt);
        lost.extend(gone.into_iter().map(|key| format!("{}: spec.libvirt[{key}]", subnet.spec.cidr)));
        add(Some(element));
    }
    for subnet in subnets {
        subnet.spec.routes.iter().for_each(|r| {
            let route = Element::new("route");
            let route =
                mask(route.maybe("family", r.to.addr().is_ipv6().then_some("ipv6")), r.to.addr(), r.to);
            add(Some(route.with("gateway", r.via).maybe("metric", r.metric)));
        });
    }
    lost.extend(overlay::lay(&mut root, &kept).into_iter().map(|key| format!("spec.libvirt[{key}]")));
    overlay::sort(&mut root);
    root
}

/// `<forward>` and `<bridge>`; `kept` is the word that the mode was written with, if it is none of ours.
fn forward(root: Element, spec: &NetworkSpec, kept: Option<&str>) -> Element {
    let place = spec.bridged.as_ref();
    let uplink = place.and_then(|b| b.uplink.as_ref());
    let word = match (spec.mode, kept) {
        (NetworkMode::Isolated, Some(word @ ("hostdev" | "bridge" | "passthrough"))) => word,
        (NetworkMode::Private, Some(word @ "vepa")) => word,
        (NetworkMode::Bridged, Some(word @ "passthrough")) if uplink.is_some() => word,
        (NetworkMode::Isolated, _) => return root,
        (NetworkMode::Nat, _) => "nat",
        (NetworkMode::Routed, _) => "route",
        (NetworkMode::Open, _) => "open",
        (NetworkMode::Bridged, _) => "bridge",
        (NetworkMode::Private, _) => "private",
    };
    let mut forward = Element::new("forward").with("mode", word);
    forward.children.extend(spec.nat.as_ref().map(nat).filter(|e| !e.is_empty()).map(Child::Element));
    if let Some(uplink) = uplink {
        forward = forward.child(Element::new("interface").with("dev", uplink));
    }
    let bridge = place.and_then(|b| b.bridge.as_ref()).filter(|_| word == "bridge");
    let root = root.child(forward);
    match bridge {
        Some(name) => root.child(Element::new("bridge").with("name", name)),
        None => root,
    }
}

fn nat(nat: &Nat) -> Element {
    let mut element = Element::new("nat").maybe("ipv6", nat.ipv6.then_some("yes"));
    if let Some(range) = nat.address_range.as_ref().filter(|r| r.start.is_ipv4() && r.end.is_ipv4()) {
        element = element.child(Element::new("address").with("start", range.start).with("end", range.end));
    }
    if nat.port_range != Nat::default().port_range {
        let range = nat.port_range;
        element = element.child(Element::new("port").with("start", range.start).with("end", range.end));
    }
    element
}

fn dns(dns: &Dns) -> Option<Element> {
    let mut element = Element::new("dns")
        .maybe("enable", (!dns.enabled).then_some("no"))
        .maybe("forwardPlainNames", (!dns.forward_plain_names).then_some("no"));
    // libvirt takes no records beside enable='no'.
    if dns.enabled {
        for f in &dns.forwarders {
            let forwarder = Element::new("forwarder").maybe("domain", f.domain.as_ref());
            element = element.child(forwarder.maybe("addr", f.address));
        }
        for txt in &dns.txt {
            element = element.child(Element::new("txt").with("name", &txt.name).with("value", &txt.value));
        }
        for host in &dns.hosts {
            let names = host.names.iter().map(|n| Element::new("hostname").text(n));
            element = element.child(names.fold(Element::new("host").with("ip", host.ip), Element::child));
        }
        for srv in &dns.srv {
            let protocol = match srv.protocol {
                SrvProtocol::Tcp => "tcp",
                SrvProtocol::Udp => "udp",
                // Not in libvirt's grammar.
                SrvProtocol::Sctp | SrvProtocol::Tls => continue,
            };
            let number = |n: u16| (srv.target.is_some() && n != 0).then_some(n);
            element = element.child(
                Element::new("srv")
                    .with("service", &srv.service)
                    .with("protocol", protocol)
                    .maybe("domain", srv.domain.as_ref())
                    .maybe("target", srv.target.as_ref())
                    .maybe("port", number(srv.port))
                    .maybe("priority", number(srv.priority))
                    .maybe("weight", number(srv.weight)),
            );
        }
    }
    (!element.is_empty()).then_some(element)
}

fn bandwidth(bandwidth: &Bandwidth) -> Element {
    let rate = |name: &str, rate: &Rate| {
        let some = |n: Option<u32>| n.filter(|n| *n > 0);
        Element::new(name)
            .with("average", rate.average)
            .maybe("peak", some(rate.peak))
            .maybe("burst", some(rate.burst))
            .maybe("floor", some(rate.floor))
    };
    let mut element = Element::new("bandwidth");
    element.children.extend(bandwidth.inbound.as_ref().map(|r| Child::Element(rate("inbound", r))));
    element.children.extend(bandwidth.outbound.as_ref().map(|r| Child::Element(rate("outbound", r))));
    element
}

fn vlan(vlan: &Vlan) -> Element {
    let native = vlan.id.filter(|_| !vlan.trunk.is_empty());
    let plain = vlan.id.filter(|_| vlan.trunk.is_empty());
    let mode = native.map(|_| match vlan.native_mode {
        Some(VlanNativeMode::Tagged) => "tagged",
        Some(VlanNativeMode::Untagged) | None => "untagged",
    });
    let first = native.filter(|id| !vlan.trunk.contains(id)).or(plain);
    let tag =
        |id: u16| Element::new("tag").with("id", id).maybe("nativeMode", mode.filter(|_| native == Some(id)));
    let element = Element::new("vlan").maybe("trunk", (!vlan.trunk.is_empty()).then_some("yes"));
    first.iter().chain(&vlan.trunk).fold(element, |element, id| element.child(tag(*id)))
}

/// An address with the length of its prefix, as libvirt writes both families.
fn mask(element: Element, address: IpAddr, net: IpNet) -> Element {
    let element = element.with("address", address);
    match net {
        IpNet::V4(net) => element.with("netmask", net.netmask()),
        IpNet::V6(net) => element.with("prefix", net.prefix_len()),
    }
}

fn ip(subnet: &Subnet, of: &NetworkSpec) -> Element {
    let spec = &subnet.spec;
    let address = match spec.gateway {
        Gateway::Address(address) => address,
        Gateway::Auto | Gateway::None => spec.first_address().unwrap_or_else(|| spec.cidr.addr()),
    };
    let mut element = Element::new("ip").maybe("family", spec.is_ipv6().then_some("ipv6"));
    element = mask(element, address, spec.cidr);
    if !spec.serves_dhcp(of) {
        return element;
    }
    let mut dhcp = Element::new("dhcp");
    // libvirt has no time for all leases: each range and host says it.
    let all = (spec.dhcp.lease_seconds != 3_600).then_some(spec.dhcp.lease_seconds);
    for range in &spec.dhcp.ranges {
        let element = Element::new("range").with("start", range.start).with("end", range.end);
        dhcp = dhcp.child(lease(element, range.lease_seconds.or(all)));
    }
    for host in &spec.dhcp.hosts {
        dhcp.children.extend(
            dhcp_host(host, spec.is_ipv6()).map(|e| Child::Element(lease(e, host.lease_seconds.or(all)))),
        );
    }
    let options = &spec.dhcp.options;
    if let Some(file) = options.boot_file.as_ref().filter(|_| !spec.is_ipv6()) {
        dhcp = dhcp.child(Element::new("bootp").with("file", file).maybe("server", options.next_server));
    }
    element.child(dhcp)
}

/// A host as far as libvirt knows such: one with an address, known by hardware address, DUID or name.
fn dhcp_host(host: &DhcpHost, v6: bool) -> Option<Element> {
    let name = host.name.as_ref().filter(|n| n.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let mac = host.mac.filter(|_| !v6);
    let duid = host.duid.as_ref().filter(|_| v6);
    let known = mac.is_some() || duid.is_some() || name.is_some();
    let element = Element::new("host").maybe("mac", mac).maybe("id", duid).maybe("name", name);
    host.ip.filter(|_| known).map(|ip| element.with("ip", ip))
}

fn lease(element: Element, seconds: Option<u32>) -> Element {
    let Some(seconds) = seconds.filter(|s| *s >= SHORTEST) else { return element };
    let (expiry, unit) = match seconds {
        u32::MAX => (0, "minutes"),
        s if s % 3_600 == 0 => (s / 3_600, "hours"),
        s if s % 60 == 0 => (s / 60, "minutes"),
        s => (s, "seconds"),
    };
    element.child(Element::new("lease").with("expiry", expiry).with("unit", unit))
}
