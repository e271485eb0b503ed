//! How does another process call a command of the running switch?

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use weft_host::procfs::Pidfile;
use weft_ovsdb::rpc::{Decoder, FrameLimits};

use crate::process::paths::Daemon;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No switch runs there.
    #[error("no switch runs with run directory {0} (start one with `weft switch`)")]
    NotRunning(String),
    /// The conversation broke.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// What came is no answer.
    #[error("{0}: the answer is not JSON-RPC")]
    Protocol(String),
    /// The command failed; its own words.
    #[error("{}", .0.trim_end())]
    Refused(String),
}

/// Calls a command of the switch that runs in `rundir` and returns what it says.
///
/// # Errors
/// See [`ClientError`].
pub fn call(rundir: &Path, daemon: Daemon, method: &str, params: &[&str]) -> Result<String, ClientError> {
    let pidfile = rundir.join(format!("{}.pid", daemon.name()));
    let pid = Pidfile::read(&pidfile).ok_or_else(|| ClientError::NotRunning(rundir.display().to_string()))?;
    let socket = rundir.join(format!("{}.{pid}.ctl", daemon.name()));
    let io = |e| ClientError::Io(socket.display().to_string(), e);
    let mut stream = UnixStream::connect(&socket).map_err(io)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    let request = json!({"id": 0, "method": method, "params": params});
    stream.write_all(request.to_string().as_bytes()).map_err(io)?;
    let mut decoder = Decoder::new(FrameLimits { bytes: 256 << 20, depth: 16, values: 64 });
    let mut buf = vec![0; 64 << 10];
    loop {
        let n = stream.read(&mut buf).map_err(io)?;
        if n == 0 {
            return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        decoder.feed(&buf[..n]);
        match decoder.next() {
            None => {}
            Some(Ok(answer)) => return read_answer(&answer),
            Some(Err(_)) => return Err(ClientError::Protocol(socket.display().to_string())),
        }
    }
}

fn read_answer(answer: &Value) -> Result<String, ClientError> {
    match (answer.get("result").and_then(Value::as_str), answer.get("error").and_then(Value::as_str)) {
        (_, Some(error)) => Err(ClientError::Refused(error.to_owned())),
        (Some(result), None) => Ok(result.to_owned()),
        (None, None) => Err(ClientError::Protocol(answer.to_string())),
    }
}
