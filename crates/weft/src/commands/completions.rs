//! `weft completions`: what does a shell need to complete commands, and names of what is there?

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::Shells;
use weft_api::ListQuery;
use weft_model::Kind;

use super::Outcome;
use super::place::Where;
use super::resource::wait;

const EXAMPLES: &str = "\
Examples:
  weft completions bash > /usr/share/bash-completion/completions/weft
  weft completions zsh > ~/.zfunc/_weft
  source <(weft completions bash)              for this shell only

The shell asks `weft` itself what fits, names of resources included: make the file anew with a new
version.";

/// The variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";
/// Who presses a key does not wait longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Arguments of `weft completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

/// Runs `weft completions`.
pub(crate) fn exec(args: &Args) -> Outcome {
    let (name, shells) = (args.shell.to_string(), Shells::builtins());
    let completer = shells.completer(&name).ok_or_else(|| format!("{name} cannot be completed for"))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "weft", "weft", "weft", &mut script)?;
    match std::io::stdout().write_all(&script) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Completes a kind of resource.
pub(crate) fn kinds() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        Kind::ALL.into_iter().map(|k| CompletionCandidate::new(k.plural())).collect::<Vec<_>>()
    })
}

/// Completes names of resources of the kind that the line has already.
pub(crate) fn names() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let words = words();
        let kind = words.iter().find_map(|word| word.parse::<Kind>().ok());
        kind.map(|kind| live(kind, &words)).unwrap_or_default()
    })
}

/// Completes names of networks.
pub(crate) fn networks() -> ArgValueCandidates {
    ArgValueCandidates::new(|| live(Kind::Network, &words()))
}

/// The line to be completed: a shell gives it behind `--`.
fn words() -> Vec<String> {
    let words = std::env::args_os().skip_while(|word| word != "--");
    words.skip(3).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Names that the agent knows; none when nobody answers.
fn live(kind: Kind, words: &[String]) -> Vec<CompletionCandidate> {
    let Some(place) = Where::of_words(words) else { return Vec::new() };
    let found = wait(async {
        let (client, query) = (place.client()?, ListQuery::default());
        Ok(tokio::time::timeout(PATIENCE, client.list(Some(kind), &query)).await??)
    });
    let items = found.map(|answer| answer.items).unwrap_or_default();
    items.iter().map(|resource| CompletionCandidate::new(resource.name())).collect()
}
