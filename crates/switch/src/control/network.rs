//! What does the switch do when the host's network, or a port that only the datapath knows, changes by itself?

use weft_host::netlink::Event;

use super::Control;
use crate::bridge::{Host, Role};
use crate::net::Noticed;

impl Control {
    /// The kernel told of a change.
    pub(crate) fn on_network(&mut self, event: Event) {
        let names: Vec<String> = match &event {
            Event::Link(link) | Event::LinkGone(link) => {
                // A device that was renamed is gone under its old name.
                let before = self.links.by_index(link.index).map(|l| l.name.clone());
                before.into_iter().chain([link.name.clone()]).collect()
            }
            _ => Vec::new(),
        };
        match self.links.notice(event) {
            Noticed::Device => {
                self.todo.devices.extend(names);
                self.todo.routes = true;
            }
            Noticed::Addresses | Noticed::Routes => self.todo.routes = true,
            Noticed::Neighbour(index, ip, mac) => self.native.neighbour(index, ip, mac, &self.pipeline),
            Noticed::All => {
                if let Err(e) = self.links.relist() {
                    tracing::warn!(target: "netlink", "{e}");
                }
                let all = self.world.ifaces().map(|(_, i)| i.wanted.name.clone());
                self.todo.devices.extend(all);
                self.todo.routes = true;
            }
        }
    }

    /// Ports that the kernel knows nothing of are no longer what they were.
    pub(crate) fn on_ports_changed(&mut self) {
        let ifaces = self.world.bridges.values().flat_map(|b| b.ifaces.with_role(Role::Vhost));
        self.todo.devices.extend(ifaces.map(|iface| iface.wanted.name.clone()));
    }

    pub(super) fn follow_devices(&mut self) {
        let names = std::mem::take(&mut self.todo.devices);
        if !names.iter().any(|name| self.world.bridges.values().any(|b| b.ifaces.get(name).is_some())) {
            return;
        }
        let mut host = Host { datapath: &*self.datapath, links: &mut self.links };
        for (bridge, port) in self.world.follow_devices(&names, &mut host) {
            self.pipeline.fdb_flush_port(bridge, port);
        }
        self.todo.world = true;
    }

    pub(super) fn follow_routes(&mut self) {
        let routes = self.native.refresh(&mut self.world, &mut self.links);
        if self.pipeline.snapshot().underlay().routes() != routes {
            let _ = self.pipeline.update(|snapshot| {
                snapshot.underlay_mut().set_routes(routes);
                Ok::<_, std::convert::Infallible>(())
            });
            self.native.load_neighbours(&mut self.links, &self.pipeline);
        }
        // Addresses of internal ports are where native tunnels end.
        self.world.touch_internal();
        self.todo.world = true;
    }
}
