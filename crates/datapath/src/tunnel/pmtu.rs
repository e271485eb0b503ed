//! How large may an inner frame be, and who is told when it is larger?
//!
//! The path's MTU is asked of the kernel, less the headers that are put before the frame. TCP trains are cut to fit,
//! so the overlay works though nobody lowered the workloads' MTU; IPv4 packets that may be fragmented are; for all
//! others the sender gets the ICMP error that a router would send (RFC 1191 §4, RFC 8201 §4), from the address it
//! sent to, through the tables as if the other end of the tunnel had sent it.

use std::net::IpAddr;

use weft_flow::{DpPort, TunnelKey};
use weft_host::udp::path_mtu;
use weft_wire::segment::Segmenter;
use weft_wire::vnet::{GsoKind, VnetHdr};
use weft_wire::{icmp_error, vlan};

use super::decap::{Filler, Inner};
use crate::lane::Lane;
use crate::packet::BATCH;

/// Milliseconds for which an answer of the kernel is believed.
const BELIEVED_MS: u64 = 5_000;
/// Paths remembered.
const PATHS: usize = 64;
/// ICMP errors a lane sends a second (RFC 1812 §4.3.2.8 asks for a limit).
const ERRORS_A_SECOND: u32 = 1_000;
/// Segments are not cut smaller than this (RFC 1122 §4.2.2.6: the default MSS).
const SMALLEST_SEGMENT: usize = 536;
/// Room for an ICMP error with what it quotes.
const ERROR_LEN: usize = 1_400;

/// A frame for whoever sent one that was too big, as if received by a tunnel port.
pub(crate) struct Answer {
    pub(crate) frame: Vec<u8>,
    /// Outer header it pretends to have come with.
    pub(crate) key: TunnelKey,
    pub(crate) port: DpPort,
    /// What it is an answer to had no Ethernet header, nor is it to have one.
    pub(crate) bare: bool,
}

struct Path {
    dst: IpAddr,
    src: Option<IpAddr>,
    mtu: usize,
    until_ms: u64,
}

/// A lane's knowledge of path MTUs, and the errors it is about to send.
#[derive(Default)]
pub(crate) struct PathMtus {
    paths: Vec<Path>,
    pub(crate) answers: Vec<Answer>,
    /// Errors sent in the second that began at `second_ms`.
    sent: u32,
    second_ms: u64,
}

/// What becomes of a frame on a path.
pub(crate) enum Fit {
    /// It goes as it is, with this offload header.
    Whole(VnetHdr),
    /// It goes in fragments of packets of at most so many bytes.
    Fragments(usize),
    /// It does not go.
    TooBig,
}

impl PathMtus {
    /// Largest IP packet on the way to `dst`, bytes; `usize::MAX` if the kernel cannot say.
    pub(crate) fn of(&mut self, dst: IpAddr, src: Option<IpAddr>, now_ms: u64) -> usize {
        if let Some(at) = self.paths.iter().position(|p| p.dst == dst && p.src == src) {
            if now_ms < self.paths[at].until_ms {
                return self.paths[at].mtu;
            }
            self.paths.swap_remove(at);
        }
        let mtu = path_mtu(dst, src).map_or(usize::MAX, |mtu| mtu as usize);
        if self.paths.len() == PATHS {
            self.paths.swap_remove(0);
        }
        self.paths.push(Path { dst, src, mtu, until_ms: now_ms + BELIEVED_MS });
        mtu
    }

    /// Prepares the answer to a frame that is larger than `room`, if one is due.
    pub(crate) fn refuse(&mut self, frame: &[u8], room: usize, outer: &TunnelKey, port: DpPort, now_ms: u64) {
        if now_ms.saturating_sub(self.second_ms) >= 1_000 {
            (self.second_ms, self.sent) = (now_ms, 0);
        }
        let Ok((l3, _)) = vlan::network_layer(frame) else { return };
        if self.sent >= ERRORS_A_SECOND || room <= l3 {
            return;
        }
        let mut answer = vec![0; ERROR_LEN];
        // Not everything is answered: group addresses and ICMP errors are not (RFC 1122 §3.2.2).
        let Ok(len) = icmp_error::too_big(frame, room - l3, None, &mut answer) else { return };
        answer.truncate(len);
        self.sent += 1;
        let mut key = *outer;
        key.set_src(outer.dst());
        key.set_dst(outer.src());
        self.answers.push(Answer { frame: answer, key, port, bare: false });
    }
}

impl Lane {
    /// Puts waiting answers into a batch.
    pub(crate) fn begin_answers(&mut self) {
        let answers = std::mem::take(&mut self.exec.tunnel.mtus.answers);
        self.batch.begin(BATCH);
        let mut to = Filler::new(&mut self.exec, &mut self.batch);
        let mut rest = answers.into_iter();
        while to.has_room()
            && let Some(answer) = rest.next()
        {
            let (frame, bare) = match vlan::network_layer(&answer.frame) {
                Ok((l3, ethertype)) if answer.bare => (&answer.frame[l3..], ethertype.0),
                _ => (&answer.frame[..], 0),
            };
            to.add(frame, answer.key, Inner { port: answer.port, options: None, bare });
        }
        let frames = to.finish();
        self.batch.begin(frames);
        self.exec.tunnel.mtus.answers.extend(rest);
    }
}

/// Whether a frame of at most `room` bytes can be made of `frame`; `outer_df`: the outer packet may not be fragmented.
pub(crate) fn fit(frame: &[u8], offload: &VnetHdr, room: usize, outer_df: bool) -> Fit {
    if let Some(gso) = offload.gso {
        let Ok(cut) = Segmenter::new(frame, offload) else { return Fit::Whole(*offload) };
        let excess = cut.max_segment_len().saturating_sub(room);
        if excess == 0 {
            return Fit::Whole(*offload);
        }
        let size = usize::from(gso.size).saturating_sub(excess);
        let tcp = matches!(gso.kind, GsoKind::TcpV4 | GsoKind::TcpV6);
        if !tcp || size < SMALLEST_SEGMENT {
            return Fit::TooBig;
        }
        let gso = weft_wire::vnet::Gso { size: size as u16, ..gso };
        return Fit::Whole(VnetHdr { gso: Some(gso), ..*offload });
    }
    if frame.len() <= room || !outer_df {
        return Fit::Whole(*offload);
    }
    match vlan::network_layer(frame) {
        Ok((l3, weft_wire::EtherType::IPV4)) if room > l3 && may_be_fragmented(&frame[l3..]) => {
            Fit::Fragments(room - l3)
        }
        _ => Fit::TooBig,
    }
}

/// Whether an IPv4 packet lacks the Don't Fragment bit.
fn may_be_fragmented(packet: &[u8]) -> bool {
    weft_wire::ipv4::Ipv4View::parse(packet).is_ok_and(|ip| !ip.frag().dont_fragment())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_wire::build::Frame;
    use weft_wire::{Mac, vnet::Gso};

    fn tcp(len: usize) -> Vec<u8> {
        let (a, b) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        Frame::eth(a, b).ipv4([10, 0, 0, 1], [10, 0, 0, 2]).tcp(1, 2).payload(vec![7; len]).build()
    }

    #[test]
    fn trains_are_cut_to_the_path() {
        let frame = tcp(20_000);
        let gso = Gso { kind: GsoKind::TcpV4, size: 1460, ecn: false, hdr_len: 54 };
        let csum = weft_wire::vnet::Csum::Partial { start: 34, offset: 16 };
        let offload = VnetHdr { csum, gso: Some(gso), ..VnetHdr::default() };
        // 54 bytes of headers and 1460 of payload, in room for 1464.
        let Fit::Whole(cut) = fit(&frame, &offload, 1464, true) else { panic!("it is cut") };
        assert_eq!(cut.gso.map(|g| g.size), Some(1410));
        let Fit::Whole(same) = fit(&frame, &offload, 1514, true) else { panic!("it fits") };
        assert_eq!(same.gso.map(|g| g.size), Some(1460));
        assert!(matches!(fit(&frame, &offload, 500, true), Fit::TooBig));
    }

    #[test]
    fn the_sender_of_what_does_not_fit_is_told_the_inner_mtu() {
        let mut mtus = PathMtus::default();
        let frame = tcp(1446);
        let mut outer = TunnelKey::default();
        outer.set_dst([192, 168, 1, 20].into());
        mtus.refuse(&frame, 1464, &outer, DpPort(3), 0);
        let [answer] = &mtus.answers[..] else { panic!("one answer") };
        // To the sender, ICMP destination unreachable, fragmentation needed, next-hop MTU 1450.
        assert_eq!(answer.frame[..6], frame[6..12]);
        assert_eq!(answer.frame[34..36], [3, 4]);
        assert_eq!(answer.frame[40..42], 1450u16.to_be_bytes());
        assert_eq!(answer.key.src(), outer.dst());
    }
}
