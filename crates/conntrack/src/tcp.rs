//! In which state is a TCP connection, and does a segment fit it?
//!
//! The states of RFC 9293 §3.3.2 as a middle box sees them, one for each end, and the window checks of van Rooij,
//! "Real Stateful TCP Packet Filtering in IP Filter" (2001), which Open vSwitch follows too: a segment must lie in the
//! window that the other end has offered, and acknowledge what that end has sent.

use weft_wire::tcp::{TcpFlags, TcpView};

/// State of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TcpState {
    /// Nothing seen.
    #[default]
    Closed,
    /// Waits for a connection (not used by a middle box).
    Listen,
    /// SYN sent.
    SynSent,
    /// SYN received (not used by a middle box).
    SynRecv,
    /// Established.
    Established,
    /// The other end has finished (not used by a middle box).
    CloseWait,
    /// First FIN acknowledged (not used by a middle box).
    FinWait1,
    /// FIN sent.
    Closing,
    /// Last FIN sent (not used by a middle box).
    LastAck,
    /// FIN acknowledged.
    FinWait2,
    /// Over.
    TimeWait,
}

impl TcpState {
    /// Name, as `dpctl/dump-conntrack` prints it.
    pub fn name(self) -> &'static str {
        match self {
            TcpState::Closed => "CLOSED",
            TcpState::Listen => "LISTEN",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynRecv => "SYN_RECV",
            TcpState::Established => "ESTABLISHED",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::FinWait1 => "FIN_WAIT_1",
            TcpState::Closing => "CLOSING",
            TcpState::LastAck => "LAST_ACK",
            TcpState::FinWait2 => "FIN_WAIT_2",
            TcpState::TimeWait => "TIME_WAIT",
        }
    }
}

/// What a segment says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u16,
    pub(crate) window: u16,
    /// Bytes of payload.
    pub(crate) len: u32,
    /// Window scale option (RFC 7323 §2.2).
    pub(crate) scale: Option<u8>,
}

impl Segment {
    /// Reads a segment. `None`: it is malformed.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Segment> {
        let view = TcpView::parse(bytes).ok()?;
        let scale = if view.flags().0 & TcpFlags::SYN != 0 { scale_of(view.options()) } else { None };
        Some(Segment {
            seq: view.seq(),
            ack: view.ack(),
            flags: view.flags().0,
            window: view.window(),
            len: u32::try_from(view.payload().len()).ok()?,
            scale,
        })
    }

    fn has(&self, bits: u16) -> bool {
        self.flags & bits != 0
    }
}

/// The window scale among TCP options, at most 14.
fn scale_of(mut options: &[u8]) -> Option<u8> {
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            0 => return None,
            1 => options = rest,
            _ => {
                let len = usize::from(*rest.first()?);
                if kind == 3 && len == 3 {
                    return options.get(2).map(|s| (*s).min(14));
                }
                options = options.get(len.max(2)..)?;
            }
        }
    }
    None
}

/// The end's window scale is known.
const SCALE_KNOWN: u8 = 0x80;
/// The connection was picked up in its midst: the scale may be anything.
const SCALE_UNKNOWN: u8 = 0x40;
const SCALE: u8 = 0x0f;
/// How often in a row the end sent what it had sent before, without a word from the other end; at most 3, in steps of
/// `RESENT_ONCE`.
const RESENT: u8 = 0x30;
const RESENT_ONCE: u8 = 0x10;
/// Most bytes that an acknowledgment may be off, before scaling.
const MAX_ACK_WINDOW: i32 = 0xffff + 1500;

/// One end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    /// Highest sequence number sent, plus 1.
    low: u32,
    /// Highest sequence number it may send.
    high: u32,
    /// Largest window it offered, before scaling.
    max_window: u16,
    scale: u8,
    pub(crate) state: TcpState,
}

impl Peer {
    /// The scale of the windows it offers, if it said.
    pub(crate) fn scale(&self) -> Option<u8> {
        (self.scale & SCALE_KNOWN != 0).then_some(self.scale & SCALE)
    }
}

/// Both ends: of the original direction, of the replies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tcp {
    pub(crate) peers: [Peer; 2],
}

impl Tcp {
    /// Whether an end has sent something again as often as it may: the other end may be gone.
    pub(crate) fn is_resent(&self) -> bool {
        self.peers.iter().any(|peer| peer.scale & RESENT == RESENT)
    }

    /// Whether it was picked up in its midst, and the other end was not heard.
    pub(crate) fn is_unacknowledged(&self) -> bool {
        let states = self.peers.map(|peer| peer.state);
        self.peers[0].scale & SCALE_UNKNOWN != 0 && states == [TcpState::SynSent, TcpState::Closed]
    }
}

/// What a segment is to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Part of it.
    Valid,
    /// Not part of it.
    Invalid,
    /// Begins it once more: nobody has answered yet.
    Again,
    /// Begins another one between the same ends.
    Reopens,
}

fn ge(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

/// Flags that contradict each other.
fn contradictory(flags: u16) -> bool {
    let flags = flags & !(TcpFlags::ECE | TcpFlags::CWR);
    if flags & TcpFlags::SYN != 0 {
        flags & (TcpFlags::RST | TcpFlags::FIN) != 0
    } else {
        // Without SYN there is an ACK or a RST; FIN, PSH and URG need the ACK.
        flags & (TcpFlags::ACK | TcpFlags::RST) == 0
            || flags & TcpFlags::ACK == 0 && flags & (TcpFlags::FIN | TcpFlags::PSH | TcpFlags::URG) != 0
    }
}

impl Tcp {
    /// The connection that a segment begins: a SYN, or one from the midst of a connection that began unseen. `None`:
    /// it begins none.
    pub(crate) fn begin(s: &Segment) -> Option<Tcp> {
        let both = TcpFlags::SYN | TcpFlags::ACK;
        if contradictory(s.flags) || s.flags & both == both || s.has(TcpFlags::RST) {
            return None;
        }
        let mut src = Peer {
            low: s.seq,
            high: s.seq.wrapping_add(s.len).wrapping_add(1),
            max_window: s.window.max(1),
            scale: 0,
            state: TcpState::SynSent,
        };
        let mut dst = Peer { low: 0, high: 1, max_window: 1, scale: 0, state: TcpState::Closed };
        if s.has(TcpFlags::SYN) {
            src.high = src.high.wrapping_add(1);
            if let Some(scale) = s.scale {
                src.scale = SCALE_KNOWN | scale;
                src.max_window = src.max_window.div_ceil(1 << scale);
            }
        } else {
            (src.scale, dst.scale) = (SCALE_UNKNOWN, SCALE_UNKNOWN);
        }
        if s.has(TcpFlags::FIN) {
            src.high = src.high.wrapping_add(1);
        }
        Some(Tcp { peers: [src, dst] })
    }

    /// Takes a segment of the given direction in. `check` is false when sequence numbers are not to be looked at.
    pub(crate) fn update(&mut self, s: &Segment, reply: bool, check: bool) -> Fit {
        if contradictory(s.flags) {
            return Fit::Invalid;
        }
        let [a, b] = &mut self.peers;
        let (src, dst) = if reply { (b, a) } else { (a, b) };
        let syn_only = s.flags & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN;
        if syn_only && src.state >= TcpState::FinWait2 && dst.state >= TcpState::FinWait2 {
            return Fit::Reopens;
        }
        if syn_only && src.state <= TcpState::SynSent && dst.state == TcpState::Closed {
            // Sent again before there was an answer, maybe with another initial sequence number.
            if let Some(again) = Tcp::begin(s) {
                let (own, other) = (again.peers[0], again.peers[1]);
                (*src, *dst) = (own, other);
            }
            return Fit::Again;
        }
        let (mut src_scale, mut dst_scale) = scales(src, dst, s.has(TcpFlags::SYN));
        let mut window = u32::from(s.window);
        let consumed = s.len + u32::from(s.has(TcpFlags::SYN)) + u32::from(s.has(TcpFlags::FIN));
        let mut end = s.seq.wrapping_add(consumed);
        if src.state < TcpState::SynSent {
            if s.has(TcpFlags::SYN) && dst.scale & SCALE_KNOWN != 0 {
                if let Some(scale) = s.scale {
                    src.scale = SCALE_KNOWN | scale;
                    (src_scale, dst_scale) = (scale, dst.scale & SCALE);
                    window = window.div_ceil(1 << scale);
                } else {
                    // This end does not scale, so the other may not either.
                    dst.max_window = widen(dst.max_window, dst.scale & SCALE);
                    dst.scale = 0;
                }
            }
            src.low = s.seq;
            src.state = TcpState::SynSent;
            let offered = widened(dst.max_window, dst_scale).max(1);
            if src.high == 1 || ge(end.wrapping_add(offered), src.high) {
                src.high = end.wrapping_add(offered);
            }
            src.max_window = src.max_window.max(clamp(window));
        }
        let resets_without_ack =
            s.flags & (TcpFlags::ACK | TcpFlags::RST) == TcpFlags::ACK | TcpFlags::RST && s.ack == 0;
        let ack = if !s.has(TcpFlags::ACK) || resets_without_ack { dst.low } else { s.ack };
        let mut seq = s.seq;
        if seq == end {
            // Nothing is sent: the sequence number says little.
            (seq, end) = (src.low, src.low);
        }
        let skew = dst.low.wrapping_sub(ack) as i32;
        let exact_reset = !s.has(TcpFlags::RST)
            || s.seq == src.low
            || s.seq == src.low.wrapping_add(1)
            || s.seq.wrapping_add(1) == src.low;
        let fits = ge(src.high, end)
            && ge(seq, src.low.wrapping_sub(widened(dst.max_window, dst_scale)))
            && skew >= -MAX_ACK_WINDOW
            && skew <= MAX_ACK_WINDOW << src_scale
            && exact_reset;
        let resent = consumed > 0 && ge(src.low, end) && s.flags & (TcpFlags::SYN | TcpFlags::RST) == 0;
        if fits || !check {
            count_resent(src, dst, resent);
            advance(src, dst, end, ack, clamp(window), window << src_scale, s.flags);
            return Fit::Valid;
        }
        // Around the beginning and the end less is known.
        let loose = dst.state < TcpState::SynSent
            || dst.state >= TcpState::FinWait2
            || src.state >= TcpState::FinWait2;
        if loose
            && ge(src.high.wrapping_add(MAX_ACK_WINDOW as u32), end)
            && ge(seq, src.low.wrapping_sub(MAX_ACK_WINDOW as u32))
        {
            src.max_window = src.max_window.max(clamp(window));
            if ge(end, src.low) {
                src.low = end;
            }
            let reach = ack.wrapping_add((window << src_scale).max(1));
            if ge(reach, dst.high) {
                dst.high = reach;
            }
            if s.has(TcpFlags::FIN) && src.state < TcpState::Closing {
                src.state = TcpState::Closing;
            }
            if s.has(TcpFlags::RST) {
                (src.state, dst.state) = (TcpState::TimeWait, TcpState::TimeWait);
            }
            return Fit::Valid;
        }
        Fit::Invalid
    }
}

/// Shifts to apply to the windows of both ends.
fn scales(src: &Peer, dst: &Peer, syn: bool) -> (u8, u8) {
    if syn {
        return (0, 0);
    }
    if src.scale & dst.scale & SCALE_KNOWN != 0 {
        (src.scale & SCALE, dst.scale & SCALE)
    } else if (src.scale | dst.scale) & SCALE_UNKNOWN != 0 {
        (14, 14)
    } else {
        (0, 0)
    }
}

/// Notes that an end sent something again, or did not; and that the other end was the one that waits.
fn count_resent(src: &mut Peer, dst: &mut Peer, resent: bool) {
    dst.scale &= !RESENT;
    if !resent {
        src.scale &= !RESENT;
    } else if src.scale & RESENT != RESENT {
        src.scale += RESENT_ONCE;
    }
}

fn clamp(window: u32) -> u16 {
    u16::try_from(window).unwrap_or(u16::MAX)
}

fn widened(window: u16, scale: u8) -> u32 {
    u32::from(window) << scale
}

fn widen(window: u16, scale: u8) -> u16 {
    clamp(widened(window, scale))
}

/// Moves both ends on by a segment that fits.
fn advance(src: &mut Peer, dst: &mut Peer, end: u32, ack: u32, window: u16, scaled: u32, flags: u16) {
    src.max_window = src.max_window.max(window);
    if ge(end, src.low) {
        src.low = end;
    }
    let reach = ack.wrapping_add(scaled.max(1));
    if ge(reach, dst.high) {
        dst.high = reach;
    }
    if flags & TcpFlags::SYN != 0 && src.state < TcpState::SynSent {
        src.state = TcpState::SynSent;
    }
    if flags & TcpFlags::FIN != 0 && src.state < TcpState::Closing {
        src.state = TcpState::Closing;
    }
    if flags & TcpFlags::ACK != 0 {
        match dst.state {
            TcpState::SynSent => dst.state = TcpState::Established,
            TcpState::Closing => dst.state = TcpState::FinWait2,
            _ => {}
        }
    }
    if flags & TcpFlags::RST != 0 {
        (src.state, dst.state) = (TcpState::TimeWait, TcpState::TimeWait);
    }
}
