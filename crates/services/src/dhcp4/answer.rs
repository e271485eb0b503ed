//! What stands in a reply, and where does it go? (RFC 2131 §4.1, §4.3.1, RFC 4578)

use core::net::Ipv4Addr;

use weft_wire::Mac;

use super::config::Boot;
use super::hosts::{Known, Scope};
use super::message::{BROADCAST, Kind, Message};
use super::option::{self, code};
use super::write::{Reply, Value};
use super::{CLIENT_PORT, SERVER_PORT};
use crate::frame::{Datagram, Envelope};

/// The server identifier: the relay's wish (RFC 5107 §4) or the subnet's.
pub(super) fn server_id(scope: &Scope, message: &Message<'_>) -> Ipv4Addr {
    message.relay_address(code::RELAY_SERVER_ID).unwrap_or(scope.subnet.server)
}

/// The bytes of an OFFER or ACK. `address` and `lease` (seconds) are absent in answers to INFORM.
pub(super) fn grant(
    scope: &Scope,
    known: &Known<'_>,
    message: &Message<'_>,
    kind: Kind,
    address: Option<Ipv4Addr>,
    lease: Option<u32>,
) -> Option<Vec<u8>> {
    let subnet = &scope.subnet;
    let mut reply = Reply::new(kind);
    reply.yiaddr = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    reply.push(code::SERVER_ID, server_id(scope, message).octets());
    if let Some(lease) = lease {
        reply.push(code::LEASE_TIME, lease.to_be_bytes());
        let (t1, t2) = timers(lease, subnet.renew_seconds, subnet.rebind_seconds);
        reply.push(code::RENEWAL, t1.to_be_bytes());
        reply.push(code::REBINDING, t2.to_be_bytes());
        if message.has(code::RAPID_COMMIT) && message.kind == Kind::Discover && kind == Kind::Ack {
            reply.push(code::RAPID_COMMIT, Vec::new());
        }
    }
    boot(&mut reply, scope, known, message);
    // Before the router (RFC 2132 §3.3).
    push(&mut reply, scope, known, message, code::SUBNET_MASK);
    match message.option(code::PARAMETERS) {
        Some(wanted) => wanted.iter().for_each(|code| push(&mut reply, scope, known, message, *code)),
        None => {
            push(&mut reply, scope, known, message, code::BROADCAST);
            push(&mut reply, scope, known, message, code::HOST_NAME);
            for (code, _) in layers(scope, known).into_iter().flatten() {
                push(&mut reply, scope, known, message, *code);
            }
        }
    }
    let host_force = known.host.map_or(&[][..], |fixed| &fixed.host.options.force);
    for code in host_force.iter().chain(&subnet.options.force) {
        push(&mut reply, scope, known, message, *code);
    }
    if let Some(value) = message.option(code::FQDN).and_then(|value| full_name(&value, scope, known, message))
    {
        reply.push(code::FQDN, value);
    }
    // RFC 6842 §3: what the client sent, as it sent it.
    if let Some(id) = message.option(code::CLIENT_ID) {
        reply.push(code::CLIENT_ID, id);
    }
    reply.write(message)
}

/// The bytes of a NAK (RFC 2131 table 3).
pub(super) fn refuse(scope: &Scope, message: &Message<'_>, why: &str) -> Option<Vec<u8>> {
    let mut reply = Reply::new(Kind::Nak);
    reply.push(code::SERVER_ID, server_id(scope, message).octets());
    reply.push(code::MESSAGE, why.as_bytes().to_vec());
    if let Some(id) = message.option(code::CLIENT_ID) {
        reply.push(code::CLIENT_ID, id);
    }
    reply.write(message)
}

/// T1 and T2 in order: T1 ≤ T2 ≤ lease (RFC 2131 §4.4.5).
fn timers(lease: u32, t1: Option<u32>, t2: Option<u32>) -> (u32, u32) {
    if lease == u32::MAX && t1.is_none() && t2.is_none() {
        return (lease, lease);
    }
    let t2 = t2.unwrap_or((u64::from(lease) * 7 / 8) as u32).min(lease);
    (t1.unwrap_or(lease / 2).min(t2), t2)
}

type Encoded<'a> = &'a [(u8, Box<[u8]>)];

/// The host's options, then the subnet's.
fn layers<'a>(scope: &'a Scope, known: &Known<'a>) -> [Encoded<'a>; 2] {
    [known.host.map_or(&[], |fixed| &fixed.options), &scope.options]
}

fn configured<'a>(scope: &'a Scope, known: &Known<'a>, code: u8) -> Option<&'a [u8]> {
    layers(scope, known).into_iter().find_map(|set| {
        let at = set.binary_search_by_key(&code, |(c, _)| *c).ok()?;
        set.get(at).map(|(_, value)| &**value)
    })
}

/// Adds one option if there is a value for it. One that was configured with no bytes is one that
/// shall not be sent: a host can take back what its subnet says.
fn push<'a>(reply: &mut Reply<'a>, scope: &'a Scope, known: &Known<'a>, message: &Message<'_>, code: u8) {
    let subnet = &scope.subnet;
    let value: Value<'a> = match (configured(scope, known, code), code) {
        (Some([]), code) if code != code::RAPID_COMMIT => return,
        (Some(value), _) => value.into(),
        (None, code::SUBNET_MASK) => subnet.mask().octets().into(),
        (None, code::BROADCAST) => subnet.broadcast().octets().into(),
        (None, code::HOST_NAME) => match name(known, message) {
            Some(name) => name.into_bytes().into(),
            None => return,
        },
        _ => return,
    };
    reply.push(code, value);
}

/// The name of the client: the one it was given, or the one it gives itself.
pub(super) fn name(known: &Known<'_>, message: &Message<'_>) -> Option<String> {
    if let Some(name) = known.host.and_then(|fixed| fixed.name.as_deref()) {
        return Some(name.to_owned());
    }
    own_name(message)
}

/// The name that a client gives itself.
pub(super) fn own_name(message: &Message<'_>) -> Option<String> {
    message
        .option(code::FQDN)
        .and_then(|value| option::fqdn(&value))
        .or_else(|| message.option(code::HOST_NAME).and_then(|value| option::label(&value)))
}

/// The answer to a client's FQDN option: this server keeps both records (RFC 4702 §4).
fn full_name(value: &[u8], scope: &Scope, known: &Known<'_>, message: &Message<'_>) -> Option<Vec<u8>> {
    const S: u8 = 1;
    const O: u8 = 2;
    const E: u8 = 4;
    let asked = *value.first()?;
    let label = name(known, message)?;
    let domain = configured(scope, known, code::DOMAIN_NAME).unwrap_or_default();
    let overridden = if asked & S == 0 { O } else { 0 };
    let mut out = vec![S | overridden | (asked & E), 255, 255];
    if asked & E == 0 {
        out.extend(label.as_bytes());
        if !domain.is_empty() {
            out.push(b'.');
            out.extend(domain);
        }
        return Some(out);
    }
    let labels = core::iter::once(label.as_bytes()).chain(domain.split(|b| *b == b'.'));
    for part in labels.filter(|part| (1..=63).contains(&part.len())) {
        out.push(part.len() as u8);
        out.extend(part);
    }
    out.push(0);
    Some(out)
}

/// Boot file, next server and what PXE and iPXE want beside them.
fn boot<'a>(reply: &mut Reply<'a>, scope: &'a Scope, known: &Known<'a>, message: &Message<'_>) {
    let own = known.host.map_or(&[][..], |fixed| &fixed.host.boot);
    let mut fitting = own.iter().chain(&scope.subnet.boot).filter(|rule| rule.fits(message));
    let Some(first) = fitting.next() else { return };
    // One without a file says where the next one's is.
    let named = if first.file.is_empty() { fitting.find(|rule| !rule.file.is_empty()) } else { Some(first) };
    let next_server = first.next_server.or(named.and_then(|rule| rule.next_server));
    reply.siaddr = next_server.unwrap_or(scope.subnet.server);
    let Some(Boot { file, server_name, .. }) = named else { return };
    reply.file = file.as_bytes();
    reply.sname = server_name.as_deref().unwrap_or_default().as_bytes();
    let wanted = message.option(code::PARAMETERS).unwrap_or_default();
    if wanted.contains(&code::BOOT_FILE) {
        reply.push(code::BOOT_FILE, file.as_bytes());
    }
    if wanted.contains(&code::TFTP_SERVER) && configured(scope, known, code::TFTP_SERVER).is_none() {
        let named = server_name.clone().unwrap_or_else(|| reply.siaddr.to_string());
        reply.push(code::TFTP_SERVER, named.into_bytes());
    }
    let class = message.option(code::VENDOR_CLASS).unwrap_or_default();
    if class.starts_with(b"HTTPClient") {
        // UEFI 2.10 §24.7.3.1.1: without this class the reply is not for HTTP boot.
        reply.push(code::VENDOR_CLASS, &b"HTTPClient"[..]);
    } else if class.starts_with(b"PXEClient") {
        reply.push(code::VENDOR_CLASS, &b"PXEClient"[..]);
        // RFC 4578 §2.3: the identifier comes back as it was sent.
        if let Some(id) = message.option(code::MACHINE_ID) {
            reply.push(code::MACHINE_ID, id.into_owned());
        }
        let vendor = configured(scope, known, code::VENDOR);
        reply.push(code::VENDOR, vendor.map_or_else(option::pxe_no_discovery, <[u8]>::to_vec));
    }
    if super::config::is_ipxe(message) {
        push(reply, scope, known, message, code::IPXE);
    }
}

/// The headers a reply goes under (RFC 2131 §4.1).
pub(super) fn envelope(
    request: &Datagram<'_>,
    message: &Message<'_>,
    kind: Kind,
    yiaddr: Ipv4Addr,
    server_mac: Mac,
    server: Ipv4Addr,
) -> Envelope {
    let none = Ipv4Addr::UNSPECIFIED;
    let relayed = message.giaddr != none;
    let client_mac = message.mac().unwrap_or(request.mac_src);
    let (dst, mac_dst) = if relayed {
        (message.giaddr, request.mac_src)
    } else if kind == Kind::Nak {
        (Ipv4Addr::BROADCAST, Mac::BROADCAST)
    } else if message.ciaddr != none {
        (message.ciaddr, request.mac_src)
    } else if message.flags & BROADCAST != 0 || yiaddr == none || message.mac().is_none() {
        (Ipv4Addr::BROADCAST, Mac::BROADCAST)
    } else {
        (yiaddr, client_mac)
    };
    Envelope {
        mac_src: server_mac,
        mac_dst,
        tags: request.tags.clone(),
        src: server.into(),
        dst: dst.into(),
        src_port: SERVER_PORT,
        dst_port: if relayed { SERVER_PORT } else { CLIENT_PORT },
    }
}
