//! Which meters does a bridge have, and what do meter-mods do to them?
//!
//! OpenFlow 1.3.5 §A.3.4.5. The token buckets are in [`weft_flow::Meter`], which datapaths share. Deleting a meter
//! deletes the rules that refer to it: [`crate::Snapshot::meter_mod`].

use std::sync::Arc;

use weft_flow::{Band, BandKind, Meter};

use crate::classifier::Trie;

/// Highest number of an ordinary meter (`OFPM_MAX`).
pub const METER_MAX: u32 = 0xffff_0000;
/// The meter of packets that are handled by the slow path (`OFPM_SLOWPATH`).
pub const METER_SLOWPATH: u32 = 0xffff_fffd;
/// The meter of packets for controllers (`OFPM_CONTROLLER`).
pub const METER_CONTROLLER: u32 = 0xffff_fffe;
/// All meters, in a deletion (`OFPM_ALL`).
pub const METER_ALL: u32 = 0xffff_ffff;
/// Most meters that a bridge holds.
pub const MAX_METERS: usize = 1 << 18;
/// Most bands that a meter has.
pub const MAX_BANDS: usize = 8;

/// What a [`MeterMod`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterCommand {
    /// Add a meter.
    Add,
    /// Replace a meter.
    Modify,
    /// Delete a meter, or all.
    Delete,
}

/// A change to meters.
#[derive(Clone, Debug)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterCommand,
    /// Meter, or [`METER_ALL`].
    pub id: u32,
    /// Rates are packets per second rather than kilobits per second.
    pub pktps: bool,
    /// Burst sizes count.
    pub burst: bool,
    /// Statistics are wanted.
    pub stats: bool,
    /// Bands.
    pub bands: Vec<Band>,
}

/// Why a meter-mod was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// `OFPMMFC_METER_EXISTS`.
    #[error("OFPMMFC_METER_EXISTS: there is a meter {0} already")]
    MeterExists(u32),
    /// `OFPMMFC_INVALID_METER`.
    #[error("OFPMMFC_INVALID_METER: {0} is not a number of a meter")]
    InvalidMeter(u32),
    /// `OFPMMFC_UNKNOWN_METER`.
    #[error("OFPMMFC_UNKNOWN_METER: there is no meter {0}")]
    UnknownMeter(u32),
    /// `OFPMMFC_BAD_RATE`.
    #[error("OFPMMFC_BAD_RATE: the rate of a band is 0")]
    BadRate,
    /// `OFPMMFC_BAD_BAND_VALUE`.
    #[error("OFPMMFC_BAD_BAND_VALUE: a band raises the drop precedence by {0}, which is not 1 to 3")]
    BadBandValue(u8),
    /// `OFPMMFC_OUT_OF_METERS`.
    #[error("OFPMMFC_OUT_OF_METERS: the bridge holds {MAX_METERS} meters already")]
    OutOfMeters,
    /// `OFPMMFC_OUT_OF_BANDS`.
    #[error("OFPMMFC_OUT_OF_BANDS: a meter has at most {MAX_BANDS} bands")]
    OutOfBands,
}

/// The meters of a bridge. A clone shares everything that is not changed after.
#[derive(Clone, Debug, Default)]
pub struct MeterSet {
    meters: Trie<Arc<Meter>>,
    len: usize,
}

impl MeterSet {
    /// Whether nothing changed between the two. False proves nothing.
    pub(crate) fn is_same(&self, other: &MeterSet) -> bool {
        self.meters.is_same(&other.meters)
    }
    /// A meter.
    pub fn get(&self, id: u32) -> Option<&Arc<Meter>> {
        self.meters.get(id.into())
    }
    /// The meters, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Meter>> {
        self.meters.values()
    }
    /// Number of meters.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether there are no meters.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Executes a meter-mod on the meters of `bridge`. Returns the meters that are gone: rules that refer to them go too.
    ///
    /// # Errors
    /// When the meter-mod is refused; nothing has changed then.
    pub fn apply(&mut self, bridge: u32, meter_mod: &MeterMod, now_us: u64) -> Result<Vec<u32>, MeterError> {
        let id = meter_mod.id;
        if meter_mod.command == MeterCommand::Delete {
            return Ok(self.delete(id));
        }
        let valid = (1..=METER_MAX).contains(&id) || matches!(id, METER_SLOWPATH | METER_CONTROLLER);
        if !valid {
            return Err(MeterError::InvalidMeter(id));
        }
        let exists = self.get(id).is_some();
        match (meter_mod.command, exists) {
            (MeterCommand::Add, true) => return Err(MeterError::MeterExists(id)),
            (MeterCommand::Modify, false) => return Err(MeterError::UnknownMeter(id)),
            (_, false) if self.len >= MAX_METERS => return Err(MeterError::OutOfMeters),
            _ => check(&meter_mod.bands)?,
        }
        let MeterMod { pktps, burst, stats, .. } = *meter_mod;
        let mut bands = meter_mod.bands.clone();
        if !burst {
            bands.iter_mut().for_each(|band| band.burst = 0);
        }
        let meter = Arc::new(Meter::new(bridge, id, pktps, burst, stats, bands, now_us));
        self.len += usize::from(!exists);
        *self.meters.entry(id.into(), || meter.clone()) = meter.clone();
        Ok(Vec::new())
    }

    fn delete(&mut self, id: u32) -> Vec<u32> {
        if id == METER_ALL {
            let gone = self.iter().map(|m| m.id).collect();
            *self = MeterSet::default();
            return gone;
        }
        let gone: Vec<u32> = self.meters.remove(id.into()).iter().map(|m| m.id).collect();
        self.len -= gone.len();
        gone
    }
}

fn check(bands: &[Band]) -> Result<(), MeterError> {
    if bands.len() > MAX_BANDS {
        return Err(MeterError::OutOfBands);
    }
    for band in bands {
        if band.rate == 0 {
            return Err(MeterError::BadRate);
        }
        if let BandKind::DscpRemark(by) = band.kind
            && !(1..=3).contains(&by)
        {
            return Err(MeterError::BadBandValue(by));
        }
    }
    Ok(())
}
