//! What stands between the outer IP header and the inner frame? VXLAN, Geneve or GRE, both ways.

use weft_flow::{DropReason, TUN_CSUM, TUN_GBP, TUN_GPE, TUN_KEY, TUN_OAM, TunnelKey, TunnelKind, TunnelOut};
use weft_wire::geneve::{self, GeneveOptions, GeneveRepr, GeneveView};
use weft_wire::gre::{GreRepr, GreView};
use weft_wire::vxlan::{self, Gbp, VxlanRepr, VxlanView};
use weft_wire::{Error, EtherType, Vni, ethernet};

use super::decap::Inner;
use super::demux::Demux;
use crate::contract::TunnelSpec;

/// Room for the longest header: Geneve with all options.
const MAX_LEN: usize = geneve::HEADER_LEN + geneve::MAX_OPTIONS_LEN;

/// A tunnel header, ready to be put before inner frames.
pub(crate) struct Header {
    bytes: [u8; MAX_LEN],
    len: usize,
    /// GRE: the checksum is to be filled in for each packet.
    pub(crate) checksum: bool,
    /// GRE: where the sequence number is to be filled in for each packet; 0: there is none.
    pub(crate) sequence_at: usize,
}

impl Header {
    /// The header that `out` asks for, before packets of this EtherType; [`EtherType::TEB`] is frames.
    pub(crate) fn build(spec: &TunnelSpec, out: &TunnelOut, inner: EtherType) -> Result<Self, DropReason> {
        let mut header = Header { bytes: [0; MAX_LEN], len: 0, checksum: false, sequence_at: 0 };
        let key = &out.key;
        let vni = || u32::try_from(key.id).ok().and_then(Vni::new).ok_or(DropReason::BadAction);
        let next = if spec.gpe { vxlan::next_protocol(inner) } else { None };
        let names_inner = spec.kind == TunnelKind::Gre || next.is_some();
        if inner != EtherType::TEB && !names_inner {
            return Err(DropReason::PacketType);
        }
        let written = match spec.kind {
            TunnelKind::Vxlan => {
                let gbp = (key.flags & TUN_GBP != 0).then_some(Gbp { id: key.gbp_id, flags: key.gbp_flags });
                VxlanRepr { vni: vni()?, gbp, next }.emit(&mut header.bytes)
            }
            TunnelKind::Geneve => {
                let critical = GeneveOptions::new(&out.options).flatten().any(|option| option.critical);
                let control = key.flags & TUN_OAM != 0;
                let options = &out.options[..];
                GeneveRepr { control, critical, options, ..GeneveRepr::ethernet(vni()?) }
                    .emit(&mut header.bytes)
            }
            TunnelKind::Gre => {
                header.checksum = spec.csum || key.flags & TUN_CSUM != 0;
                let gre = GreRepr {
                    protocol: inner,
                    checksum: header.checksum,
                    key: (key.flags & TUN_KEY != 0).then_some(key.id as u32),
                    sequence: spec.seq.then_some(0),
                };
                if spec.seq {
                    header.sequence_at = gre.header_len() - 4;
                }
                gre.emit(&mut header.bytes)
            }
        };
        header.len = written.map_err(|_| DropReason::BadAction)?;
        Ok(header)
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads the header at the start of `payload` into `key` and returns its length, and the EtherType that what follows
/// begins with; 0: it is a frame, at least an Ethernet header.
pub(crate) fn parse(
    kind: TunnelKind,
    payload: &[u8],
    key: &mut TunnelKey,
) -> Result<(usize, u16), DropReason> {
    let (len, inner) = match kind {
        TunnelKind::Vxlan => parse_vxlan(payload, key)?,
        TunnelKind::Geneve => (parse_geneve(payload, key)?, EtherType::TEB),
        TunnelKind::Gre => parse_gre(payload, key)?,
    };
    if inner != EtherType::TEB {
        return Ok((len, inner.0));
    }
    if payload.len() < len + ethernet::HEADER_LEN {
        return Err(DropReason::TunnelMalformed);
    }
    Ok((len, 0))
}

/// Reads the header at the start of `payload` into `key`, and finds out whose the inner frame is that follows it.
#[inline]
pub(crate) fn read(
    kind: TunnelKind,
    dst_port: u16,
    payload: &[u8],
    key: &mut TunnelKey,
    demux: &mut Demux,
) -> Result<(usize, Inner), DropReason> {
    let (len, bare) = parse(kind, payload, key)?;
    let port = demux.port(kind, dst_port, key, bare != 0)?;
    let options = demux.options(port, options(kind, &payload[..len]))?;
    Ok((len, Inner { port, options, bare }))
}

/// The options in a tunnel header that was read by [`parse`]: which the port knows is its bridge's to say.
#[inline]
pub(crate) fn options(kind: TunnelKind, header: &[u8]) -> &[u8] {
    match kind {
        TunnelKind::Geneve => header.get(geneve::HEADER_LEN..).unwrap_or(&[]),
        TunnelKind::Vxlan | TunnelKind::Gre => &[],
    }
}

/// Wrong flags have a reason of their own.
fn reason(error: Error) -> DropReason {
    match error {
        Error::Malformed { field, .. } if field.starts_with("flags") => DropReason::TunnelFlags,
        _ => DropReason::TunnelMalformed,
    }
}

#[inline]
fn parse_vxlan(payload: &[u8], key: &mut TunnelKey) -> Result<(usize, EtherType), DropReason> {
    let view = VxlanView::parse(payload).map_err(reason)?;
    key.id = u64::from(view.vni().get());
    key.flags |= TUN_KEY;
    if !view.is_plain() {
        // Reserved bits are ignored (RFC 7348 §5), but not that what is inside may be no frame.
        if view.flags() & vxlan::flag::P != 0 {
            let inner = view.next().and_then(vxlan::ether_type).ok_or(DropReason::TunnelFlags)?;
            key.flags |= TUN_GPE;
            return Ok((vxlan::HEADER_LEN, inner));
        }
        if let Some(gbp) = view.gbp() {
            key.flags |= TUN_GBP;
            (key.gbp_id, key.gbp_flags) = (gbp.id, gbp.flags);
        }
    }
    Ok((vxlan::HEADER_LEN, EtherType::TEB))
}

fn parse_geneve(payload: &[u8], key: &mut TunnelKey) -> Result<usize, DropReason> {
    let view = GeneveView::parse(payload).map_err(reason)?;
    if view.protocol() != EtherType::TEB {
        return Err(DropReason::TunnelFlags);
    }
    key.id = u64::from(view.vni().get());
    key.flags |= TUN_KEY;
    if view.control() {
        key.flags |= TUN_OAM;
    }
    Ok(view.header_len())
}

fn parse_gre(payload: &[u8], key: &mut TunnelKey) -> Result<(usize, EtherType), DropReason> {
    let view = GreView::parse(payload).map_err(reason)?;
    if !view.protocol().is_type() {
        return Err(DropReason::TunnelFlags);
    }
    if view.checksum().is_some() {
        if !view.checksum_ok() {
            return Err(DropReason::TunnelBadChecksum);
        }
        key.flags |= TUN_CSUM;
    }
    if let Some(id) = view.key() {
        key.id = u64::from(id);
        key.flags |= TUN_KEY;
    }
    Ok((view.header_len(), view.protocol()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_wire::gre;

    const FRAME: [u8; 14] = [7; 14];

    fn out(flags: u16, id: u64, options: &[u8]) -> TunnelOut {
        let key = TunnelKey { flags, id, gbp_id: 77, ..TunnelKey::default() };
        TunnelOut { key, options: options.to_vec() }
    }

    #[test]
    fn what_is_built_is_understood() {
        let cases = [
            (TunnelKind::Vxlan, TUN_KEY, 1000, &[][..]),
            (TunnelKind::Vxlan, TUN_KEY | TUN_GBP, 0xff_ffff, &[]),
            (TunnelKind::Geneve, TUN_KEY | TUN_OAM, 5, &[1, 2, 3, 0, 0, 9, 1, 1, 1, 2, 3, 4]),
            (TunnelKind::Gre, TUN_KEY, 0xffff_ffff, &[]),
            (TunnelKind::Gre, TUN_KEY | TUN_CSUM, 9, &[]),
            (TunnelKind::Gre, 0, 0, &[]),
        ];
        for (kind, flags, id, options) in cases {
            for seq in [false, true] {
                let spec = TunnelSpec { seq, ..TunnelSpec::new(kind) };
                let header = Header::build(&spec, &out(flags, id, options), EtherType::TEB).unwrap();
                let mut packet = [header.bytes(), &FRAME].concat();
                if header.checksum {
                    gre::fill_checksum(&mut packet).unwrap();
                }
                let mut key = TunnelKey::default();
                let (len, bare) = parse(kind, &packet, &mut key).unwrap();
                assert_eq!(bare, 0);
                assert_eq!(
                    (len, key.flags, key.id),
                    (header.bytes().len(), flags, id),
                    "{kind:?} {flags:#x}"
                );
                if flags & TUN_GBP != 0 {
                    assert_eq!(key.gbp_id, 77);
                }
                for cut in 0..packet.len() {
                    assert!(
                        parse(kind, &packet[..cut], &mut TunnelKey::default()).is_err(),
                        "{kind:?} cut at {cut}"
                    );
                }
            }
        }
    }

    #[test]
    fn refuses_under_the_right_reason() {
        use DropReason::*;
        let vxlan = |flags: u8| [&[flags, 0, 0, 0, 0, 0, 1, 0][..], &FRAME].concat();
        let geneve = |head: [u8; 4], options: &[u8]| [&head[..], &[0, 0, 1, 0], options, &FRAME].concat();
        let gre = |head: [u8; 4]| [&head[..], &[0, 0, 0, 0], &FRAME].concat();
        let cases = [
            (TunnelKind::Vxlan, vxlan(0), TunnelFlags),
            (TunnelKind::Vxlan, vxlan(0x0c), TunnelFlags),
            (TunnelKind::Geneve, geneve([0x40, 0, 0x65, 0x58], &[]), TunnelMalformed),
            (TunnelKind::Geneve, geneve([0, 0, 0x08, 0x00], &[]), TunnelFlags),
            (TunnelKind::Gre, gre([0x80, 0, 0x65, 0x58]), TunnelBadChecksum),
            (TunnelKind::Gre, gre([0x40, 0, 0x65, 0x58]), TunnelFlags),
            (TunnelKind::Gre, gre([0, 0, 0x00, 0x2e]), TunnelFlags),
            (TunnelKind::Gre, gre([0, 1, 0x65, 0x58]), TunnelMalformed),
        ];
        for (kind, packet, wanted) in cases {
            assert_eq!(
                parse(kind, &packet, &mut TunnelKey::default()),
                Err(wanted),
                "{kind:?} {packet:02x?}"
            );
        }
        let vxlan = TunnelSpec::new(TunnelKind::Vxlan);
        let bad = Header::build(&vxlan, &out(TUN_KEY, 1 << 24, &[]), EtherType::TEB);
        assert_eq!(bad.err(), Some(BadAction));
    }

    #[test]
    fn packets_without_ethernet_are_named_by_the_header() {
        let gpe = TunnelSpec { gpe: true, ..TunnelSpec::new(TunnelKind::Vxlan) };
        let cases = [
            (TunnelSpec::new(TunnelKind::Gre), EtherType::IPV4, Ok(EtherType::IPV4.0)),
            (TunnelSpec::new(TunnelKind::Gre), EtherType::NSH, Ok(EtherType::NSH.0)),
            (gpe.clone(), EtherType::TEB, Ok(0)),
            (gpe.clone(), EtherType::IPV6, Ok(EtherType::IPV6.0)),
            (gpe.clone(), EtherType::NSH, Ok(EtherType::NSH.0)),
            (gpe, EtherType::ARP, Err(DropReason::PacketType)),
            (TunnelSpec::new(TunnelKind::Vxlan), EtherType::IPV4, Err(DropReason::PacketType)),
            (TunnelSpec::new(TunnelKind::Geneve), EtherType::IPV4, Err(DropReason::PacketType)),
        ];
        for (spec, inner, wanted) in cases {
            let read = Header::build(&spec, &out(TUN_KEY, 7, &[]), inner).and_then(|header| {
                let packet = [header.bytes(), &FRAME].concat();
                let mut key = TunnelKey::default();
                parse(spec.kind, &packet, &mut key).map(|(_, bare)| {
                    assert_eq!(key.flags & TUN_GPE != 0, spec.gpe);
                    bare
                })
            });
            assert_eq!(read, wanted, "{spec:?} {inner:?}");
        }
    }
}
