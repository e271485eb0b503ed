//! Which names does a network answer: `<dns>`?

use weft_model::{Dns, DnsHost, Forwarder, SrvRecord, TxtRecord};

use crate::cx::{At, Cx, Kept};
use crate::form;

/// Reads `<dns>`.
pub(super) fn read(cx: &mut Cx, mut at: At, dns: &mut Dns, kept: &mut Kept) {
    cx.place(0, "spec.dns", &at);
    dns.enabled = cx.attr(&mut at, "enable", form::yes_no).unwrap_or(true);
    dns.forward_plain_names = cx.attr(&mut at, "forwardPlainNames", form::yes_no).unwrap_or(true);
    for mut forwarder in at.many("forwarder") {
        cx.place(0, format!("spec.dns.forwarders[{}]", dns.forwarders.len()), &forwarder);
        let address = cx.attr(&mut forwarder, "addr", form::ip);
        let domain = cx.attr(&mut forwarder, "domain", form::text);
        if address.is_none() && domain.is_some() {
            cx.differs(
                &forwarder,
                "names of this domain are not forwarded; libvirt asks the node's own server",
            );
        }
        dns.forwarders.push(Forwarder { address, domain, port: 53 });
        cx.rest(forwarder, kept);
    }
    for mut txt in at.many("txt") {
        cx.place(0, format!("spec.dns.txt[{}]", dns.txt.len()), &txt);
        let name = cx.need(&mut txt, "name", form::text);
        let value = cx.need(&mut txt, "value", form::any);
        if let (Some(name), Some(value)) = (name, value) {
            dns.txt.push(TxtRecord { name, value });
        }
        cx.rest(txt, kept);
    }
    for srv in at.many("srv") {
        cx.place(0, format!("spec.dns.srv[{}]", dns.srv.len()), &srv);
        read_srv(cx, srv, dns, kept);
    }
    for mut host in at.many("host") {
        cx.place(0, format!("spec.dns.hosts[{}]", dns.hosts.len()), &host);
        let ip = cx.need(&mut host, "ip", form::ip);
        let mut names = Vec::new();
        for mut name in host.many("hostname") {
            names.push(name.element.take_text());
            cx.rest(name, kept);
        }
        if names.is_empty() {
            cx.wrong_at(&host, "has no <hostname>", "add <hostname>…</hostname>");
        }
        dns.hosts.extend(ip.map(|ip| DnsHost { ip, names }));
        cx.rest(host, kept);
    }
    let silent = Dns { enabled: false, forward_plain_names: dns.forward_plain_names, ..Dns::default() };
    if !dns.enabled && *dns != silent {
        cx.wrong_at(&at, "has records and enable='no'", "remove one of them");
    }
    cx.rest(at, kept);
}

fn read_srv(cx: &mut Cx, mut at: At, dns: &mut Dns, kept: &mut Kept) {
    let service = cx.need(&mut at, "service", form::text);
    let protocol = cx.need(&mut at, "protocol", form::protocol);
    let domain = cx.attr(&mut at, "domain", form::text);
    let target = cx.attr(&mut at, "target", form::text);
    let port = cx.attr(&mut at, "port", form::u16);
    let priority = cx.attr(&mut at, "priority", form::u16);
    let weight = cx.attr(&mut at, "weight", form::u16);
    if target.is_none() && (port.is_some() || priority.is_some() || weight.is_some()) {
        cx.wrong_at(&at, "has a port, priority or weight and no target", "add target='…'");
    }
    let has_target = target.is_some();
    if let (Some(service), Some(protocol)) = (service, protocol) {
        dns.srv.push(SrvRecord {
            service,
            protocol,
            domain,
            target,
            // dnsmasq's default.
            port: port.unwrap_or(u16::from(has_target)),
            priority: priority.unwrap_or_default(),
            weight: weight.unwrap_or_default(),
        });
    }
    cx.rest(at, kept);
}
