//! How is a switch started, asked and killed in a test?

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use weft_host::netns::NetNs;
use weft_ovsdb::log::{LogReader, Tail};
use weft_switch::{Options, Paths};

/// Set in the environment of the process that is to be the switch: its directory.
const DIRECTORY: &str = "WEFT_TEST_SWITCH";
/// How long something that will happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the switch, in the process that was started for it.
pub(crate) fn be_the_switch_if_asked() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let dir = PathBuf::from(dir);
    let options = Options {
        paths: Paths::resolve(Some(&dir), Some(&dir.join("conf.db"))),
        remotes: Vec::new(),
        pidfile: None,
        no_chdir: true,
        log_file: Some(dir.join("switch.log")),
        verbose: vec!["console:off".into()],
        lanes: Some(1),
    };
    if let Err(e) = weft_switch::run(&options) {
        eprintln!("{e}");
        std::process::exit(1);
    }
}

/// A switch in a network namespace of its own. Everything goes when it is dropped.
pub(crate) struct Switch {
    pub(crate) ns: String,
    pub(crate) dir: tempfile::TempDir,
    child: Option<Child>,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Switch {
    /// A switch with an empty database, ready.
    pub(crate) fn start() -> Switch {
        let mut switch = Switch::prepare();
        switch.spawn();
        switch
    }

    /// Namespace and directory without a process.
    pub(crate) fn prepare() -> Switch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let ns = format!("weft-t{}-{number}", std::process::id());
        NetNs::create(&ns).expect("make a network namespace (root is needed)");
        let dir = tempfile::Builder::new().prefix("wsw").tempdir_in("/tmp").expect("make a directory");
        let switch = Switch { ns, dir, child: None };
        switch.ok("ip link set lo up");
        switch
    }

    /// Starts the process and waits until it serves.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "one at a time");
        let program = std::env::current_exe().expect("our own path");
        let child = self
            .command(&["ip", "netns", "exec", &self.ns])
            .arg(program)
            .args(["--exact", "the_switch_itself", "--nocapture"])
            .env(DIRECTORY, self.dir.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.path("stderr")).expect("create a file"))
            .spawn()
            .expect("start the switch");
        self.child = Some(child);
        self.wait_for("the switch answers", || self.appctl("version").code == 0);
    }

    /// Kills the process without warning.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("kill the switch");
        child.wait().expect("wait for the switch");
    }

    /// Waits for the process to end by itself and tells whether it ended well.
    pub(crate) fn wait_end(&mut self) -> bool {
        let mut child = self.child.take().expect("it runs");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = child.try_wait().expect("look at the switch") {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().expect("kill the switch");
        child.wait().expect("wait for the switch");
        panic!("the switch does not end");
    }

    /// A file in the switch's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"] {
            command.env(variable, self.dir.path());
        }
        command
    }

    /// Runs a command in the switch's namespace. Words are separated by spaces, or quoted by `'`.
    pub(crate) fn run(&self, line: &str) -> Said {
        let words = split(line);
        let output: Output = self
            .command(&["ip", "netns", "exec", &self.ns, "timeout", "20"])
            .args(&words)
            .output()
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed, and returns what it says without the last line feed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}\n{}{}\n{}", said.out, said.err, self.log());
        said.out.trim_end().to_owned()
    }

    /// `ovs-vsctl`, which must succeed.
    pub(crate) fn vsctl(&self, args: &str) -> String {
        self.ok(&format!("ovs-vsctl --timeout=10 {args}"))
    }

    /// `ovs-appctl` to the switch.
    pub(crate) fn appctl(&self, args: &str) -> Said {
        self.run(&format!("ovs-appctl {args}"))
    }

    /// Waits until something is true.
    pub(crate) fn wait_for(&self, what: &str, is: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < until, "not in time: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of the switch's log.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path("switch.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let panic = std::fs::read_to_string(self.path("stderr")).unwrap_or_default();
        format!("{}\n{panic}", lines[lines.len().saturating_sub(30)..].join("\n"))
    }

    /// Asserts that Debian's tools read the database and find it whole.
    pub(crate) fn check_database(&self) {
        check_database(&self.path("conf.db"));
    }

    /// A workload: a namespace with `eth0` and this address, whose other end is the device `name` here.
    pub(crate) fn workload(&self, name: &str, address: &str) -> Workload {
        let ns = format!("{}{name}", self.ns);
        NetNs::create(&ns).expect("make a network namespace");
        let workload = Workload { ns };
        let ns = &workload.ns;
        self.ok(&format!("ip link add name {name} type veth peer name eth0 netns {ns}"));
        self.ok(&format!("ip link set dev {name} up"));
        self.ok(&format!("ip -n {ns} link set dev lo up"));
        self.ok(&format!("ip -n {ns} addr add {address} dev eth0 nodad"));
        self.ok(&format!("ip -n {ns} link set eth0 up"));
        workload
    }

    /// Whether a workload reaches an address within the usual patience.
    pub(crate) fn pings(&self, from: &Workload, to: &str) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.run(&format!("ip netns exec {} ping -c1 -W1 {to}", from.ns)).code == 0 {
                return true;
            }
        }
        false
    }

    /// Whether a workload gets no answer from an address.
    pub(crate) fn silent(&self, from: &Workload, to: &str) -> bool {
        self.run(&format!("ip netns exec {} ping -c2 -i0.3 -W1 {to}", from.ns)).code != 0
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = NetNs::delete(&self.ns);
    }
}

/// A namespace that is a host on the network.
pub(crate) struct Workload {
    pub(crate) ns: String,
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = NetNs::delete(&self.ns);
    }
}

/// Asserts what [`check_database`] does of the database of a switch that was killed, up to a record it was writing.
///
/// A signal that ends a process ends its writes between two pages of the file, so the last record may be cut short
/// there; the switch cuts it away when it starts. Nothing else may be wrong.
pub(crate) fn check_killed_database(path: &Path) {
    const PAGE: usize = 4096;
    let bytes = std::fs::read(path).expect("read the database");
    let mut reader = LogReader::new(&bytes);
    let records = reader.by_ref().count();
    let whole = match reader.tail() {
        Tail::Clean => return check_database(path),
        Tail::Torn { reason, more_records } => {
            assert!(!more_records && bytes.len().is_multiple_of(PAGE), "{reason}, {} bytes", bytes.len());
            &bytes[..reader.offset()]
        }
    };
    assert!(records > 0, "no record is whole");
    let cut = path.with_file_name("cut.db");
    std::fs::write(&cut, whole).expect("write a copy");
    check_database(&cut);
}

/// Asserts that `ovsdb-tool` reads a database file to its end and that compacting a copy of it works.
pub(crate) fn check_database(path: &Path) {
    let tool = |args: &[&str]| {
        let output = Command::new("ovsdb-tool").args(args).output().expect("run ovsdb-tool");
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "ovsdb-tool {args:?}: {text}");
        text
    };
    let copy = path.with_file_name(format!("copy-{}.db", std::process::id()));
    let copied = copy.with_extension("compact");
    std::fs::copy(path, &copy).expect("copy the database");
    let _ = std::fs::remove_file(&copied);
    let (copy, copied) = (copy.to_str().expect("UTF-8"), copied.to_str().expect("UTF-8"));
    let log = tool(&["show-log", copy]);
    assert!(!log.contains("WARN") && !log.contains("corrupt"), "{log}");
    tool(&["compact", copy, copied]);
    let query = r#"["Open_vSwitch",{"op":"select","table":"Open_vSwitch","where":[]}]"#;
    tool(&["query", copied, query]);
    std::fs::remove_file(copy).expect("remove the copy");
    std::fs::remove_file(copied).expect("remove the copy");
}

/// Words separated by spaces; `'…'` keeps spaces.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|w| !w.is_empty());
    words
}
