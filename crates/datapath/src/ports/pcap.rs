//! How are frames replayed from memory?
//!
//! A source for rigs and tests: it is always ready, costs one copy per frame, and sends to nobody (what is output
//! to it is counted and forgotten, as by [`super::null`]).

use std::sync::Arc;

use crate::contract::PcapSpec;
use crate::packet::{FRAME_ROOM, Packet};
use weft_flow::DpPort;

/// Why bytes are no pcap file that can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcapError {
    /// The file does not begin with a pcap magic number.
    #[error("not a pcap file (pcapng is not read)")]
    Magic,
    /// The link type is not Ethernet.
    #[error("link type {0} is not Ethernet")]
    LinkType(u32),
    /// A record is cut short, or longer than a frame may be.
    #[error("record {0} is truncated or too long")]
    Record(usize),
}

const MAGIC_MICRO: u32 = 0xa1b2_c3d4;
const MAGIC_NANO: u32 = 0xa1b2_3c4d;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const LINKTYPE_ETHERNET: u32 = 1;

/// The frames of a pcap file (draft-ietf-opsawg-pcap §4, §5), of either byte order and time resolution.
///
/// # Errors
/// See [`PcapError`]. Frames that were captured in part are taken as they are.
pub fn parse_pcap(bytes: &[u8]) -> Result<Vec<Box<[u8]>>, PcapError> {
    let header: &[u8; FILE_HEADER] = bytes.first_chunk().ok_or(PcapError::Magic)?;
    let word = |b: &[u8], at: usize| [b[at], b[at + 1], b[at + 2], b[at + 3]];
    let little = match u32::from_le_bytes(word(header, 0)) {
        MAGIC_MICRO | MAGIC_NANO => true,
        swapped if matches!(swapped.swap_bytes(), MAGIC_MICRO | MAGIC_NANO) => false,
        _ => return Err(PcapError::Magic),
    };
    let number =
        |b: &[u8], at| if little { u32::from_le_bytes(word(b, at)) } else { u32::from_be_bytes(word(b, at)) };
    // The upper bits tell of frame check sequences.
    let link_type = number(header, 20) & 0xffff;
    if link_type != LINKTYPE_ETHERNET {
        return Err(PcapError::LinkType(link_type));
    }
    let mut rest = &bytes[FILE_HEADER..];
    let mut frames: Vec<Box<[u8]>> = Vec::new();
    while !rest.is_empty() {
        let bad = PcapError::Record(frames.len());
        let (header, tail) = rest.split_at_checked(RECORD_HEADER).ok_or(bad)?;
        let len = number(header, 8) as usize;
        let (frame, tail) = tail.split_at_checked(len).filter(|_| len <= FRAME_ROOM).ok_or(bad)?;
        frames.push(frame.into());
        rest = tail;
    }
    Ok(frames)
}

/// Where a replay stands.
pub(crate) struct Replay {
    frames: Arc<[Box<[u8]>]>,
    next: usize,
    left: Option<u64>,
}

impl Replay {
    pub(crate) fn new(spec: &PcapSpec) -> Self {
        let left = if spec.frames.is_empty() { Some(0) } else { spec.loops };
        Replay { frames: spec.frames.clone(), next: 0, left }
    }

    /// Fills `slots` with the next frames; returns how many.
    pub(crate) fn receive(&mut self, slots: &mut [Packet], port: DpPort) -> usize {
        let mut n = 0;
        for packet in slots {
            if self.left == Some(0) {
                break;
            }
            packet.fill(&self.frames[self.next], port);
            n += 1;
            self.next += 1;
            if self.next == self.frames.len() {
                self.next = 0;
                self.left = self.left.map(|l| l - 1);
            }
        }
        n
    }

    /// Whether there is nothing more to send.
    pub(crate) fn is_done(&self) -> bool {
        self.left == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(little: bool, link_type: u32, frames: &[&[u8]]) -> Vec<u8> {
        let number = |n: u32| if little { n.to_le_bytes() } else { n.to_be_bytes() };
        let mut out = Vec::new();
        for word in [MAGIC_MICRO, 0, 0, 0, 65535, link_type] {
            out.extend(number(word));
        }
        for frame in frames {
            for word in [1, 2, frame.len() as u32, frame.len() as u32] {
                out.extend(number(word));
            }
            out.extend(*frame);
        }
        out
    }

    #[test]
    fn reads_both_byte_orders_and_refuses_the_rest() {
        for little in [true, false] {
            let good = file(little, 1, &[b"one", b"", b"three"]);
            let frames = parse_pcap(&good).unwrap();
            assert_eq!(frames.iter().map(|f| f.len()).collect::<Vec<_>>(), [3, 0, 5]);
            assert_eq!(parse_pcap(&good[..good.len() - 1]), Err(PcapError::Record(2)));
            assert_eq!(parse_pcap(&good[..good.len() - 20]), Err(PcapError::Record(2)));
            assert_eq!(parse_pcap(&file(little, 113, &[])), Err(PcapError::LinkType(113)));
        }
        assert_eq!(parse_pcap(b"no pcap file, but long enough"), Err(PcapError::Magic));
        let mut long = file(true, 1, &[b"x"]);
        long[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse_pcap(&long), Err(PcapError::Record(0)));
    }

    #[test]
    fn replays_as_often_as_asked() {
        let frames: Arc<[Box<[u8]>]> = vec![b"a"[..].into(), b"b"[..].into(), b"c"[..].into()].into();
        let mut pool = crate::packet::Pool::new().unwrap();
        let mut replay = Replay::new(&PcapSpec { frames, loops: Some(2) });
        assert_eq!(replay.receive(&mut pool.batch_mut()[..4], DpPort(1)), 4);
        let got: Vec<u8> = (0..4).map(|i| pool.get(i).data()[0]).collect();
        assert_eq!(got, b"abca");
        assert_eq!(replay.receive(pool.batch_mut(), DpPort(1)), 2);
        assert!(replay.is_done());
        assert!(Replay::new(&PcapSpec { frames: Vec::new().into(), loops: None }).is_done());
    }
}
