//! Which member of a bond carries its traffic? The first that is up, and it stays as long as it is (active-backup).

use std::collections::BTreeSet;

use super::{Bridge, Iface};

impl Bridge {
    /// Chooses the active member of every bond that one of these interfaces is in; the others are kept in reserve.
    pub(super) fn choose_active_members(&mut self, names: &BTreeSet<String>) {
        // A bond that lost a member has the others among these, or was given one.
        let bonded = names.iter().filter_map(|name| self.ifaces.get(name)).filter(|i| i.home.bond.is_some());
        let ports: BTreeSet<String> = bonded.map(|i| i.port.clone()).collect();
        for port in ports {
            let Some(members) = self.ifaces.bonds().get(&port) else { continue };
            let names = members.names.clone();
            let all = names.iter().filter_map(|name| self.ifaces.get(name));
            let able: Vec<&Iface> = all.filter(|i| i.ofport.is_some() && i.state.link_up).collect();
            let last = |i: &&Iface| i.home.bond.as_ref().and_then(|bond| bond.active);
            let active = able
                .iter()
                .find(|i| !i.standby && able.iter().filter(|m| !m.standby).count() == 1)
                .or_else(|| able.iter().find(|i| i.state.mac.is_some() && i.state.mac == last(i)))
                .or_else(|| able.first())
                .map(|i| i.wanted.name.clone());
            for name in names {
                let standby = Some(&name) != active.as_ref();
                if self.ifaces.get(&name).is_some_and(|iface| iface.standby != standby) {
                    self.ifaces.edit(&name, |iface| iface.standby = standby);
                }
            }
        }
    }

    /// The active member of a bond.
    pub(crate) fn active_member(&self, port: &str) -> Option<&Iface> {
        let members = self.ifaces.bonds().get(port)?.names.iter().filter_map(|name| self.ifaces.get(name));
        members.into_iter().find(|i| !i.standby && i.ofport.is_some())
    }
}
