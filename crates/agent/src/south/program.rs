//! Which OpenFlow messages make a bridge hold what was compiled?

use weft_compile::{Bucket, Cookie, Delta, Flow, FlowId, Limit, NetKey};
use weft_flow::{Band, BandKind, Field, Match};
use weft_openflow::Message;
use weft_openflow::msg::flow::{FlowCommand, FlowMod};
use weft_openflow::msg::group::{self, GroupCommand, GroupKind, GroupMod};
use weft_openflow::msg::meter::{METER_ALL, MeterCommand, MeterMod, meter_flags};

/// First and last number of groups of ours.
pub const GROUPS: (u32, u32) = (weft_compile::GROUP_BASE, weft_compile::GROUP_BASE | 0x00ff_ffff);

/// The messages that a change comes to, in order.
pub fn program(delta: &Delta) -> Vec<Message> {
    let mut out: Vec<Message> = delta.meters.iter().map(|(id, limit)| meter(*id, limit)).collect();
    for (key, group) in &delta.groups {
        let buckets = group.buckets.iter().map(bucket).collect();
        out.push(group_mod(GroupMod { buckets, ..of(*key, GroupCommand::AddOrModify) }));
    }
    for (key, id) in &delta.gone_buckets {
        out.push(group_mod(GroupMod { command_bucket: *id, ..of(*key, GroupCommand::RemoveBucket) }));
    }
    for ((key, _), new) in &delta.buckets {
        let at = GroupMod { command_bucket: group::BUCKET_LAST, ..of(*key, GroupCommand::InsertBucket) };
        out.push(group_mod(GroupMod { buckets: vec![bucket(new)], ..at }));
    }
    out.extend(delta.gone.iter().map(delete));
    out.extend(delta.flows.values().map(add));
    out.extend(delta.gone_groups.iter().map(|key| group_mod(of(*key, GroupCommand::Delete))));
    out.extend(delta.gone_meters.iter().map(|id| no_meter(*id)));
    out
}

/// The messages that make a bridge, of which nothing is known but the groups it has, hold this and nothing else of
/// ours.
pub fn replace(whole: &Delta, groups: &[u32]) -> Vec<Message> {
    let (cookie, cookie_mask) = Cookie::OURS;
    let sweep = FlowMod { command: FlowCommand::Delete, cookie, cookie_mask, ..FlowMod::default() };
    let mut out = vec![Message::FlowMod(Box::new(sweep))];
    let ours = |id: &&u32| (GROUPS.0..=GROUPS.1).contains(*id);
    let stale = |id: &&u32| !whole.groups.keys().any(|key| key.group() == **id);
    for id in groups.iter().filter(ours).filter(stale) {
        out.push(group_mod(GroupMod { command: GroupCommand::Delete, group_id: *id, ..GroupMod::default() }));
    }
    out.extend(program(whole));
    // Meters that are not added here.
    out.push(no_meter(METER_ALL));
    out
}

/// A meter that drops what exceeds a rate.
fn meter(id: u32, limit: &Limit) -> Message {
    let band = Band { kind: BandKind::Drop, rate: limit.rate, burst: limit.burst };
    let flags = meter_flags::KBPS | meter_flags::BURST | meter_flags::STATS;
    let (command, bands) = (MeterCommand::Add, vec![band]);
    Message::MeterMod(Box::new(MeterMod { command, meter_id: id, flags, bands }))
}

fn no_meter(id: u32) -> Message {
    let command = MeterCommand::Delete;
    Message::MeterMod(Box::new(MeterMod { command, meter_id: id, ..MeterMod::default() }))
}

fn of(key: NetKey, command: GroupCommand) -> GroupMod {
    GroupMod { command, kind: GroupKind::All, group_id: key.group(), ..GroupMod::default() }
}

fn group_mod(message: GroupMod) -> Message {
    Message::GroupMod(Box::new(message))
}

fn bucket(b: &Bucket) -> group::Bucket {
    group::Bucket { id: b.id, actions: b.actions.clone(), ..group::Bucket::default() }
}

fn add(flow: &Flow) -> Message {
    Message::FlowMod(Box::new(FlowMod {
        command: FlowCommand::Add,
        table: Some(flow.stage.table()),
        priority: flow.priority,
        new_cookie: Some(flow.cookie.to_u64()),
        matching: flow.to_match(),
        instructions: flow.instructions.clone(),
        ..FlowMod::default()
    }))
}

fn delete(id: &FlowId) -> Message {
    let mut matching = Match::any();
    for (field, value, mask) in &id.terms {
        if let Some(field) = Field::ALL.get(usize::from(*field)) {
            matching.set_masked(*field, *value, *mask);
        }
    }
    Message::FlowMod(Box::new(FlowMod {
        command: FlowCommand::DeleteStrict,
        table: Some(id.table),
        priority: id.priority,
        matching,
        ..FlowMod::default()
    }))
}
