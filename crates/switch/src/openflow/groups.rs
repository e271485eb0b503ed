//! How do groups and meters go between sessions and the pipeline?

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use weft_flow::{Meter, RuleStats};
use weft_openflow::ErrorCode;
use weft_openflow::msg::group as wire;
use weft_openflow::msg::meter::{self as wire_meter, meter_flags};
use weft_openflow::stats::group::{BucketStats, GroupDesc, GroupFeatures, GroupStats, group_capability};
use weft_openflow::stats::meter::{MeterConfig, MeterFeatures, MeterStats};
use weft_pipeline::group::{self, Bucket, Group, GroupCommand, GroupError, GroupKind, GroupMod, Selection};
use weft_pipeline::meter::{self, MeterCommand, MeterError, MeterMod};

/// Actions that buckets may have, a bit per number of OpenFlow 1.1.
const BUCKET_ACTIONS: u32 = 0x0fff_f801;
/// Microseconds in a second.
const SECOND_US: u64 = 1_000_000;

fn kind(kind: wire::GroupKind) -> GroupKind {
    match kind {
        wire::GroupKind::All => GroupKind::All,
        wire::GroupKind::Select => GroupKind::Select,
        wire::GroupKind::Indirect => GroupKind::Indirect,
        wire::GroupKind::FastFailover => GroupKind::FastFailover,
    }
}

fn wire_kind(kind: GroupKind) -> wire::GroupKind {
    match kind {
        GroupKind::All => wire::GroupKind::All,
        GroupKind::Select => wire::GroupKind::Select,
        GroupKind::Indirect => wire::GroupKind::Indirect,
        GroupKind::FastFailover => wire::GroupKind::FastFailover,
    }
}

fn selection(from: &wire::Selection) -> Selection {
    let method = match from.method {
        wire::SelectionMethod::Default => group::SelectionMethod::Default,
        wire::SelectionMethod::Hash => group::SelectionMethod::Hash,
        wire::SelectionMethod::DpHash => group::SelectionMethod::DpHash,
    };
    Selection { method, param: from.param, fields: from.fields.clone() }
}

fn wire_selection(from: &Selection) -> wire::Selection {
    let method = match from.method {
        group::SelectionMethod::Default => wire::SelectionMethod::Default,
        group::SelectionMethod::Hash => wire::SelectionMethod::Hash,
        group::SelectionMethod::DpHash => wire::SelectionMethod::DpHash,
    };
    wire::Selection { method, param: from.param, fields: from.fields.clone() }
}

/// The change a message asks for.
pub(super) fn group_mod(m: &wire::GroupMod) -> GroupMod {
    let bucket = |b: &wire::Bucket| Bucket {
        watch_port: b.watch_port,
        watch_group: b.watch_group,
        ..Bucket::new(b.id, b.weight, b.actions.clone())
    };
    let command = match m.command {
        wire::GroupCommand::Add => GroupCommand::Add,
        wire::GroupCommand::Modify => GroupCommand::Modify,
        wire::GroupCommand::AddOrModify => GroupCommand::AddOrModify,
        wire::GroupCommand::Delete => GroupCommand::Delete,
        wire::GroupCommand::InsertBucket => GroupCommand::InsertBucket,
        wire::GroupCommand::RemoveBucket => GroupCommand::RemoveBucket,
    };
    GroupMod {
        buckets: m.buckets.iter().map(bucket).collect(),
        selection: selection(&m.selection),
        command_bucket: m.command_bucket,
        ..GroupMod::new(command, m.group_id, kind(m.kind))
    }
}

pub(super) fn group_error(error: GroupError) -> ErrorCode {
    match error {
        GroupError::GroupExists(_) => ErrorCode::OFPGMFC_GROUP_EXISTS,
        GroupError::InvalidGroup(_) => ErrorCode::OFPGMFC_INVALID_GROUP,
        GroupError::OutOfGroups => ErrorCode::OFPGMFC_OUT_OF_GROUPS,
        GroupError::OutOfBuckets => ErrorCode::OFPGMFC_OUT_OF_BUCKETS,
        GroupError::WatchUnsupported => ErrorCode::OFPGMFC_WATCH_UNSUPPORTED,
        GroupError::Loop(_) => ErrorCode::OFPGMFC_LOOP,
        GroupError::ChainedGroup(_) => ErrorCode::OFPGMFC_CHAINED_GROUP,
        GroupError::UnknownGroup(_) => ErrorCode::OFPGMFC_UNKNOWN_GROUP,
        GroupError::BadWatch(_) => ErrorCode::OFPGMFC_BAD_WATCH,
        GroupError::BadBucket(_) => ErrorCode::OFPGMFC_BAD_BUCKET,
        GroupError::BucketExists(_) => ErrorCode::OFPGMFC_BUCKET_EXISTS,
        GroupError::UnknownBucket(_) => ErrorCode::OFPGMFC_UNKNOWN_BUCKET,
    }
}

/// A group, as an answer describes it.
pub(super) fn describe(group: &Group) -> GroupDesc {
    let bucket = |b: &Bucket| wire::Bucket {
        id: b.id,
        weight: b.weight,
        watch_port: b.watch_port,
        watch_group: b.watch_group,
        actions: b.actions.clone(),
    };
    GroupDesc {
        group_id: group.id,
        kind: wire_kind(group.kind),
        buckets: group.buckets.iter().map(bucket).collect(),
        selection: wire_selection(&group.selection),
    }
}

/// Counts of a group that `users` rules execute.
pub(super) fn group_stats(group: &Group, users: u32, now: u64) -> GroupStats {
    let count =
        |s: &Arc<RuleStats>| BucketStats { packets: s.packets.load(Relaxed), bytes: s.bytes.load(Relaxed) };
    let own = count(&group.stats);
    GroupStats {
        group_id: group.id,
        ref_count: users,
        packets: own.packets,
        bytes: own.bytes,
        duration: Duration::from_millis(now.saturating_sub(group.created_ms)),
        buckets: group.buckets.iter().map(|b| count(&b.stats)).collect(),
    }
}

/// What groups can do.
pub(super) fn group_features() -> GroupFeatures {
    use group_capability::{CHAINING, CHAINING_CHECKS, SELECT_LIVENESS, SELECT_WEIGHT};
    GroupFeatures {
        kinds: 0xf,
        capabilities: SELECT_WEIGHT | SELECT_LIVENESS | CHAINING | CHAINING_CHECKS,
        max_groups: [group::GROUP_MAX; 4],
        actions: [BUCKET_ACTIONS; 4],
    }
}

/// The change a message asks for.
///
/// # Errors
/// Its flags contradict each other.
pub(super) fn meter_mod(m: &wire_meter::MeterMod) -> Result<MeterMod, ErrorCode> {
    let has = |bit: u16| m.flags & bit != 0;
    if has(meter_flags::KBPS) && has(meter_flags::PKTPS) {
        return Err(ErrorCode::OFPMMFC_BAD_FLAGS);
    }
    // A meter without bands would do nothing: Open vSwitch's datapath takes none.
    if m.bands.is_empty() && m.command != wire_meter::MeterCommand::Delete {
        return Err(ErrorCode::OFPMMFC_OUT_OF_BANDS);
    }
    Ok(MeterMod {
        command: match m.command {
            wire_meter::MeterCommand::Add => MeterCommand::Add,
            wire_meter::MeterCommand::Modify => MeterCommand::Modify,
            wire_meter::MeterCommand::Delete => MeterCommand::Delete,
        },
        id: m.meter_id,
        pktps: has(meter_flags::PKTPS),
        burst: has(meter_flags::BURST),
        stats: has(meter_flags::STATS),
        bands: m.bands.clone(),
    })
}

pub(super) fn meter_error(error: MeterError) -> ErrorCode {
    match error {
        MeterError::MeterExists(_) => ErrorCode::OFPMMFC_METER_EXISTS,
        MeterError::InvalidMeter(_) => ErrorCode::OFPMMFC_INVALID_METER,
        MeterError::UnknownMeter(_) => ErrorCode::OFPMMFC_UNKNOWN_METER,
        MeterError::BadRate => ErrorCode::OFPMMFC_BAD_RATE,
        MeterError::BadBandValue(_) => ErrorCode::OFPMMFC_BAD_BAND_VALUE,
        MeterError::OutOfMeters => ErrorCode::OFPMMFC_OUT_OF_METERS,
        MeterError::OutOfBands => ErrorCode::OFPMMFC_OUT_OF_BANDS,
    }
}

/// A meter, as an answer describes it.
pub(super) fn meter_config(meter: &Meter) -> MeterConfig {
    let bit = |on: bool, bit: u16| if on { bit } else { 0 };
    let rate = if meter.pktps { meter_flags::PKTPS } else { meter_flags::KBPS };
    let flags = rate | bit(meter.burst, meter_flags::BURST) | bit(meter.stats, meter_flags::STATS);
    MeterConfig { meter_id: meter.id, flags, bands: meter.bands.clone() }
}

/// Counts of a meter that `users` rules pass.
pub(super) fn meter_stats(meter: &Meter, users: u32, now: u64) -> MeterStats {
    let (input, bands) = meter.counts();
    let age_us = now.saturating_mul(SECOND_US / 1000).saturating_sub(meter.created_us);
    MeterStats {
        meter_id: meter.id,
        flow_count: users,
        packets: input.packets,
        bytes: input.bytes,
        duration: Duration::from_micros(age_us),
        bands,
    }
}

/// What meters can do.
pub(super) fn meter_features() -> MeterFeatures {
    let flags = meter_flags::KBPS | meter_flags::PKTPS | meter_flags::BURST | meter_flags::STATS;
    MeterFeatures {
        max_meters: meter::MAX_METERS as u32,
        // Bits 1 and 2: drop and DSCP remark.
        band_types: 0b110,
        capabilities: flags.into(),
        max_bands: meter::MAX_BANDS as u8,
        max_color: 0,
    }
}
