//! When has a condition come true?

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::place::Place;
use crate::spec::Condition;
use crate::{Error, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Waits for `condition`, looking often at first. `lost` tells, with the reason, that it can no longer come true.
pub(crate) fn wait(
    place: &Place,
    condition: &Condition,
    field: &str,
    lost: impl Fn() -> Option<Error>,
    hint: impl Fn() -> String,
) -> Result<()> {
    let end = Instant::now() + Duration::from_secs_f64(condition.seconds);
    let mut pause = FIRST_PAUSE;
    loop {
        let said = match holds(place, condition)? {
            Ok(()) => return Ok(()),
            Err(said) => said,
        };
        if let Some(error) = lost() {
            return Err(error);
        }
        if Instant::now() >= end {
            return Err(Error::Timeout {
                field: field.to_owned(),
                what: describe(place, condition),
                seconds: condition.seconds,
                output: crate::service::indent(&said) + &hint(),
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether it holds now; if not, what was said about it.
fn holds(place: &Place, condition: &Condition) -> Result<std::result::Result<(), String>> {
    let inner = |good: bool| if good { Ok(()) } else { Err(String::new()) };
    if let Some(socket) = &condition.socket {
        let path = place.dir.join(socket);
        return Ok(inner(place.inside(|| UnixStream::connect(&path).is_ok())?));
    }
    if let Some(file) = &condition.file {
        let path = place.dir.join(file);
        return Ok(inner(place.inside(|| path.exists())?));
    }
    if let Some(ip) = condition.ping {
        return Ok(inner(place.ping(ip, Duration::ZERO)?.is_some()));
    }
    let output = place.try_sh(condition.command.as_deref().unwrap_or("true"))?;
    Ok(if output.success() { Ok(()) } else { Err(output.stdout + &output.stderr) })
}

fn describe(place: &Place, condition: &Condition) -> String {
    let what = if let Some(socket) = &condition.socket {
        format!("socket {socket} to accept connections")
    } else if let Some(file) = &condition.file {
        format!("file {file}")
    } else if let Some(ip) = condition.ping {
        format!("{ip} to answer ping")
    } else {
        format!("`{}` to succeed", condition.command.as_deref().unwrap_or_default())
    };
    format!("{what} on {}", place.label())
}
