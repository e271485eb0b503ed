//! Which queues do ports have: `OFPT_QUEUE_GET_CONFIG_*` up to OpenFlow 1.3, a multipart question from 1.4 on.

use weft_flow::OfPort;

use super::prop::{PropertyKind, next_property, property};
use crate::bytes::{Put, Reader};
use crate::{ErrorCode, Version};

/// A queue of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDesc {
    /// Port.
    pub port_no: OfPort,
    /// Queue on it.
    pub queue_id: u32,
    /// Least rate, tenths of a percent; `None`: none.
    pub min_rate: Option<u16>,
    /// Most rate, tenths of a percent; `None`: none.
    pub max_rate: Option<u16>,
}

const MIN_RATE: u16 = 1;
const MAX_RATE: u16 = 2;

/// `OFPT_QUEUE_GET_CONFIG_REPLY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueConfig {
    /// Port asked for.
    pub port_no: OfPort,
    /// Its queues.
    pub queues: Vec<QueueDesc>,
}

/// A port and padding to 8 bytes.
pub(crate) fn padded_port(version: Version, r: &mut Reader<'_>) -> Result<OfPort, ErrorCode> {
    if version == Version::V10 {
        let port = OfPort::from_u16(r.u16()?);
        r.skip(6)?;
        return Ok(port);
    }
    let port = super::port::port(r.u32()?)?;
    r.skip(4)?;
    Ok(port)
}

pub(crate) fn put_padded_port(version: Version, port: OfPort, out: &mut Vec<u8>) {
    if version == Version::V10 {
        out.u16(port.to_u16().unwrap_or(0xffff));
        out.zeros(6);
    } else {
        out.u32(port.0);
        out.zeros(4);
    }
}

/// The question is 4 bytes long in OpenFlow 1.0 and 8 later.
pub(crate) fn decode_request(version: Version, mut r: Reader<'_>) -> Result<OfPort, ErrorCode> {
    if version != Version::V10 {
        return padded_port(version, &mut r);
    }
    // OpenFlow 1.0 asks about one port.
    match OfPort::from_u16(r.u16()?) {
        OfPort::ANY => Err(ErrorCode::OFPQOFC_BAD_PORT),
        port => Ok(port),
    }
}

pub(crate) fn encode_request(version: Version, port: OfPort, out: &mut Vec<u8>) {
    if version == Version::V10 {
        out.u16(port.to_u16().unwrap_or(0xffff));
        out.u16(0);
    } else {
        put_padded_port(version, port, out);
    }
}

impl QueueConfig {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let port_no = padded_port(version, &mut r)?;
        let mut queues = Vec::new();
        while !r.is_empty() {
            let mut q = QueueDesc { port_no, queue_id: r.u32()?, ..QueueDesc::default() };
            let fixed = if version >= Version::V12 {
                q.port_no = OfPort(r.u32()?);
                16
            } else {
                8
            };
            let length = usize::from(r.u16()?);
            r.skip(if version >= Version::V12 { 6 } else { 2 })?;
            let mut list = r.sub(length.checked_sub(fixed).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
            while !list.is_empty() {
                let mut p = next_property(&mut list)?;
                p.body.skip(4)?;
                q.property(p.kind, &mut p.body)?;
            }
            queues.push(q);
        }
        Ok(QueueConfig { port_no, queues })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_padded_port(version, self.port_no, out);
        for q in &self.queues {
            let start = out.len();
            out.u32(q.queue_id);
            if version >= Version::V12 {
                out.u32(q.port_no.0);
            }
            let at = out.len();
            out.zeros(if version >= Version::V12 { 8 } else { 4 });
            for (kind, rate) in q.rates() {
                property(out, kind, |out| {
                    out.zeros(4);
                    out.u16(rate);
                    out.zeros(6);
                });
            }
            out.patch_u16(at, out.len() - start);
        }
    }
}

impl QueueDesc {
    fn rates(&self) -> impl Iterator<Item = (u16, u16)> {
        let all = [(MIN_RATE, self.min_rate), (MAX_RATE, self.max_rate)];
        all.into_iter().filter_map(|(kind, rate)| rate.map(|r| (kind, r)))
    }

    /// Rates above a whole are none.
    fn property(&mut self, kind: PropertyKind, body: &mut Reader<'_>) -> Result<(), ErrorCode> {
        match kind {
            PropertyKind::Standard(MIN_RATE) => self.min_rate = Some(body.u16()?).filter(|r| *r <= 1000),
            PropertyKind::Standard(MAX_RATE) => self.max_rate = Some(body.u16()?).filter(|r| *r <= 1000),
            _ => {}
        }
        Ok(())
    }

    /// Reads an entry of OpenFlow 1.4's answer.
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut q = QueueDesc { port_no: OfPort(r.u32()?), queue_id: r.u32()?, ..QueueDesc::default() };
        let length = usize::from(r.u16()?);
        r.skip(6)?;
        let mut list = r.sub(length.checked_sub(16).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
        while !list.is_empty() {
            let mut p = next_property(&mut list)?;
            q.property(p.kind, &mut p.body)?;
        }
        Ok(q)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.u32(self.port_no.0);
        out.u32(self.queue_id);
        let at = out.len();
        out.zeros(8);
        for (kind, rate) in self.rates() {
            property(out, kind, |out| {
                out.u16(rate);
                out.zeros(2);
            });
        }
        out.patch_u16(at, out.len() - start);
    }
}
