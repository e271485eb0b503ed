//! `weft apply`, `get`, `describe`, `delete`, `diff`, `watch`, `leases`, `status`: what is wanted, and how it fares.

use std::path::PathBuf;
use std::process::ExitCode;

use similar::TextDiff;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use weft_api::{Applied, ListQuery, NodeStatus, WatchEventType, WatchQuery, columns, describe, row};
use weft_model::{Kind, ObjectRef, Resource};

use super::Outcome;
use super::completions::{kinds, names, networks};
use super::place::Where;
use crate::output::{Format, table};

/// Arguments of `weft apply` and `weft diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weft apply -f networks.yaml
  weft apply -f - < networks.yaml
  weft apply -f networks.yaml --dry-run       what would change, and whether it is valid
  weft diff -f networks.yaml                  field by field

Fields that a file no longer names are taken back, if nobody else said them. Fields that somebody
else said are not overwritten without --force.")]
pub(crate) struct ApplyArgs {
    /// Files of resources, YAML or JSON; - for standard input.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Take over fields that others said.
    #[arg(long)]
    force: bool,
    /// Say what would happen, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Where,
}

/// Arguments of `weft get`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weft get networks
  weft get port vm1 -o yaml
  weft get all -l team=blue
  weft get ports -o name")]
pub(crate) struct GetArgs {
    /// Kind: network, subnet, port, router, addresspool, in any of its forms; or `all`.
    #[arg(add = kinds())]
    kind: String,
    /// Names; all if none is given.
    #[arg(add = names())]
    names: Vec<String>,
    /// Only resources with these labels: `key=value`, `key!=value`, `key`, `!key`, with commas.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    #[command(flatten)]
    place: Where,
}

/// Arguments of `weft describe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  weft describe port vm1\n  weft describe network blue")]
pub(crate) struct DescribeArgs {
    /// Kind.
    #[arg(add = kinds())]
    kind: String,
    /// Name.
    #[arg(add = names())]
    name: String,
    #[command(flatten)]
    place: Where,
}

/// Arguments of `weft delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  weft delete port vm1 vm2\n  weft delete -f networks.yaml")]
pub(crate) struct DeleteArgs {
    /// Kind.
    #[arg(required_unless_present = "files", add = kinds())]
    kind: Option<String>,
    /// Names.
    #[arg(required_unless_present = "files", add = names())]
    names: Vec<String>,
    /// Delete what these files name.
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Say what would happen, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Where,
}

/// Arguments of `weft watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  weft watch ports\n  weft watch -o json")]
pub(crate) struct WatchArgs {
    /// Kind; all if none is given.
    #[arg(add = kinds())]
    kind: Option<String>,
    #[command(flatten)]
    place: Where,
}

/// Arguments of `weft leases`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  weft leases\n  weft leases --network blue -o json")]
pub(crate) struct LeasesArgs {
    /// Only of this network.
    #[arg(long, value_name = "NAME", add = networks())]
    network: Option<String>,
    #[command(flatten)]
    place: Where,
}

/// Arguments of `weft status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  weft status\n  weft status -o json")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    place: Where,
}

/// Runs what waits for the server.
pub(crate) fn wait<T>(
    work: impl Future<Output = Result<T, Box<dyn std::error::Error>>>,
) -> Result<T, Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn read(files: &[PathBuf]) -> Result<String, Box<dyn std::error::Error>> {
    let mut all = String::new();
    for file in files {
        let text = crate::input::read(file, weft_model::MAX_TEXT)?;
        if !all.is_empty() {
            all.push_str("\n---\n");
        }
        all.push_str(&text);
    }
    Ok(all)
}

fn kind(word: &str) -> Result<Option<Kind>, Box<dyn std::error::Error>> {
    if word == "all" { Ok(None) } else { Ok(Some(word.parse::<Kind>()?)) }
}

/// Runs `weft apply`.
pub(crate) fn apply(args: &ApplyArgs, format: Format) -> Outcome {
    let text = read(&args.files)?;
    let answer = wait(async { Ok(args.place.client()?.apply(text, args.force, args.dry_run).await?) })?;
    format.print(&answer, |answer| {
        let line = |(resource, what): (&Resource, &Applied)| {
            let dry = if args.dry_run { " (dry run)" } else { "" };
            format!("{} {}{dry}\n", resource.reference(), what.name())
        };
        answer.items.iter().zip(&answer.results).map(line).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `weft diff`. Exits with 1 when something would change.
pub(crate) fn diff(args: &ApplyArgs, format: Format) -> Outcome {
    let text = read(&args.files)?;
    let answer = wait(async { Ok(args.place.client()?.apply(text, args.force, true).await?) })?;
    let changes = answer.results.iter().any(|r| *r != Applied::Unchanged);
    format.print(&answer, |answer| {
        let pairs = answer.items.iter().zip(&answer.before).zip(&answer.results);
        let changed = pairs.filter(|(_, r)| **r != Applied::Unchanged);
        changed.map(|((new, old), _)| lines(old.as_ref(), new)).collect()
    })?;
    Ok(if changes { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The spec's lines that go and come, with three others around them.
fn lines(old: Option<&Resource>, new: &Resource) -> String {
    let spec = |r: &Resource| {
        let spec = r.to_value().get("spec").cloned().unwrap_or_default();
        serde_yaml_ng::to_string(&spec).unwrap_or_default()
    };
    let (before, after) = (old.map(spec).unwrap_or_default(), spec(new));
    let mut out = format!("{}\n", new.reference());
    let diff = TextDiff::from_lines(&before, &after);
    for (n, group) in diff.grouped_ops(3).iter().enumerate() {
        if n > 0 {
            out.push_str("  ...\n");
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            out.push_str(&format!("{} {}", change.tag(), change.value()));
        }
    }
    out
}

/// Resources as a table for each kind, or a line each with `-o name`.
fn show(format: Format, resources: &[Resource]) -> String {
    if format == Format::Name {
        return resources.iter().map(|r| format!("{}\n", r.reference())).collect();
    }
    let mut out = String::new();
    for kind in Kind::ALL {
        let of_kind: Vec<&Resource> = resources.iter().filter(|r| r.kind() == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let mut rows = table(columns(kind));
        of_kind.iter().for_each(|r| {
            rows.add_row(row(r));
        });
        if !out.is_empty() {
            out.push_str("\n\n");
        }
        out.push_str(&rows.to_string());
    }
    if out.is_empty() { "nothing found".to_owned() } else { out }
}

/// Runs `weft get`.
pub(crate) fn get(args: &GetArgs, format: Format) -> Outcome {
    let of = kind(&args.kind)?;
    let found = wait(async {
        let client = args.place.client()?;
        let query = ListQuery { label_selector: args.selector.clone() };
        let items = client.list(of, &query).await?.items;
        let named = |r: &Resource| args.names.is_empty() || args.names.iter().any(|n| n == r.name());
        Ok(items.into_iter().filter(named).collect::<Vec<_>>())
    })?;
    if let Some(missing) = args.names.iter().find(|n| !found.iter().any(|r| r.name() == n.as_str())) {
        return Err(format!("there is no {} {missing}", args.kind).into());
    }
    format.print(&found, |found| show(format, found))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `weft describe`.
pub(crate) fn describe_one(args: &DescribeArgs, format: Format) -> Outcome {
    let of = args.kind.parse::<Kind>()?;
    let object = ObjectRef::new(of, &args.name);
    let found = wait(async { Ok(args.place.client()?.get(&object).await?) })?;
    let resource = found.ok_or_else(|| format!("there is no {object}"))?;
    format.print(&resource, |r| format!("{}\n\n{}", describe(r).join("\n"), r.to_yaml()))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `weft delete`.
pub(crate) fn delete(args: &DeleteArgs, format: Format) -> Outcome {
    let mut objects = Vec::new();
    if let Some(word) = &args.kind {
        let of = word.parse::<Kind>()?;
        objects.extend(args.names.iter().map(|n| ObjectRef::new(of, n)));
    }
    if !args.files.is_empty() {
        let parsed = weft_model::parse(&read(&args.files)?)?;
        objects.extend(parsed.iter().map(|p| p.resource.reference()));
    }
    let deleted = wait(async { Ok(args.place.client()?.delete(&objects, args.dry_run).await?) })?;
    format.print(&deleted, |d| d.deleted.iter().map(|o| format!("{o} deleted\n")).collect())?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `weft watch`.
pub(crate) fn watch(args: &WatchArgs, format: Format) -> Outcome {
    wait(async {
        let query = WatchQuery { kind: args.kind.clone(), ..WatchQuery::default() };
        let mut stream = args.place.client()?.watch(&query).await?;
        while let Some(event) = stream.next().await? {
            if event.kind == WatchEventType::Bookmark {
                continue;
            }
            format.print_line(&event, |event| {
                let what = match event.kind {
                    WatchEventType::Delete => "deleted",
                    WatchEventType::Error => "error",
                    WatchEventType::Put | WatchEventType::Bookmark => "put",
                };
                let object =
                    event.object.as_ref().map(|r| format!("{} {}", r.reference(), row(r)[1..].join(" ")));
                let error = event.error.as_ref().map(|e| e.message.clone());
                format!("{what} {}", object.or(error).unwrap_or_default())
            })?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A time in seconds since 1970 as RFC 3339 writes it, in UTC; `never` if it is beyond what that can say.
fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    time.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_else(|| "never".to_owned())
}

/// Runs `weft leases`.
pub(crate) fn leases(args: &LeasesArgs, format: Format) -> Outcome {
    let leases = wait(async { Ok(args.place.client()?.leases(args.network.as_deref()).await?) })?;
    format.print(&leases, |leases| {
        let mut rows = table(&["ADDRESS", "MAC", "HOSTNAME", "NETWORK", "PORT", "STATE", "EXPIRES"]);
        for lease in leases {
            let text = |t: &Option<String>| t.clone().unwrap_or_else(|| "-".to_owned());
            rows.add_row([
                lease.address.to_string(),
                lease.mac.map_or_else(|| "-".to_owned(), |m| m.to_string()),
                text(&lease.hostname),
                lease.network.clone(),
                text(&lease.port),
                lease.state.clone(),
                moment(lease.expires),
            ]);
        }
        rows.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `weft status`.
pub(crate) fn status(args: &StatusArgs, format: Format) -> Outcome {
    let status = wait(async { Ok(args.place.client()?.node().await?) })?;
    format.print(&status, |s| {
        let behind = s.resource_version.saturating_sub(s.programmed_version);
        let state = if !s.switch_connected {
            "the switch is not connected".to_owned()
        } else if behind == 0 {
            "in line with what is wanted".to_owned()
        } else {
            format!("{behind} changes behind")
        };
        format!(
            "Node: {}\nVersion: {}\nUp: {} s\nState: {state}\nSwitch: {}\nFlows: {}",
            s.node, s.version, s.uptime_seconds, s.switch, s.flows
        ) + &counted(s)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What was put right, and what is wrong, a line each.
fn counted(status: &NodeStatus) -> String {
    let counters = status.counters.iter().map(|(name, n)| format!("\n{}: {n}", name.replace('_', " ")));
    counters.chain(status.troubles.iter().map(|what| format!("\nTrouble: {what}"))).collect()
}

/// Arguments of `weft pipeline`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  weft pipeline\n  weft pipeline -o json\n  ovs-ofctl dump-flows br-int table=10"
)]
pub(crate) struct PipelineArgs {}

/// Runs `weft pipeline`.
pub(crate) fn pipeline(format: Format) -> Outcome {
    let stages: Vec<_> = weft_compile::Stage::ALL
        .iter()
        .map(|s| serde_json::json!({"table": s.table(), "stage": s.name(), "about": s.about()}))
        .collect();
    format.print(&stages, |_| {
        let mut rows = table(&["TABLE", "STAGE", "QUESTION"]);
        for stage in weft_compile::Stage::ALL {
            rows.add_row([stage.table().to_string(), stage.name().to_owned(), stage.about().to_owned()]);
        }
        rows.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}
