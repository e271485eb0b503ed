//! Which OpenFlow messages make a bridge hold what was compiled?

use weft_compile::{Bucket, Cookie, Delta, Flow, FlowId, Limit, NetKey};
use weft_flow::{Band, BandKind, Field, Match};
use weft_openflow::Message;
use weft_openflow::msg::flow::{FlowCommand, FlowMod};
use weft_openflow::msg::group::{self, GroupCommand, GroupKind, GroupMod};
use weft_openflow::msg::meter::{METER_ALL, MeterCommand, MeterMod, meter_flags};

/// First and last number of groups of ours.
pub const GROUPS: (u32, u32) = (weft_compile::GROUP_BASE, weft_compile::GROUP_BASE | 0x00ff_ffff);

/// Buckets of one message. It has 64 KiB at most, which hold about a thousand.
const BUCKETS: usize = 250;

/// The messages that a change comes to, in order.
pub fn program(delta: &Delta) -> Vec<Message> {
    let mut out: Vec<Message> = delta.meters.iter().map(|(id, limit)| meter(*id, limit)).collect();
    for (key, group) in &delta.groups {
        // Of none, too, there is a first message.
        let (first, more) = group.buckets.split_at(group.buckets.len().min(BUCKETS));
        let some = |buckets: &[Bucket]| buckets.iter().map(bucket).collect();
        out.push(group_mod(GroupMod { buckets: some(first), ..of(*key, GroupCommand::AddOrModify) }));
        for buckets in more.chunks(BUCKETS) {
            out.push(group_mod(GroupMod { buckets: some(buckets), ..last(*key) }));
        }
    }
    for (key, id) in &delta.gone_buckets {
        out.push(group_mod(GroupMod { command_bucket: *id, ..of(*key, GroupCommand::RemoveBucket) }));
    }
    // Together: a group is made anew by each message.
    let new: Vec<(NetKey, &Bucket)> = delta.buckets.iter().map(|((key, _), new)| (*key, new)).collect();
    for group in new.chunk_by(|a, b| a.0 == b.0) {
        for some in group.chunks(BUCKETS) {
            let buckets = some.iter().map(|(_, new)| bucket(new)).collect();
            out.extend(some.first().map(|(key, _)| group_mod(GroupMod { buckets, ..last(*key) })));
        }
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

/// Puts buckets behind those that a group has.
fn last(key: NetKey) -> GroupMod {
    GroupMod { command_bucket: group::BUCKET_LAST, ..of(key, GroupCommand::InsertBucket) }
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

#[cfg(test)]
mod tests {
    use weft_compile::{Change, Compiler, Guard, Net, Port, PortKey};
    use weft_flow::OfPort;
    use weft_openflow::{Codec, Version};
    use weft_wire::Mac;

    use super::*;

    #[test]
    fn a_large_network_fits_into_messages() {
        let net = NetKey(1);
        let port = |n: u32| Port {
            net,
            port: OfPort(n),
            mac: Mac([2, 0, 0, (n >> 16) as u8, (n >> 8) as u8, n as u8]),
            addresses: Vec::new(),
            guard: Guard::Off,
            vlans: Default::default(),
            sends: None,
            receives: None,
        };
        for ports in [0, 1, BUCKETS as u32, 3_000] {
            let mut compiler = Compiler::new().0;
            let all = (1..=ports).map(|n| Change::Port(PortKey(n), Some(port(n))));
            compiler.apply(all.chain([Change::Net(net, Some(Net::default()))]));
            let mut ids = Vec::new();
            for message in replace(&compiler.whole(), &[]) {
                let mut bytes = Vec::new();
                Codec::new(Version::V15).encode(1, &message, &mut bytes).unwrap();
                // A bundle wraps it once more.
                assert!(bytes.len() < 65_000, "{} bytes", bytes.len());
                if let Message::GroupMod(m) = message {
                    let first = m.command == GroupCommand::AddOrModify;
                    assert_eq!(first, ids.is_empty() && m.command_bucket != group::BUCKET_LAST);
                    ids.extend(m.buckets.iter().map(|b| b.id));
                }
            }
            assert!((1..=ports).all(|n| ids.contains(&n)), "every port has its copy");
        }
        let mut compiler = Compiler::new().0;
        compiler.apply([Change::Net(net, Some(Net::default()))]);
        let delta = compiler.apply((1..=600).map(|n| Change::Port(PortKey(n), Some(port(n)))));
        let messages = program(&delta);
        let groups = messages.iter().filter(|m| matches!(m, Message::GroupMod(_)));
        assert_eq!(groups.count(), 3, "ports that come together are put into the group together");
    }
}
