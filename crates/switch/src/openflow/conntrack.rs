//! Which connections does a controller mean?

use std::net::IpAddr;

use weft_conntrack::Filter;
use weft_openflow::msg::ct_flush::{CtFlush, CtTuple};

/// The connections that a message is about.
pub(super) fn filter(m: &CtFlush) -> Filter {
    let proto = Some(m.ip_proto).filter(|p| *p != 0);
    let port = |p: u16| Some(p).filter(|p| *p != 0 && proto.is_some());
    let ends = |t: &CtTuple| ((t.src, t.dst), (port(t.src_port), port(t.dst_port)));
    let ((orig, orig_ports), (reply, reply_ports)) = (ends(&m.orig), ends(&m.reply));
    let addrs = [orig.0, orig.1, reply.0, reply.1];
    Filter {
        zone: m.zone,
        v6: addrs.into_iter().flatten().next().map(|a: IpAddr| a.is_ipv6()),
        proto,
        mark: m.mark,
        label: m.label,
        orig,
        orig_ports,
        reply,
        reply_ports,
    }
}
