//! What is logged, where, and how much? The levels of `vlog/set`, for every module and destination.
//!
//! [`Vlog`] is a `tracing` layer. An event's module is the first part of its target that says something: the crate for
//! other rooms (`datapath`), the module inside this one (`stream`).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::pattern::{Line, Pattern};

/// Every module that logs.
pub(crate) const MODULES: &[&str] = &[
    "bridge",
    "datapath",
    "daemon",
    "db",
    "host",
    "netlink",
    "openflow",
    "ovsdb",
    "pipeline",
    "reconcile",
    "stream",
    "tunnel",
    "unixctl",
    "vlog",
    "weft",
];

/// How much is told, in the words of `vlog/set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub(crate) enum Severity {
    Off,
    Emer,
    Err,
    Warn,
    Info,
    Dbg,
}

impl Severity {
    const ALL: [(Severity, &'static str); 6] = [
        (Severity::Off, "off"),
        (Severity::Emer, "emer"),
        (Severity::Err, "err"),
        (Severity::Warn, "warn"),
        (Severity::Info, "info"),
        (Severity::Dbg, "dbg"),
    ];
    fn by_name(name: &str) -> Option<Severity> {
        Self::ALL.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(s, _)| *s)
    }
    fn name(self) -> String {
        Self::ALL[self as usize].1.to_ascii_uppercase()
    }
    fn of(level: &Level) -> Severity {
        match *level {
            Level::ERROR => Severity::Err,
            Level::WARN => Severity::Warn,
            Level::INFO => Severity::Info,
            Level::DEBUG | Level::TRACE => Severity::Dbg,
        }
    }
}

/// Where a message may go.
const DESTINATIONS: [&str; 3] = ["console", "syslog", "file"];
const CONSOLE: usize = 0;
const SYSLOG: usize = 1;
const FILE: usize = 2;

struct State {
    /// Level by module and destination.
    levels: Vec<[Severity; 3]>,
    /// How lines look, by destination.
    patterns: [Pattern; 3],
    /// Modules whose warnings are not rationed.
    unrationed: Vec<&'static str>,
    path: Option<PathBuf>,
    file: Option<File>,
    syslog: Option<std::os::unix::net::UnixDatagram>,
    /// By file and line.
    warnings: HashMap<(&'static str, u32), Bucket>,
}

impl State {
    /// Whether a message may be told, by how often its place in the program warns: peers must not fill the disk.
    fn admit(&mut self, metadata: &'static Metadata<'static>) -> Option<u64> {
        if *metadata.level() != Level::WARN || self.unrationed.contains(&module_of(metadata.target())) {
            return Some(0);
        }
        let place = (metadata.file().unwrap_or(""), metadata.line().unwrap_or(0));
        let now_ms = crate::clock::now_ms();
        let bucket =
            self.warnings.entry(place).or_insert(Bucket { left: BURST, filled_ms: now_ms, withheld: 0 });
        bucket.take(now_ms)
    }
}

/// Warnings from one place in the program that may come at once.
const BURST: u32 = 30;
/// After how many milliseconds one more may come.
const REFILL_MS: u64 = 2_000;

/// How many warnings one place in the program may still give.
struct Bucket {
    left: u32,
    filled_ms: u64,
    withheld: u64,
}

impl Bucket {
    /// Whether a warning may be told now, and how many were withheld since the last.
    fn take(&mut self, now_ms: u64) -> Option<u64> {
        let refills = now_ms.saturating_sub(self.filled_ms) / REFILL_MS;
        self.left = u32::try_from(refills).unwrap_or(BURST).saturating_add(self.left).min(BURST);
        self.filled_ms += refills * REFILL_MS;
        if self.left == 0 {
            self.withheld += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.withheld))
    }
}

/// The log: a `tracing` layer, and the handle to change what it tells.
#[derive(Clone)]
pub(crate) struct Vlog {
    state: Arc<Mutex<State>>,
    sequence: Arc<AtomicU64>,
}

impl Default for Vlog {
    fn default() -> Self {
        let levels = vec![[Severity::Info; 3]; MODULES.len()];
        Vlog {
            state: Arc::new(Mutex::new(State {
                levels,
                patterns: Pattern::defaults(),
                unrationed: Vec::new(),
                path: None,
                file: None,
                syslog: None,
                warnings: HashMap::new(),
            })),
            sequence: Arc::new(AtomicU64::new(0)),
        }
    }
}

impl Vlog {
    /// Makes this log the process's. Later calls have no effect.
    pub(crate) fn install(&self) {
        use tracing_subscriber::layer::SubscriberExt;
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(self.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs into this file too, appending.
    pub(crate) fn set_file(&self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let mut state = self.lock();
        state.file = Some(file);
        state.path = Some(path.to_owned());
        Ok(())
    }

    /// Logs to the system log too, if there is one.
    pub(crate) fn set_syslog(&self) {
        let connect = || {
            let socket = std::os::unix::net::UnixDatagram::unbound()?;
            socket.connect("/dev/log")?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(socket)
        };
        self.lock().syslog = connect().ok();
    }

    /// Opens the log file again, as after log rotation.
    pub(crate) fn reopen(&self) -> Result<(), String> {
        let Some(path) = self.lock().path.clone() else {
            return Err("Logging to file not configured".into());
        };
        self.set_file(&path).map_err(|e| e.to_string())
    }

    /// Closes the log file until it is opened again.
    pub(crate) fn close(&self) {
        self.lock().file = None;
    }

    /// Changes levels by a specification of ovs-appctl(8): words of which at most one is a module, one a destination
    /// and one a level.
    pub(crate) fn set(&self, spec: &str) -> Result<(), String> {
        let (mut module, mut destination, mut level) = (None, None, None);
        if let Some(rest) = spec.strip_prefix("PATTERN:") {
            return self.set_pattern(rest);
        }
        if spec.len() > "FACILITY:".len() && spec.starts_with("FACILITY:") {
            return Ok(());
        }
        for word in spec.split([' ', ',', ':']).filter(|w| !w.is_empty()) {
            if let Some(found) = Severity::by_name(word) {
                level = Some(found);
            } else if let Some(found) = DESTINATIONS.iter().position(|d| d.eq_ignore_ascii_case(word)) {
                destination = Some(found);
            } else if let Some(found) = MODULES.iter().position(|m| m.eq_ignore_ascii_case(word)) {
                module = Some(found);
            } else if !word.eq_ignore_ascii_case("any") {
                return Err(format!("no destination, level, or module \"{word}\""));
            }
        }
        let level = level.unwrap_or(Severity::Dbg);
        let mut state = self.lock();
        for (m, levels) in state.levels.iter_mut().enumerate() {
            for (d, current) in levels.iter_mut().enumerate() {
                if module.is_none_or(|wanted| wanted == m) && destination.is_none_or(|wanted| wanted == d) {
                    *current = level;
                }
            }
        }
        drop(state);
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// The table of `vlog/list`.
    pub(crate) fn list(&self) -> String {
        let mut out = String::from("                 console    syslog    file\n");
        out.push_str("                 -------    ------    ------\n");
        for (module, levels) in MODULES.iter().zip(&self.lock().levels) {
            let [c, s, f] = levels.map(Severity::name);
            let _ = writeln!(out, "{module:<16}  {c:<4}       {s:<4}       {f:<4}");
        }
        out
    }

    /// Changes how lines look: `DESTINATION:PATTERN`.
    fn set_pattern(&self, spec: &str) -> Result<(), String> {
        let (name, text) = spec.split_once(':').ok_or("missing pattern")?;
        let found = DESTINATIONS.iter().position(|d| d.eq_ignore_ascii_case(name));
        let all = name.eq_ignore_ascii_case("any");
        if found.is_none() && !all {
            return Err(format!("unknown destination \"{name}\""));
        }
        let mut state = self.lock();
        for (n, pattern) in state.patterns.iter_mut().enumerate() {
            if all || found == Some(n) {
                *pattern = Pattern::new(text);
            }
        }
        Ok(())
    }

    /// The table of `vlog/list-pattern`.
    pub(crate) fn patterns(&self) -> String {
        let mut out = String::from("         prefix                            format\n");
        out.push_str("         ------                            ------\n");
        let state = self.lock();
        for n in [SYSLOG, CONSOLE, FILE] {
            let prefix = if n == SYSLOG { "<%B>" } else { "none" };
            let name = DESTINATIONS[n].to_ascii_uppercase();
            let _ = writeln!(out, "{name:<8} {prefix:<33} {}", state.patterns[n]);
        }
        out
    }

    /// Rations warnings of these modules, or all, or lets all of them through.
    pub(crate) fn ration(&self, modules: &[String], on: bool) -> Result<(), String> {
        let find = |name: &String| {
            let found = MODULES.iter().find(|m| m.eq_ignore_ascii_case(name)).copied();
            found.ok_or_else(|| "unknown module".to_owned())
        };
        let named: Vec<&'static str> = match modules.is_empty() {
            true => MODULES.to_vec(),
            false => modules.iter().map(find).collect::<Result<_, _>>()?,
        };
        let mut state = self.lock();
        state.unrationed.retain(|m| !named.contains(m));
        if !on {
            state.unrationed.extend(named);
        }
        Ok(())
    }

    fn levels(&self, metadata: &Metadata<'_>) -> [Severity; 3] {
        let name = module_of(metadata.target());
        let state = self.lock();
        let mut levels = match MODULES.iter().position(|m| *m == name) {
            Some(position) => state.levels[position],
            // A library's: only what is wrong.
            None => [Severity::Warn; 3],
        };
        for (level, open) in levels.iter_mut().zip([true, state.syslog.is_some(), state.file.is_some()]) {
            if !open {
                *level = Severity::Off;
            }
        }
        levels
    }
}

/// `weft_switch::stream::tls` → `stream`, `weft_datapath::lane` → `datapath`, anything else → its first part.
fn module_of(target: &str) -> &str {
    let mut parts = target.split("::");
    let first = parts.next().unwrap_or("");
    match first.strip_prefix("weft_") {
        Some("switch") => match parts.next() {
            Some("process") | None => "daemon",
            Some(module) => module,
        },
        Some(room) => room,
        None => first,
    }
}

impl<S: Subscriber> Layer<S> for Vlog {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let wanted = Severity::of(metadata.level());
        metadata.is_event() && self.levels(metadata).iter().any(|level| *level >= wanted)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let severity = Severity::of(event.metadata().level());
        let levels = self.levels(event.metadata());
        let module = module_of(event.metadata().target());
        let mut state = self.lock();
        let Some(withheld) = state.admit(event.metadata()) else { return };
        let number = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let mut body = text.message + &text.fields;
        if withheld > 0 {
            let _ = write!(body, " ({withheld} more like this were withheld)");
        }
        let level = severity.name();
        let line = Line { number, module, level: &level, body: &body, at: SystemTime::now() };
        if levels[CONSOLE] >= severity {
            let _ = writeln!(io::stderr(), "{}", state.patterns[CONSOLE].write(&line));
        }
        let written = state.patterns[FILE].write(&line) + "\n";
        if levels[FILE] >= severity
            && let Some(file) = &mut state.file
        {
            let _ = file.write_all(written.as_bytes());
        }
        if levels[SYSLOG] >= severity
            && let Some(socket) = &state.syslog
        {
            // RFC 3164: facility daemon (3), severities 0, 3, 4, 6, 7.
            let code = [7, 0, 3, 4, 6, 7][severity as usize];
            let _ =
                socket.send(format!("<{}>{}", 3 * 8 + code, state.patterns[SYSLOG].write(&line)).as_bytes());
        }
    }
}

/// Message and fields of an event as text.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_change_what_they_name() {
        let log = Vlog::default();
        let position = |name: &str| MODULES.iter().position(|m| *m == name).unwrap();
        log.set("stream:file:dbg").unwrap();
        assert_eq!(log.lock().levels[position("stream")], [Severity::Info, Severity::Info, Severity::Dbg]);
        assert_eq!(log.lock().levels[position("bridge")], [Severity::Info; 3]);
        log.set("console,OFF").unwrap();
        assert_eq!(log.lock().levels[position("bridge")][CONSOLE], Severity::Off);
        assert_eq!(log.set("foo").unwrap_err(), "no destination, level, or module \"foo\"");
        assert_eq!(log.set("foo:bar").unwrap_err(), "no destination, level, or module \"foo\"");
        log.set("any").unwrap();
        assert_eq!(log.lock().levels[0], [Severity::Dbg; 3]);
    }

    #[test]
    fn warnings_are_rationed() {
        let mut bucket = Bucket { left: BURST, filled_ms: 0, withheld: 0 };
        assert!((0..BURST).all(|_| bucket.take(0) == Some(0)));
        assert_eq!((bucket.take(0), bucket.take(1)), (None, None));
        assert_eq!(bucket.take(REFILL_MS), Some(2));
        assert_eq!(bucket.take(REFILL_MS), None);
        assert_eq!(bucket.take(u64::MAX), Some(1));
    }

    #[test]
    fn modules_come_from_targets() {
        let cases = [
            ("weft_switch::stream::tls", "stream"),
            ("weft_switch::process::vlog", "daemon"),
            ("weft_datapath::lane", "datapath"),
            ("bridge", "bridge"),
            ("rustls::x", "rustls"),
        ];
        for (target, module) in cases {
            assert_eq!(module_of(target), module);
        }
    }
}
