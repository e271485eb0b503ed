//! Which buckets of a group does the packet pass? And which meter.

use std::sync::Arc;

use weft_flow::{DpAction, DropReason, Field, FlowMask, OfPort, selection_hash};

use super::{Frame, List, MAX_BUCKETS, MAX_DEPTH, Next, Origin, Root, Walk, Why};
use crate::group::{Bucket, GROUP_ANY, Group, GroupKind, SelectionMethod, heaviest};

/// Groups that watch each other.
const MAX_WATCHED: u32 = 32;

impl<'a> Walk<'a> {
    pub(super) fn group(&mut self, id: u32, origin: Origin) -> Next<'a> {
        let bridge = self.bridge;
        let Some(group) = bridge.groups.get(id) else {
            self.blame(DropReason::GroupGone);
            return Next::Go;
        };
        if self.depth >= MAX_DEPTH {
            self.fatal(DropReason::RecursionTooDeep);
            return Next::Stop;
        }
        let picked = match group.kind {
            GroupKind::All | GroupKind::Indirect => None,
            GroupKind::FastFailover => Some(group.buckets.iter().position(|b| self.is_live(b, 0))),
            GroupKind::Select => match self.select(group) {
                Ok(picked) => Some(picked),
                Err(why) => return Next::Again(why),
            },
        };
        self.counters.push(group.stats.clone());
        match picked {
            None => (0..group.buckets.len()).for_each(|i| self.bucket(group, i, origin)),
            Some(Some(i)) => self.bucket(group, i, origin),
            Some(None) => {
                self.note(|| "no live bucket".to_owned());
                self.blame(DropReason::GroupNoBucket);
            }
        }
        Next::Go
    }

    /// Does the actions of a bucket, and undoes what they did to the packet.
    fn bucket(&mut self, group: &'a Arc<Group>, i: usize, origin: Origin) {
        if self.fatal.is_some() {
            return;
        }
        self.buckets += 1;
        if self.buckets > MAX_BUCKETS {
            return self.fatal(DropReason::TooManyResubmits);
        }
        let bucket = &group.buckets[i];
        self.counters.push(bucket.stats.clone());
        if matches!(group.kind, GroupKind::Select | GroupKind::FastFailover) {
            self.note(|| format!("using bucket {}", bucket.id));
        }
        self.record(crate::trace::StepKind::Bucket, || format!("bucket {}", bucket.id));
        let saved = self.save();
        self.action_set.clear();
        self.depth += 1;
        let reason = if self.packet_out { origin.reason } else { super::reason::GROUP };
        let set = super::set::ordered(bucket.actions.iter());
        self.run_frames(&mut vec![Frame::of(List::Set(set), Origin { reason, ..origin })], Root::Part);
        // A packet that is of the wrong type for an action goes no further in this bucket only.
        if let Some(reason) = self.fatal.take_if(|reason| *reason == DropReason::PacketType) {
            self.blame.get_or_insert(reason);
        }
        self.depth -= 1;
        self.restore(*saved);
        self.leave();
    }

    /// The bucket of a select group. `Err`: the packet's hash, or what is beneath its labels, must be known first.
    fn select(&mut self, group: &Group) -> Result<Option<usize>, Why> {
        if group.buckets.is_empty() {
            return Ok(None);
        }
        let param = group.selection.param;
        if let Some(table) = &group.table {
            let hash = self.packet.key.ct.dp_hash;
            if !self.packet.hashed {
                // The upper half of the parameter names the algorithm: 1 is the symmetric one.
                let symmetric = group.selection.method != SelectionMethod::DpHash || param >> 32 == 1;
                return Err(Why::Hash { basis: param as u32, symmetric });
            }
            self.look_field(Field::DpHash, table.mask().into());
            let mut candidates = table.candidates(hash);
            return Ok(candidates.find(|i| self.is_live(&group.buckets[*i], 0)));
        }
        if self.packet.beneath_unknown {
            return Err(Why::Mpls);
        }
        let hash = match group.selection.method {
            SelectionMethod::Hash => self.hash_given(&group.selection.fields, param),
            _ => self.hash_fields(weft_flow::HashFields::SymmetricL4, 0),
        };
        Ok(heaviest(&group.buckets, hash, |b| self.is_live(b, 0)))
    }

    /// A hash of fields of the packet, those that it has.
    fn hash_given(&mut self, fields: &[(Field, u128)], param: u64) -> u32 {
        // What tells whether the packet has them is looked at too.
        for (field, _) in fields {
            self.meets(field.prereq());
        }
        let mut looked = FlowMask::empty();
        let hash = selection_hash(fields, param, &self.packet.key, &mut looked);
        self.look(&looked);
        hash
    }

    fn is_live(&self, bucket: &Bucket, depth: u32) -> bool {
        !bucket.watches()
            || bucket.watch_port != OfPort::ANY && self.is_up(bucket.watch_port)
            || bucket.watch_group != GROUP_ANY && self.has_live(bucket.watch_group, depth)
    }

    fn has_live(&self, group: u32, depth: u32) -> bool {
        depth < MAX_WATCHED
            && self
                .bridge
                .groups
                .get(group)
                .is_some_and(|g| g.buckets.iter().any(|b| self.is_live(b, depth + 1)))
    }

    /// Whether a port can send.
    pub(super) fn is_up(&self, port: OfPort) -> bool {
        let port = if port == OfPort::IN_PORT { self.in_port() } else { port };
        self.bridge.port(port).is_some_and(|p| p.link_up && !p.flags.down)
    }

    /// Has the packet pass a meter, which may drop it or change its DSCP.
    pub(super) fn meter(&mut self, id: u32) {
        let bridge = self.bridge;
        let Some(meter) = bridge.meters.get(id) else {
            return self.note(|| format!("there is no meter {id}"));
        };
        self.commit();
        self.emit(DpAction::Meter(meter.clone()));
        self.packet.remarked();
    }
}
