//! Which commands are about the database server?

use super::{Answer, Command, DATABASE};
use crate::control::Control;
use crate::stream::Target;
use crate::stream::target::OVSDB_PORT;

/// Answered when it is done.
pub(super) const COMPACT: &str = "ovsdb-server/compact";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        daemons: DATABASE,
        name: "ovsdb-server/add-remote",
        usage: "REMOTE",
        arguments: (1, 1),
        run: add_remote,
    },
    Command { daemons: DATABASE, name: COMPACT, usage: "[DB]", arguments: (0, 1), run: compact },
    Command { daemons: DATABASE, name: "ovsdb-server/list-dbs", usage: "", arguments: (0, 0), run: list_dbs },
    Command {
        daemons: DATABASE,
        name: "ovsdb-server/list-remotes",
        usage: "",
        arguments: (0, 0),
        run: list_remotes,
    },
    Command {
        daemons: DATABASE,
        name: "ovsdb-server/reconnect",
        usage: "",
        arguments: (0, 0),
        run: reconnect,
    },
    Command {
        daemons: DATABASE,
        name: "ovsdb-server/remove-remote",
        usage: "REMOTE",
        arguments: (1, 1),
        run: remove_remote,
    },
    Command {
        daemons: DATABASE,
        name: "ovsdb-server/sync-status",
        usage: "",
        arguments: (0, 0),
        run: sync_status,
    },
];

fn add_remote(control: &mut Control, args: &[String]) -> Answer {
    let remote = args[0].as_str();
    if !remote.starts_with("db:") {
        Target::parse(remote, OVSDB_PORT, &control.paths.rundir).map_err(|e| e.to_string())?;
    } else if remote != crate::remotes::MANAGERS {
        return Err(format!("{remote}: only {} is supported", crate::remotes::MANAGERS));
    }
    control.remotes.add(remote);
    control.remotes.reconcile(&control.wanted, &mut control.streams);
    match control.remotes.error_of(remote) {
        Some(error) => {
            let error = format!("{remote}: {error}");
            control.remotes.remove(remote);
            control.remotes.reconcile(&control.wanted, &mut control.streams);
            Err(error)
        }
        None => Ok(String::new()),
    }
}

fn remove_remote(control: &mut Control, args: &[String]) -> Answer {
    if !control.remotes.remove(&args[0]) {
        return Err("no such remote".into());
    }
    control.remotes.reconcile(&control.wanted, &mut control.streams);
    Ok(String::new())
}

fn list_remotes(control: &mut Control, _: &[String]) -> Answer {
    Ok(control.remotes.list().map(|r| format!("{r}\n")).collect())
}

fn list_dbs(_: &mut Control, _: &[String]) -> Answer {
    Ok(format!("{}\n_Server\n", crate::db::DATABASE))
}

fn compact(control: &mut Control, args: &[String]) -> Answer {
    match args.first().map(String::as_str) {
        None | Some(crate::db::DATABASE) => {
            control.db.compact();
            Ok(String::new())
        }
        Some("_Server") => Ok(String::new()),
        Some(_) => Err("no database by that name".into()),
    }
}

fn reconnect(control: &mut Control, _: &[String]) -> Answer {
    control.db.drop_all();
    Ok(String::new())
}

fn sync_status(_: &mut Control, _: &[String]) -> Answer {
    Ok("state: active\n".into())
}
