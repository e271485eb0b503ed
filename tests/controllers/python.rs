//! Where are the controllers that are written in Python? In a virtual environment that `scripts/controllers` makes.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::Switch;

/// Directory of the environment.
fn home() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    target.join("controllers")
}

/// A program of the environment.
pub(crate) fn program(name: &str) -> String {
    let path = home().join("bin").join(name);
    assert!(path.exists(), "{} is not there: run scripts/controllers", path.display());
    path.display().to_string()
}

/// A sample application of os-ken.
pub(crate) fn app(name: &str) -> String {
    let path = home().join("apps").join(format!("{name}.py"));
    assert!(path.exists(), "{} is not there: run scripts/controllers", path.display());
    path.display().to_string()
}

/// A controller that runs in the switch's namespace; it ends when dropped.
pub(crate) struct Controller {
    child: Child,
    log: PathBuf,
}

impl Controller {
    /// Starts a program.
    pub(crate) fn start(switch: &Switch, words: &[&str], env: &[(&str, String)]) -> Controller {
        let log = switch.path("controller.log");
        let file = std::fs::File::create(&log).expect("a log");
        let mut command: Command = switch.inside(words);
        command.envs(env.iter().map(|(k, v)| (*k, v)));
        // faucet looks for os-ken's manager there.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", home().join("bin").display()));
        command.stdout(file.try_clone().expect("a log")).stderr(file).stdin(Stdio::null());
        Controller { child: command.spawn().expect("start the controller"), log }
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("the controller wrote:\n{}", self.log());
        }
    }
}
