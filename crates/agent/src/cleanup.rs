//! How is all that the agent made taken away again, and nothing else?
//!
//! What is declared stays in the store: an agent that starts again makes it anew. Kernel settings are put back unless
//! somebody changed them since.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use weft_compile::Delta;
use weft_ovsdb::client::op;

use crate::settings::Settings;
use crate::south::{BRIDGE, Database, Event, Flows, OWNER, SouthError, View, replace};
use crate::{foreign, nat, plug};

/// How long the switch may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a cleanup came to. It does all it can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// What was taken away.
    pub removed: Vec<String>,
    /// What could not be, and why.
    pub left: Vec<String>,
}

/// Takes away what an agent made on this machine: on the switch of a run directory, and in the kernel; `settings` is
/// [`Config::settings`](crate::node::Config).
pub async fn cleanup(rundir: &Path, settings: &Path) -> Cleaned {
    let mut out = Cleaned::default();
    match switch(rundir).await {
        Ok(removed) => out.removed.extend(removed),
        Err(why) => out.left.push(format!("flows and ports of {BRIDGE}: {why}")),
    }
    let settings = settings.to_owned();
    let work = move || {
        let (devices, mut wrong) = plug::kernel::cleanup();
        wrong.extend(nat::cleanup().err());
        wrong.extend(foreign::cleanup());
        let (again, not) = Settings::open(Some(settings)).undo();
        wrong.extend(not);
        let removed = devices.into_iter().map(|name| format!("device {name}"));
        (removed.chain(again).collect::<Vec<_>>(), wrong)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok((removed, wrong)) => {
            out.removed.extend(removed);
            out.left.extend(wrong);
        }
        Err(why) => out.left.push(why.to_string()),
    }
    out
}

/// The switch's part.
async fn switch(rundir: &Path) -> Result<Vec<String>, SouthError> {
    let path = rundir.join("db.sock");
    let (database, mut views) = Database::start(path.clone());
    let seen = timeout(PATIENCE, async { views.is_connected() || views.changed().await }).await;
    if seen != Ok(true) {
        return Err(SouthError::Disconnected(path.display().to_string()));
    }
    let mut view = View::default();
    views.take(&mut view);
    let Some(bridge) = view.bridge else { return Ok(Vec::new()) };
    let (ours, others) = ports(&view);
    let mut removed: Vec<String> = ours.iter().map(|(name, _)| format!("port {name} of {BRIDGE}")).collect();
    let mut operations = if view.bridge_is_ours && others == 0 {
        removed.push(format!("bridge {BRIDGE}"));
        let uuid = json!(["set", [["uuid", bridge.to_string()]]]);
        vec![op::mutate("Open_vSwitch", json!([]), "bridges", "delete", uuid)]
    } else {
        removed.push(format!("flows of {BRIDGE}"));
        sweep(rundir).await?;
        let here = json!([["name", "==", BRIDGE]]);
        let uuids: Vec<_> = ours.iter().map(|(_, uuid)| json!(["uuid", uuid])).collect();
        let mark = json!(["map", [[OWNER.0, OWNER.1]]]);
        vec![
            op::mutate("Bridge", here.clone(), "ports", "delete", json!(["set", uuids])),
            op::mutate("Bridge", here.clone(), "external_ids", "delete", mark.clone()),
            op::mutate("Port", here.clone(), "external_ids", "delete", mark.clone()),
            op::mutate("Interface", here, "external_ids", "delete", mark),
        ]
    };
    operations.push(op::mutate("Open_vSwitch", json!([]), "next_cfg", "+=", json!(1)));
    operations.push(op::comment("weft agent --cleanup"));
    database.transact(operations).await?;
    Ok(removed)
}

/// Ports of the bridge that are ours, by name and row, and how many are not.
fn ports(view: &View) -> (Vec<(String, String)>, usize) {
    let here = view
        .interfaces
        .iter()
        .filter(|(name, i)| i.bridge.as_deref() == Some(BRIDGE) && name.as_str() != BRIDGE);
    let (ours, others): (Vec<_>, Vec<_>) = here.partition(|(_, i)| i.is_ours());
    let row = |(name, i): (&String, &crate::south::Interface)| Some((name.clone(), i.port?.to_string()));
    (ours.into_iter().filter_map(row).collect(), others.len())
}

/// Takes flows and groups of ours off the bridge.
async fn sweep(rundir: &Path) -> Result<(), SouthError> {
    let (flows, mut events) = Flows::start(rundir.join(format!("{BRIDGE}.mgmt")), drop);
    let groups = timeout(PATIENCE, async {
        loop {
            match events.recv().await {
                Some(Event::Connected(groups)) => return groups,
                Some(_) => {}
                None => return Vec::new(),
            }
        }
    });
    let groups = groups.await.map_err(|_| SouthError::Silent)?;
    flows.commit(replace(&Delta::default(), &groups)).await
}
