//! Actions that send a packet somewhere: registers as ports, truncated, to controllers, to collectors, to other tables.

use weft_flow::{Action, ControllerAction, OfPort, Sample, SampleDirection, Subfield};

use super::regs::{pull_field, read_subfield};
use super::set::{packed, start_and_bits};
use super::table::nxast;
use super::{check_port, long_header, nxm_header, port16, put_nicira, subfield, zeros};
use crate::ErrorCode;
use crate::bytes::{Put, Reader, round8};

/// Fewest bytes that a truncated output leaves: an Ethernet header.
const MIN_TRUNC: u32 = 14;
/// `OFPR_ACTION`, the reason if none is given.
const OFPR_ACTION: u8 = 1;

/// Reads the body of an output to the port in a field, in the older form.
pub(super) fn decode_output_reg(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (start, bits) = start_and_bits(r.u16()?);
    let mut field = r.sub(4)?;
    let max_len = r.u16()?;
    zeros(r, ErrorCode::OFPBAC_BAD_ARGUMENT)?;
    Ok(Action::OutputReg { src: read_subfield(&mut field, start, bits)?, max_len })
}

/// Reads the body of the newer form, which has room for a field that an experimenter numbers.
pub(super) fn decode_output_reg2(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (start, bits) = start_and_bits(r.u16()?);
    let max_len = r.u16()?;
    let field = pull_field(r)?;
    zeros(r, ErrorCode::NXBRC_MUST_BE_ZERO)?;
    Ok(Action::OutputReg { src: subfield(field, start, bits)?, max_len })
}

/// Appends an output to the port in a field.
pub(super) fn output_reg(src: Subfield, max_len: u16, out: &mut Vec<u8>) {
    let run = packed(src.start, src.bits);
    if long_header(src.field) {
        put_nicira(out, nxast::OUTPUT_REG2, |out| {
            out.u16(run);
            out.u16(max_len);
            nxm_header(src.field, out);
            out.zeros(2);
        });
    } else {
        put_nicira(out, nxast::OUTPUT_REG, |out| {
            out.u16(run);
            nxm_header(src.field, out);
            out.u16(max_len);
            out.zeros(6);
        });
    }
}

/// Reads the body of a truncated output.
pub(super) fn decode_trunc(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (port, max_len) = (OfPort::from_u16(r.u16()?), r.u32()?);
    if max_len < MIN_TRUNC {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    Ok(Action::OutputTrunc { port: check_port(port)?, max_len })
}

/// Appends a truncated output.
pub(super) fn trunc(port: OfPort, max_len: u32, out: &mut Vec<u8>) {
    put_nicira(out, nxast::OUTPUT_TRUNC, |out| {
        out.u16(port16(port));
        out.u32(max_len);
    });
}

const NXAC2PT_MAX_LEN: u16 = 0;
const NXAC2PT_CONTROLLER_ID: u16 = 1;
const NXAC2PT_REASON: u16 = 2;
const NXAC2PT_USERDATA: u16 = 3;
const NXAC2PT_PAUSE: u16 = 4;
const NXAC2PT_METER_ID: u16 = 5;

/// Reads the body of `controller(…)` in the form that has properties.
pub(super) fn decode_controller2(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    if r.take(6)?.iter().any(|b| *b != 0) {
        return Err(ErrorCode::NXBRC_MUST_BE_ZERO);
    }
    let mut to = ControllerAction {
        max_len: u16::MAX,
        id: 0,
        reason: OFPR_ACTION,
        userdata: Vec::new(),
        pause: false,
        meter: None,
    };
    let bad = |_| ErrorCode::OFPBPC_BAD_LEN;
    while !r.is_empty() {
        let (kind, length) = (r.u16().map_err(bad)?, usize::from(r.u16().map_err(bad)?));
        let body = length.checked_sub(4).ok_or(ErrorCode::OFPBPC_BAD_LEN)?;
        let mut property = r.sub(round8(length) - 4).map_err(bad)?.sub(body).map_err(bad)?;
        match kind {
            NXAC2PT_MAX_LEN => to.max_len = padded16(&mut property)?,
            NXAC2PT_CONTROLLER_ID => to.id = padded16(&mut property)?,
            NXAC2PT_REASON => to.reason = only(&mut property, Reader::u8)?,
            NXAC2PT_USERDATA => to.userdata = property.rest().to_vec(),
            NXAC2PT_PAUSE => to.pause = true,
            NXAC2PT_METER_ID => {
                to.meter = Some(only(&mut property, Reader::u32)?).filter(|id| *id != u32::MAX);
            }
            _ => return Err(ErrorCode::OFPBPC_BAD_TYPE),
        }
    }
    Ok(Action::Controller(Box::new(to)))
}

/// A property that is one number and nothing else.
fn only<'a, T>(
    r: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, ErrorCode>,
) -> Result<T, ErrorCode> {
    let value = read(r).map_err(|_| ErrorCode::OFPBPC_BAD_LEN)?;
    if r.is_empty() { Ok(value) } else { Err(ErrorCode::OFPBPC_BAD_LEN) }
}

/// A property of 16 bits and as much padding.
fn padded16(r: &mut Reader<'_>) -> Result<u16, ErrorCode> {
    only(r, |r| {
        let value = r.u16()?;
        r.skip(2)?;
        Ok(value)
    })
}

/// Appends `controller(…)`, in the older of its two forms if that can say it.
pub(super) fn controller(to: &ControllerAction, out: &mut Vec<u8>) {
    if to.userdata.is_empty() && !to.pause && to.meter.is_none() {
        return put_nicira(out, nxast::CONTROLLER, |out| {
            out.u16(to.max_len);
            out.u16(to.id);
            out.u8(to.reason);
            out.u8(0);
        });
    }
    let property = |kind: u16, body: &[u8], out: &mut Vec<u8>| {
        let start = out.len();
        out.u16(kind);
        out.u16((4 + body.len()) as u16);
        out.bytes(body);
        out.align8(start);
    };
    put_nicira(out, nxast::CONTROLLER2, |out| {
        out.zeros(6);
        if to.max_len != u16::MAX {
            property(NXAC2PT_MAX_LEN, &(u32::from(to.max_len) << 16).to_be_bytes(), out);
        }
        if to.id != 0 {
            property(NXAC2PT_CONTROLLER_ID, &(u32::from(to.id) << 16).to_be_bytes(), out);
        }
        if to.reason != OFPR_ACTION {
            property(NXAC2PT_REASON, &[to.reason], out);
        }
        if !to.userdata.is_empty() {
            property(NXAC2PT_USERDATA, &to.userdata, out);
        }
        if to.pause {
            property(NXAC2PT_PAUSE, &[], out);
        }
        if let Some(meter) = to.meter {
            property(NXAC2PT_METER_ID, &meter.to_be_bytes(), out);
        }
    });
}

/// Reads the body of `sample`; `version` 1 to 3 of it, later ones with a port and a direction.
pub(super) fn decode_sample(version: u8, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (probability, collector_set_id) = (r.u16()?, r.u32()?);
    let (obs_domain_id, obs_point_id) = (r.u32()?, r.u32()?);
    let (mut sampling_port, mut direction) = (OfPort::NONE, SampleDirection::Default);
    if version > 1 {
        sampling_port =
            Some(OfPort::from_u16(r.u16()?)).filter(|p| *p != OfPort::ANY).unwrap_or(OfPort::NONE);
        let wire = r.u8()?;
        if version > 2 {
            zeros(r, ErrorCode::NXBRC_MUST_BE_ZERO)?;
            direction = match wire {
                0 => SampleDirection::Default,
                1 => SampleDirection::Ingress,
                2 => SampleDirection::Egress,
                _ => return Err(ErrorCode::OFPBAC_BAD_ARGUMENT),
            };
        }
    }
    if probability == 0 {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    let sample =
        Sample { probability, collector_set_id, obs_domain_id, obs_point_id, sampling_port, direction };
    Ok(Action::Sample(Box::new(sample)))
}

/// Appends `sample`, in the oldest form that can say it.
pub(super) fn sample(s: &Sample, out: &mut Vec<u8>) {
    let direction = match s.direction {
        SampleDirection::Default => 0,
        SampleDirection::Ingress => 1,
        SampleDirection::Egress => 2,
    };
    let kind = match (direction, s.sampling_port) {
        (0, OfPort::NONE) => nxast::SAMPLE,
        (0, _) => nxast::SAMPLE2,
        _ => nxast::SAMPLE3,
    };
    put_nicira(out, kind, |out| {
        out.u16(s.probability);
        out.u32(s.collector_set_id);
        out.u32(s.obs_domain_id);
        out.u32(s.obs_point_id);
        if kind != nxast::SAMPLE {
            let port = if s.sampling_port == OfPort::NONE { OfPort::ANY } else { s.sampling_port };
            out.u16(port16(port));
            out.u8(direction);
            out.zeros(5);
        }
    });
}

/// Reads the body of a resubmission to a table.
pub(super) fn decode_resubmit(ct: bool, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let port = resubmit_port(r.u16()?);
    let table = r.u8()?;
    zeros(r, ErrorCode::OFPBAC_BAD_ARGUMENT)?;
    Ok(Action::Resubmit { port, table: (table != 0xff).then_some(table), ct })
}

/// The input port that a resubmission pretends.
pub(super) fn resubmit_port(port: u16) -> Option<OfPort> {
    Some(OfPort::from_u16(port)).filter(|p| *p != OfPort::IN_PORT)
}

/// Appends a resubmission.
pub(super) fn resubmit(port: Option<OfPort>, table: Option<u8>, ct: bool, out: &mut Vec<u8>) {
    let port = port16(port.unwrap_or(OfPort::IN_PORT));
    let kind = match (table, ct) {
        (_, true) => nxast::RESUBMIT_TABLE_CT,
        (None, false) => nxast::RESUBMIT,
        (Some(_), false) => nxast::RESUBMIT_TABLE,
    };
    put_nicira(out, kind, |out| {
        out.u16(port);
        out.u8(if kind == nxast::RESUBMIT { 0 } else { table.unwrap_or(0xff) });
        out.zeros(3);
    });
}
