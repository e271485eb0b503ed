//! Which meters are there, how much did they measure, and what can meters do (OpenFlow 1.3)?

use core::time::Duration;

use weft_flow::Band;

use crate::ErrorCode;
use crate::bytes::{Put, Reader};
use crate::msg::flow_removed::{duration, put_duration};
use crate::msg::meter::{decode_bands, encode_bands};

/// Counts of a meter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterStats {
    /// Meter.
    pub meter_id: u32,
    /// Rules that use it.
    pub flow_count: u32,
    /// Packets that came in.
    pub packets: u64,
    /// Bytes that came in.
    pub bytes: u64,
    /// How long it is there.
    pub duration: Duration,
    /// Packets and bytes that each band acted on.
    pub bands: Vec<weft_flow::MeterStats>,
}

/// Length of the fixed part.
const STATS_LEN: usize = 40;

impl MeterStats {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut m = MeterStats { meter_id: r.u32()?, ..MeterStats::default() };
        let length = usize::from(r.u16()?);
        let mut r = r.sub(length.checked_sub(6).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
        r.skip(6)?;
        (m.flow_count, m.packets, m.bytes) = (r.u32()?, r.u64()?, r.u64()?);
        m.duration = duration(&mut r)?;
        while !r.is_empty() {
            m.bands.push(weft_flow::MeterStats { packets: r.u64()?, bytes: r.u64()? });
        }
        Ok(m)
    }
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.meter_id);
        out.u16(u16::try_from(STATS_LEN + 16 * self.bands.len()).unwrap_or(u16::MAX));
        out.zeros(6);
        out.u32(self.flow_count);
        out.u64(self.packets);
        out.u64(self.bytes);
        put_duration(self.duration, out);
        for band in &self.bands {
            out.u64(band.packets);
            out.u64(band.bytes);
        }
    }
}

/// A meter as it was asked for (`OFPMP_METER_CONFIG`, in OpenFlow 1.5 `OFPMP_METER_DESC`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterConfig {
    /// Meter.
    pub meter_id: u32,
    /// [`crate::msg::meter::meter_flags`].
    pub flags: u16,
    /// Bands.
    pub bands: Vec<Band>,
}

impl MeterConfig {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut r = super::entry(r)?;
        Ok(MeterConfig { flags: r.u16()?, meter_id: r.u32()?, bands: decode_bands(&mut r)? })
    }
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.u16(0);
        out.u16(self.flags);
        out.u32(self.meter_id);
        encode_bands(&self.bands, out);
        out.patch_u16(start, out.len() - start);
    }
}

/// What meters can do. Open vSwitch writes it in OpenFlow 1.5 as in 1.3, without the flags added there, and so is it
/// here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterFeatures {
    /// Most meters.
    pub max_meters: u32,
    /// Kinds of bands, a bit each: 1 drop, 2 DSCP remark.
    pub band_types: u32,
    /// [`crate::msg::meter::meter_flags`].
    pub capabilities: u32,
    /// Most bands of a meter.
    pub max_bands: u8,
    /// Highest color.
    pub max_color: u8,
}

impl MeterFeatures {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        Ok(MeterFeatures {
            max_meters: r.u32()?,
            band_types: r.u32()?,
            capabilities: r.u32()?,
            max_bands: r.u8()?,
            max_color: r.u8()?,
        })
    }
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.max_meters);
        out.u32(self.band_types);
        out.u32(self.capabilities);
        out.u8(self.max_bands);
        out.u8(self.max_color);
        out.zeros(2);
    }
}
