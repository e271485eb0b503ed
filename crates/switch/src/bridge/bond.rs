//! Which member of a bond carries its traffic? The first that is up, and it stays as long as it is (active-backup).

use super::{Bridge, Iface};

impl Bridge {
    /// Chooses the active member of every bond; the others are kept in reserve. True when that changed anything.
    pub(super) fn choose_active_members(&mut self) -> bool {
        let mut changed = false;
        let bonds: Vec<_> =
            self.wanted.ports.iter().filter_map(|p| Some((p.name.clone(), p.bond.clone()?))).collect();
        for iface in self.ifaces.values_mut() {
            if !bonds.iter().any(|(port, _)| *port == iface.port) {
                changed |= std::mem::replace(&mut iface.standby, false);
            }
        }
        for (port, bond) in bonds {
            let able = |i: &&Iface| i.port == port && i.ofport.is_some() && i.state.link_up;
            let members = || self.ifaces.values().filter(able);
            let active = members()
                .find(|i| !i.standby && members().filter(|m| !m.standby).count() == 1)
                .or_else(|| members().find(|i| i.state.mac.is_some() && i.state.mac == bond.active))
                .or_else(|| members().next())
                .map(|i| i.wanted.name.clone());
            for iface in self.ifaces.values_mut().filter(|i| i.port == port) {
                let standby = Some(&iface.wanted.name) != active.as_ref();
                if iface.standby != standby {
                    iface.standby = standby;
                    changed = true;
                }
            }
        }
        changed
    }

    /// The active member of a bond.
    pub(crate) fn active_member(&self, port: &str) -> Option<&Iface> {
        self.ifaces.values().find(|i| i.port == port && !i.standby && i.ofport.is_some())
    }
}
