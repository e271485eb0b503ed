//! Where do the controllers of a bridge come from? Its management sockets, and the Controller table.

use std::path::Path;
use std::time::Duration;

use weft_openflow::{Version, VersionSet};
use weft_pipeline::FailMode;

use super::ports::KnownPorts;
use super::{Bridge, OpenFlow, fail_mode};
use crate::bridge::World;
use crate::remotes::Status;
use crate::stream::target::OPENFLOW_PORT;
use crate::stream::{Conn, EndpointId, Listen, Streams, Target};
use crate::wanted;

/// Endpoints of a bridge.
pub(super) struct Endpoints {
    mgmt: Option<EndpointId>,
    snoop: Option<EndpointId>,
    controllers: Vec<Controller>,
    pub(super) snoopers: Vec<Conn>,
}

/// An endpoint of the Controller table.
pub(super) struct Controller {
    pub(super) wanted: wanted::Controller,
    pub(super) endpoint: EndpointId,
    pub(super) status: Status,
}

impl Endpoints {
    fn open(bridge: &str, rundir: &Path, streams: &mut Streams) -> Endpoints {
        let mut listen = |suffix: &str| {
            let path = rundir.join(format!("{bridge}.{suffix}"));
            let target = Target::Passive(Listen::Unix(path.clone()));
            streams
                .open(&target, Duration::ZERO)
                .inspect_err(|e| tracing::warn!("{}: {e}", path.display()))
                .ok()
        };
        Endpoints {
            mgmt: listen("mgmt"),
            snoop: listen("snoop"),
            controllers: Vec::new(),
            snoopers: Vec::new(),
        }
    }

    fn close(self, streams: &mut Streams) {
        let controllers = self.controllers.into_iter().map(|c| c.endpoint);
        for endpoint in controllers.chain(self.mgmt).chain(self.snoop) {
            streams.close(endpoint);
        }
    }

    pub(super) fn contains(&self, endpoint: EndpointId) -> bool {
        self.mgmt == Some(endpoint)
            || self.snoop == Some(endpoint)
            || self.controllers.iter().any(|c| c.endpoint == endpoint)
    }

    pub(super) fn is_snoop(&self, endpoint: EndpointId) -> bool {
        self.snoop == Some(endpoint)
    }

    pub(super) fn controllers(&self) -> impl Iterator<Item = &Controller> {
        self.controllers.iter()
    }

    pub(super) fn controller_mut(&mut self, endpoint: EndpointId) -> Option<&mut Controller> {
        self.controllers.iter_mut().find(|c| c.endpoint == endpoint)
    }

    /// Shows bytes to those who look on; one who does not read is dropped.
    pub(super) fn snoop(&mut self, bytes: &[u8]) {
        self.snoopers.retain(|s| s.send(bytes.to_vec()).is_ok());
    }

    /// Opens and closes controllers' endpoints until they are those wanted; returns the endpoints closed.
    fn reconcile(
        &mut self,
        wanted: &[wanted::Controller],
        rundir: &Path,
        streams: &mut Streams,
    ) -> Vec<EndpointId> {
        let mut closed = Vec::new();
        self.controllers.retain(|c| {
            let keep = wanted.contains(&c.wanted);
            if !keep {
                streams.close(c.endpoint);
                closed.push(c.endpoint);
            }
            keep
        });
        for want in wanted {
            if self.controllers.iter().any(|c| c.wanted == *want) {
                continue;
            }
            let opened = Target::parse(&want.target, OPENFLOW_PORT, rundir)
                .map_err(|e| e.to_string())
                .and_then(|t| Ok((streams.open(&t, want.max_backoff).map_err(|e| e.to_string())?, t)));
            match opened {
                Ok((endpoint, target)) => {
                    let status = Status::new(&target);
                    self.controllers.push(Controller { wanted: want.clone(), endpoint, status });
                }
                Err(e) => tracing::warn!("{}: {e}", want.target),
            }
        }
        closed
    }
}

impl OpenFlow {
    /// Makes endpoints match: one set per bridge, controllers as wanted.
    pub(crate) fn reconcile(&mut self, world: &World, streams: &mut Streams) {
        let gone: Vec<u32> = self.bridges.keys().copied().filter(|id| world.by_id(*id).is_none()).collect();
        for id in gone {
            if let Some(bridge) = self.bridges.remove(&id) {
                bridge.endpoints.close(streams);
            }
            self.connections.retain(|_, c| c.bridge != id);
        }
        let rundir = self.rundir.clone();
        for live in world.bridges.values() {
            let bridge = self.bridges.entry(live.id).or_insert_with(|| Bridge {
                name: live.name.clone(),
                endpoints: Endpoints::open(&live.name, &rundir, streams),
                versions: VersionSet::ALL,
                known: KnownPorts::default(),
                config_flags: 0,
                generation: None,
                fail_mode: fail_mode::State::new(live.wanted.fail_mode == FailMode::Secure),
            });
            bridge.versions = versions(&live.wanted.protocols);
            let closed = bridge.endpoints.reconcile(&live.wanted.controllers, &rundir, streams);
            self.connections.retain(|_, c| !closed.contains(&c.endpoint));
            self.ports_changed |= !closed.is_empty();
        }
    }
}

/// The versions that `protocols` names; all when it names none.
fn versions(protocols: &[String]) -> VersionSet {
    if protocols.is_empty() {
        return VersionSet::ALL;
    }
    protocols.iter().filter_map(|name| Version::by_name(name)).fold(VersionSet::NONE, VersionSet::with)
}
