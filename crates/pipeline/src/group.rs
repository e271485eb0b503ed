//! Which groups does a bridge have, and what do group-mods do to them?
//!
//! The semantics of OpenFlow 1.1–1.5 (1.5.1 §6.7) in one form; codecs translate each version's message to a [`GroupMod`]
//! and the error to a number. Deleting a group deletes the rules that refer to it: [`crate::Snapshot::group_mod`].

mod select;

use std::collections::HashSet;
use std::sync::Arc;

use weft_flow::{Action, Field, OfPort, RuleStats};

use crate::classifier::Trie;
pub(crate) use select::{HashTable, heaviest};

/// Highest number of a group (`OFPG_MAX`).
pub const GROUP_MAX: u32 = 0xffff_ff00;
/// All groups, in a deletion (`OFPG_ALL`).
pub const GROUP_ALL: u32 = 0xffff_fffc;
/// No group (`OFPG_ANY`).
pub const GROUP_ANY: u32 = 0xffff_ffff;
/// Highest number of a bucket (`OFPG_BUCKET_MAX`).
pub const BUCKET_MAX: u32 = 0xffff_ff00;
/// The first bucket, in a command (`OFPG_BUCKET_FIRST`).
pub const BUCKET_FIRST: u32 = 0xffff_fffd;
/// The last bucket, in a command (`OFPG_BUCKET_LAST`).
pub const BUCKET_LAST: u32 = 0xffff_fffe;
/// All buckets, in a command (`OFPG_BUCKET_ALL`).
pub const BUCKET_ALL: u32 = 0xffff_ffff;
/// Most groups that a bridge holds.
pub const MAX_GROUPS: usize = 1 << 20;
/// Most buckets that a group holds.
pub const MAX_BUCKETS: usize = 1 << 14;
/// Groups that may be inside each other.
pub(crate) const MAX_CHAIN: usize = 32;

/// What a group does with its buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupKind {
    /// A copy of the packet to each.
    #[default]
    All,
    /// One of them, by weight.
    Select,
    /// The only one.
    Indirect,
    /// The first that is live.
    FastFailover,
}

/// How a select group finds the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelectionMethod {
    /// The switch's choice: by the datapath's hash where the weights allow it.
    #[default]
    Default,
    /// By a hash of fields.
    Hash,
    /// By the datapath's hash of layer 3 and 4.
    DpHash,
}

/// `selection_method` and what goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Method.
    pub method: SelectionMethod,
    /// Perturbs the hash.
    pub param: u64,
    /// Fields of [`SelectionMethod::Hash`], and the bits of them that count.
    pub fields: Vec<(Field, u128)>,
}

/// A set of actions of a group.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Number inside the group.
    pub id: u32,
    /// Share of a select group; 0: never chosen. 0 in other groups.
    pub weight: u16,
    /// Port whose liveness is the bucket's; [`OfPort::ANY`]: none.
    pub watch_port: OfPort,
    /// Group whose liveness is the bucket's; [`GROUP_ANY`]: none.
    pub watch_group: u32,
    /// What to do: an action set.
    pub actions: Vec<Action>,
    /// Its traffic.
    pub stats: Arc<RuleStats>,
}

impl Bucket {
    /// A bucket that watches nothing.
    pub fn new(id: u32, weight: u16, actions: Vec<Action>) -> Bucket {
        let stats = Arc::default();
        Bucket { id, weight, watch_port: OfPort::ANY, watch_group: GROUP_ANY, actions, stats }
    }
    /// Whether it watches something.
    pub fn watches(&self) -> bool {
        self.watch_port != OfPort::ANY || self.watch_group != GROUP_ANY
    }
}

/// A group. Immutable; a change makes another one that shares the counters.
#[derive(Clone, Debug)]
pub struct Group {
    /// Number.
    pub id: u32,
    /// Type.
    pub kind: GroupKind,
    /// Buckets, in order.
    pub buckets: Vec<Bucket>,
    /// How a bucket is selected.
    pub selection: Selection,
    /// Its traffic.
    pub stats: Arc<RuleStats>,
    /// When it was added, milliseconds.
    pub created_ms: u64,
    /// How hashes of the datapath lead to buckets; `None`: they do not.
    pub(crate) table: Option<HashTable>,
}

impl Group {
    /// Groups that buckets of this one refer to.
    pub fn chained(&self) -> impl Iterator<Item = u32> {
        self.buckets.iter().flat_map(|b| b.actions.iter()).filter_map(|action| match action {
            Action::Group(id) => Some(*id),
            _ => None,
        })
    }
}

/// What a [`GroupMod`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupCommand {
    /// Add a group.
    Add,
    /// Replace a group.
    Modify,
    /// Add or replace a group.
    AddOrModify,
    /// Delete a group, or all.
    Delete,
    /// Insert buckets before all, after all, or after the one of this number ([`BUCKET_FIRST`], [`BUCKET_LAST`]).
    InsertBucket,
    /// Remove a bucket, or the first, last or all.
    RemoveBucket,
}

/// A change to groups.
#[derive(Clone, Debug)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupCommand,
    /// Group, or [`GROUP_ALL`].
    pub id: u32,
    /// Type.
    pub kind: GroupKind,
    /// Buckets.
    pub buckets: Vec<Bucket>,
    /// How a bucket is selected.
    pub selection: Selection,
    /// Bucket that [`GroupCommand::InsertBucket`] and [`GroupCommand::RemoveBucket`] are about.
    pub command_bucket: u32,
}

impl GroupMod {
    /// A group-mod without buckets.
    pub fn new(command: GroupCommand, id: u32, kind: GroupKind) -> GroupMod {
        let selection = Selection::default();
        GroupMod { command, id, kind, buckets: Vec::new(), selection, command_bucket: BUCKET_ALL }
    }
}

/// Why a group-mod was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// `OFPGMFC_GROUP_EXISTS`.
    #[error("OFPGMFC_GROUP_EXISTS: there is a group {0} already")]
    GroupExists(u32),
    /// `OFPGMFC_INVALID_GROUP`.
    #[error("OFPGMFC_INVALID_GROUP: group {0} is not as its type asks")]
    InvalidGroup(u32),
    /// `OFPGMFC_OUT_OF_GROUPS`.
    #[error("OFPGMFC_OUT_OF_GROUPS: the bridge holds {MAX_GROUPS} groups already")]
    OutOfGroups,
    /// `OFPGMFC_OUT_OF_BUCKETS`.
    #[error("OFPGMFC_OUT_OF_BUCKETS: a group holds at most {MAX_BUCKETS} buckets")]
    OutOfBuckets,
    /// `OFPGMFC_WATCH_UNSUPPORTED`.
    #[error("OFPGMFC_WATCH_UNSUPPORTED: buckets of this type of group watch nothing")]
    WatchUnsupported,
    /// `OFPGMFC_LOOP`.
    #[error("OFPGMFC_LOOP: group {0} would lead back to itself")]
    Loop(u32),
    /// `OFPGMFC_CHAINED_GROUP`: groups are chained too deeply.
    #[error("OFPGMFC_CHAINED_GROUP: more than {MAX_CHAIN} groups are chained from group {0}")]
    ChainedGroup(u32),
    /// `OFPGMFC_UNKNOWN_GROUP`.
    #[error("OFPGMFC_UNKNOWN_GROUP: there is no group {0}")]
    UnknownGroup(u32),
    /// `OFPGMFC_BAD_WATCH`.
    #[error("OFPGMFC_BAD_WATCH: a bucket watches group {0}, which leads back to it")]
    BadWatch(u32),
    /// `OFPGMFC_BAD_BUCKET`.
    #[error("OFPGMFC_BAD_BUCKET: bucket {0} is not a number of a bucket")]
    BadBucket(u32),
    /// `OFPGMFC_BUCKET_EXISTS`.
    #[error("OFPGMFC_BUCKET_EXISTS: bucket {0} is there already")]
    BucketExists(u32),
    /// `OFPGMFC_UNKNOWN_BUCKET`.
    #[error("OFPGMFC_UNKNOWN_BUCKET: there is no bucket {0}")]
    UnknownBucket(u32),
}

/// The groups of a bridge. A clone shares everything that is not changed after.
#[derive(Clone, Debug, Default)]
pub struct GroupSet {
    groups: Trie<Arc<Group>>,
    len: usize,
}

impl GroupSet {
    /// Whether nothing changed between the two. False proves nothing.
    pub(crate) fn is_same(&self, other: &GroupSet) -> bool {
        self.groups.is_same(&other.groups)
    }
    /// A group.
    pub fn get(&self, id: u32) -> Option<&Arc<Group>> {
        self.groups.get(id.into())
    }
    /// The groups, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }
    /// Number of groups.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether there are no groups.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Executes a group-mod. Returns the groups that are gone: rules that refer to them go too.
    ///
    /// # Errors
    /// When the group-mod is refused; nothing has changed then.
    pub fn apply(&mut self, group_mod: &GroupMod, now_ms: u64) -> Result<Vec<u32>, GroupError> {
        let id = group_mod.id;
        if group_mod.command == GroupCommand::Delete {
            return Ok(self.delete(id));
        }
        if id > GROUP_MAX {
            return Err(GroupError::InvalidGroup(id));
        }
        let old = self.get(id).cloned();
        let group = match (group_mod.command, &old) {
            (GroupCommand::Add, Some(_)) => return Err(GroupError::GroupExists(id)),
            (GroupCommand::Add | GroupCommand::AddOrModify, None) => {
                if self.len >= MAX_GROUPS {
                    return Err(GroupError::OutOfGroups);
                }
                fresh(group_mod, now_ms)
            }
            (GroupCommand::InsertBucket, Some(old)) => insert(old, group_mod)?,
            (GroupCommand::RemoveBucket, Some(old)) => remove(old, group_mod.command_bucket)?,
            (_, Some(old)) => {
                Group { stats: old.stats.clone(), created_ms: old.created_ms, ..fresh(group_mod, now_ms) }
            }
            (_, None) => return Err(GroupError::UnknownGroup(id)),
        };
        check(&group)?;
        self.check_chain(&group)?;
        let table = HashTable::new(&group);
        let group = Arc::new(Group { table, ..group });
        self.len += usize::from(old.is_none());
        *self.groups.entry(id.into(), || group.clone()) = group.clone();
        Ok(Vec::new())
    }

    fn delete(&mut self, id: u32) -> Vec<u32> {
        if id == GROUP_ALL {
            let gone = self.iter().map(|g| g.id).collect();
            *self = GroupSet::default();
            return gone;
        }
        let gone: Vec<u32> = self.groups.remove(id.into()).iter().map(|g| g.id).collect();
        self.len -= gone.len();
        gone
    }

    /// Whether `group` put in its place would lead back to itself, by its buckets' actions or by what they watch.
    fn check_chain(&self, group: &Group) -> Result<(), GroupError> {
        let watched = |g: &Group| g.buckets.iter().map(|b| b.watch_group).collect::<Vec<_>>();
        let depth = self.depth(group, &|g| g.chained().collect()).ok_or(GroupError::Loop(group.id))?;
        let watching = self.depth(group, &watched).ok_or(GroupError::BadWatch(group.id))?;
        if depth.max(watching) > MAX_CHAIN {
            return Err(GroupError::ChainedGroup(group.id));
        }
        Ok(())
    }

    /// How many groups are beneath `start`; `None`: it is among them.
    fn depth(&self, start: &Group, next: &dyn Fn(&Group) -> Vec<u32>) -> Option<usize> {
        let (mut seen, mut level, mut depth) = (HashSet::new(), next(start), 0);
        while !level.is_empty() && depth <= MAX_CHAIN {
            if level.contains(&start.id) {
                return None;
            }
            depth += 1;
            level.retain(|id| seen.insert(*id));
            level = level.iter().filter_map(|id| self.get(*id)).flat_map(|g| next(g)).collect();
        }
        Some(depth)
    }
}

fn fresh(group_mod: &GroupMod, now_ms: u64) -> Group {
    Group {
        id: group_mod.id,
        kind: group_mod.kind,
        buckets: group_mod.buckets.clone(),
        selection: group_mod.selection.clone(),
        stats: Arc::default(),
        created_ms: now_ms,
        table: None,
    }
}

fn position(group: &Group, id: u32) -> Result<usize, GroupError> {
    group.buckets.iter().position(|b| b.id == id).ok_or(GroupError::UnknownBucket(id))
}

fn insert(old: &Group, group_mod: &GroupMod) -> Result<Group, GroupError> {
    let at = match group_mod.command_bucket {
        BUCKET_FIRST => 0,
        BUCKET_LAST => old.buckets.len(),
        id if id <= BUCKET_MAX => position(old, id)? + 1,
        id => return Err(GroupError::BadBucket(id)),
    };
    let mut group = old.clone();
    group.buckets.splice(at..at, group_mod.buckets.iter().cloned());
    Ok(group)
}

fn remove(old: &Group, bucket: u32) -> Result<Group, GroupError> {
    let mut group = old.clone();
    let at = match bucket {
        BUCKET_ALL => {
            group.buckets.clear();
            return Ok(group);
        }
        BUCKET_FIRST if !old.buckets.is_empty() => 0,
        BUCKET_LAST if !old.buckets.is_empty() => old.buckets.len() - 1,
        id if id <= BUCKET_MAX => position(old, id)?,
        BUCKET_FIRST | BUCKET_LAST => return Err(GroupError::UnknownBucket(bucket)),
        id => return Err(GroupError::BadBucket(id)),
    };
    group.buckets.remove(at);
    Ok(group)
}

/// Whether a group is as its type asks (OpenFlow 1.3.5 §6.5 and §A.3.4.2).
fn check(group: &Group) -> Result<(), GroupError> {
    if group.buckets.len() > MAX_BUCKETS {
        return Err(GroupError::OutOfBuckets);
    }
    if group.kind == GroupKind::Indirect && group.buckets.len() != 1 {
        return Err(GroupError::InvalidGroup(group.id));
    }
    let selects = group.kind == GroupKind::Select;
    if !selects && group.selection != Selection::default() {
        return Err(GroupError::InvalidGroup(group.id));
    }
    let mut ids = HashSet::new();
    for bucket in &group.buckets {
        if bucket.id > BUCKET_MAX {
            return Err(GroupError::BadBucket(bucket.id));
        }
        if !ids.insert(bucket.id) {
            return Err(GroupError::BucketExists(bucket.id));
        }
        match group.kind {
            _ if bucket.weight != 0 && !selects => return Err(GroupError::InvalidGroup(group.id)),
            GroupKind::All | GroupKind::Indirect if bucket.watches() => {
                return Err(GroupError::WatchUnsupported);
            }
            GroupKind::FastFailover if !bucket.watches() => return Err(GroupError::InvalidGroup(group.id)),
            _ => {}
        }
    }
    Ok(())
}
