//! What do controllers hear of each other? OpenFlow 1.5 tells which are configured, connected, and in which role.
//!
//! Open vSwitch 3.1 has none of this: it refuses the question and tells nothing.

use std::collections::BTreeMap;

use weft_openflow::msg::control::Role;
use weft_openflow::msg::notify::ControllerStatus;
use weft_ovsdb::Uuid;

use super::OpenFlow;

/// Controllers as others were told of them last, by row.
pub(super) type KnownControllers = BTreeMap<Uuid, ControllerStatus>;

/// No short number: controllers of OpenFlow 1.5 may give themselves one, which is not taken here.
const NO_SHORT_ID: u16 = u16::MAX;

/// Why a status is sent (OpenFlow 1.5.1 §7.3.5.18).
mod why {
    pub(super) const REQUEST: u8 = 0;
    pub(super) const CHANNEL_STATUS: u8 = 1;
    pub(super) const ROLE: u8 = 2;
    pub(super) const ADDED: u8 = 3;
    pub(super) const REMOVED: u8 = 4;
}

impl OpenFlow {
    /// The controllers of a bridge as they are now.
    fn controllers_now(&self, bridge: u32) -> KnownControllers {
        let Some(state) = self.bridges.get(&bridge) else { return KnownControllers::new() };
        let connection = |endpoint| {
            let of = self.connections.values().find(|c| c.bridge == bridge && Some(c.endpoint) == endpoint);
            of.filter(|c| c.session.version().is_some())
        };
        let status = |controller: &super::endpoints::Controller| {
            let connection = connection(controller.endpoint);
            ControllerStatus {
                short_id: NO_SHORT_ID,
                role: connection.map_or(Role::Equal, |c| c.session.role()),
                reason: why::REQUEST,
                connected: connection.is_some(),
                uri: controller.wanted.target.clone(),
            }
        };
        state.endpoints.controllers().map(|c| (c.wanted.uuid, status(c))).collect()
    }

    /// Answers the question for them.
    pub(super) fn controller_statuses(&self, bridge: u32) -> Vec<ControllerStatus> {
        self.controllers_now(bridge).into_values().collect()
    }

    /// Tells controllers what changed about them since they were told last.
    pub(super) fn tell_controllers(&mut self) {
        if !std::mem::take(&mut self.controllers_changed) {
            return;
        }
        let bridges: Vec<u32> = self.bridges.keys().copied().collect();
        for id in bridges {
            let now = self.controllers_now(id);
            let Some(state) = self.bridges.get_mut(&id) else { continue };
            let before = std::mem::replace(&mut state.known_controllers, now.clone());
            let mut told = Vec::new();
            for (row, status) in &now {
                let reason = match before.get(row) {
                    None => why::ADDED,
                    Some(old) if old.connected != status.connected => why::CHANNEL_STATUS,
                    Some(old) if old.role != status.role => why::ROLE,
                    Some(_) => continue,
                };
                told.push(ControllerStatus { reason, ..status.clone() });
            }
            let gone = before.iter().filter(|(row, _)| !now.contains_key(row));
            told.extend(gone.map(|(_, old)| ControllerStatus {
                reason: why::REMOVED,
                connected: false,
                ..old.clone()
            }));
            for status in told {
                for session in self.sessions_of(id) {
                    session.controller_status(status.clone());
                }
            }
        }
    }
}
