//! A controller changes meters: `OFPT_METER_MOD` (OpenFlow 1.3).

use weft_flow::{Band, BandKind};

use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// The highest number of a meter that rules may use.
pub const METER_MAX: u32 = 0xffff_0000;
/// The meter of packets that the datapath hands up.
pub const METER_SLOWPATH: u32 = 0xffff_fffd;
/// The meter of packets for controllers.
pub const METER_CONTROLLER: u32 = 0xffff_fffe;
/// In questions and deletions: all meters.
pub const METER_ALL: u32 = 0xffff_ffff;

/// Bits of [`MeterMod::flags`].
pub mod meter_flags {
    /// Rates are kilobits per second.
    pub const KBPS: u16 = 1 << 0;
    /// Rates are packets per second.
    pub const PKTPS: u16 = 1 << 1;
    /// Burst sizes are given.
    pub const BURST: u16 = 1 << 2;
    /// Count.
    pub const STATS: u16 = 1 << 3;
}

/// What to do with a meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeterCommand {
    /// Add it; there must be none of its number.
    #[default]
    Add,
    /// Change it; there must be one.
    Modify,
    /// Delete it and the rules that use it.
    Delete,
}

/// A change of a meter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterCommand,
    /// Meter; [`METER_ALL`] in a deletion.
    pub meter_id: u32,
    /// [`meter_flags`]; 0 in a deletion.
    pub flags: u16,
    /// Bands; none in a deletion. Rates may be 0 here.
    pub bands: Vec<Band>,
}

const OFPMBT_DROP: u16 = 1;
const OFPMBT_DSCP_REMARK: u16 = 2;
const BAND_LEN: u16 = 16;

/// Reads bands to the end.
pub(crate) fn decode_bands(r: &mut Reader<'_>) -> Result<Vec<Band>, ErrorCode> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let (kind, length) = (r.u16()?, r.u16()?);
        if length != BAND_LEN {
            return Err(ErrorCode::OFPBRC_BAD_LEN);
        }
        let (rate, burst, level) = (r.u32()?, r.u32()?, r.u8()?);
        r.skip(3)?;
        let kind = match kind {
            OFPMBT_DROP => BandKind::Drop,
            OFPMBT_DSCP_REMARK => BandKind::DscpRemark(level),
            _ => return Err(ErrorCode::OFPMMFC_BAD_BAND),
        };
        out.push(Band { kind, rate, burst });
    }
    Ok(out)
}

pub(crate) fn encode_bands(bands: &[Band], out: &mut Vec<u8>) {
    for band in bands {
        let (kind, level) = match band.kind {
            BandKind::Drop => (OFPMBT_DROP, 0),
            BandKind::DscpRemark(level) => (OFPMBT_DSCP_REMARK, level),
        };
        out.u16(kind);
        out.u16(BAND_LEN);
        out.u32(band.rate);
        out.u32(band.burst);
        out.u8(level);
        out.zeros(3);
    }
}

impl MeterMod {
    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let command = match r.u16()? {
            0 => MeterCommand::Add,
            1 => MeterCommand::Modify,
            2 => MeterCommand::Delete,
            _ => return Err(ErrorCode::OFPMMFC_BAD_COMMAND),
        };
        let (flags, meter_id) = (r.u16()?, r.u32()?);
        if command == MeterCommand::Delete {
            return Ok(MeterMod { command, meter_id, ..MeterMod::default() });
        }
        // One of the two kinds of rates, not both.
        let kinds = (flags & (meter_flags::KBPS | meter_flags::PKTPS)).count_ones();
        if kinds != 1 || flags & !0xf != 0 {
            return Err(ErrorCode::OFPMMFC_BAD_FLAGS);
        }
        Ok(MeterMod { command, meter_id, flags, bands: decode_bands(&mut r)? })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u16(self.command as u16);
        out.u16(self.flags);
        out.u32(self.meter_id);
        encode_bands(&self.bands, out);
    }
}
