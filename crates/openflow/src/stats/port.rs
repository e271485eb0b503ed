//! How much did ports and queues carry?

use core::time::Duration;

use weft_flow::OfPort;

use crate::bytes::{Put, Reader};
use crate::msg::flow_removed::{duration, put_duration};
use crate::{ErrorCode, Version};

/// Counts of a port; all ones where the port does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Port.
    pub port_no: OfPort,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames dropped on receipt.
    pub rx_dropped: u64,
    /// Frames dropped on sending.
    pub tx_dropped: u64,
    /// Errors on receipt.
    pub rx_errors: u64,
    /// Errors on sending.
    pub tx_errors: u64,
    /// Alignment errors.
    pub rx_frame_err: u64,
    /// Overruns.
    pub rx_over_err: u64,
    /// Checksum errors.
    pub rx_crc_err: u64,
    /// Collisions.
    pub collisions: u64,
    /// How long the port is there (OpenFlow 1.3).
    pub duration: Option<Duration>,
}

const OFPPSPT_ETHERNET: u16 = 0;
/// Length of the Ethernet property of OpenFlow 1.4.
const ETHERNET_LEN: u16 = 40;
/// Length of the fixed part in OpenFlow 1.4.
const LENGTH14: usize = 80;

impl PortStats {
    fn basic(&mut self) -> [&mut u64; 8] {
        [
            &mut self.rx_packets,
            &mut self.tx_packets,
            &mut self.rx_bytes,
            &mut self.tx_bytes,
            &mut self.rx_dropped,
            &mut self.tx_dropped,
            &mut self.rx_errors,
            &mut self.tx_errors,
        ]
    }
    fn ethernet(&mut self) -> [&mut u64; 4] {
        [&mut self.rx_frame_err, &mut self.rx_over_err, &mut self.rx_crc_err, &mut self.collisions]
    }

    pub(super) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut p = PortStats::default();
        if version >= Version::V14 {
            let length = usize::from(r.u16()?);
            let mut r = r.sub(length.checked_sub(2).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
            r.skip(2)?;
            p.port_no = OfPort(r.u32()?);
            p.duration = known(duration(&mut r)?);
            for n in p.basic() {
                *n = r.u64()?;
            }
            while !r.is_empty() {
                let (kind, length) = (r.u16()?, usize::from(r.u16()?));
                let padded = length.next_multiple_of(8).checked_sub(4).ok_or(ErrorCode::OFPBPC_BAD_LEN)?;
                let mut body = r.sub(padded)?;
                if kind == OFPPSPT_ETHERNET {
                    body.skip(4)?;
                    for n in p.ethernet() {
                        *n = body.u64()?;
                    }
                }
            }
            return Ok(p);
        }
        if version == Version::V10 {
            p.port_no = OfPort::from_u16(r.u16()?);
            r.skip(6)?;
        } else {
            p.port_no = OfPort(r.u32()?);
            r.skip(4)?;
        }
        for n in p.basic() {
            *n = r.u64()?;
        }
        for n in p.ethernet() {
            *n = r.u64()?;
        }
        if version == Version::V13 {
            p.duration = known(duration(r)?);
        }
        Ok(p)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let mut p = *self;
        if version >= Version::V14 {
            out.u16(LENGTH14 as u16 + ETHERNET_LEN);
            out.u16(0);
            out.u32(self.port_no.0);
            put_known(self.duration, out);
            p.basic().into_iter().for_each(|n| out.u64(*n));
            out.u16(OFPPSPT_ETHERNET);
            out.u16(ETHERNET_LEN);
            out.zeros(4);
            p.ethernet().into_iter().for_each(|n| out.u64(*n));
            return;
        }
        if version == Version::V10 {
            out.u16(self.port_no.to_u16().unwrap_or(0xffff));
            out.zeros(6);
        } else {
            out.u32(self.port_no.0);
            out.zeros(4);
        }
        p.basic().into_iter().for_each(|n| out.u64(*n));
        p.ethernet().into_iter().for_each(|n| out.u64(*n));
        if version == Version::V13 {
            put_known(self.duration, out);
        }
    }
}

/// All ones stand for an unknown duration.
const UNKNOWN: u32 = u32::MAX;

fn known(d: Duration) -> Option<Duration> {
    Some(d).filter(|d| d.as_secs() < UNKNOWN.into())
}
fn put_known(d: Option<Duration>, out: &mut Vec<u8>) {
    match d {
        Some(d) => put_duration(d, out),
        None => {
            out.u32(UNKNOWN);
            out.u32(UNKNOWN);
        }
    }
}

/// Counts of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Port.
    pub port_no: OfPort,
    /// Queue on it.
    pub queue_id: u32,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Frames dropped for lack of room.
    pub tx_errors: u64,
    /// How long the queue is there (OpenFlow 1.3).
    pub duration: Option<Duration>,
}

impl QueueStats {
    pub(super) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        if version >= Version::V14 {
            let length = usize::from(r.u16()?);
            let mut own = r.sub(length.checked_sub(2).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
            own.skip(6)?;
            return Self::decode_fields(version, &mut own);
        }
        Self::decode_fields(version, r)
    }

    fn decode_fields(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut q = QueueStats::default();
        if version == Version::V10 {
            q.port_no = OfPort::from_u16(r.u16()?);
            r.skip(2)?;
        } else {
            q.port_no = OfPort(r.u32()?);
        }
        (q.queue_id, q.tx_bytes, q.tx_packets, q.tx_errors) = (r.u32()?, r.u64()?, r.u64()?, r.u64()?);
        if version >= Version::V13 {
            q.duration = known(duration(r)?);
        }
        Ok(q)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version >= Version::V14 {
            out.u16(48);
            out.zeros(6);
        }
        if version == Version::V10 {
            out.u16(self.port_no.to_u16().unwrap_or(0xffff));
            out.zeros(2);
        } else {
            out.u32(self.port_no.0);
        }
        out.u32(self.queue_id);
        out.u64(self.tx_bytes);
        out.u64(self.tx_packets);
        out.u64(self.tx_errors);
        if version >= Version::V13 {
            put_known(self.duration, out);
        }
    }
}
