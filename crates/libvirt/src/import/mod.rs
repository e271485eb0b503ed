//! Which resources does a `<network>` ask for?

mod dns;
mod forward;
mod ip;

use weft_model::{
    Bandwidth, Catalog, Domain, Network, NetworkSpec, Problem, Problems, Rate, Resource, Route, Subnet, Vlan,
    VlanNativeMode,
};

use crate::carry::{self, Change};
use crate::cx::{At, Cx, Kept};
use crate::{Note, form, name, xml};

/// What a document asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// The Network, then its Subnets; valid by themselves and together.
    pub resources: Vec<Resource>,
    /// What has no meaning here, in the order of lines.
    pub notes: Vec<Note>,
}

/// Reads a `<network>`.
///
/// # Errors
/// Everything that is wrong, with line, element and mend.
pub fn import(text: &str) -> Result<Import, Problems> {
    let root = xml::parse(text)?;
    if root.name != "network" || root.is_foreign() {
        let what = match root.name.as_str() {
            "network" => "is in a namespace".to_owned(),
            other => format!("<{}> is not a network", crate::clip(other)),
        };
        let mend = "give what `virsh net-dumpxml` prints".to_owned();
        return Err(
            Problem { line: Some(1), path: "network".to_owned(), what, mend, ..Problem::default() }.into()
        );
    }
    let mut cx = Cx::default();
    let (resources, changes) = document(&mut cx, At::root(root));
    if cx.problems.is_empty() { finish(cx, resources, changes) } else { Err(Problems(cx.problems)) }
}

/// Does what the document's own element in `<metadata>` says, and checks what came of it.
fn finish(mut cx: Cx, mut resources: Vec<Resource>, changes: Vec<Change>) -> Result<Import, Problems> {
    carry::apply(&mut cx, &mut resources, changes);
    let mut problems = std::mem::take(&mut cx.problems);
    for (i, resource) in resources.iter().enumerate() {
        problems.extend(resource.validate().into_iter().map(|p| cx.told(i, p)));
    }
    if problems.is_empty() {
        let catalog: Catalog = resources.iter().cloned().collect();
        // Whether a pool exists is asked of those who know them all.
        for problem in catalog.problems().into_iter().filter(|p| p.path != "spec.addressPool") {
            let of = resources.iter().position(|r| Some(r.reference()) == problem.object);
            problems.push(cx.told(of.unwrap_or_default(), problem));
        }
    }
    problems.truncate(200);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    // As `export` orders them.
    resources.sort_by_key(|r| (r.as_subnet().is_some(), r.name().len(), r.name().to_owned()));
    cx.notes.sort_by_key(|n| n.line);
    Ok(Import { resources, notes: cx.notes })
}

/// The resources of `<network>`, and what is to be changed in them.
fn document(cx: &mut Cx, mut at: At) -> (Vec<Resource>, Vec<Change>) {
    let mut kept = Kept::new();
    let mut spec = NetworkSpec::default();
    cx.place(0, "", &at);
    let label = names(cx, &mut at, &mut kept);
    forward::read(cx, &mut at, &mut spec, &mut kept);
    simple(cx, &mut at, &mut spec, &mut kept);
    if let Some(dns) = cx.one(&mut at, "dns") {
        dns::read(cx, dns, &mut spec.dns, &mut kept);
    }
    let mut subnets = Vec::new();
    for ip in at.many("ip") {
        let at = subnets.len() + 1;
        subnets.extend(ip::read(cx, ip, at, &label, &spec));
    }
    number(&label, &mut subnets);
    for route in at.many("route") {
        add_route(cx, route, &mut subnets, &mut kept);
    }
    let mut changes = Vec::new();
    if let Some(mut metadata) = cx.one(&mut at, "metadata") {
        changes = carry::read(cx, &mut metadata);
        if !metadata.element.is_empty() {
            at.element.children.push(xml::Child::Element(metadata.element));
        }
    }
    cx.rest(at, &mut kept);
    spec.libvirt = kept;
    let network = Resource::Network(Network::new(label, spec));
    let all = std::iter::once(network).chain(subnets.into_iter().map(Resource::Subnet)).collect();
    (all, changes)
}

/// The name of the resource; libvirt's own is kept if it is another one.
fn names(cx: &mut Cx, at: &mut At, kept: &mut Kept) -> String {
    let Some(mut element) = cx.one(at, "name") else {
        cx.wrong_at(at, "has no <name>", "add <name>…</name>");
        return String::new();
    };
    let given = element.element.take_text();
    if given.is_empty() || given.contains('/') || given.len() > 1_024 {
        let what = format!("{:?} is not a name", crate::clip(&given));
        cx.wrong_at(&element, what, "write a name without slash");
    }
    let label = name::network(&given);
    cx.place(0, "metadata.name", &element);
    if label != given {
        let why = format!("the resource is called {label}, as names are labels of a-z, 0-9 and hyphen");
        cx.keep(at, "name".to_owned(), given, element.element.line, Some(&why), kept);
    }
    cx.rest(element, kept);
    label
}

/// Names the subnets of each family in their order.
fn number(label: &str, subnets: &mut [Subnet]) {
    let mut counts = [0, 0];
    for subnet in subnets {
        let v6 = subnet.spec.is_ipv6();
        counts[usize::from(v6)] += 1;
        subnet.metadata.name = name::subnet(label, v6, counts[usize::from(v6)]);
    }
}

/// Elements that say one thing each.
fn simple(cx: &mut Cx, at: &mut At, spec: &mut NetworkSpec, kept: &mut Kept) {
    if let Some(mut mtu) = cx.one(at, "mtu") {
        spec.mtu = cx.need(&mut mtu, "size", form::u16);
        cx.place(0, "spec.mtu", &mtu);
        cx.rest(mtu, kept);
    }
    if let Some(mut mac) = cx.one(at, "mac") {
        spec.gateway_mac = cx.need(&mut mac, "address", form::mac);
        cx.place(0, "spec.gatewayMac", &mac);
        cx.rest(mac, kept);
    }
    if let Some(mut domain) = cx.one(at, "domain") {
        let name = cx.need(&mut domain, "name", form::text);
        let local_only = cx.attr(&mut domain, "localOnly", form::yes_no).unwrap_or_default();
        spec.domain = name.map(|name| Domain { name, local_only });
        cx.place(0, "spec.domain", &domain);
        cx.rest(domain, kept);
    }
    if let Some(mut port) = cx.one(at, "port") {
        spec.port_isolation = cx.attr(&mut port, "isolated", form::yes_no).unwrap_or_default();
        cx.rest(port, kept);
    }
    if let Some(vlan) = cx.one(at, "vlan") {
        if spec.bridged.is_none() {
            cx.differs(&vlan, "nothing is tagged: the network is joined to no device or bridge outside");
        }
        spec.vlan = read_vlan(cx, vlan, kept);
    }
    if let Some(mut bandwidth) = cx.one(at, "bandwidth") {
        let inbound = rate(cx, &mut bandwidth, "inbound", kept);
        let outbound = rate(cx, &mut bandwidth, "outbound", kept);
        if inbound.is_some() || outbound.is_some() {
            cx.differs(&bandwidth, "it limits every machine by itself here, not all of them together");
            spec.bandwidth = Some(Bandwidth { inbound, outbound });
        }
        cx.place(0, "spec.bandwidth", &bandwidth);
        cx.rest(bandwidth, kept);
    }
}

/// `<inbound>` or `<outbound>`; one without average is left where it is.
fn rate(cx: &mut Cx, bandwidth: &mut At, which: &str, kept: &mut Kept) -> Option<Rate> {
    let mut at = cx.one(bandwidth, which)?;
    let has = |at: &At, name: &str| at.element.attributes.iter().any(|(n, ..)| n == name);
    if !has(&at, "average") {
        if has(&at, "floor") && !has(&at, "peak") && !has(&at, "burst") {
            bandwidth.element.children.push(xml::Child::Element(at.element));
        } else {
            cx.wrong_at(&at, "has no average", "add average='…', in kilobytes per second");
        }
        return None;
    }
    let average = cx.attr(&mut at, "average", form::u32);
    let peak = cx.attr(&mut at, "peak", form::u32);
    let burst = cx.attr(&mut at, "burst", form::u32);
    let floor = cx.attr(&mut at, "floor", form::u32);
    if peak.is_some() || floor.is_some() {
        cx.differs(&at, "a burst passes as fast as the cable is here, and nothing is kept free: only average and burst count");
    }
    cx.place(0, format!("spec.bandwidth.{which}"), &at);
    cx.rest(at, kept);
    Some(Rate { average: average?, peak, burst, floor })
}

fn read_vlan(cx: &mut Cx, mut at: At, kept: &mut Kept) -> Option<Vlan> {
    cx.place(0, "spec.vlan", &at);
    let trunk = cx.attr(&mut at, "trunk", form::yes_no);
    let (mut tags, mut native) = (Vec::new(), None);
    for mut tag in at.many("tag") {
        let id = cx.need(&mut tag, "id", form::u16);
        let mode = cx.attr(&mut tag, "nativeMode", |mode| match mode {
            "tagged" => Ok(VlanNativeMode::Tagged),
            "untagged" => Ok(VlanNativeMode::Untagged),
            _ => Err("`tagged` or `untagged`"),
        });
        cx.place(0, format!("spec.vlan.trunk[{}]", tags.len()), &tag);
        if mode.is_some() && native.is_some() {
            cx.wrong_at(&tag, "is a second native VLAN", "keep one nativeMode");
        }
        if let Some(mode) = mode {
            cx.place(0, "spec.vlan.id", &tag);
            native = Some((id, mode));
        }
        tags.extend(id);
        cx.rest(tag, kept);
    }
    if tags.is_empty() {
        cx.wrong_at(&at, "has no <tag>", "add <tag id='…'/>");
    }
    if trunk == Some(false) && (tags.len() > 1 || native.is_some()) {
        cx.wrong_at(&at, "has more than one plain tag and is no trunk", "write trunk='yes'");
    }
    cx.rest(at, kept);
    Some(match (native, tags.as_slice()) {
        (Some((id, mode)), _) => Vlan { id, native_mode: Some(mode), trunk: tags },
        (None, [one]) if trunk != Some(true) => Vlan { id: Some(*one), ..Vlan::default() },
        (None, _) => Vlan { trunk: tags, ..Vlan::default() },
    })
}

/// Gives a `<route>` to the subnet that its gateway is in.
fn add_route(cx: &mut Cx, mut at: At, subnets: &mut [Subnet], kept: &mut Kept) {
    let v6 = cx.attr(&mut at, "family", form::family).unwrap_or_default();
    let address = cx.need(&mut at, "address", form::ip);
    let via = cx.need(&mut at, "gateway", form::ip);
    let metric = cx.attr(&mut at, "metric", form::u32);
    let to = address.and_then(|address| ip::network(cx, &mut at, address, v6));
    if let (Some(to), Some(via)) = (to, via) {
        let found = subnets.iter_mut().enumerate().find(|(_, s)| s.spec.cidr.contains(&via));
        if let Some((i, subnet)) = found {
            cx.place(i + 1, format!("spec.routes[{}]", subnet.spec.routes.len()), &at);
            subnet.spec.routes.push(Route { to, via, metric });
        } else {
            let what = format!("the gateway {via} is in no <ip> of the network");
            cx.wrong_at(&at, what, "use an address inside one of them");
        }
    }
    cx.rest(at, kept);
}
