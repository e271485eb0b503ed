//! What changes in the headers of a tunnel around a frame that is segmented?
//!
//! Lengths, the identification of an outer IPv4 header, and the checksum of UDP or GRE where there
//! is one. Everything else, the port with the flow's entropy among it, is the same in each.

use super::Network;
use crate::bytes::put16;
use crate::checksum::Sum;
use crate::geneve::GeneveView;
use crate::gre::{self, GreView};
use crate::locate::Located;
use crate::vxlan::{self, VxlanView};
use crate::{Error, EtherType, IpProto, Result, udp};

const LAYER: &str = "segment";

/// The outer transport header.
#[derive(Debug, Clone, Copy)]
enum Carrier {
    /// `pseudo`: the pseudo header without length, when there is a checksum to keep right.
    Udp {
        pseudo: Option<Sum>,
    },
    Gre {
        checksum: bool,
    },
    /// IP in IP.
    None,
}

/// The outer headers of a tunnelled frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    l3: usize,
    l4: usize,
    network: Network,
    carrier: Carrier,
}

impl Outer {
    /// Finds the packet inside the tunnel `found` whose transport header stands at `start`, which
    /// is what tells one tunnel protocol from another here: ports may be anything.
    ///
    /// # Errors
    /// `Malformed` when there is no such packet; `Unsupported` for GRE with sequence numbers.
    pub(super) fn find<'a>(
        frame: &'a [u8],
        found: &Located<'a>,
        start: usize,
    ) -> Result<(Self, Located<'a>)> {
        if found.is_fragment() {
            return Err(Error::malformed(LAYER, "fragment"));
        }
        let at = found.l4;
        let (carrier, inner) = match found.proto {
            IpProto::UDP => {
                let header = udp::UdpView::parse(found.transport)?;
                let pseudo = (header.checksum() != 0).then(|| found.pseudo_sum(0));
                (Carrier::Udp { pseudo }, in_udp(frame, at + udp::HEADER_LEN, header.payload(), start))
            }
            IpProto::GRE => {
                let header = GreView::parse(found.transport)?;
                if header.sequence().is_some() {
                    return Err(Error::unsupported(LAYER, "GRE sequence numbers"));
                }
                let inner = inside(frame, at + header.header_len(), header.protocol(), start);
                (Carrier::Gre { checksum: header.checksum().is_some() }, inner)
            }
            IpProto::IPIP => (Carrier::None, inside(frame, at, EtherType::IPV4, start)),
            IpProto::IPV6 => (Carrier::None, inside(frame, at, EtherType::IPV6, start)),
            _ => (Carrier::None, None),
        };
        let inner = inner.ok_or(Error::malformed(LAYER, "csum_start"))?;
        if inner.end != found.end {
            return Err(Error::malformed(LAYER, "tunnel payload"));
        }
        Ok((Self { l3: found.l3, l4: at, network: Network::new(found, frame), carrier }, inner))
    }

    /// Fixes the outer headers in `headers`, whose inner ones are fixed already. `len`: bytes of
    /// the whole segment; `payload`: the sum of what follows the headers.
    pub(super) fn patch(&self, index: usize, headers: &mut [u8], len: usize, payload: Sum) {
        self.network.patch(index, &mut headers[self.l3..], len - self.l3);
        let carrier_len = (len - self.l4) as u16;
        let carrier = &mut headers[self.l4..];
        match self.carrier {
            Carrier::None | Carrier::Gre { checksum: false } => {}
            Carrier::Gre { checksum: true } => {
                put16(carrier, gre::field::CHECKSUM, 0);
                let checksum = (Sum::of(carrier) + payload).finish();
                put16(carrier, gre::field::CHECKSUM, checksum);
            }
            Carrier::Udp { pseudo } => {
                put16(carrier, udp::field::LEN, carrier_len);
                if let Some(pseudo) = pseudo {
                    put16(carrier, udp::field::CHECKSUM, 0);
                    let sum = pseudo + Sum::word(carrier_len) + Sum::of(carrier) + payload;
                    put16(carrier, udp::field::CHECKSUM, sum.finish_nonzero());
                }
            }
        }
    }
}

/// The packet of type `protocol` at `at`, when its transport header stands at `start`.
fn inside(frame: &[u8], at: usize, protocol: EtherType, start: usize) -> Option<Located<'_>> {
    let inner = match protocol {
        EtherType::TEB => Located::parse_at(frame, at),
        protocol => Located::parse_network(frame, at, protocol),
    };
    inner.ok().filter(|inner| inner.l4 == start)
}

/// The packet inside a tunnel over UDP whose payload starts at `at`.
fn in_udp<'a>(frame: &'a [u8], at: usize, payload: &[u8], start: usize) -> Option<Located<'a>> {
    let vxlan = VxlanView::parse(payload)
        .ok()
        .and_then(|_| inside(frame, at + vxlan::HEADER_LEN, EtherType::TEB, start));
    vxlan.or_else(|| {
        let geneve = GeneveView::parse(payload).ok()?;
        inside(frame, at + geneve.header_len(), geneve.protocol(), start)
    })
}
