//! Where do the controllers of a bridge come from? Its management sockets, and the Controller table.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use weft_openflow::{Version, VersionSet};
use weft_pipeline::FailMode;

use super::ports::KnownPorts;
use super::{Bridge, OpenFlow, fail_mode};
use crate::bridge::World;
use crate::remotes::Status;
use crate::stream::target::OPENFLOW_PORT;
use crate::stream::{Conn, EndpointId, Listen, Streams, Target, words};
use crate::wanted;

/// Bytes that may wait for an onlooker.
const MAX_SNOOPED: usize = 4 << 20;

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
    /// `None`: could not be opened.
    pub(super) endpoint: Option<EndpointId>,
    pub(super) status: Status,
}

impl Endpoints {
    fn open(bridge: &str, rundir: &Path, streams: &mut Streams) -> Endpoints {
        let mut listen = |suffix: &str| {
            let path = rundir.join(format!("{bridge}.{suffix}"));
            let target = Target::Passive(Listen::Unix(path.clone()));
            streams
                .open(&target, Duration::ZERO)
                .inspect_err(|e| tracing::warn!("{}: {}", path.display(), words(e)))
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
        let controllers = self.controllers.into_iter().filter_map(|c| c.endpoint);
        for endpoint in controllers.chain(self.mgmt).chain(self.snoop) {
            streams.close(endpoint);
        }
    }

    pub(super) fn contains(&self, endpoint: EndpointId) -> bool {
        self.mgmt == Some(endpoint)
            || self.snoop == Some(endpoint)
            || self.controllers.iter().any(|c| c.endpoint == Some(endpoint))
    }

    pub(super) fn is_snoop(&self, endpoint: EndpointId) -> bool {
        self.snoop == Some(endpoint)
    }

    pub(super) fn controllers(&self) -> impl Iterator<Item = &Controller> {
        self.controllers.iter()
    }

    pub(super) fn controller_mut(&mut self, endpoint: EndpointId) -> Option<&mut Controller> {
        self.controllers.iter_mut().find(|c| c.endpoint == Some(endpoint))
    }

    /// Shows bytes to those who look on; one who does not read is dropped.
    pub(super) fn snoop(&mut self, bytes: &[u8]) {
        self.snoopers.retain(|s| s.queued() < MAX_SNOOPED && s.send(bytes.to_vec()).is_ok());
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
            if let Some(endpoint) = c.endpoint.filter(|_| !keep) {
                streams.close(endpoint);
                closed.push(endpoint);
            }
            keep
        });
        for want in wanted {
            if !self.controllers.iter().any(|c| c.wanted == *want) {
                self.controllers.push(Controller::open(want, rundir, streams));
            }
        }
        closed
    }
}

impl Controller {
    fn open(wanted: &wanted::Controller, rundir: &Path, streams: &mut Streams) -> Controller {
        if wanted.in_band {
            tracing::warn!(
                "{}: in-band control is asked for: no hidden flows are made, rules must let its traffic pass",
                wanted.target
            );
        }
        let target = Target::parse(&wanted.target, OPENFLOW_PORT, rundir).map_err(|e| e.to_string());
        let opened = target.and_then(|target| match streams.open(&target, wanted.max_backoff) {
            Ok(endpoint) => Ok((endpoint, Status::new(&target))),
            Err(e) => Err(words(&e)),
        });
        let (endpoint, status) = match opened {
            Ok((endpoint, status)) => (Some(endpoint), status),
            Err(e) => (None, Status::failed(e)),
        };
        Controller { wanted: wanted.clone(), endpoint, status }
    }
}

impl OpenFlow {
    /// Opens again listeners that could not be.
    pub(crate) fn retry(&mut self, streams: &mut Streams) {
        for bridge in self.bridges.values_mut() {
            for controller in bridge.endpoints.controllers.iter_mut().filter(|c| c.endpoint.is_none()) {
                *controller = Controller::open(&controller.wanted, &self.rundir, streams);
            }
        }
    }

    /// Makes endpoints match: one set per bridge, controllers as wanted.
    pub(crate) fn reconcile(&mut self, world: &World, streams: &mut Streams) {
        let gone: Vec<u32> = self.bridges.keys().copied().filter(|id| world.by_id(*id).is_none()).collect();
        for id in gone {
            if let Some(bridge) = self.bridges.remove(&id) {
                if let Some(journal) = bridge.journal {
                    journal.remove();
                }
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
                known_controllers: Default::default(),
                table_names: BTreeMap::new(),
                generation: None,
                fail_mode: fail_mode::State::new(live.wanted.fail_mode == FailMode::Secure),
                journal: None,
            });
            bridge.versions = versions(&live.wanted.protocols);
            let wanted: &[_] = if world.restoring { &[] } else { &live.wanted.controllers };
            let closed = bridge.endpoints.reconcile(wanted, &rundir, streams);
            self.connections.retain(|_, c| !closed.contains(&c.endpoint));
            self.ports_changed |= !closed.is_empty();
            self.controllers_changed = true;
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
