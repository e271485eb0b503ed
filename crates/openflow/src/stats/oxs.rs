//! Statistics as type-length-value fields (OpenFlow 1.5 §7.2.4.1, OXS).

use core::time::Duration;

use crate::ErrorCode;
use crate::bytes::{Put, Reader, round8};
use crate::msg::flow_removed::{duration, put_duration};

/// Class of the basic fields.
const OFPXSC_OPENFLOW_BASIC: u16 = 0x8002;
const DURATION: u8 = 0;
const IDLE_TIME: u8 = 1;
const FLOW_COUNT: u8 = 3;
const PACKET_COUNT: u8 = 4;
const BYTE_COUNT: u8 = 5;

/// The fields that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Oxs {
    pub(crate) duration: Duration,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Set in sums only; then the duration is not.
    pub(crate) flows: Option<u32>,
    pub(crate) idle: Option<Duration>,
}

pub(crate) fn decode_oxs(r: &mut Reader<'_>) -> Result<Oxs, ErrorCode> {
    r.skip(2)?;
    let length = usize::from(r.u16()?);
    let mut fields = r.sub(length.checked_sub(4).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
    r.skip(round8(length) - length)?;
    let mut out = Oxs::default();
    while !fields.is_empty() {
        let (class, number, length) = (fields.u16()?, fields.u8()? >> 1, fields.u8()?);
        let mut body = fields.sub(usize::from(length))?;
        if class != OFPXSC_OPENFLOW_BASIC {
            continue;
        }
        match number {
            DURATION => out.duration = duration(&mut body)?,
            IDLE_TIME => out.idle = Some(duration(&mut body)?),
            FLOW_COUNT => out.flows = Some(body.u32()?),
            PACKET_COUNT => out.packets = body.u64()?,
            BYTE_COUNT => out.bytes = body.u64()?,
            _ => {}
        }
    }
    Ok(out)
}

pub(crate) fn encode_oxs(oxs: &Oxs, out: &mut Vec<u8>) {
    let start = out.len();
    out.u32(0);
    let header = |number: u8, length: u8, out: &mut Vec<u8>| {
        out.u16(OFPXSC_OPENFLOW_BASIC);
        out.u8(number << 1);
        out.u8(length);
    };
    match oxs.flows {
        Some(flows) => {
            header(FLOW_COUNT, 4, out);
            out.u32(flows);
        }
        None => {
            header(DURATION, 8, out);
            put_duration(oxs.duration, out);
        }
    }
    if let Some(idle) = oxs.idle {
        header(IDLE_TIME, 8, out);
        put_duration(idle, out);
    }
    for (number, count) in [(PACKET_COUNT, oxs.packets), (BYTE_COUNT, oxs.bytes)] {
        header(number, 8, out);
        out.u64(count);
    }
    out.patch_u16(start + 2, out.len() - start);
    out.align8(start);
}
