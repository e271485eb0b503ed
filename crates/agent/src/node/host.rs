//! What is the host's part: which devices, addresses, settings and rules are there; what did others change, and how is it
//! put right?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use weft_host::netlink::{self, Monitor, NftMonitor};
use weft_host::poll::{Epoll, Event, interest};
use weft_store::Store;

use super::neighbours::Neighbours;
use super::{Config, LOOK, Node};
use crate::foreign::{self, Foreign, Passes};
use crate::heal::{Ledger, Told};
use crate::links::{self, Links};
use crate::nat;
use crate::plug::kernel::{Fault, Plugged};
use crate::plug::{Plug, Wiring};
use crate::settings::Settings;

/// How often everything is looked at, though nothing was told of.
pub(super) const SLOW: Duration = Duration::from_secs(10);
/// Changes that come this close together are looked at once.
const CALM: Duration = Duration::from_millis(50);

/// At how much is to be looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// What is wanted changed.
    Changed,
    /// A second is over: what the kernel does not tell of.
    Tick,
    /// Everything.
    All,
}

/// The host's part.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// What is plugged in by us.
    pub(super) wiring: Wiring,
    /// It is known what is to be plugged in. Before, everything would seem to be left over from what is gone.
    wired: bool,
    /// Devices that changed since the kernel was last told.
    dirty: BTreeSet<String>,
    /// Networks changed since.
    stale: bool,
    wanted: Arc<Wanted>,
    /// Ports whose addresses the rules hold.
    forwarded: BTreeSet<String>,
    kernel: Kernel,
    pub(super) ledger: Ledger,
    firewall: Firewall,
    all: Option<Instant>,
    /// The kernel told of the host's ends of networks.
    ends: bool,
}

/// What others changed, until it is looked at.
#[derive(Debug, Default)]
struct Stir {
    /// Devices, by index and name.
    links: BTreeSet<(u32, String)>,
    addresses: bool,
    firewall: bool,
    /// It is not known what.
    lost: bool,
}

/// What others changed of devices, addresses and nftables of this network namespace.
#[derive(Debug)]
pub(super) struct Stirred {
    /// There is something.
    pub(super) bell: mpsc::Receiver<()>,
    what: Arc<Mutex<Stir>>,
}

/// Devices that are noted one by one; of more, all are looked at.
const MANY: usize = 4_096;

/// The way to the firewall's thread, and what it tells.
#[derive(Debug)]
struct Firewall {
    wanted: std::sync::mpsc::Sender<Arc<Wanted>>,
    told: watch::Receiver<Told>,
}

impl Default for Firewall {
    fn default() -> Firewall {
        let (wanted, receiver) = std::sync::mpsc::channel();
        let (sender, told) = watch::channel(Told::default());
        let thread = std::thread::Builder::new().name("weft-firewall".into());
        if let Err(why) = thread.spawn(move || firewall(&receiver, &sender)) {
            tracing::error!(%why, "no thread for the firewall");
        }
        Firewall { wanted, told }
    }
}

/// What is wanted for networks.
#[derive(Debug, Default)]
struct Wanted {
    links: links::Wanted,
    rules: Option<String>,
    passes: Passes,
}

/// What the kernel was seen to hold, of what it tells at once.
#[derive(Debug, Default)]
struct Kernel {
    plugged: Plugged,
    links: Links,
    neighbours: Neighbours,
}

impl Kernel {
    fn ensure(
        &mut self,
        look: Look,
        ends: bool,
        wanted: &Wanted,
        plugs: &BTreeMap<String, Plug>,
        dirty: &BTreeSet<String>,
        ledger: &mut Ledger,
    ) {
        match look {
            Look::Changed => self.plugged.ensure(plugs, Some(dirty), ledger),
            Look::Tick => {
                let suspects = self.plugged.suspects(plugs).union(dirty).cloned().collect();
                self.plugged.ensure(plugs, Some(&suspects), ledger);
            }
            Look::All => self.plugged.ensure(plugs, None, ledger),
        }
        if ends || look != Look::Changed {
            self.links.ensure(&wanted.links, ledger);
        }
        if ends || self.neighbours.is_dirty() || look == Look::All {
            self.neighbours.ensure(ends || look == Look::All, ledger);
        }
        if look == Look::All {
            ledger.turn();
        }
    }
}

/// Keeps the firewall in line, on a thread of its own: its commands take their time, and nothing waits for them. Every
/// message is a reason to look; the last one counts. For changes that nobody is told of it looks each second.
fn firewall(wanted: &std::sync::mpsc::Receiver<Arc<Wanted>>, told: &watch::Sender<Told>) {
    let (mut installed, mut foreign, mut ledger) =
        (nat::Installed::default(), Foreign::default(), Ledger::default());
    let (mut now, mut legacy) = (Arc::<Wanted>::default(), Vec::new());
    loop {
        match wanted.recv_timeout(LOOK) {
            Ok(newer) => {
                now = wanted.try_iter().last().unwrap_or(newer);
                installed.ensure(now.rules.clone(), &mut ledger);
            }
            Err(RecvTimeoutError::Timeout) if now.passes.is_empty() || foreign::legacy() == legacy => {
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Asked before: what others do meanwhile, and what is put right now, is looked at once more.
        legacy = foreign::legacy();
        foreign.ensure(&now.passes, &mut ledger);
        ledger.turn();
        told.send_replace(ledger.told_of());
    }
}

impl Host {
    pub(super) fn new(config: &Config) -> Host {
        let wiring = Wiring {
            node: config.node.clone(),
            whole: config.datapath == "netdev",
            underlay_mtu: config.underlay_mtu,
            ..Wiring::default()
        };
        let mut host = Host { wiring, stale: true, ..Host::default() };
        host.kernel.links.settings = Settings::open(config.settings.clone());
        host
    }

    /// Whether a forward names this port.
    pub(super) fn is_forwarded(&self, port: &str) -> bool {
        self.forwarded.contains(port)
    }

    /// Why a device is not there.
    pub(super) fn fault(&self, device: &str) -> Option<Fault> {
        self.kernel.plugged.faults.get(device).cloned()
    }
}

impl<S: Store> Node<S> {
    /// Takes in what changed; the devices that it is about.
    pub(super) fn wire(&mut self, nets: &BTreeSet<String>, ports: &BTreeSet<String>) -> BTreeSet<String> {
        self.host.wired = true;
        self.host.stale |= !nets.is_empty() || ports.iter().any(|p| self.host.forwarded.contains(p));
        let wiring = &mut self.host.wiring;
        let mut changed = BTreeSet::new();
        nets.iter().for_each(|name| changed.extend(wiring.network_changed(&self.catalog, name)));
        ports.iter().for_each(|name| changed.extend(wiring.port_changed(&self.catalog, name)));
        self.host.dirty.extend(changed.iter().cloned());
        ports.iter().for_each(|name| self.host.kernel.neighbours.port_changed(&self.catalog, name));
        changed
    }

    /// Takes in what others changed of the host; at how much is to be looked.
    pub(super) fn stir(&mut self) -> Look {
        let stir = self.stirred.what.lock().map(|mut what| std::mem::take(&mut *what)).unwrap_or_default();
        if stir.lost {
            return Look::All;
        }
        let host = &mut self.host;
        host.dirty.extend(host.kernel.plugged.concerned(&host.wiring.plugs, &stir.links));
        let an_end = |(_, name): &(u32, String)| host.wanted.links.contains_key(name);
        host.ends |= stir.addresses || stir.links.iter().any(an_end);
        if stir.firewall {
            // It ends with us only.
            let _ = host.firewall.wanted.send(Arc::clone(&host.wanted));
        }
        Look::Changed
    }

    /// Nothing is to be settled.
    pub(super) fn is_quiet(&self) -> bool {
        self.nets.is_empty() && self.ports.is_empty() && !self.mends.is_due()
    }

    /// Makes the kernel hold what is wanted. Resources whose devices fare otherwise than before are to be looked at.
    pub(super) async fn host(&mut self, look: Look) {
        // What the kernel tells of may come without end; a look at all else comes all the same.
        if look != Look::Changed {
            self.look = Instant::now() + LOOK;
        }
        if !self.host.wired {
            return;
        }
        let look = match self.host.all {
            Some(at) if at.elapsed() < SLOW => look,
            _ => Look::All,
        };
        if look == Look::All {
            self.host.all = Some(Instant::now());
            // Leases end without a word.
            self.ask_again();
            self.end_contests();
        }
        let networks = std::mem::take(&mut self.host.stale);
        if networks {
            self.host.forwarded = nat::named(&self.catalog);
            self.host.wanted = Arc::new(Wanted {
                links: links::wanted(&self.catalog),
                rules: nat::rules(&self.catalog),
                passes: foreign::wanted(&self.catalog),
            });
        }
        let dirty = std::mem::take(&mut self.host.dirty);
        let ends = std::mem::take(&mut self.host.ends) | networks;
        let told = !self.host.kernel.neighbours.is_dirty();
        if look == Look::Changed && !ends && dirty.is_empty() && told {
            return;
        }
        let wanted = Arc::clone(&self.host.wanted);
        if networks || look == Look::All {
            // It ends with us only.
            let _ = self.host.firewall.wanted.send(Arc::clone(&wanted));
        }
        let mut ledger = std::mem::take(&mut self.host.ledger);
        let mut kernel = std::mem::take(&mut self.host.kernel);
        let plugs = std::mem::take(&mut self.host.wiring.plugs);
        let work = move || {
            let before = kernel.plugged.faults.clone();
            kernel.ensure(look, ends, &wanted, &plugs, &dirty, &mut ledger);
            (before, kernel, plugs, ledger)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((before, kernel, plugs, ledger)) => {
                let after = &kernel.plugged.faults;
                let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
                for name in names.into_iter().filter(|n| before.get(*n) != after.get(*n)) {
                    let owner = plugs.get(name).and_then(|p| p.owner.split_once('/'));
                    match owner {
                        Some(("Port", port)) => drop(self.ports.insert(port.to_owned())),
                        Some((_, network)) => drop(self.nets.insert(network.to_owned())),
                        None => {}
                    }
                }
                (self.host.kernel, self.host.wiring.plugs, self.host.ledger) = (kernel, plugs, ledger);
            }
            Err(why) => {
                tracing::error!(%why, "looking at the kernel failed");
                // What was seen is lost; what is wanted is worked out anew.
                self.host = Host::new(&self.config);
                self.everything();
            }
        }
        self.replug().await;
        self.tell_mends();
    }

    /// Says what was put right, and what is wrong.
    pub(super) fn tell_mends(&self) {
        if let Some(progress) = &self.progress {
            let mut told = self.host.ledger.told_of();
            let walls = self.host.firewall.told.borrow();
            told.counts.extend(walls.counts.clone());
            told.troubles.extend(walls.troubles.iter().cloned());
            told.counts.extend(self.contests.counts());
            progress.send_if_modified(|p| {
                let new = p.host != told;
                p.host = told;
                new
            });
        }
    }
}

impl<S: Store> Node<S> {
    /// Open vSwitch in user space reads on from the device that is gone, when another takes its name at once; and no switch
    /// makes a device of its own again that somebody deleted. Such ports are taken off the bridge, and come back as ports
    /// that are missing.
    async fn replug(&mut self) {
        let remade = std::mem::take(&mut self.host.kernel.plugged.remade);
        // A switch that starts makes its devices by itself.
        let runs = self.connected && self.views.is_connected();
        let gone = if runs { std::mem::take(&mut self.host.kernel.links.gone) } else { BTreeSet::new() };
        let remade = if self.host.wiring.whole { remade } else { BTreeSet::new() };
        let ours = |name: &String| self.view.interfaces.get(name).filter(|i| i.is_ours());
        let missed = gone.iter().filter_map(ours).filter(|i| i.ofport.is_some());
        let ports: Vec<_> = remade.iter().filter_map(ours).chain(missed).filter_map(|i| i.port).collect();
        if ports.is_empty() {
            return;
        }
        match self.database.unplug(&ports).await {
            Ok(()) => {
                for device in &gone {
                    self.host.ledger.told("device", true, &format!("{device} is there"));
                }
            }
            Err(why) => {
                tracing::warn!(%why, "a device that was made anew may not be seen");
                self.host.kernel.plugged.remade = remade;
                self.host.kernel.links.gone.extend(gone);
            }
        }
    }
}

/// Tells when somebody changes devices, addresses or nftables of this network namespace.
pub(super) fn listen() -> Stirred {
    let (bell, told) = mpsc::channel(1);
    let what = Arc::<Mutex<Stir>>::default();
    let stirred = Stirred { bell: told, what: Arc::clone(&what) };
    let thread = std::thread::Builder::new().name("weft-kernel".into());
    let started = thread.spawn(move || {
        if let Err(why) = follow(&bell, &what) {
            tracing::warn!(%why, "changes of devices and nftables are seen late");
        }
    });
    if let Err(why) = started {
        tracing::warn!(%why, "changes of devices and nftables are seen late");
    }
    stirred
}

/// Follows what the kernel tells, until nobody wants to hear it.
fn follow(bell: &mpsc::Sender<()>, what: &Mutex<Stir>) -> Result<(), Box<dyn std::error::Error>> {
    let (mut links, mut nft) = (Monitor::of_links()?, NftMonitor::open()?);
    let epoll = Epoll::new()?;
    epoll.add(&links, interest::READ, 0)?;
    epoll.add(&nft, interest::READ, 0)?;
    let mut events = [Event::EMPTY; 2];
    while !bell.is_closed() {
        epoll.wait(&mut events, Some(LOOK.as_millis() as u32))?;
        let mut stir = Stir { firewall: nft.drain()?, ..Stir::default() };
        let mut any = stir.firewall;
        while let Some(event) = links.next_event()? {
            any = true;
            match event {
                netlink::Event::Link(link) | netlink::Event::LinkGone(link) => {
                    _ = stir.links.insert((link.index, link.name))
                }
                netlink::Event::Lost => stir.lost = true,
                _ => stir.addresses = true,
            }
        }
        if any {
            if let Ok(mut all) = what.lock() {
                all.links.append(&mut stir.links);
                all.addresses |= stir.addresses;
                all.firewall |= stir.firewall;
                all.lost |= stir.lost || all.links.len() > MANY;
                if all.lost {
                    // All are looked at then.
                    all.links.clear();
                }
            }
            // Who is asked to look already sees this change too.
            let _ = bell.try_send(());
            std::thread::sleep(CALM);
        }
    }
    Ok(())
}
