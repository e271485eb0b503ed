//! What happens to packets when there are no controllers, or none answers?
//!
//! A bridge without controllers begins with one rule, NORMAL, unless it is fail-secure. When controllers are configured
//! or taken away, or the mode changes, its tables are emptied and begin anew. When a bridge is not fail-secure and its
//! controllers stay away, a rule above all others makes it a learning switch until one is back.

use weft_flow::{Action, Match, OfPort};
use weft_openflow::Version;
use weft_pipeline::{ALL_TABLES, FailMode, FlowMod, FlowModCommand, Snapshot};

use super::journal::{self, Journal};
use super::{DEFAULT_PROBE, OpenFlow};
use crate::bridge::World;

/// Cookie of the rule of last resort.
const COOKIE: u64 = 0xfa11_0be4_fa11_0be4;
/// Probe intervals without any controller after which a bridge switches by itself (`fail_mode` in
/// ovs-vswitchd.conf.db(5)).
const PATIENCE: u64 = 3;

/// Where a bridge stands.
pub(super) struct State {
    /// Whether the tables are those that a new bridge has by itself.
    fresh: bool,
    has_controllers: bool,
    secure: bool,
    /// Since when no controller is connected.
    alone_since: Option<u64>,
    /// Whether the rule of last resort is in.
    open: bool,
    /// Its flows were restored, and packets waited for it.
    restored: bool,
}

impl State {
    /// A bridge just made, with the tables that [`Snapshot::set_bridge`] gives it.
    pub(super) fn new(secure: bool) -> State {
        State { fresh: true, has_controllers: false, secure, alone_since: None, open: false, restored: false }
    }
}

impl OpenFlow {
    /// Notes for every bridge whether a controller is there.
    pub(crate) fn note_controllers(&self, world: &mut World) {
        for live in world.bridges.values_mut() {
            let versions = self.controllers_of(live.id);
            live.controller_connected = !versions.is_empty();
            live.miss_to_controller = versions.iter().any(|v| *v < Version::V13);
        }
    }

    /// Adjusts tables to the configuration and to whether controllers are there. True when tables changed.
    pub(crate) fn apply_fail_modes(&mut self, snapshot: &mut Snapshot, world: &World, now: u64) -> bool {
        let mut changed = false;
        for live in world.bridges.values() {
            let fresh = self.bridges.get(&live.id).is_some_and(|b| b.fail_mode.fresh);
            if fresh && live.wanted.persist_flows {
                if let Some(tables) = snapshot.tables_mut(live.id) {
                    let all =
                        FlowMod::new(FlowModCommand::Delete { strict: false }, ALL_TABLES, 0, Match::any());
                    let _ = tables.apply(&all, now);
                }
                let restored = self.restore(&live.name, live.id, snapshot, now);
                if let Some(bridge) = self.bridges.get_mut(&live.id).filter(|_| restored) {
                    // From now on what changes is noted behind what was read.
                    let path = journal::path(&self.journals, &live.name);
                    bridge.journal = Journal::resume(path)
                        .inspect_err(|e| {
                            tracing::warn!("{}: the journal of flows is begun anew: {e}", live.name)
                        })
                        .ok();
                    (bridge.fail_mode.fresh, bridge.fail_mode.restored) = (false, true);
                    changed = true;
                }
            }
            let Some(bridge) = self.bridges.get_mut(&live.id) else { continue };
            let state = &mut bridge.fail_mode;
            let secure = live.wanted.fail_mode == FailMode::Secure;
            let primaries = || live.wanted.controllers.iter().filter(|c| !c.service);
            let has = primaries().next().is_some();
            let probes = primaries().map(|c| c.probe.filter(|p| !p.is_zero()).unwrap_or(DEFAULT_PROBE));
            let patience = PATIENCE * probes.max().unwrap_or(DEFAULT_PROBE).as_millis() as u64;
            let tlv = snapshot.bridge(live.id).map(|b| b.tlv.clone()).unwrap_or_default();
            let Some(tables) = snapshot.tables_mut(live.id) else { continue };
            let journal = &mut bridge.journal;
            let mut apply = |flow_mod: FlowMod| {
                match tables.apply(&flow_mod, now) {
                    // The rule of last resort does not outlive the silence of controllers.
                    Ok(outcome) if flow_mod.cookie != COOKIE && flow_mod.cookie_match != COOKIE => {
                        if let Some(journal) = journal {
                            journal.append_outcome(&outcome, &tlv);
                        }
                    }
                    Ok(_) => {}
                    Err(e) => tracing::error!("{e}"),
                }
                changed = true;
            };
            if world.restoring {
                if std::mem::take(&mut state.fresh) {
                    apply(FlowMod::new(
                        FlowModCommand::Delete { strict: false },
                        ALL_TABLES,
                        0,
                        Match::any(),
                    ));
                }
                (state.has_controllers, state.secure, state.restored) = (has, secure, true);
                continue;
            }
            if std::mem::take(&mut state.restored) {
                // What was restored stays, whoever its controllers are.
                (state.has_controllers, state.secure) = (has, secure);
            }
            if state.fresh || has != state.has_controllers || secure != state.secure && !has {
                apply(FlowMod::new(FlowModCommand::Delete { strict: false }, ALL_TABLES, 0, Match::any()));
                if !has && !secure {
                    apply(FlowMod::add(0, 0, Match::any(), vec![normal()]));
                }
                state.open = false;
            }
            (state.fresh, state.has_controllers, state.secure) = (false, has, secure);
            let alone = has && !live.controller_connected;
            state.alone_since = alone.then(|| state.alone_since.unwrap_or(now));
            let open = !secure && state.alone_since.is_some_and(|since| now >= since + patience);
            if open != state.open {
                state.open = open;
                let mut rule = FlowMod::add(0, u16::MAX, Match::any(), vec![normal()]);
                rule.cookie = COOKIE;
                if !open {
                    rule.command = FlowModCommand::Delete { strict: true };
                    (rule.cookie_match, rule.cookie_mask) = (COOKIE, u64::MAX);
                }
                let what = if open {
                    "no controller answers: switching by itself"
                } else {
                    "switching by rules again"
                };
                tracing::warn!("{}: {what}", live.name);
                apply(rule);
            }
        }
        changed
    }

    /// Whether time alone can change what [`OpenFlow::apply_fail_modes`] does.
    pub(crate) fn is_waiting_for_controllers(&self) -> bool {
        self.bridges.values().any(|b| b.fail_mode.alone_since.is_some() && !b.fail_mode.open)
    }
}

fn normal() -> Action {
    Action::Output { port: OfPort::NORMAL, max_len: 0 }
}
