//! Did somebody else change flows, groups or meters that are ours? The switch tells: a flow monitor on each table but the
//! learned one, and requests of other controllers that it forwards. Our own changes it tells as transactions only.

use std::collections::BTreeSet;

use weft_compile::{Cookie, Kind, METER_BASE, NetKey, Owner, PortKey, Stage};
use weft_flow::{Match, OfPort};
use weft_openflow::msg::flow::GROUP_ANY;
use weft_openflow::msg::group::{GROUP_ALL, GroupMod};
use weft_openflow::msg::meter::{METER_ALL, MeterCommand, MeterMod};
use weft_openflow::msg::monitor::{FlowUpdate, MonitorCommand, MonitorRequest, MonitorUpdate, monitor_flags};
use weft_openflow::stats::flow::FlowStatsRequest;
use weft_openflow::stats::{MultipartRequest, StatsRequest};
use weft_openflow::{Codec, Message, Version};

use super::GROUPS;

/// Owners that are mended one by one; of more, everything is.
const MANY: usize = 1024;

/// What others changed of what is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disturbed {
    /// Whose flows, groups or meters.
    pub owners: BTreeSet<Owner>,
    /// It is not known whose.
    pub all: bool,
    /// Something of ours may have been replaced; counting tells.
    pub doubt: bool,
}

impl Disturbed {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        *self == Disturbed::default()
    }

    /// Adds what another says.
    pub fn merge(&mut self, other: Disturbed) {
        self.owners.extend(other.owners);
        self.doubt |= other.doubt;
        self.all |= other.all || self.owners.len() > MANY;
        if self.all {
            self.owners.clear();
        }
    }
}

/// What is noted of a connection's bridge until it is told.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    pub(super) seen: Disturbed,
    /// Changes are not told now, or not as usual.
    paused: bool,
}

/// Asks to be told of changes.
pub(super) fn monitors() -> Message {
    let flags = monitor_flags::EVENTS;
    let tables = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Learned).map(Stage::table);
    let of = |table: u8| MonitorRequest {
        id: u32::from(table) + 1,
        command: MonitorCommand::Add,
        flags,
        table: Some(table),
        out_port: OfPort::ANY,
        out_group: GROUP_ANY,
        matching: Match::any(),
        options: Vec::new(),
    };
    let body = StatsRequest::FlowMonitor(tables.map(of).collect());
    Message::MultipartRequest(MultipartRequest { more: false, nicira: false, body })
}

/// Asks how many flows carry our mark, in all tables or in one.
pub(super) fn count(table: Option<u8>) -> Message {
    let (cookie, cookie_mask) = Cookie::OURS;
    let ours = FlowStatsRequest { table, cookie, cookie_mask, ..FlowStatsRequest::default() };
    let body = StatsRequest::Aggregate(Box::new(ours));
    Message::MultipartRequest(MultipartRequest { more: false, nicira: false, body })
}

fn owner(cookie: Cookie) -> Owner {
    match cookie.kind {
        Kind::Node => Owner::Node,
        Kind::Network => Owner::Net(NetKey(cookie.key)),
        Kind::Port => Owner::Port(PortKey(cookie.key)),
    }
}

impl Watcher {
    /// What monitors tell.
    pub(super) fn take(&mut self, updates: Vec<MonitorUpdate>) {
        for update in updates {
            match update {
                MonitorUpdate::Full(update) if !self.paused => self.flow(&update),
                // Our own are among them, and not told from others.
                MonitorUpdate::Full(_) | MonitorUpdate::Abbrev(_) => {}
                MonitorUpdate::Paused => self.paused = true,
                MonitorUpdate::Resumed => {
                    self.paused = false;
                    self.seen.doubt = true;
                }
            }
        }
    }

    fn flow(&mut self, update: &FlowUpdate) {
        let owner = Cookie::from_u64(update.cookie).map(owner);
        // Of a flow that others put in the place of ours the cookie is theirs.
        let doubt = owner.is_none() && update.event != weft_openflow::msg::monitor::FlowEvent::Removed;
        self.seen.merge(Disturbed { owners: owner.into_iter().collect(), all: false, doubt });
    }

    /// What another controller asked for, which the switch did. Meters that went are taken out of `meters`.
    pub(super) fn forwarded(&mut self, request: &[u8], meters: &mut BTreeSet<u32>) {
        let mut seen = Disturbed::default();
        match Codec::new(Version::V15).decode(request) {
            Ok((_, Message::GroupMod(change))) => group(&change, &mut seen),
            Ok((_, Message::MeterMod(change))) => meter(&change, &mut seen, meters),
            Ok(_) => {}
            Err(_) => seen.all = true,
        }
        self.seen.merge(seen);
    }
}

fn group(change: &GroupMod, seen: &mut Disturbed) {
    match change.group_id {
        GROUP_ALL => seen.all = true,
        id if (GROUPS.0..=GROUPS.1).contains(&id) => {
            seen.owners.insert(Owner::Net(NetKey(id - GROUPS.0)));
        }
        _ => {}
    }
}

fn meter(change: &MeterMod, seen: &mut Disturbed, meters: &mut BTreeSet<u32>) {
    match (change.meter_id, change.command) {
        (METER_ALL, _) => {
            seen.all = !meters.is_empty();
            meters.clear();
        }
        (id, command) if id >= METER_BASE => {
            if command == MeterCommand::Delete {
                meters.remove(&id);
            }
            seen.owners.insert(Owner::Port(PortKey((id - METER_BASE) / 2)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use weft_compile::Purpose;
    use weft_flow::Instructions;
    use weft_openflow::msg::group::GroupCommand;
    use weft_openflow::msg::monitor::FlowEvent;

    use super::*;

    fn update(event: FlowEvent, cookie: u64) -> MonitorUpdate {
        MonitorUpdate::Full(Box::new(FlowUpdate {
            event,
            reason: 0,
            table_id: 20,
            priority: 1,
            idle_timeout: 0,
            hard_timeout: 0,
            cookie,
            matching: Match::any(),
            options: Vec::new(),
            instructions: Instructions::default(),
        }))
    }

    #[test]
    fn cookies_tell_whose_a_flow_was() {
        let cookie = |kind, key| Cookie { kind, purpose: Purpose::Arp, key }.to_u64();
        let mut watcher = Watcher::default();
        watcher.take(vec![MonitorUpdate::Abbrev(7), update(FlowEvent::Removed, 0x1234)]);
        assert!(watcher.seen.is_empty(), "what is ours by transaction, and what is theirs");
        watcher.take(vec![update(FlowEvent::Removed, cookie(Kind::Port, 9))]);
        watcher.take(vec![update(FlowEvent::Modified, cookie(Kind::Network, 3))]);
        let owners = BTreeSet::from([Owner::Port(PortKey(9)), Owner::Net(NetKey(3))]);
        assert_eq!(watcher.seen, Disturbed { owners, ..Disturbed::default() });
        watcher.take(vec![update(FlowEvent::Added, 0)]);
        assert!(watcher.seen.doubt, "it may have replaced one of ours");
        watcher.seen = Disturbed::default();
        watcher.take(vec![MonitorUpdate::Paused, update(FlowEvent::Removed, cookie(Kind::Node, 0))]);
        assert!(watcher.seen.is_empty());
        watcher.take(vec![MonitorUpdate::Resumed]);
        assert!(watcher.seen.doubt);
        (0..2000).for_each(|key| watcher.take(vec![update(FlowEvent::Removed, cookie(Kind::Port, key))]));
        assert!(watcher.seen.all && watcher.seen.owners.is_empty());
    }

    #[test]
    fn requests_of_others_tell_whose_groups_and_meters_were() {
        let mut meters = BTreeSet::from([METER_BASE + 8, METER_BASE + 9]);
        let mut tell = |message: Message| {
            let (mut watcher, mut bytes) = (Watcher::default(), Vec::new());
            Codec::new(Version::V15).encode(1, &message, &mut bytes).unwrap();
            watcher.forwarded(&bytes, &mut meters);
            (watcher.seen, meters.len())
        };
        let group = |group_id| {
            let command = GroupCommand::Delete;
            Message::GroupMod(Box::new(GroupMod { command, group_id, ..GroupMod::default() }))
        };
        let meter = |meter_id| {
            let command = MeterCommand::Delete;
            Message::MeterMod(Box::new(MeterMod { command, meter_id, ..MeterMod::default() }))
        };
        let of = |owner| Disturbed { owners: BTreeSet::from([owner]), ..Disturbed::default() };
        let all = Disturbed { all: true, ..Disturbed::default() };
        assert_eq!(tell(group(7)).0, Disturbed::default(), "a group of theirs");
        assert_eq!(tell(group(NetKey(5).group())).0, of(Owner::Net(NetKey(5))));
        assert_eq!(tell(group(GROUP_ALL)).0, all);
        assert_eq!(tell(meter(3)), (Disturbed::default(), 2));
        assert_eq!(tell(meter(METER_BASE + 9)), (of(Owner::Port(PortKey(4))), 1));
        assert_eq!(tell(meter(METER_ALL)), (all, 0));
        let (mut watcher, mut none) = (Watcher::default(), BTreeSet::new());
        watcher.forwarded(&[6, 15, 0, 9], &mut none);
        assert!(watcher.seen.all, "what cannot be read may be anything");
    }
}
