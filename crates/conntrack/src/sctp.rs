//! In which state is an SCTP association, and does a packet fit it? (RFC 9260)
//!
//! What a middle box can tell: each end chooses the verification tag of the packets sent to it, so that a packet with
//! another tag is not part of the association (RFC 9260 §8.5). The states are those that Linux has for it; an
//! association that is begun anew (§5.2.2) takes the place of the old one only when its cookie comes.

use weft_wire::sctp::SctpView;

use crate::tcp::Fit;

/// How far an association has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SctpState {
    /// Over: aborted or shut down.
    #[default]
    Closed,
    /// INIT seen.
    CookieWait,
    /// COOKIE ECHO seen.
    CookieEchoed,
    /// COOKIE ACK seen.
    Established,
    /// The end that began it has sent SHUTDOWN.
    ShutdownSent,
    /// The other end has.
    ShutdownRecd,
    /// SHUTDOWN ACK seen.
    ShutdownAckSent,
    /// A path of an association that was begun on another one: HEARTBEAT seen.
    HeartbeatSent,
}

impl SctpState {
    /// Name, as `dpctl/dump-conntrack` prints it.
    pub fn name(self) -> &'static str {
        match self {
            SctpState::Closed => "CLOSED",
            SctpState::CookieWait => "COOKIE_WAIT",
            SctpState::CookieEchoed => "COOKIE_ECHOED",
            SctpState::Established => "ESTABLISHED",
            SctpState::ShutdownSent => "SHUTDOWN_SENT",
            SctpState::ShutdownRecd => "SHUTDOWN_RECD",
            SctpState::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            SctpState::HeartbeatSent => "HEARTBEAT_SENT",
        }
    }

    /// Seconds without packets, as Linux has them; `CT_Timeout_Policy` has no columns for these.
    pub(crate) fn seconds(self) -> u32 {
        match self {
            SctpState::Closed => 10,
            SctpState::Established => 210,
            SctpState::HeartbeatSent => 30,
            _ => 3,
        }
    }
}

/// Types of chunks (RFC 9260 §3.2).
mod chunk {
    pub(super) const INIT: u8 = 1;
    pub(super) const INIT_ACK: u8 = 2;
    pub(super) const HEARTBEAT: u8 = 4;
    pub(super) const HEARTBEAT_ACK: u8 = 5;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const SHUTDOWN_ACK: u8 = 8;
    pub(super) const COOKIE_ECHO: u8 = 10;
    pub(super) const COOKIE_ACK: u8 = 11;
    pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Bytes of a chunk's header: type, flags, length.
const CHUNK_HEADER: usize = 4;
/// Bytes of INIT and INIT ACK before their parameters.
const INIT_LEN: usize = 20;
/// The tag is the sender's own: it does not know the receiver's (RFC 9260 §3.3.7, §3.3.13).
const T_BIT: u8 = 1;

/// A chunk that means something to the state.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    kind: u8,
    flags: u8,
    /// Initiate tag of INIT and INIT ACK, not 0.
    init_tag: u32,
}

/// A packet whose chunks are well-formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SctpPacket<'a> {
    tag: u32,
    chunks: &'a [u8],
}

impl<'a> SctpPacket<'a> {
    /// Reads a packet. `None`: it is malformed.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<SctpPacket<'a>> {
        let view = SctpView::parse(bytes).ok()?;
        let packet = SctpPacket { tag: view.tag(), chunks: view.payload() };
        let (mut count, mut alone, mut left) = (0, false, packet.chunks);
        while !left.is_empty() {
            let (chunk, rest) = next(left)?;
            alone |= matches!(chunk.kind, chunk::INIT | chunk::INIT_ACK | chunk::SHUTDOWN_COMPLETE);
            // RFC 9260 §6.10: a cookie is echoed before anything else is said.
            if chunk.kind == chunk::COOKIE_ECHO && count > 0 {
                return None;
            }
            (count, left) = (count + 1, rest);
        }
        (count > 0 && !(alone && count > 1)).then_some(packet)
    }

    fn chunks(&self) -> impl Iterator<Item = Chunk> + use<'a> {
        let mut left = self.chunks;
        std::iter::from_fn(move || {
            let (chunk, rest) = next(left)?;
            left = rest;
            Some(chunk)
        })
    }
}

/// The first chunk, and those behind it. `None`: it is malformed.
fn next(bytes: &[u8]) -> Option<(Chunk, &[u8])> {
    let [kind, flags, a, b] = *bytes.first_chunk::<CHUNK_HEADER>()?;
    let len = usize::from(u16::from_be_bytes([a, b]));
    let body = bytes.get(..len)?.get(CHUNK_HEADER..)?;
    let mut init_tag = 0;
    if matches!(kind, chunk::INIT | chunk::INIT_ACK) {
        let tag = body.first_chunk().filter(|_| len >= INIT_LEN)?;
        init_tag = u32::from_be_bytes(*tag);
        if init_tag == 0 {
            return None;
        }
    }
    // The last one may come without its padding.
    let rest = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((Chunk { kind, flags, init_tag }, rest))
}

/// An association.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sctp {
    /// Verification tags of the packets of the original direction, of the replies; 0: not known yet.
    pub(crate) tags: [u32; 2],
    pub(crate) state: SctpState,
    /// There was a packet of the replies.
    pub(crate) answered: bool,
}

impl Sctp {
    /// The association that a packet begins, or whose path it tries. `None`: it begins none.
    pub(crate) fn begin(packet: &SctpPacket<'_>) -> Option<Sctp> {
        let first = packet.chunks().next()?;
        let known = Sctp { tags: [packet.tag, 0], ..Sctp::default() };
        match first.kind {
            chunk::INIT if packet.tag == 0 => {
                Some(Sctp { tags: [0, first.init_tag], state: SctpState::CookieWait, ..Sctp::default() })
            }
            chunk::HEARTBEAT if packet.tag != 0 => Some(Sctp { state: SctpState::HeartbeatSent, ..known }),
            // Of an end that is gone meanwhile: what answers may pass.
            chunk::SHUTDOWN_ACK if packet.tag != 0 => {
                Some(Sctp { state: SctpState::ShutdownAckSent, ..known })
            }
            _ => None,
        }
    }

    /// Takes a packet of the given direction in. `pending` are the tags of an association that is being begun in place
    /// of this one; zeros: there is none.
    pub(crate) fn update(&mut self, pending: &mut [u32; 2], packet: &SctpPacket<'_>, reply: bool) -> Fit {
        let (mut after, mut new) = (*self, *pending);
        for chunk in packet.chunks() {
            if chunk.kind == chunk::INIT && self.state == SctpState::Closed && packet.tag == 0 {
                return Fit::Reopens;
            }
            if !after.take(&mut new, chunk, packet.tag, reply) {
                return Fit::Invalid;
            }
        }
        after.answered |= reply;
        (*self, *pending) = (after, new);
        Fit::Valid
    }

    /// Takes a chunk in. False: it is not part of the association.
    fn take(&mut self, pending: &mut [u32; 2], chunk: Chunk, tag: u32, reply: bool) -> bool {
        use SctpState::*;
        let (own, other) = (usize::from(reply), usize::from(!reply));
        let known = |tags: &[u32; 2], end: usize| tag != 0 && tag == tags[end];
        let right = known(&self.tags, own);
        let new = known(pending, own);
        let (state, good) = match chunk.kind {
            chunk::INIT => {
                let begins = self.state <= CookieWait || self.state == HeartbeatSent;
                if tag != 0 {
                    return false;
                } else if begins {
                    self.tags[other] = chunk.init_tag;
                } else {
                    // Anybody could have sent it: it counts when the cookie comes.
                    *pending = [0; 2];
                    pending[other] = chunk.init_tag;
                }
                (if begins { CookieWait } else { self.state }, true)
            }
            chunk::INIT_ACK => {
                if new {
                    pending[other] = chunk.init_tag;
                } else if self.state == CookieWait && right {
                    self.tags[other] = chunk.init_tag;
                }
                (self.state, new || right)
            }
            chunk::COOKIE_ECHO if new && pending[other] != 0 => {
                (self.tags, *pending) = (*pending, [0; 2]);
                (CookieEchoed, true)
            }
            chunk::COOKIE_ECHO => (if self.state == CookieWait { CookieEchoed } else { self.state }, right),
            chunk::COOKIE_ACK => (if self.state == CookieEchoed { Established } else { self.state }, right),
            chunk::ABORT if new && chunk.flags & T_BIT == 0 => {
                // The new one is refused; the old one stays.
                *pending = [0; 2];
                (self.state, true)
            }
            chunk::ABORT => (Closed, if chunk.flags & T_BIT == 0 { right } else { known(&self.tags, other) }),
            chunk::SHUTDOWN => match (self.state, reply) {
                (Established, false) => (ShutdownSent, right),
                (Established, true) => (ShutdownRecd, right),
                (state, _) => (state, right),
            },
            chunk::SHUTDOWN_ACK => match self.state {
                ShutdownSent | ShutdownRecd => (ShutdownAckSent, right),
                state => (state, right),
            },
            chunk::SHUTDOWN_COMPLETE => {
                let right = if chunk.flags & T_BIT == 0 { right } else { known(&self.tags, other) };
                (if self.state == ShutdownAckSent { Closed } else { self.state }, right)
            }
            chunk::HEARTBEAT | chunk::HEARTBEAT_ACK if self.state == HeartbeatSent => {
                if self.tags[own] == 0 {
                    self.tags[own] = tag;
                }
                let answers = reply && chunk.kind == chunk::HEARTBEAT_ACK;
                (if answers { Established } else { HeartbeatSent }, tag != 0 && self.tags[own] == tag)
            }
            _ => (self.state, right),
        };
        self.state = state;
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with these chunks: type, flags, body.
    fn packet(tag: u32, chunks: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0x10, 0, 0x20, 0];
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0; 4]);
        for (kind, flags, body) in chunks {
            bytes.extend([*kind, *flags]);
            bytes.extend(((body.len() + CHUNK_HEADER) as u16).to_be_bytes());
            bytes.extend(*body);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn init(tag: u32) -> Vec<u8> {
        [&tag.to_be_bytes()[..], &[0; 12]].concat()
    }

    /// An association, and what is sent: by the replies' end, tag, chunk, flags, initiate tag; and what comes of it.
    type Step = (bool, u32, u8, u8, u32, Fit, SctpState);

    fn play((mut sctp, mut pending): (Sctp, [u32; 2]), steps: &[Step]) -> (Sctp, [u32; 2]) {
        for (i, (reply, tag, kind, flags, init_tag, fit, state)) in steps.iter().enumerate() {
            let body = if *init_tag == 0 { vec![0; 4] } else { init(*init_tag) };
            let bytes = packet(*tag, &[(*kind, *flags, &body)]);
            let got = sctp.update(&mut pending, &SctpPacket::parse(&bytes).unwrap(), *reply);
            assert_eq!((got, sctp.state), (*fit, *state), "step {i}");
        }
        (sctp, pending)
    }

    fn begun() -> (Sctp, [u32; 2]) {
        let bytes = packet(0, &[(chunk::INIT, 0, &init(100))]);
        (Sctp::begin(&SctpPacket::parse(&bytes).unwrap()).unwrap(), [0; 2])
    }

    const DATA: u8 = 0;
    use Fit::{Invalid, Reopens, Valid};
    use SctpState::*;

    /// From INIT to COOKIE ACK: replies carry 100, the others 200.
    const OPEN: [Step; 3] = [
        (true, 100, chunk::INIT_ACK, 0, 200, Valid, CookieWait),
        (false, 200, chunk::COOKIE_ECHO, 0, 0, Valid, CookieEchoed),
        (true, 100, chunk::COOKIE_ACK, 0, 0, Valid, Established),
    ];

    #[test]
    fn from_beginning_to_end() {
        let open = play(begun(), &OPEN);
        assert_eq!((open.0.tags, open.0.answered), ([200, 100], true));
        let (mut closed, mut pending) = play(
            open,
            &[
                (false, 200, DATA, 3, 0, Valid, Established),
                (true, 100, DATA, 3, 0, Valid, Established),
                (true, 100, chunk::SHUTDOWN, 0, 0, Valid, ShutdownRecd),
                (false, 200, chunk::SHUTDOWN_ACK, 0, 0, Valid, ShutdownAckSent),
                (true, 100, chunk::SHUTDOWN_COMPLETE, 0, 0, Valid, Closed),
            ],
        );
        let again = packet(0, &[(chunk::INIT, 0, &init(300))]);
        assert_eq!(closed.update(&mut pending, &SctpPacket::parse(&again).unwrap(), false), Reopens);
        play(open, &[(false, 200, chunk::SHUTDOWN, 0, 0, Valid, ShutdownSent)]);
    }

    #[test]
    fn tags_decide_what_is_part_of_it() {
        let open = play(begun(), &OPEN);
        play(
            open,
            &[
                (false, 100, DATA, 3, 0, Invalid, Established),
                (true, 0, DATA, 3, 0, Invalid, Established),
                (true, 200, chunk::ABORT, 0, 0, Invalid, Established),
                (true, 100, chunk::ABORT, T_BIT, 0, Invalid, Established),
                (false, 7, chunk::SHUTDOWN, 0, 0, Invalid, Established),
                (false, 7, chunk::INIT, 0, 9, Invalid, Established),
            ],
        );
        play(open, &[(true, 100, chunk::ABORT, 0, 0, Valid, Closed)]);
        play(open, &[(true, 200, chunk::ABORT, T_BIT, 0, Valid, Closed)]);
        // Refused at once.
        play(begun(), &[(true, 100, chunk::ABORT, 0, 0, Valid, Closed)]);
        play(begun(), &[(true, 99, chunk::ABORT, 0, 0, Invalid, CookieWait)]);
        // What one end said is not known, so its tag is not.
        play(begun(), &[(false, 0, chunk::COOKIE_ECHO, 0, 0, Invalid, CookieWait)]);
    }

    #[test]
    fn a_restart_counts_when_its_cookie_comes() {
        let open = play(begun(), &OPEN);
        let waits = play(open, &[(false, 0, chunk::INIT, 0, 101, Valid, Established)]);
        // The old association goes on meanwhile.
        play(waits, &[(false, 200, DATA, 3, 0, Valid, Established)]);
        // The new one is refused.
        play(
            waits,
            &[
                (true, 101, chunk::ABORT, 0, 0, Valid, Established),
                (true, 101, chunk::INIT_ACK, 0, 201, Invalid, Established),
            ],
        );
        let new = play(
            waits,
            &[
                (true, 101, chunk::INIT_ACK, 0, 201, Valid, Established),
                (false, 201, chunk::COOKIE_ECHO, 0, 0, Valid, CookieEchoed),
                (true, 101, chunk::COOKIE_ACK, 0, 0, Valid, Established),
                (false, 200, DATA, 3, 0, Invalid, Established),
                (false, 201, DATA, 3, 0, Valid, Established),
            ],
        );
        assert_eq!((new.0.tags, new.1), ([201, 101], [0; 2]));
    }

    #[test]
    fn both_ends_may_begin() {
        play(
            begun(),
            &[
                (true, 0, chunk::INIT, 0, 200, Valid, CookieWait),
                (false, 200, chunk::INIT_ACK, 0, 100, Valid, CookieWait),
                (true, 100, chunk::INIT_ACK, 0, 200, Valid, CookieWait),
                (false, 200, chunk::COOKIE_ECHO, 0, 0, Valid, CookieEchoed),
                (true, 100, chunk::COOKIE_ECHO, 0, 0, Valid, CookieEchoed),
                (true, 100, chunk::COOKIE_ACK, 0, 0, Valid, Established),
            ],
        );
    }

    #[test]
    fn another_path_is_tried_by_heartbeats() {
        let begin = |tag, kind| {
            let bytes = packet(tag, &[(kind, 0, &[0; 8])]);
            Sctp::begin(&SctpPacket::parse(&bytes).unwrap())
        };
        let path = begin(200, chunk::HEARTBEAT).unwrap();
        play(
            (path, [0; 2]),
            &[
                (false, 201, chunk::HEARTBEAT, 0, 0, Invalid, HeartbeatSent),
                (false, 200, DATA, 0, 0, Valid, HeartbeatSent),
                (true, 100, chunk::HEARTBEAT_ACK, 0, 0, Valid, Established),
                (true, 100, DATA, 0, 0, Valid, Established),
                (true, 101, DATA, 0, 0, Invalid, Established),
            ],
        );
        // The other end has forgotten the association.
        let ending = begin(200, chunk::SHUTDOWN_ACK).unwrap();
        play((ending, [0; 2]), &[(true, 200, chunk::SHUTDOWN_COMPLETE, T_BIT, 0, Valid, Closed)]);
        for kind in [DATA, chunk::INIT_ACK, chunk::ABORT, chunk::COOKIE_ACK, chunk::HEARTBEAT_ACK] {
            let bytes = packet(5, &[(kind, 0, &init(7))]);
            assert_eq!(Sctp::begin(&SctpPacket::parse(&bytes).unwrap()), None, "{kind}");
        }
        let tagged = packet(5, &[(chunk::INIT, 0, &init(7))]);
        assert_eq!(Sctp::begin(&SctpPacket::parse(&tagged).unwrap()), None);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let (first, data) = (init(1), &[0; 12][..]);
        let good = |chunks: &[(u8, u8, &[u8])]| SctpPacket::parse(&packet(1, chunks)).is_some();
        assert!(good(&[(DATA, 0, data), (3, 0, &[0; 3])]));
        assert!(good(&[(chunk::COOKIE_ECHO, 0, &[1; 5]), (DATA, 0, data)]));
        assert!(!good(&[]));
        assert!(!good(&[(chunk::INIT, 0, &first), (DATA, 0, data)]), "INIT is alone");
        assert!(!good(&[(DATA, 0, data), (chunk::SHUTDOWN_COMPLETE, 0, &[])]));
        assert!(!good(&[(DATA, 0, data), (chunk::COOKIE_ECHO, 0, &[1; 5])]));
        assert!(!good(&[(chunk::INIT, 0, &init(0))]), "no tag");
        assert!(!good(&[(chunk::INIT, 0, &first[..8])]), "too short");
        let mut bytes = packet(1, &[(DATA, 0, data)]);
        for len in [0u16, 3, 17] {
            bytes[14..16].copy_from_slice(&len.to_be_bytes());
            assert!(SctpPacket::parse(&bytes).is_none(), "length {len}");
        }
    }
}
