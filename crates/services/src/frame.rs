//! How does a UDP datagram come out of a frame, and how is a frame made around one?
//!
//! Services answer on the bridge itself, so they read and write whole frames: Ethernet II, up to
//! two VLAN tags (kept for the reply), IPv4 or IPv6, UDP.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;
use weft_wire::checksum::Sum;
use weft_wire::ethernet::{EthernetRepr, EthernetView};
use weft_wire::ipv4::{Ipv4Frag, Ipv4Repr, Ipv4View};
use weft_wire::ipv6::{Ipv6Repr, Ipv6View};
use weft_wire::udp::{self, UdpRepr, UdpView};
use weft_wire::vlan::{VlanRepr, VlanTci, VlanView};
use weft_wire::{Error, EtherType, IpProto, Mac, Result};

/// VLAN tags from the outside in, as they stand in a frame.
pub type Tags = SmallVec<[(EtherType, VlanTci); 2]>;

/// A UDP datagram and how it came.
#[derive(Debug, Clone)]
pub struct Datagram<'a> {
    /// Ethernet source.
    pub mac_src: Mac,
    /// Ethernet destination.
    pub mac_dst: Mac,
    /// VLAN tags.
    pub tags: Tags,
    /// IP source.
    pub src: IpAddr,
    /// IP destination.
    pub dst: IpAddr,
    /// UDP source port.
    pub src_port: u16,
    /// UDP destination port.
    pub dst_port: u16,
    /// What is inside.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads a frame; checksums are checked.
    ///
    /// # Errors
    /// When a header is cut short or contradicts itself, the packet is a fragment, is not UDP, or
    /// a checksum is wrong. IPv6 extension headers are refused: no client sends them here.
    pub fn parse(frame: &'a [u8]) -> Result<Self> {
        let eth = EthernetView::parse(frame)?;
        let (tags, ether_type, bytes) = read_tags(&eth)?;
        let (src, dst, udp) = match ether_type {
            EtherType::IPV4 => {
                let ip = Ipv4View::parse(bytes)?;
                if !ip.checksum_ok() {
                    return Err(Error::malformed("ipv4", "checksum"));
                }
                if ip.proto() != IpProto::UDP || ip.frag().is_fragment() {
                    return Err(Error::unsupported("service", "packet that is not one UDP datagram"));
                }
                let udp = UdpView::parse(ip.payload())?;
                check(&udp, ip.pseudo_sum())?;
                (IpAddr::V4(ip.src()), IpAddr::V4(ip.dst()), udp)
            }
            EtherType::IPV6 => {
                let ip = Ipv6View::parse(bytes)?;
                if ip.next_header() != IpProto::UDP {
                    return Err(Error::unsupported("service", "packet that is not one UDP datagram"));
                }
                let udp = UdpView::parse(ip.payload())?;
                // RFC 8200 §8.1: over IPv6 a checksum is no option.
                if udp.checksum() == 0 {
                    return Err(Error::malformed("udp", "checksum"));
                }
                check(&udp, Sum::pseudo_v6(ip.src(), ip.dst(), IpProto::UDP, ip.payload().len() as u32))?;
                (IpAddr::V6(ip.src()), IpAddr::V6(ip.dst()), udp)
            }
            _ => return Err(Error::unsupported("service", "packet that is not IP")),
        };
        Ok(Self {
            mac_src: eth.src(),
            mac_dst: eth.dst(),
            tags,
            src,
            dst,
            src_port: udp.src_port(),
            dst_port: udp.dst_port(),
            payload: udp.payload(),
        })
    }

    /// Where a reply to this datagram goes: every field turned around.
    #[must_use]
    pub fn reply(&self) -> Envelope {
        Envelope {
            mac_src: self.mac_dst,
            mac_dst: self.mac_src,
            tags: self.tags.clone(),
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
        }
    }
}

/// A guest that leaves checksums to its device sends the sum of the pseudo header alone
/// (virtio 1.2 §5.1.6.2); such a frame never crossed a wire and is taken as it is.
fn check(udp: &UdpView<'_>, pseudo: Sum) -> Result<()> {
    let left_to_the_device = udp.checksum() == !pseudo.finish();
    if left_to_the_device || udp.checksum_ok(pseudo) {
        Ok(())
    } else {
        Err(Error::malformed("udp", "checksum"))
    }
}

/// The headers around a datagram that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Ethernet source.
    pub mac_src: Mac,
    /// Ethernet destination.
    pub mac_dst: Mac,
    /// VLAN tags.
    pub tags: Tags,
    /// IP source.
    pub src: IpAddr,
    /// IP destination, of the same family.
    pub dst: IpAddr,
    /// UDP source port.
    pub src_port: u16,
    /// UDP destination port.
    pub dst_port: u16,
}

impl Envelope {
    /// Makes the frame around `payload`.
    ///
    /// # Errors
    /// When the families of the addresses differ, or the payload is longer than UDP allows.
    pub fn seal(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let (src, dst) = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => return self.seal_v4(src, dst, payload),
            (IpAddr::V6(src), IpAddr::V6(dst)) => (src, dst),
            _ => return Err(Error::unsupported("service", "reply across address families")),
        };
        let mut frame = self.start(EtherType::IPV6, 40 + udp::HEADER_LEN, payload)?;
        let udp_len = udp::HEADER_LEN + payload.len();
        let ip_at = frame.len() - udp_len - 40;
        let repr = Ipv6Repr { hop_limit: 64, ..Ipv6Repr::new(src, dst, IpProto::UDP, udp_len) };
        repr.emit(frame.get_mut(ip_at..).unwrap_or_default())?;
        let pseudo = Sum::pseudo_v6(src, dst, IpProto::UDP, udp_len as u32);
        self.finish(frame, udp_len, pseudo)
    }

    fn seal_v4(&self, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> Result<Vec<u8>> {
        let mut frame = self.start(EtherType::IPV4, 20 + udp::HEADER_LEN, payload)?;
        let udp_len = udp::HEADER_LEN + payload.len();
        let ip_at = frame.len() - udp_len - 20;
        let repr = Ipv4Repr { frag: Ipv4Frag(0), ..Ipv4Repr::new(src, dst, IpProto::UDP, udp_len) };
        repr.emit(frame.get_mut(ip_at..).unwrap_or_default())?;
        let pseudo = Sum::pseudo_v4(src, dst, IpProto::UDP, udp_len as u16);
        self.finish(frame, udp_len, pseudo)
    }

    /// The Ethernet header and tags, room for `inner` bytes of headers, and the payload.
    fn start(&self, ether_type: EtherType, inner: usize, payload: &[u8]) -> Result<Vec<u8>> {
        if payload.len() > udp::MAX_PAYLOAD_LEN {
            return Err(Error::malformed("udp", "length"));
        }
        let outer = 14 + 4 * self.tags.len();
        let mut frame = Vec::with_capacity(outer + inner + payload.len());
        frame.resize(outer + inner, 0);
        frame.extend_from_slice(payload);
        let first = push_tags(&mut frame, &self.tags, ether_type)?;
        EthernetRepr { dst: self.mac_dst, src: self.mac_src, ether_type: first }.emit(&mut frame)?;
        Ok(frame)
    }

    fn finish(&self, mut frame: Vec<u8>, udp_len: usize, pseudo: Sum) -> Result<Vec<u8>> {
        let at = frame.len() - udp_len;
        let datagram = frame.get_mut(at..).unwrap_or_default();
        let payload_len = udp_len - udp::HEADER_LEN;
        UdpRepr { src_port: self.src_port, dst_port: self.dst_port, payload_len }.emit(datagram)?;
        udp::fill_checksum(datagram, pseudo)?;
        Ok(frame)
    }
}

/// The VLAN tags of a frame, the type behind them, and what follows.
pub(crate) fn read_tags<'a>(eth: &EthernetView<'a>) -> Result<(Tags, EtherType, &'a [u8])> {
    let (mut ether_type, mut bytes) = (eth.ether_type(), eth.payload());
    let mut tags = Tags::new();
    while matches!(ether_type, EtherType::VLAN | EtherType::QINQ) && tags.len() < 2 {
        let tag = VlanView::parse(bytes)?;
        tags.push((ether_type, tag.tci()));
        (ether_type, bytes) = (tag.ether_type(), tag.payload());
    }
    Ok((tags, ether_type, bytes))
}

/// Writes tags behind the addresses of a frame that has room for them. Returns the type that the
/// Ethernet header bears.
pub(crate) fn push_tags(frame: &mut [u8], tags: &Tags, ether_type: EtherType) -> Result<EtherType> {
    for (i, (_, tci)) in tags.iter().enumerate() {
        let ether_type = tags.get(i + 1).map_or(ether_type, |(tpid, _)| *tpid);
        VlanRepr { tci: *tci, ether_type }.emit(frame.get_mut(14 + 4 * i..).unwrap_or_default())?;
    }
    Ok(tags.first().map_or(ether_type, |(tpid, _)| *tpid))
}

/// The link-local address that belongs to an Ethernet address (RFC 4291 §2.5.6, Appendix A).
#[must_use]
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let m = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope(v6: bool, tags: usize) -> Envelope {
        let ip = |n: u8| -> IpAddr {
            if v6 { link_local(Mac([2, 0, 0, 0, 0, n])).into() } else { Ipv4Addr::new(10, 0, 0, n).into() }
        };
        Envelope {
            mac_src: Mac([2, 0, 0, 0, 0, 1]),
            mac_dst: Mac([2, 0, 0, 0, 0, 2]),
            tags: [
                (EtherType::QINQ, VlanTci::new(7, 0, false)),
                (EtherType::VLAN, VlanTci::new(9, 3, false)),
            ]
            .into_iter()
            .skip(2 - tags)
            .collect(),
            src: ip(1),
            dst: ip(2),
            src_port: 67,
            dst_port: 68,
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_can_be_read(v6: bool, tags in 0..3usize, payload in prop::collection::vec(any::<u8>(), 0..200), flip: prop::sample::Index) {
            let sent = envelope(v6, tags);
            let mut frame = sent.seal(&payload).unwrap();
            let got = Datagram::parse(&frame).unwrap();
            prop_assert_eq!(got.payload, &payload[..]);
            let back = got.reply();
            prop_assert_eq!((back.src, back.dst_port, &back.tags, back.mac_dst), (sent.dst, 67, &sent.tags, sent.mac_src));
            // Any damage behind the Ethernet header is noticed, or changes what no checksum covers.
            let at = flip.index(frame.len() - 14 - 4 * tags) + 14 + 4 * tags;
            frame[at] ^= 0x10;
            if let Ok(damaged) = Datagram::parse(&frame) {
                prop_assert!(v6 && at < 14 + 4 * tags + 8, "byte {at}: {damaged:?}");
            }
        }

        #[test]
        fn nothing_panics(mut frame in prop::collection::vec(any::<u8>(), 0..120), v6: bool) {
            let _ = Datagram::parse(&frame);
            if frame.len() > 14 {
                frame[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
                frame[14] = if v6 { 0x60 } else { 0x45 };
            }
            let _ = Datagram::parse(&frame);
        }
    }

    #[test]
    fn families_do_not_mix() {
        let mixed = Envelope { src: envelope(true, 0).src, ..envelope(false, 0) };
        assert!(mixed.seal(b"x").is_err());
        assert!(envelope(false, 0).seal(&vec![0; 65_508]).is_err());
    }
}
