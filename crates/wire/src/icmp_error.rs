//! What does the sender of a packet hear when it cannot go on? (RFC 1191, RFC 1812 §4.3.2, RFC 4443 §2.4)

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Sum;
use crate::ethernet::EthernetView;
use crate::icmpv4::{self, Icmpv4Message, Icmpv4Repr};
use crate::icmpv6::{self, Icmpv6Message, Icmpv6Repr};
use crate::ipv4::{self, Ipv4Repr, Ipv4View};
use crate::ipv6::{self, Ipv6Repr, Ipv6View};
use crate::ipv6_ext::Chain;
use crate::locate::{Ip, Located};
use crate::{Error, IpProto, Mac, Result, bytes, ethernet};

const LAYER: &str = "icmp error";

/// Most bytes of an IPv4 packet that reports an error (RFC 1812 §4.3.2.3).
const MAX_V4_LEN: usize = 576;

/// Why the packet cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Problem {
    /// It is larger than the next link takes.
    TooBig {
        /// Bytes of IP packet that the link takes.
        mtu: usize,
    },
    /// Its time to live ran out.
    TimeExceeded,
    /// A rule forbids it.
    Prohibited,
    /// The destination cannot be reached.
    HostUnreachable,
    /// Nobody listens on the port.
    PortUnreachable,
}

/// Who reports the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reporter {
    /// MAC address.
    pub mac: Mac,
    /// Address; of the same family as the packet.
    pub ip: IpAddr,
}

/// Writes the frame that tells the sender of `frame` that its packet is too big for a link of
/// `mtu` bytes: ICMP "fragmentation needed" or ICMPv6 "packet too big". See [`report`].
///
/// # Errors
/// As [`report`].
pub fn too_big(frame: &[u8], mtu: usize, from: Option<Reporter>, dst: &mut [u8]) -> Result<usize> {
    report(frame, Problem::TooBig { mtu }, from, dst)
}

/// Writes the frame that tells the sender of `frame` of a problem, behind the same VLAN tags, into
/// `dst`, which 1,400 bytes suffice for. Returns its length.
///
/// Without a reporter the destination of the packet itself is named, as a bridge without an
/// address does.
///
/// # Errors
/// `Unsupported` when nobody must be told: about group addresses, later fragments, other ICMP
/// errors, or senders that are no single host; `Malformed` when the reporter's address is of
/// another family; `NoSpace`; as the views when a header is broken.
pub fn report(frame: &[u8], problem: Problem, from: Option<Reporter>, dst: &mut [u8]) -> Result<usize> {
    let found = Located::parse(frame)?;
    let eth = EthernetView::parse(frame)?;
    if eth.dst().is_multicast() || eth.src().is_multicast() {
        return Err(Error::unsupported(LAYER, "group address"));
    }
    let (l3, end) = (found.l3, found.end);
    let link = bytes::room(LAYER, dst, l3)?;
    link.copy_from_slice(&frame[..l3]);
    let mac = from.map_or(eth.dst(), |from| from.mac);
    bytes::put(link, ethernet::field::DST, eth.src().0);
    bytes::put(link, ethernet::field::SRC, mac.0);
    let (packet, dst) = (&frame[l3..end], &mut dst[l3..]);
    let len = match found.ip {
        Ip::V4(ip) => report_v4(&ip, packet, problem, from, dst)?,
        Ip::V6(ip, chain) => report_v6(&ip, &chain, packet, problem, from, dst)?,
    };
    Ok(l3 + len)
}

fn report_v4(
    ip: &Ipv4View<'_>,
    packet: &[u8],
    problem: Problem,
    from: Option<Reporter>,
    dst: &mut [u8],
) -> Result<usize> {
    let single = |a: Ipv4Addr| !a.is_multicast() && !a.is_broadcast() && !a.is_unspecified();
    let is_error = ip.proto() == IpProto::ICMP && ip.payload().first().is_none_or(|ty| icmpv4::is_error(*ty));
    if !single(ip.src()) || !single(ip.dst()) || ip.frag().is_later_fragment() || is_error {
        return Err(Error::unsupported(LAYER, "error about this packet"));
    }
    let src = match from.map(|from| from.ip) {
        None => ip.dst(),
        Some(IpAddr::V4(src)) => src,
        Some(IpAddr::V6(_)) => return Err(Error::malformed(LAYER, "reporter")),
    };
    let unreachable = |code| Icmpv4Message::Unreachable { code };
    let message = match problem {
        Problem::TooBig { mtu } => {
            Icmpv4Message::FragmentationNeeded { mtu: u16::try_from(mtu).unwrap_or(u16::MAX) }
        }
        Problem::TimeExceeded => Icmpv4Message::TimeExceeded { code: 0 },
        Problem::Prohibited => unreachable(icmpv4::unreachable::PROHIBITED),
        Problem::HostUnreachable => unreachable(icmpv4::unreachable::HOST),
        Problem::PortUnreachable => unreachable(icmpv4::unreachable::PORT),
    };
    let quote = &packet[..packet.len().min(MAX_V4_LEN - ipv4::MIN_HEADER_LEN - icmpv4::HEADER_LEN)];
    let icmp = Icmpv4Repr { message, payload: quote };
    // RFC 1812 §4.3.2.5: precedence "internetwork control".
    let header = Ipv4Repr { tos: 0xc0, ..Ipv4Repr::new(src, ip.src(), IpProto::ICMP, icmp.wire_len()) };
    let at = header.emit(dst)?;
    Ok(at + icmp.emit(&mut dst[at..])?)
}

fn report_v6(
    ip: &Ipv6View<'_>,
    chain: &Chain<'_>,
    packet: &[u8],
    problem: Problem,
    from: Option<Reporter>,
    dst: &mut [u8],
) -> Result<usize> {
    let single = |a: Ipv6Addr| !a.is_multicast() && !a.is_unspecified();
    let is_error =
        chain.proto == IpProto::ICMPV6 && chain.payload.first().is_none_or(|ty| icmpv6::is_error(*ty));
    if !single(ip.src()) || !single(ip.dst()) || chain.is_later_fragment() || is_error {
        return Err(Error::unsupported(LAYER, "error about this packet"));
    }
    let src = match from.map(|from| from.ip) {
        None => ip.dst(),
        Some(IpAddr::V6(src)) => src,
        Some(IpAddr::V4(_)) => return Err(Error::malformed(LAYER, "reporter")),
    };
    let unreachable = |code| Icmpv6Message::Unreachable { code };
    let message = match problem {
        Problem::TooBig { mtu } => {
            Icmpv6Message::PacketTooBig { mtu: u32::try_from(mtu).unwrap_or(u32::MAX) }
        }
        Problem::TimeExceeded => Icmpv6Message::TimeExceeded { code: 0 },
        Problem::Prohibited => unreachable(icmpv6::unreachable::PROHIBITED),
        Problem::HostUnreachable => unreachable(icmpv6::unreachable::ADDRESS),
        Problem::PortUnreachable => unreachable(icmpv6::unreachable::PORT),
    };
    let quote = &packet[..packet.len().min(ipv6::MIN_MTU - ipv6::HEADER_LEN - icmpv6::HEADER_LEN)];
    let icmp = Icmpv6Repr { message, payload: quote };
    let header = Ipv6Repr::new(src, ip.src(), IpProto::ICMPV6, icmp.wire_len());
    let at = header.emit(dst)?;
    let pseudo = Sum::pseudo_v6(src, ip.src(), IpProto::ICMPV6, icmp.wire_len() as u32);
    Ok(at + icmp.emit(&mut dst[at..], pseudo)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Frame;
    use crate::icmpv4::Icmpv4View;
    use crate::icmpv6::Icmpv6View;
    use crate::ipv4::Ipv4Frag;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn v4() -> Frame {
        Frame::eth(A, B).vlan(3).ipv4([10, 0, 0, 1], [10, 0, 0, 2])
    }

    #[test]
    fn fragmentation_needed() {
        let frame = v4().udp(1, 2).payload(vec![7; 3000]).build();
        let mut dst = [0; 1400];
        let len = too_big(&frame, 1400, None, &mut dst).unwrap();
        let found = Located::parse(&dst[..len]).unwrap();
        let eth = EthernetView::parse(&dst).unwrap();
        assert_eq!((eth.src(), eth.dst(), found.l3), (B, A, 18));
        let Ip::V4(ip) = found.ip else { panic!("not IPv4") };
        assert_eq!((ip.src(), ip.dst()), ([10, 0, 0, 2].into(), [10, 0, 0, 1].into()));
        assert!(ip.checksum_ok() && ip.total_len() == 576);
        let icmp = Icmpv4View::parse(ip.payload()).unwrap();
        assert!(icmp.checksum_ok());
        assert_eq!(Icmpv4Repr::parse(&icmp).message, Icmpv4Message::FragmentationNeeded { mtu: 1400 });
        assert_eq!(icmp.payload(), &frame[18..18 + 548]);
    }

    #[test]
    fn packet_too_big() {
        let (a, b): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let router = Reporter { mac: Mac([2; 6]), ip: "fd00::ff".parse().unwrap() };
        let frame = Frame::eth(A, B).ipv6(a, b).tcp(1, 2).payload(vec![7; 3000]).build();
        let mut dst = [0; 1400];
        let len = too_big(&frame, 1500, Some(router), &mut dst).unwrap();
        let found = Located::parse(&dst[..len]).unwrap();
        let Ip::V6(ip, _) = found.ip else { panic!("not IPv6") };
        assert_eq!((IpAddr::V6(ip.src()), ip.dst(), len), (router.ip, a, 14 + 1280));
        assert_eq!(EthernetView::parse(&dst).unwrap().src(), router.mac);
        let icmp = Icmpv6View::parse(found.transport).unwrap();
        assert!(icmp.checksum_ok(found.pseudo_sum(found.transport.len())));
        assert_eq!(Icmpv6Repr::parse(&icmp).message, Icmpv6Message::PacketTooBig { mtu: 1500 });
        let other = Reporter { ip: [1, 1, 1, 1].into(), ..router };
        assert!(too_big(&frame, 1500, Some(other), &mut dst).is_err());
        assert!(too_big(&frame, 1500, None, &mut dst[..1200]).is_err());
    }

    #[test]
    fn nobody_is_told() {
        let problem = Problem::TimeExceeded;
        let cases = [
            ("to a group", Frame::eth(A, B).ipv4([10, 0, 0, 1], [224, 0, 0, 1]).udp(1, 2)),
            ("from nobody", Frame::eth(A, B).ipv4([0; 4], [10, 0, 0, 2]).udp(1, 2)),
            ("a group frame", Frame::eth(A, Mac::BROADCAST).ipv4([10, 0, 0, 1], [10, 0, 0, 2]).udp(1, 2)),
            ("a later fragment", v4().frag(Ipv4Frag(1)).payload([0; 9])),
            ("an error", v4().icmpv4(Icmpv4Message::Unreachable { code: 1 })),
            (
                "an error",
                Frame::eth(A, B).ipv6([1; 16], [2; 16]).icmpv6(Icmpv6Message::TimeExceeded { code: 0 }),
            ),
        ];
        for (what, frame) in cases {
            assert!(report(&frame.build(), problem, None, &mut [0; 1400]).is_err(), "{what}");
        }
        let ping = v4().icmpv4(Icmpv4Message::EchoRequest { id: 1, seq: 1 }).build();
        assert!(report(&ping, problem, None, &mut [0; 1400]).is_ok());
    }
}
