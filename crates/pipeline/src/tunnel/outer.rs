//! What do the outer headers of a natively encapsulated packet look like?

use std::net::IpAddr;

use weft_flow::{
    EncapHeader, FlowKey, TUN_CSUM, TUN_DF, TUN_GBP, TUN_KEY, TUN_OAM, TlvTable, TunnelKey, TunnelKind,
};
use weft_wire::geneve::GeneveRepr;
use weft_wire::gre::GreRepr;
use weft_wire::ipv4::{Ipv4Frag, Ipv4Repr};
use weft_wire::ipv6::Ipv6Repr;
use weft_wire::vxlan::{self, Gbp, VxlanRepr};
use weft_wire::{EtherType, IpProto, Mac, Vni, ethernet, ipv4, ipv6, udp};

use crate::config::TunnelConfig;

/// Longest header: Ethernet, IPv6, UDP, Geneve with options.
const ROOM: usize = 128 + weft_wire::geneve::MAX_OPTIONS_LEN;
/// In the UDP checksum of a header: to be filled in for each packet.
const CHECKSUM_WANTED: [u8; 2] = [0xff; 2];

/// The outer headers for a tunnel. Lengths, the UDP source port, GRE sequence number and checksums are zero, and for
/// the datapath to fill in; a UDP checksum only where its field is 0xffff (over IPv6 it is needed unless turned off by
/// `csum=false`, RFC 6935 §5). `options` are for Geneve. `None`: the key, or what
/// is `inner` (an EtherType), does not fit the kind.
pub(crate) fn build(
    config: &TunnelConfig,
    key: &TunnelKey,
    options: &[u8],
    (src, dst): (Mac, Mac),
    inner: EtherType,
) -> Option<EncapHeader> {
    let mut bytes = vec![0; ROOM];
    let ip_offset = ethernet::HEADER_LEN;
    let proto = if config.kind == TunnelKind::Gre { IpProto::GRE } else { IpProto::UDP };
    let (ether_type, ip_len) = network(key, proto, bytes.get_mut(ip_offset..)?)?;
    let frame = ethernet::EthernetRepr { dst, src, ether_type };
    frame.emit(&mut bytes).ok()?;
    let mut at = ip_offset + ip_len;
    if config.kind != TunnelKind::Gre {
        let head = bytes.get_mut(at..at + udp::HEADER_LEN)?;
        head[2..4].copy_from_slice(&key.tp_dst.to_be_bytes());
        if key.flags & TUN_CSUM != 0 {
            head[6..8].copy_from_slice(&CHECKSUM_WANTED);
        }
        at += udp::HEADER_LEN;
    }
    at += tunnel(config, key, options, inner, bytes.get_mut(at..)?)?;
    bytes.truncate(at);
    Some(EncapHeader { bytes, kind: config.kind, ip_offset })
}

/// The outer IP header. Returns what it is and its length.
fn network(key: &TunnelKey, proto: IpProto, out: &mut [u8]) -> Option<(EtherType, usize)> {
    match (key.src(), key.dst()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let frag = if key.flags & TUN_DF != 0 { Ipv4Frag::DONT } else { Ipv4Frag(0) };
            let (tos, ttl, options) = (key.tos, key.ttl, &[][..]);
            Ipv4Repr { tos, id: 0, frag, ttl, proto, src, dst, options, payload_len: 0 }.emit(out).ok()?;
            out.get_mut(ipv4::field::TOTAL_LEN..)?[..2].fill(0);
            out.get_mut(ipv4::field::CHECKSUM..)?[..2].fill(0);
            Some((EtherType::IPV4, ipv4::MIN_HEADER_LEN))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (traffic_class, hop_limit) = (key.tos, key.ttl);
            let head = Ipv6Repr {
                traffic_class,
                flow_label: 0,
                payload_len: 0,
                next_header: proto,
                hop_limit,
                src,
                dst,
            };
            head.emit(out).ok()?;
            Some((EtherType::IPV6, ipv6::HEADER_LEN))
        }
        _ => None,
    }
}

/// The header of the tunnel itself. Returns its length.
fn tunnel(
    config: &TunnelConfig,
    key: &TunnelKey,
    options: &[u8],
    inner: EtherType,
    out: &mut [u8],
) -> Option<usize> {
    let vni = || Vni::new(u32::try_from(key.id).ok()?);
    match config.kind {
        TunnelKind::Vxlan => {
            let gbp = (key.flags & TUN_GBP != 0).then_some(Gbp { id: key.gbp_id, flags: key.gbp_flags });
            let next = match config.gpe {
                true => Some(vxlan::next_protocol(inner)?),
                false if inner == EtherType::TEB => None,
                false => return None,
            };
            VxlanRepr { gbp, next, ..VxlanRepr::plain(vni()?) }.emit(out).ok()
        }
        TunnelKind::Geneve => {
            let control = key.flags & TUN_OAM != 0;
            let critical = TlvTable::has_critical(options);
            GeneveRepr { control, critical, options, ..GeneveRepr::ethernet(vni()?) }.emit(out).ok()
        }
        TunnelKind::Gre => {
            let key_field = (key.flags & TUN_KEY != 0).then(|| u32::try_from(key.id));
            let gre = GreRepr {
                protocol: inner,
                checksum: key.flags & TUN_CSUM != 0,
                key: key_field.transpose().ok()?,
                sequence: config.seq.then_some(0),
            };
            gre.emit(out).ok()
        }
    }
}

/// The flow key of an encapsulated packet, as the internal port `in_port` would send it.
pub(crate) fn key(config: &TunnelConfig, tunnel: &TunnelKey, src: Mac, dst: Mac, in_port: u32) -> FlowKey {
    let mut key = FlowKey::default();
    let p = &mut key.packet;
    (p.in_port, p.eth_src, p.eth_dst) = (in_port, src, dst);
    p.eth_type = if tunnel.is_ipv6() { EtherType::IPV6.0 } else { EtherType::IPV4.0 };
    (p.ipv4_src, p.ipv4_dst) = (tunnel.ipv4_src, tunnel.ipv4_dst);
    (p.ipv6_src, p.ipv6_dst) = (tunnel.ipv6_src, tunnel.ipv6_dst);
    (p.ip_tos, p.ip_ttl) = (tunnel.tos, tunnel.ttl);
    match config.kind {
        TunnelKind::Gre => p.ip_proto = IpProto::GRE.0,
        _ => (p.ip_proto, p.tp_dst) = (IpProto::UDP.0, tunnel.tp_dst),
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TunnelAddr;

    const SRC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const DST: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn tunnel_key(v6: bool) -> TunnelKey {
        let mut key =
            TunnelKey { id: 1000, flags: TUN_KEY | TUN_DF, ttl: 64, tos: 0x20, ..TunnelKey::default() };
        let (src, dst) = if v6 { ("fd00::1", "fd00::2") } else { ("192.168.1.10", "192.168.1.20") };
        key.set_src(src.parse().unwrap());
        key.set_dst(dst.parse().unwrap());
        key
    }

    fn config(kind: TunnelKind) -> TunnelConfig {
        TunnelConfig::new(kind, TunnelAddr::Flow)
    }

    #[test]
    fn vxlan_over_ipv4() {
        let key = TunnelKey { tp_dst: 4789, ..tunnel_key(false) };
        let header = build(&config(TunnelKind::Vxlan), &key, &[], (SRC, DST), EtherType::TEB).unwrap();
        assert_eq!((header.bytes.len(), header.ip_offset), (50, 14));
        assert_eq!(header.bytes[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        let ip = [0x45, 0x20, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 168, 1, 10, 192, 168, 1, 20];
        assert_eq!(header.bytes[14..34], ip);
        assert_eq!(header.bytes[34..42], [0, 0, 0x12, 0xb5, 0, 0, 0, 0]);
        assert_eq!(header.bytes[42..], [8, 0, 0, 0, 0, 3, 0xe8, 0]);
    }

    #[test]
    fn geneve_over_ipv6_with_checksum() {
        let key = TunnelKey { tp_dst: 6081, flags: TUN_KEY | TUN_CSUM, ..tunnel_key(true) };
        let header = build(&config(TunnelKind::Geneve), &key, &[], (SRC, DST), EtherType::TEB).unwrap();
        assert_eq!(header.bytes.len(), 14 + 40 + 8 + 8);
        assert_eq!(header.bytes[14..22], [0x62, 0, 0, 0, 0, 0, 17, 64]);
        assert_eq!(header.bytes[54..62], [0, 0, 0x17, 0xc1, 0, 0, 0xff, 0xff]);
        assert_eq!(header.bytes[62..], [0, 0, 0x65, 0x58, 0, 3, 0xe8, 0]);
    }

    #[test]
    fn gre_has_what_is_asked_for() {
        let bare = TunnelKey { flags: 0, ..tunnel_key(false) };
        let header = build(&config(TunnelKind::Gre), &bare, &[], (SRC, DST), EtherType::TEB).unwrap();
        assert_eq!(header.bytes[34..], [0, 0, 0x65, 0x58]);
        let full = TunnelKey { flags: TUN_KEY | TUN_CSUM, ..tunnel_key(false) };
        let seq = TunnelConfig { seq: true, ..config(TunnelKind::Gre) };
        let header = build(&seq, &full, &[], (SRC, DST), EtherType::TEB).unwrap();
        assert_eq!(header.bytes[34..], [0xb0, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0]);
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        let key = TunnelKey { id: 1 << 24, ..tunnel_key(false) };
        assert_eq!(build(&config(TunnelKind::Vxlan), &key, &[], (SRC, DST), EtherType::TEB), None);
        assert!(build(&config(TunnelKind::Gre), &key, &[], (SRC, DST), EtherType::TEB).is_some());
        let key = TunnelKey { id: 1 << 32, ..key };
        assert_eq!(build(&config(TunnelKind::Gre), &key, &[], (SRC, DST), EtherType::TEB), None);
    }
}
