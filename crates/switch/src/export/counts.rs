//! How much traffic was a flow, or all that an exporter saw?

use weft_datapath::Sampled;
use weft_wire::tcp::TcpFlags;

use super::record::{Network, Shape, Transport, header_len};

/// Flags of TCP in the order of their elements: ACK, FIN, PSH, RST, SYN, URG.
const TCP_FLAGS: [u16; 6] =
    [TcpFlags::ACK, TcpFlags::FIN, TcpFlags::PSH, TcpFlags::RST, TcpFlags::SYN, TcpFlags::URG];

/// Why a flow is exported (RFC 5102 §5.11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was kept as long as it may be.
    ActiveTimeout = 2,
    /// The configuration changed, or the switch ends.
    Forced = 4,
    /// There are too many.
    LackOfResources = 5,
}

/// Sampled packets, added up. Octets are of IP packets unless said otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub first_us: u64,
    pub last_us: u64,
    pub packets: u64,
    /// Of whole frames.
    pub frame_octets: u64,
    pub octets: u64,
    pub squares: u64,
    pub shortest: u64,
    pub longest: u64,
    pub dropped: [u64; 2],
    /// Packets received by one, many, all; packets sent to one, all.
    pub casts: [u64; 5],
    /// Packets and octets sent to many.
    pub sent_to_many: [u64; 2],
    pub tcp: [u64; 6],
}

impl Counts {
    /// Those of a sample.
    pub(super) fn of(sampled: &Sampled, shape: Shape, now_us: u64) -> Counts {
        let [shortest, longest, frame_octets, squares] = sampled.lengths;
        let (packets, head) = (u64::from(sampled.packets), u64::from(header_len(&sampled.key)));
        let ip = shape.network != Network::Other;
        let octets = if ip { frame_octets.saturating_sub(packets * head) } else { 0 };
        let mut counts =
            Counts { first_us: now_us, last_us: now_us, packets, frame_octets, ..Counts::default() };
        if ip {
            counts.octets = octets;
            counts.squares = (squares + packets * head * head).saturating_sub(2 * head * frame_octets);
            counts.shortest = shortest.saturating_sub(head);
            counts.longest = longest.saturating_sub(head);
        }
        if sampled.dropped {
            counts.dropped = [packets, octets];
        }
        let to = sampled.key.eth_dst;
        let egress = sampled.to.is_egress();
        match (egress, to.is_broadcast(), to.is_multicast()) {
            (false, true, _) => counts.casts[2] = packets,
            (false, _, true) => counts.casts[1] = packets,
            (false, ..) => counts.casts[0] = packets,
            (true, true, _) => counts.casts[4] = packets,
            (true, _, true) => counts.sent_to_many = [packets, octets],
            (true, ..) => counts.casts[3] = packets,
        }
        if shape.transport == Transport::Tcp {
            counts.tcp = TCP_FLAGS.map(|flag| if sampled.key.tcp_flags & flag != 0 { packets } else { 0 });
        }
        counts
    }

    /// Adds later ones.
    pub(super) fn add(&mut self, more: &Counts) {
        if self.packets == 0 {
            *self = *more;
            return;
        }
        self.last_us = more.last_us;
        self.packets += more.packets;
        self.frame_octets += more.frame_octets;
        self.octets += more.octets;
        self.squares = self.squares.saturating_add(more.squares);
        self.shortest = self.shortest.min(more.shortest);
        self.longest = self.longest.max(more.longest);
        let sum = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        sum(&mut self.dropped, &more.dropped);
        sum(&mut self.casts, &more.casts);
        sum(&mut self.sent_to_many, &more.sent_to_many);
        sum(&mut self.tcp, &more.tcp);
    }

    /// Appends the counters of a record: the flow's own, and totals, as a rule the exporter's. `sent_us`: the message's export time
    /// on the clock of the flow's start and end.
    pub(super) fn put(&self, total: &Counts, shape: Shape, sent_us: u64, end: End, out: &mut Vec<u8>) {
        for at in [self.first_us, self.last_us] {
            let ago = u32::try_from(sent_us.saturating_sub(at)).unwrap_or(u32::MAX);
            out.extend(ago.to_be_bytes());
        }
        let mut put = |values: &[u64]| values.iter().for_each(|n| out.extend(n.to_be_bytes()));
        put(&[self.dropped[0], total.dropped[0], self.packets, total.packets]);
        put(&total.casts);
        put(&[self.sent_to_many[0], total.sent_to_many[0], self.frame_octets, total.frame_octets]);
        out.push(end as u8);
        let mut put = |values: &[u64]| values.iter().for_each(|n| out.extend(n.to_be_bytes()));
        if shape.network != Network::Other {
            put(&[self.dropped[1], total.dropped[1], self.octets, total.octets, self.squares, total.squares]);
            put(&[self.shortest, self.longest, self.sent_to_many[1], total.sent_to_many[1]]);
        }
        if shape.transport == Transport::Tcp {
            put(&total.tcp);
        }
    }
}
