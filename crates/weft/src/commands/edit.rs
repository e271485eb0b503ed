//! `weft edit`: a resource in an editor, and back.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use weft_api::{Client, ClientError};
use weft_model::{Kind, ObjectRef, Resource};

use super::Outcome;
use super::completions::{kinds, names};
use super::place::Where;
use super::resource::wait;
use crate::output::Format;

/// Times that a change is tried again when only the status was changed meanwhile.
const TRIES: usize = 5;

/// Arguments of `weft edit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  weft edit network blue
  EDITOR='code --wait' weft edit port vm1

The editor is $VISUAL, else $EDITOR, else vi. What was not taken is kept, and it is said where.")]
pub(crate) struct Args {
    /// Kind.
    #[arg(add = kinds())]
    kind: String,
    /// Name.
    #[arg(add = names())]
    name: String,
    #[command(flatten)]
    place: Where,
}

/// Runs `weft edit`.
pub(crate) fn exec(args: &Args, format: Format) -> Outcome {
    let object = ObjectRef::new(args.kind.parse::<Kind>()?, &args.name);
    let client = args.place.client()?;
    let before = wait(async { Ok(client.get(&object).await?) })?;
    let before = before.ok_or_else(|| format!("there is no {object}"))?;
    let text = document(&before);
    let mut file = tempfile::Builder::new().prefix("weft-").suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    let (_, path) = file.keep()?;
    let kept = |why: String| format!("{why}\nnothing was changed; what you wrote is in {}", path.display());
    edit(&path).map_err(kept)?;
    let written = std::fs::read_to_string(&path).map_err(|e| kept(e.to_string()))?;
    if written == text {
        std::fs::remove_file(&path)?;
        return tell(format, &before, "unchanged");
    }
    let wanted = weft_model::parse_one(&written).map_err(|why| kept(why.to_string()))?;
    if wanted.reference() != object {
        return Err(kept(format!("this is {}, not {object}", wanted.reference())).into());
    }
    let after =
        wait(async { Ok(put(&client, &before, wanted).await?) }).map_err(|why| kept(why.to_string()))?;
    std::fs::remove_file(&path)?;
    tell(format, &after, "changed")
}

fn tell(format: Format, resource: &Resource, what: &str) -> Outcome {
    format.print(resource, |r| format!("{} {what}", r.reference()))?;
    Ok(ExitCode::SUCCESS)
}

/// What people may change, and the version that they change.
fn document(resource: &Resource) -> String {
    let mut value = resource.to_value();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(|m| m.as_object_mut()) {
            metadata.retain(|name, _| {
                ["name", "labels", "annotations", "resourceVersion"].contains(&name.as_str())
            });
        }
    }
    serde_yaml_ng::to_string(&value).unwrap_or_default()
}

fn edit(path: &Path) -> Result<(), String> {
    let named =
        ["VISUAL", "EDITOR"].into_iter().filter_map(|v| std::env::var(v).ok()).find(|v| !v.is_empty());
    let editor = named.unwrap_or_else(|| "vi".to_owned());
    // Editors come with arguments: the shell takes them apart.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    let status = status.map_err(|e| format!("{editor} cannot be run: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{editor} failed: {status}")) }
}

/// Puts what was written in place of what was read. That the agent wrote a status meanwhile is no conflict.
async fn put(client: &Client, before: &Resource, mut wanted: Resource) -> Result<Resource, ClientError> {
    for _ in 1..TRIES {
        match client.put(&wanted, false).await {
            Err(ClientError::Refused(error)) if error.status == 409 => {
                let live = client.get(&wanted.reference()).await?;
                let same = |live: &Resource| written(live) == written(before);
                let Some(live) = live.filter(same) else { return Err(ClientError::Refused(error)) };
                wanted.metadata_mut().resource_version = live.metadata().resource_version;
            }
            done => return done,
        }
    }
    client.put(&wanted, false).await
}

/// What people wrote of a resource.
fn written(resource: &Resource) -> (Option<serde_json::Value>, String) {
    let metadata = resource.metadata();
    let spec = resource.to_value().get("spec").cloned();
    (spec, format!("{} {:?} {:?}", metadata.uid, metadata.labels, metadata.annotations))
}
