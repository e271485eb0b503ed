//! What is shown of a connection, and which ones are meant? `dpctl/dump-conntrack`, flushing, statistics.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use weft_wire::IpProto;

use crate::conn::{Conn, Proto};
use crate::key::{Key, address, octets};
use crate::sctp::SctpState;
use crate::tcp::TcpState;

/// Addresses and ports of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryTuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port, or ICMP identifier.
    pub sport: u16,
    /// Destination port, or ICMP identifier.
    pub dport: u16,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// IP protocol.
    pub proto: u8,
    /// Whether addresses are IPv6.
    pub v6: bool,
    /// Original direction.
    pub orig: EntryTuple,
    /// Replies.
    pub reply: EntryTuple,
    /// Zone.
    pub zone: u16,
    /// Mark.
    pub mark: u32,
    /// Label.
    pub label: u128,
    /// States of the ends of a TCP connection.
    pub tcp: Option<(TcpState, TcpState)>,
    /// Window scales of the ends of a TCP connection, as far as they are known (RFC 7323 §2.2).
    pub scales: (Option<u8>, Option<u8>),
    /// State of an SCTP association, and the tags of its packets and of the replies'.
    pub sctp: Option<(SctpState, [u32; 2])>,
    /// Seconds until it ends if nothing comes.
    pub timeout: u64,
    /// Helper: 21 FTP, 69 TFTP, 0 none.
    pub helper: u16,
    /// Original direction of the connection that announced it.
    pub master: Option<EntryTuple>,
}

fn tuple(key: &Key) -> EntryTuple {
    EntryTuple {
        src: address(&key.src.addr, key.v6),
        dst: address(&key.dst.addr, key.v6),
        sport: key.src.port,
        dport: key.dst.port,
    }
}

impl Entry {
    pub(crate) fn of(conn: &Conn, now_ms: u64) -> Entry {
        let tcp = match &conn.proto {
            Proto::Tcp(tcp) => Some((tcp.peers[0].state, tcp.peers[1].state)),
            _ => None,
        };
        let scales = match &conn.proto {
            Proto::Tcp(tcp) => (tcp.peers[0].scale(), tcp.peers[1].scale()),
            _ => (None, None),
        };
        let sctp = match &conn.proto {
            Proto::Sctp(sctp) => Some((sctp.state, sctp.tags)),
            _ => None,
        };
        let orig = conn.orig();
        Entry {
            proto: orig.proto,
            v6: orig.v6,
            orig: tuple(&orig),
            reply: tuple(&conn.reply()),
            zone: conn.zone,
            mark: conn.mark,
            label: conn.label(),
            tcp,
            scales,
            sctp,
            timeout: conn.expires.seconds_from(now_ms),
            helper: conn.helped().map_or(0, |h| h.alg),
            master: conn.master().map(tuple),
        }
    }

    fn direction(&self, f: &mut fmt::Formatter<'_>, t: &EntryTuple, reply: bool) -> fmt::Result {
        write!(f, "(src={},dst={}", t.src, t.dst)?;
        match (IpProto(self.proto), self.v6) {
            (IpProto::ICMP, false) | (IpProto::ICMPV6, true) => {
                let ty = match (self.v6, reply) {
                    (false, false) => 8,
                    (false, true) => 0,
                    (true, false) => 128,
                    (true, true) => 129,
                };
                write!(f, ",id={},type={ty},code=0)", t.sport)
            }
            // Protocols without ports have zeros, as Open vSwitch prints them.
            _ => write!(f, ",sport={},dport={})", t.sport, t.dport),
        }
    }
}

/// Name of a protocol, as `dpctl` prints it.
fn protocol(proto: u8) -> String {
    match IpProto(proto) {
        IpProto::TCP => "tcp".to_owned(),
        IpProto::UDP => "udp".to_owned(),
        IpProto::SCTP => "sctp".to_owned(),
        IpProto::UDPLITE => "udplite".to_owned(),
        IpProto::ICMP => "icmp".to_owned(),
        IpProto::ICMPV6 => "icmpv6".to_owned(),
        IpProto(n) => n.to_string(),
    }
}

impl fmt::Display for Entry {
    /// A line as `ovs-appctl dpctl/dump-conntrack` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false, false)
    }
}

/// An entry with all that is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Detailed<'a> {
    entry: &'a Entry,
    more: bool,
    times: bool,
}

impl fmt::Display for Detailed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.write(f, self.more, self.times)
    }
}

impl Entry {
    /// The entry with both ends of a TCP connection (`-m`), and the seconds it has left (`-s`).
    pub fn detailed(&self, more: bool, times: bool) -> Detailed<'_> {
        Detailed { entry: self, more, times }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, more: bool, times: bool) -> fmt::Result {
        write!(f, "{},orig=", protocol(self.proto))?;
        self.direction(f, &self.orig, false)?;
        f.write_str(",reply=")?;
        self.direction(f, &self.reply, true)?;
        if more {
            // Entries are known by their tuples, and have no status but what their states say.
            f.write_str(",id=0")?;
        }
        if self.zone != 0 {
            write!(f, ",zone={}", self.zone)?;
        }
        if more {
            f.write_str(",status=0")?;
        }
        if times {
            write!(f, ",timeout={}", self.timeout)?;
        }
        if self.mark != 0 {
            write!(f, ",mark={}", self.mark)?;
        }
        if self.label != 0 {
            write!(f, ",labels={:#x}", self.label)?;
        }
        if let (Some((a, b)), true) = (self.tcp, more) {
            self.ends(f, a, b)?;
        } else if let Some((a, b)) = self.tcp {
            // One state for both ends, the later, and what a kernel would call it.
            let state = match a.max(b) {
                TcpState::FinWait2 => TcpState::TimeWait,
                TcpState::SynRecv => TcpState::Established,
                state => state,
            };
            write!(f, ",protoinfo=(state={})", state.name())?;
        }
        if let Some((state, [orig, reply])) = self.sctp {
            let name = state.name();
            write!(f, ",protoinfo=(state={name},vtag_orig={orig},vtag_reply={reply})")?;
        }
        match self.helper {
            0 => {}
            21 => f.write_str(",helper=ftp")?,
            69 => f.write_str(",helper=tftp")?,
            other => write!(f, ",helper={other}")?,
        }
        Ok(())
    }

    /// Both ends of a TCP connection, in states `a` and `b`.
    fn ends(&self, f: &mut fmt::Formatter<'_>, a: TcpState, b: TcpState) -> fmt::Result {
        write!(f, ",protoinfo=(state_orig={},state_reply={}", a.name(), b.name())?;
        let scales = [("orig", self.scales.0), ("reply", self.scales.1)];
        for (end, scale) in scales {
            if let Some(scale) = scale {
                write!(f, ",wscale_{end}={scale}")?;
            }
        }
        for (end, scale) in scales {
            if scale.is_some() {
                write!(f, ",flags_{end}=WINDOW_SCALE")?;
            }
        }
        f.write_str(")")
    }
}

/// Which connections are meant; what is `None` does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Zone.
    pub zone: Option<u16>,
    /// Whether addresses are IPv6.
    pub v6: Option<bool>,
    /// IP protocol.
    pub proto: Option<u8>,
    /// Mark, and the bits of it that count.
    pub mark: Option<(u32, u32)>,
    /// Label, and the bits of it that count.
    pub label: Option<(u128, u128)>,
    /// Ends of the original direction: source address, destination address.
    pub orig: (Option<IpAddr>, Option<IpAddr>),
    /// Ports of the original direction, or the ICMP identifier as both.
    pub orig_ports: (Option<u16>, Option<u16>),
    /// Ends of the replies: source address, destination address.
    pub reply: (Option<IpAddr>, Option<IpAddr>),
    /// Ports of the replies.
    pub reply_ports: (Option<u16>, Option<u16>),
}

impl Filter {
    pub(crate) fn takes(&self, conn: &Conn) -> bool {
        let ends =
            |key: &Key, addrs: &(Option<IpAddr>, Option<IpAddr>), ports: &(Option<u16>, Option<u16>)| {
                addrs.0.is_none_or(|a| octets(a) == key.src.addr && a.is_ipv6() == key.v6)
                    && addrs.1.is_none_or(|a| octets(a) == key.dst.addr && a.is_ipv6() == key.v6)
                    && ports.0.is_none_or(|p| p == key.src.port)
                    && ports.1.is_none_or(|p| p == key.dst.port)
            };
        let orig = conn.orig();
        self.zone.is_none_or(|z| z == orig.zone)
            && self.v6.is_none_or(|v| v == orig.v6)
            && self.proto.is_none_or(|p| p == orig.proto)
            && self.mark.is_none_or(|(v, m)| conn.mark & m == v & m)
            && self.label.is_none_or(|(v, m)| conn.label() & m == v & m)
            && ends(&orig, &self.orig, &self.orig_ports)
            && ends(&conn.reply(), &self.reply, &self.reply_ports)
    }
}

/// Number of connections by protocol and, for TCP, by the state of the end that is further behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtocolStats {
    /// By protocol, named as in a dump.
    pub protocols: BTreeMap<String, usize>,
    /// TCP connections by state.
    pub tcp: BTreeMap<&'static str, usize>,
}

impl ProtocolStats {
    pub(crate) fn add(&mut self, conn: &Conn) {
        *self.protocols.entry(protocol(conn.orig().proto)).or_default() += 1;
        if let Proto::Tcp(tcp) = &conn.proto {
            let state = tcp.peers[0].state.min(tcp.peers[1].state);
            *self.tcp.entry(state.name()).or_default() += 1;
        }
    }

    /// All connections.
    pub fn total(&self) -> usize {
        self.protocols.values().sum()
    }
}
