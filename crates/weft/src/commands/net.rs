//! `weft net import` and `weft net export`: networks from libvirt's XML and back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use weft_api::{Applied, ClientError, ListQuery};
use weft_libvirt::{Note, export, import};
use weft_model::{Kind, Network, Resource, Subnet};

use super::Outcome;
use super::place::Where;
use super::resource::wait;
use crate::input;
use crate::output::Format;

/// Who says the fields that come from libvirt's XML.
const MANAGER: &str = "libvirt";

/// Arguments of `weft net`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weft net import default.xml      made by `virsh net-dumpxml default > default.xml`
  weft net export default")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Create and change networks as libvirt's <network> documents say.
    Import(ImportArgs),
    /// Print a network as libvirt's <network> document.
    Export(ExportArgs),
}

/// Arguments of `weft net import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weft net import default.xml
  virsh net-dumpxml default | weft net import -
  weft net import /etc/libvirt/qemu/networks/*.xml --dry-run
  weft net import default.xml --dry-run -o yaml     the resources that it would become

All files are taken, or none. What has no meaning here is kept for `weft net export` and named as
a warning.")]
struct ImportArgs {
    /// Files of one <network> each; - for standard input.
    #[arg(value_name = "FILE", required = true)]
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

/// Arguments of `weft net export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weft net export default
  weft net export default > default.xml && virsh net-define default.xml")]
struct ExportArgs {
    /// Name of the network, here or in libvirt.
    name: String,
    #[command(flatten)]
    place: Where,
}

/// Runs `weft net`.
pub(crate) fn exec(args: &Args, format: Format) -> Outcome {
    match &args.verb {
        Verb::Import(args) => import_files(args, format),
        Verb::Export(args) => export_one(args, format),
    }
}

/// What the files ask for: resources, and what was said of each file.
type Asked = (Vec<Resource>, Vec<(String, Note)>);

/// Reads all files; one mistake refuses all of them.
fn read_all(files: &[PathBuf]) -> Result<Asked, Box<dyn std::error::Error>> {
    let (mut resources, mut notes, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let name = file.display().to_string();
        match import(&input::read(file, weft_libvirt::MAX_TEXT)?) {
            Ok(read) => {
                for resource in &read.resources {
                    let what = resource.reference().to_string();
                    if let Some(first) = seen.insert(what.clone(), name.clone()) {
                        wrong.push(format!(
                            "{name}: {what} is in {first} too; give each network a name of its own"
                        ));
                    }
                }
                resources.extend(read.resources);
                notes.extend(read.notes.into_iter().map(|note| (name.clone(), note)));
            }
            Err(problems) => wrong.extend(problems.0.iter().map(|p| format!("{name}: {p}"))),
        }
    }
    if wrong.is_empty() { Ok((resources, notes)) } else { Err(wrong.join("\n").into()) }
}

/// What the agent refuses, without the lines of the text that was sent to it: nobody has seen that.
fn refused(error: ClientError) -> Box<dyn std::error::Error> {
    match error {
        ClientError::Refused(mut error) if !error.body.problems.is_empty() => {
            error.body.problems.iter_mut().for_each(|p| p.line = None);
            let told: Vec<String> = error.body.problems.iter().map(ToString::to_string).collect();
            told.join("\n").into()
        }
        other => other.into(),
    }
}

fn import_files(args: &ImportArgs, format: Format) -> Outcome {
    let (resources, mut notes) = read_all(&args.files)?;
    let text: String = resources.iter().map(|r| format!("---\n{}", r.to_yaml())).collect();
    let client = args.place.client()?.with_manager(MANAGER);
    let (answer, all) = wait(async {
        let answer = client.apply(text, args.force, args.dry_run).await.map_err(refused)?;
        Ok((answer, client.list(Some(Kind::Subnet), &ListQuery::default()).await?.items))
    })?;
    let networks: Vec<&str> = resources.iter().filter_map(Resource::as_network).map(Network::name).collect();
    let left = all.iter().filter_map(Resource::as_subnet).filter(|subnet| {
        let named = resources.iter().filter_map(Resource::as_subnet).any(|s| s.name() == subnet.name());
        !named && networks.contains(&subnet.spec.network.as_str())
    });
    for subnet in left {
        let (name, cidr) = (subnet.name(), subnet.spec.cidr);
        let why = format!("{cidr} is in no file and stays; remove it with `weft delete subnet {name}`");
        let path = subnet.reference().to_string();
        notes.push((String::new(), Note { line: 0, path, why, kept: false }));
    }
    if matches!(format, Format::Table | Format::Name) {
        for (file, note) in &notes {
            let place = if file.is_empty() { note.path.clone() } else { file.clone() };
            let told = if file.is_empty() { note.why.clone() } else { note.to_string() };
            eprintln!("warning: {place}: {told}");
        }
    }
    let warnings: Vec<_> = notes
        .iter()
        .map(|(file, n)| {
            serde_json::json!({"file": file, "line": n.line, "element": n.path, "kept": n.kept, "message": n.why})
        })
        .collect();
    let value = serde_json::json!({"results": answer.results, "items": answer.items, "warnings": warnings});
    format.print(&value, |_| {
        let line = |(resource, what): (&Resource, &Applied)| {
            let dry = if args.dry_run { " (dry run)" } else { "" };
            format!("{} {}{dry}\n", resource.reference(), what.name())
        };
        answer.items.iter().zip(&answer.results).map(line).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn export_one(args: &ExportArgs, format: Format) -> Outcome {
    let (networks, subnets) = wait(async {
        let client = args.place.client()?;
        let networks = client.list(Some(Kind::Network), &ListQuery::default()).await?.items;
        Ok((networks, client.list(Some(Kind::Subnet), &ListQuery::default()).await?.items))
    })?;
    let networks: Vec<&Network> = networks.iter().filter_map(Resource::as_network).collect();
    let by_name = networks.iter().find(|n| n.name() == args.name);
    let in_libvirt = || networks.iter().find(|n| n.spec.libvirt.get("name") == Some(&args.name));
    let network = by_name.or_else(in_libvirt).ok_or_else(|| format!("there is no network {}", args.name))?;
    let mine: Vec<&Subnet> =
        subnets.iter().filter_map(Resource::as_subnet).filter(|s| s.spec.network == network.name()).collect();
    let out = export(network, &mine)?;
    if matches!(format, Format::Table | Format::Name) {
        for field in &out.carried {
            eprintln!(
                "warning: {field}: libvirt has no words for it; it stands in <metadata> for `weft net import`"
            );
        }
        for field in &out.lost {
            eprintln!("warning: {field}: has no place in the document");
        }
    }
    let value = serde_json::json!({
        "name": network.name(), "xml": out.xml, "carried": out.carried, "lost": out.lost,
    });
    format.print(&value, |_| out.xml.clone())?;
    Ok(ExitCode::SUCCESS)
}
