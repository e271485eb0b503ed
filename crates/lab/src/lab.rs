//! How is a lab brought up, used and taken down?

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weft_host::mountns::MountNs;
use weft_host::netns::NetNs;

use crate::error::At;
use crate::layout::{self, ID_VARIABLE};
use crate::place::{Place, kill_group};
use crate::record::{self, Lock, Record, Remains, Service, Stage};
use crate::spec::{CheckSpec, Condition, HostSpec, LabSpec, RunSpec};
use crate::status::{LabStatus, LabSummary, present};
use crate::{Error, Result, build, service, teardown, wait};

/// How long a command without `ready` is watched before it counts as running.
const SETTLE: Duration = Duration::from_millis(50);

/// How a lab is brought up.
#[derive(Debug, Clone, Default)]
pub struct UpOptions {
    /// The `weft` its hosts run; the running program, if that is `weft`, or `$WEFT_BIN` if left out.
    pub weft: Option<PathBuf>,
    /// Take down a lab of the same name from another file first.
    pub replace: bool,
    /// Leave what was made if something fails, to look at it.
    pub keep: bool,
}

/// What bringing a lab up came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Made,
    /// It was up and whole already.
    Unchanged,
    /// It was up, but commands had ended; they run again. `HOST/NAME` of each.
    Restarted(Vec<String>),
    /// It was damaged or incomplete and was made anew.
    Remade,
}

/// A lab that is up.
///
/// One made by [`Lab::up`] is taken down when dropped, also by a panic; others are if [`Lab::down_when_dropped`].
#[derive(Debug)]
pub struct Lab {
    name: String,
    record: Mutex<Record>,
    /// Processes this one started and must wait for when they end.
    children: Mutex<Vec<Child>>,
    down_on_drop: bool,
}

impl Lab {
    /// Brings a lab up; it is taken down when dropped.
    pub fn up(spec: &LabSpec) -> Result<Self> {
        Ok(Self::up_with(spec, &UpOptions::default())?.0.down_when_dropped())
    }

    /// Brings a lab up, or mends it if it is up already; it stays until [`Lab::down`].
    pub fn up_with(spec: &LabSpec, options: &UpOptions) -> Result<(Self, Outcome)> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        crate::check::check(spec)?;
        let _lock = Lock::take(&spec.name)?;
        let existing = Record::load(&spec.name)?;
        let mut outcome = Outcome::Made;
        match existing {
            Some(record) if record.spec == *spec && record.stage == Stage::Up && all_present(&record) => {
                let lab = Self::of(record);
                let restarted = lab.restart_ended()?;
                let outcome =
                    if restarted.is_empty() { Outcome::Unchanged } else { Outcome::Restarted(restarted) };
                return Ok((lab, outcome));
            }
            Some(record) if record.spec != *spec && record.stage == Stage::Up && !options.replace => {
                return Err(Error::Differs(spec.name.clone()));
            }
            Some(record) => {
                teardown::teardown(&spec.name, Some(&Remains::from(&record)), Duration::ZERO)?;
                outcome = Outcome::Remade;
            }
            // An empty directory may be left of a making broken off at its very beginning.
            None => teardown::teardown(&spec.name, None, Duration::ZERO)?,
        }
        let weft = options.weft.clone().or_else(own_weft);
        Self::make(spec, weft, options.keep).map(|lab| (lab, outcome))
    }

    fn make(spec: &LabSpec, weft: Option<PathBuf>, keep: bool) -> Result<Self> {
        let undo = |e: Error| {
            if !keep && !matches!(e, Error::NameTaken { .. }) {
                // The first failure is the one to tell.
                let remains = Remains::load(&spec.name).ok().flatten();
                let _ = teardown::teardown(&spec.name, remains.as_ref(), Duration::ZERO);
            }
            e
        };
        let lab = Self::of(build::make(spec, weft).map_err(undo)?);
        let brought = lab.bring_up();
        if let Err(e) = brought {
            let e = undo(e);
            lab.reap();
            return Err(e);
        }
        Ok(lab)
    }

    /// The same lab, taken down when dropped.
    #[must_use]
    pub fn down_when_dropped(mut self) -> Self {
        self.down_on_drop = true;
        self
    }

    /// A handle to a lab that is up; dropping it changes nothing.
    pub fn open(name: &str) -> Result<Self> {
        match Record::load(name)? {
            Some(record) => Ok(Self::of(record)),
            None => Err(no_such_lab(name)),
        }
    }

    fn of(record: Record) -> Self {
        Self {
            name: record.spec.name.clone(),
            record: Mutex::new(record),
            children: Mutex::default(),
            down_on_drop: false,
        }
    }

    /// The labs there are.
    pub fn list() -> Vec<LabSummary> {
        record::names().iter().map(|n| crate::status::summary(n)).collect()
    }

    /// Takes a lab down, by name. Its commands are given `grace` to end by themselves.
    /// False if there was none. What could not be removed is in the error.
    pub fn down_by_name(name: &str, grace: Duration) -> Result<bool> {
        if !record::is_name(name) || !record::left_traces(name) {
            return Ok(false);
        }
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let _lock = Lock::take(name)?;
        // An unreadable record stops us: without it, what is ours is not known.
        let remains = Remains::load(name)?;
        let there = layout::lab_dir(name).exists();
        teardown::teardown(name, remains.as_ref(), grace)?;
        Ok(there)
    }

    /// Takes the lab down.
    pub fn down(mut self) -> Result<()> {
        self.down_on_drop = false;
        let result = Self::down_by_name(&self.name, Duration::ZERO).map(drop);
        self.reap();
        result
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its definition.
    pub fn spec(&self) -> LabSpec {
        self.record().spec.clone()
    }

    /// How it fares.
    pub fn status(&self) -> LabStatus {
        crate::status::status(&self.record())
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place by its name: `HOST`, `HOST/WORKLOAD` (declared, or made there by `ip netns add`), or a network.
    pub fn place(&self, name: &str) -> Result<Place> {
        let record = self.record();
        if let Some((host, workload)) = name.split_once('/') {
            let place = host_place(&record, host)?;
            return match place.netns(workload) {
                Err(Error::Host { source, .. }) if source.missing() => {
                    let known = place.inside(|| NetNs::names().unwrap_or_default())?;
                    Err(no_such_place(&record, &format!("workload {name}"), &known))
                }
                other => other.map(|inner| inner.with_env("WEFT_LAB_WORKLOAD", workload)),
            };
        }
        if record.spec.hosts.iter().any(|h| h.name == name) {
            return host_place(&record, name);
        }
        if record.spec.networks.iter().any(|n| n.name == name) {
            return network_place(&record, name);
        }
        let names =
            record.spec.hosts.iter().map(|h| &h.name).chain(record.spec.networks.iter().map(|n| &n.name));
        Err(no_such_place(&record, &format!("host or network {name}"), &names.cloned().collect::<Vec<_>>()))
    }

    /// A host.
    ///
    /// # Panics
    /// If there is none of that name. For tests; see [`Lab::place`].
    #[track_caller]
    pub fn host(&self, name: &str) -> Place {
        self.place(name).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A workload of a host.
    ///
    /// # Panics
    /// If there is none of that name. For tests; see [`Lab::place`].
    #[track_caller]
    pub fn workload(&self, host: &str, name: &str) -> Place {
        self.place(&format!("{host}/{name}")).unwrap_or_else(|e| panic!("{e}"))
    }

    /// An underlay network: capture on its device `bridge`.
    ///
    /// # Panics
    /// If there is none of that name. For tests; see [`Lab::place`].
    #[track_caller]
    pub fn network(&self, name: &str) -> Place {
        self.place(name).unwrap_or_else(|e| panic!("{e}"))
    }

    fn run_spec(&self, host: &str, name: &str) -> Result<(String, RunSpec)> {
        let record = self.record();
        let hosts = record.spec.hosts.iter().enumerate().filter(|(_, h)| h.name == host);
        let mut all = hosts.flat_map(|(i, h)| h.run.iter().enumerate().map(move |(j, r)| (i, j, r)));
        match all.find(|(_, _, r)| r.name == name) {
            Some((i, j, run)) => Ok((format!("hosts[{i}].run[{j}]"), run.clone())),
            None => {
                let known = record
                    .spec
                    .hosts
                    .iter()
                    .flat_map(|h| h.run.iter().map(|r| format!("{}/{}", h.name, r.name)));
                Err(no_such_place(&record, &format!("command {host}/{name}"), &known.collect::<Vec<_>>()))
            }
        }
    }

    /// Starts a `run:` command of a host (again) and waits until it is ready. No fault if it runs.
    pub fn start(&self, host: &str, name: &str) -> Result<()> {
        let (field, run) = self.run_spec(host, name)?;
        if self.pid(host, name).is_some() {
            return Ok(());
        }
        let place = self.place(host)?;
        let started = service::start(&place, &run, &field)?;
        let process = started.process;
        {
            let mut record = self.record();
            record.services.retain(|s| s.host != host || s.name != name);
            let (host, name) = (host.to_owned(), name.to_owned());
            record.services.push(Service { host, name, pid: process.pid, start: process.start });
            record.save()?;
        }
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(started.child);
        let log = service::log_file(&place, name);
        let lost = || (!process.alive()).then(|| service::ended(&field, &run, "see its log", &log));
        match &run.ready {
            Some(ready) => {
                self.wait_for(host, ready, &format!("{field}.ready"), lost, || service::tail(&log))
            }
            None => Ok(()),
        }
    }

    /// Kills (SIGKILL) a `run:` command of a host and its process group; false if it did not run.
    pub fn kill(&self, host: &str, name: &str) -> Result<bool> {
        let Some(pid) = self.pid(host, name) else { return Ok(false) };
        self.signal(host, name, 9)?;
        kill_group(pid);
        self.await_end(host, name);
        Ok(true)
    }

    /// Sends a signal to a `run:` command of a host; false if it does not run.
    pub fn signal(&self, host: &str, name: &str, signal: i32) -> Result<bool> {
        let record = self.record();
        let Some(service) = record.services.iter().find(|s| s.host == host && s.name == name) else {
            return Ok(false);
        };
        service.process().signal(signal).at(format!("signal {host}/{name}"))
    }

    /// Asks a `run:` command of a host to end (SIGTERM) and waits; true if it ended within `patience`.
    pub fn stop(&self, host: &str, name: &str, patience: Duration) -> Result<bool> {
        self.signal(host, name, 15)?;
        let end = std::time::Instant::now() + patience;
        while self.pid(host, name).is_some() {
            if std::time::Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }

    /// The process of a `run:` command of a host, if it runs.
    pub fn pid(&self, host: &str, name: &str) -> Option<i32> {
        let record = self.record();
        let service = record.services.iter().find(|s| s.host == host && s.name == name)?;
        service.process().alive().then_some(service.pid)
    }

    /// What a `run:` command of a host has said, over all its starts.
    pub fn log(&self, host: &str, name: &str) -> Result<String> {
        let path = service::log_file(&self.place(host)?, name);
        let bytes = std::fs::read(&path).at(format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn await_end(&self, host: &str, name: &str) {
        while self.pid(host, name).is_some() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn wait_for(
        &self,
        host: &str,
        condition: &Condition,
        field: &str,
        lost: impl Fn() -> Option<Error>,
        hint: impl Fn() -> String,
    ) -> Result<()> {
        // The place may be a namespace that is still to be made, by a command of the host.
        let place = self.place(condition.on.as_deref().unwrap_or(host))?;
        wait::wait(&place, condition, field, lost, hint)
    }

    /// Starts what `run:` asks for, waits, and runs `setup:`; all hosts at once, then the lab's own waits and checks.
    fn bring_up(&self) -> Result<()> {
        let spec = self.spec();
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let hosts: Vec<_> = spec.hosts.iter().enumerate().collect();
            let threads: Vec<_> =
                hosts.into_iter().map(|(i, host)| scope.spawn(move || self.bring_up_host(i, host))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        });
        results.into_iter().collect::<Result<()>>()?;
        for (i, condition) in spec.wait.iter().enumerate() {
            self.wait_for("", condition, &format!("wait[{i}]"), || None, String::new)?;
        }
        for (i, check) in spec.check.iter().enumerate() {
            self.check_one(&format!("check[{i}]"), check)?;
        }
        self.all_run(&spec)?;
        let mut record = self.record();
        record.stage = Stage::Up;
        record.save()
    }

    fn bring_up_host(&self, i: usize, host: &HostSpec) -> Result<()> {
        for run in &host.run {
            self.start(&host.name, &run.name)?;
        }
        for (j, condition) in host.wait.iter().enumerate() {
            self.wait_for(&host.name, condition, &format!("hosts[{i}].wait[{j}]"), || None, String::new)?;
        }
        let place = self.place(&host.name)?;
        for (j, line) in host.setup.iter().enumerate() {
            run_line(&place, &format!("hosts[{i}].setup[{j}]"), line)?;
        }
        Ok(())
    }

    /// Every `run:` command lives. One that says when it is `ready` has shown it; others get time to fail.
    fn all_run(&self, spec: &LabSpec) -> Result<()> {
        if spec.hosts.iter().flat_map(|h| &h.run).any(|r| r.ready.is_none()) {
            std::thread::sleep(SETTLE);
        }
        for (i, host) in spec.hosts.iter().enumerate() {
            for (j, run) in host.run.iter().enumerate() {
                if self.pid(&host.name, &run.name).is_none() {
                    let log = service::log_file(&self.place(&host.name)?, &run.name);
                    return Err(service::ended(&format!("hosts[{i}].run[{j}]"), run, "see its log", &log));
                }
            }
        }
        Ok(())
    }

    fn check_one(&self, field: &str, check: &CheckSpec) -> Result<()> {
        let said = run_line(&self.place(&check.on)?, &format!("{field}.command"), &check.command)?;
        match &check.expect {
            Some(expect) if !said.contains(expect) => Err(Error::Command {
                field: format!("{field}.expect"),
                command: check.command.clone(),
                status: format!("its output lacks {expect:?}"),
                output: service::indent(&said),
            }),
            _ => Ok(()),
        }
    }

    fn restart_ended(&self) -> Result<Vec<String>> {
        let mut restarted = Vec::new();
        for host in &self.spec().hosts {
            for run in &host.run {
                if self.pid(&host.name, &run.name).is_none() {
                    self.start(&host.name, &run.name)?;
                    restarted.push(format!("{}/{}", host.name, run.name));
                }
            }
        }
        Ok(restarted)
    }

    /// Waits for ended children, so that they do not stay zombies.
    fn reap(&self) {
        for child in self.children.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let _ = child.try_wait();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.down_on_drop {
            if let Err(e) = Self::down_by_name(&self.name, Duration::ZERO) {
                eprintln!("{e}");
            }
            self.reap();
        }
    }
}

/// Runs one shell line; what it said.
fn run_line(place: &Place, field: &str, line: &str) -> Result<String> {
    let output = place.try_sh(line)?;
    let said = format!("{}{}", output.stdout, output.stderr);
    if output.success() {
        return Ok(said);
    }
    Err(Error::Command {
        field: field.to_owned(),
        command: line.trim().to_owned(),
        status: format!("status {} on {}", output.code, place.label()),
        output: service::indent(&said),
    })
}

/// The running program, if it is `weft`; else what `$WEFT_BIN` names.
fn own_weft() -> Option<PathBuf> {
    let own = std::env::current_exe().ok().filter(|p| p.file_name().is_some_and(|n| n == "weft"));
    own.or_else(|| std::env::var_os("WEFT_BIN").map(PathBuf::from))
}

fn all_present(record: &Record) -> bool {
    let mounts = |h: &HostSpec| MountNs::open(&layout::mount_ns_file(&record.spec.name, &h.name)).is_ok();
    record.namespaces.iter().all(|n| present(record, &n.name)) && record.spec.hosts.iter().all(mounts)
}

/// A host as a place to run things.
pub(crate) fn host_place(record: &Record, name: &str) -> Result<Place> {
    let lab = &record.spec.name;
    let Some(host) = record.spec.hosts.iter().find(|h| h.name == name) else {
        let known: Vec<_> = record.spec.hosts.iter().map(|h| h.name.clone()).collect();
        return Err(no_such_place(record, &format!("host {name}"), &known));
    };
    let net = NetNs::open(&layout::ns_name(lab, name)).at(name)?;
    let mounts = MountNs::open(&layout::mount_ns_file(lab, name)).at(name)?;
    let dir = layout::host_dir(lab, name);
    let mut env = base_env(record, &dir);
    for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "WEFT_RUNDIR"] {
        env.push((variable.into(), dir.clone().into_os_string()));
    }
    env.push(("WEFT_LAB_HOST".into(), name.into()));
    env.extend(host.env.iter().map(|(k, v)| (k.into(), v.into())));
    Ok(Place { label: name.to_owned(), net: Arc::new(net), mounts: Some(Arc::new(mounts)), env, dir })
}

fn network_place(record: &Record, name: &str) -> Result<Place> {
    let net = NetNs::open(&layout::ns_name(&record.spec.name, name)).at(name)?;
    let dir = layout::lab_dir(&record.spec.name);
    let env = base_env(record, &dir);
    Ok(Place { label: name.to_owned(), net: Arc::new(net), mounts: None, env, dir })
}

fn base_env(record: &Record, dir: &Path) -> Vec<(OsString, OsString)> {
    let mut path = dir.join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()));
    vec![
        ("PATH".into(), path),
        ("WEFT_LAB".into(), record.spec.name.clone().into()),
        (ID_VARIABLE.into(), record.id.clone().into()),
    ]
}

fn no_such_lab(name: &str) -> Error {
    let names = record::names();
    let known = if names.is_empty() { "none is".into() } else { format!("these are: {}", names.join(", ")) };
    Error::NoSuchLab { name: name.to_owned(), known }
}

fn no_such_place(record: &Record, what: &str, known: &[String]) -> Error {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Error::NoSuchPlace { lab: record.spec.name.clone(), what: what.to_owned(), known }
}
