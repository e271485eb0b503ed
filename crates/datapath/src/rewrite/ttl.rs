//! How does a TTL get from one header to the next? (OpenFlow 1.5.1 §5.8.2)

use weft_flow::L3Kind;
use weft_wire::checksum::Sum;
use weft_wire::ipv4::{self, Ipv4View};
use weft_wire::ipv6::{self, Ipv6View};
use weft_wire::{IpProto, mpls};

use super::{Result, get, put, update_at};
use crate::packet::Packet;

/// The bit of a label stack entry that says that it is the last, and the offset of its TTL.
const BOTTOM: u32 = 0x100;
const LABEL_TTL: usize = 3;

/// Frames up to this length may have been padded to the least that Ethernet has, tag and checksum included.
const PADDED: usize = 64;

/// A header with a TTL, and where it begins.
#[derive(Clone, Copy)]
enum Header {
    Label(usize),
    Ipv4(usize),
    Ipv6(usize),
}

impl Header {
    fn ttl_at(self) -> usize {
        match self {
            Header::Label(at) => at + LABEL_TTL,
            Header::Ipv4(at) => at + ipv4::field::TTL,
            Header::Ipv6(at) => at + ipv6::field::HOP_LIMIT,
        }
    }
}

/// Copies the TTL of the outermost header that has one to the next one, or back. Nothing is done without a second one.
pub(crate) fn copy_ttl(packet: &mut Packet, outwards: bool) -> Result {
    let Some((outer, inner)) = headers(packet) else { return Ok(()) };
    let (from, to) = if outwards { (inner, outer) } else { (outer, inner) };
    let [ttl] = get(packet, from.ttl_at())?;
    if let Header::Ipv4(at) = to {
        // The TTL is the first byte of its word.
        let [old, proto] = get(packet, to.ttl_at())?;
        update_at(packet, at + ipv4::field::CHECKSUM, Sum::of(&[old, proto]), Sum::of(&[ttl, proto]))?;
    }
    put(packet, to.ttl_at(), &[ttl])
}

/// The outermost header with a TTL and the next, if there are two.
fn headers(packet: &Packet) -> Option<(Header, Header)> {
    let layout = &packet.layout;
    let (l3, l4) = (usize::from(layout.l3), usize::from(layout.l4));
    let outer = match layout.kind {
        L3Kind::Mpls => {
            let at = usize::from(layout.l2_5);
            let next = at + mpls::ENTRY_LEN;
            let entry = u32::from_be_bytes(get(packet, at).ok()?);
            let inner = match entry & BOTTOM {
                0 if packet.len() >= next + mpls::ENTRY_LEN => Header::Label(next),
                0 => return None,
                _ => ip(packet, next, None)?,
            };
            return Some((Header::Label(at), inner));
        }
        L3Kind::Ipv4 => Header::Ipv4(l3),
        L3Kind::Ipv6 => Header::Ipv6(l3),
        _ => return None,
    };
    // Later fragments have no offset there.
    let inner = (l4 != 0).then(|| ip(packet, l4, Some(IpProto(packet.ip_proto))))??;
    Some((outer, inner))
}

/// The IP header at `at`, which `proto` announces. Nothing says that there is one behind a label: there the whole packet
/// has to fit, too.
fn ip(packet: &Packet, at: usize, proto: Option<IpProto>) -> Option<Header> {
    let bytes = packet.data().get(at..)?;
    let may = |wanted: IpProto| proto.is_none_or(|p| p == wanted);
    match bytes.first()? >> 4 {
        4 if may(IpProto::IPIP) => {
            let whole = proto.is_some() || Ipv4View::parse(bytes).is_ok();
            (whole && Ipv4View::parse_quoted(bytes).ok()?.checksum_ok()).then_some(Header::Ipv4(at))
        }
        6 if may(IpProto::IPV6) => {
            // It has no checksum, but what only looks like one has another length.
            let end = at + ipv6::HEADER_LEN + Ipv6View::parse_quoted(bytes).ok()?.payload_len();
            let whole = end == packet.len() || end < packet.len() && packet.len() <= PADDED;
            (whole || proto.is_some()).then_some(Header::Ipv6(at))
        }
        _ => None,
    }
}

const _: () = assert!(ipv4::field::TTL.is_multiple_of(2) && LABEL_TTL < mpls::ENTRY_LEN);
