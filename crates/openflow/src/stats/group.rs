//! Which groups are there, how much passed them, and what can groups do?

use core::time::Duration;

use super::entry;
use crate::bytes::{Put, Reader};
use crate::msg::flow_removed::{duration, put_duration};
use crate::msg::group::{
    Bucket, GroupKind, Selection, decode_buckets11, decode_buckets15, decode_properties, has_bucket_ids,
};
use crate::{ErrorCode, Version};

/// Packets and bytes of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketStats {
    /// Packets; all ones: not counted.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Counts of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Group.
    pub group_id: u32,
    /// Rules and groups that use it.
    pub ref_count: u32,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// How long it is there (OpenFlow 1.3, and Nicira's form for 1.0).
    pub duration: Duration,
    /// Counts of its buckets, in their order.
    pub buckets: Vec<BucketStats>,
}

/// Nicira's form for OpenFlow 1.0 is that of 1.3.
fn has_duration(version: Version) -> bool {
    version == Version::V10 || version >= Version::V13
}

impl GroupStats {
    pub(super) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut r = entry(r)?;
        r.skip(2)?;
        let mut g = GroupStats { group_id: r.u32()?, ref_count: r.u32()?, ..GroupStats::default() };
        r.skip(4)?;
        (g.packets, g.bytes) = (r.u64()?, r.u64()?);
        if has_duration(version) {
            g.duration = duration(&mut r)?;
        }
        while !r.is_empty() {
            g.buckets.push(BucketStats { packets: r.u64()?, bytes: r.u64()? });
        }
        Ok(g)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        out.u32(0);
        out.u32(self.group_id);
        out.u32(self.ref_count);
        out.u32(0);
        out.u64(self.packets);
        out.u64(self.bytes);
        if has_duration(version) {
            put_duration(self.duration, out);
        }
        for bucket in &self.buckets {
            out.u64(bucket.packets);
            out.u64(bucket.bytes);
        }
        out.patch_u16(start, out.len() - start);
    }
}

/// A group as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupDesc {
    /// Group.
    pub group_id: u32,
    /// Which buckets a packet passes.
    pub kind: GroupKind,
    /// Buckets.
    pub buckets: Vec<Bucket>,
    /// How a select group chooses; not told in OpenFlow 1.1 to 1.4.
    pub selection: Selection,
}

impl GroupDesc {
    pub(super) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut r = entry(r)?;
        let kind = r.u8()?;
        r.skip(1)?;
        let mut g = GroupDesc { group_id: r.u32()?, ..GroupDesc::default() };
        g.kind = GroupKind::from_wire(kind).ok_or(ErrorCode::OFPGMFC_BAD_TYPE)?;
        if has_bucket_ids(version) {
            let length = usize::from(r.u16()?);
            r.skip(6)?;
            g.buckets = decode_buckets15(version, kind, &mut r.sub(length)?)?;
            g.selection = decode_properties(&mut r)?;
        } else {
            g.buckets = decode_buckets11(version, &mut r)?;
        }
        Ok(g)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        out.u16(0);
        out.u8(self.kind as u8);
        out.u8(0);
        out.u32(self.group_id);
        if has_bucket_ids(version) {
            let at = out.len();
            out.zeros(8);
            let buckets = out.len();
            self.buckets.iter().for_each(|b| b.encode15(version, self.kind, out));
            out.patch_u16(at, out.len() - buckets);
            self.selection.encode(version, out);
        } else {
            self.buckets.iter().for_each(|b| b.encode11(version, out));
        }
        out.patch_u16(start, out.len() - start);
    }
}

/// Bits of [`GroupFeatures::capabilities`].
pub mod group_capability {
    /// Buckets have weights.
    pub const SELECT_WEIGHT: u32 = 1 << 0;
    /// Buckets may watch for liveness.
    pub const SELECT_LIVENESS: u32 = 1 << 1;
    /// Groups may use groups.
    pub const CHAINING: u32 = 1 << 2;
    /// Chains are checked for loops.
    pub const CHAINING_CHECKS: u32 = 1 << 3;
}

/// What groups can do. Arrays are by kind of group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupFeatures {
    /// Kinds of groups, a bit each.
    pub kinds: u32,
    /// [`group_capability`] bits.
    pub capabilities: u32,
    /// Most groups.
    pub max_groups: [u32; 4],
    /// Actions that buckets may have, a bit per number of OpenFlow 1.1.
    pub actions: [u32; 4],
}

impl GroupFeatures {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut g = GroupFeatures { kinds: r.u32()?, capabilities: r.u32()?, ..GroupFeatures::default() };
        for n in g.max_groups.iter_mut().chain(&mut g.actions) {
            *n = r.u32()?;
        }
        Ok(g)
    }
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.kinds);
        out.u32(self.capabilities);
        self.max_groups.iter().chain(&self.actions).for_each(|n| out.u32(*n));
    }
}
