//! `weft agent`: how is a node's control plane started?

use std::io::IsTerminal as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use weft_agent::node::Config;
use weft_agent::serve::{Options, run};
use weft_api::TcpOptions;
use weft_switch::Paths;

use super::Outcome;

/// The API's socket in the run directory.
const SOCKET: &str = "weft-agent.sock";

const EXAMPLES: &str = "\
Examples:
  weft agent                             beside the switch of this machine
  weft apply -f networks.yaml            say what is wanted; `weft get ports` tells how it fares
  weft agent --with-switch               start the switch first, if none runs; it outlives the agent
  weft agent --rundir /tmp/sw --store /tmp/sw/agent.redb
  weft agent --datapath-type netdev      beside Open vSwitch with its datapath in user space
  weft agent --listen 0.0.0.0:7443 --tls-cert cert.pem --tls-key key.pem --token-file token

The agent programs bridge br-int of the switch, in OpenFlow and OVSDB as any controller would. When
it ends, traffic goes on; `weft agent --cleanup` takes away all that it made: flows and ports of
br-int, devices, nftables, kernel settings. What is declared stays in the store.
WEFT_LOG sets what is logged, as in WEFT_LOG=debug.";

/// Arguments of `weft agent`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Run directory of the switch [default: $OVS_RUNDIR, or /var/run/openvswitch].
    #[arg(long, value_name = "DIR")]
    rundir: Option<PathBuf>,
    /// Where resources and leases are kept.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/weft/agent.redb")]
    store: PathBuf,
    /// Unix socket of the API [default: weft-agent.sock in the run directory].
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// This node's name, which ports name [default: the host's].
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Datapath of br-int: `netdev` for Open vSwitch in user space [default: the switch's own].
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    datapath_type: String,
    /// Largest IP packet between nodes, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..))]
    underlay_mtu: u16,
    /// Serve the API on TCP too, with TLS.
    #[arg(long, value_name = "ADDRESS:PORT", requires_all = ["tls_cert", "tls_key"])]
    listen: Option<String>,
    /// Certificate chain of the API's server, PEM.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// CAs of client certificates, PEM.
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// File with the token that clients show.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where it is written whom the machine asks for names; networks without forwarders ask them.
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// Start `weft switch` first, as a process of its own that goes on when the agent ends, if none answers in the run
    /// directory.
    #[arg(long, conflicts_with = "cleanup")]
    with_switch: bool,
    /// Take away all that the agent made on this machine, and end. Stop the agent first.
    #[arg(long)]
    cleanup: bool,
}

/// The API's socket when none is named.
pub(crate) fn default_socket(rundir: Option<&Path>) -> PathBuf {
    Paths::resolve(rundir, None).rundir.join(SOCKET)
}

/// Where an agent with this store keeps what kernel settings were before it changed them.
fn settings(store: &Path) -> PathBuf {
    store.with_extension("settings")
}

/// Takes away what the agent made.
fn cleanup(rundir: &Path, socket: &Path, store: &Path) -> Outcome {
    if UnixStream::connect(socket).is_ok() {
        return Err(format!(
            "an agent answers at {}: stop it first, or it makes all of it anew",
            socket.display()
        )
        .into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cleaned = runtime.block_on(weft_agent::cleanup::cleanup(rundir, &settings(store)));
    // Connections are tried again for ever.
    runtime.shutdown_background();
    cleaned.removed.iter().for_each(|what| println!("removed {what}"));
    if cleaned.left.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("this is left: {}", cleaned.left.join("; ")).into())
}

/// Starts the switch of a run directory, unless one answers there. With a run directory of its own, its database is there.
fn ensure_switch(rundir: &Path, own: bool) -> Result<(), Box<dyn std::error::Error>> {
    if UnixStream::connect(rundir.join("db.sock")).is_ok() {
        return Ok(());
    }
    std::fs::create_dir_all(rundir).map_err(|e| format!("{}: {e}", rundir.display()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("switch").arg("--detach").arg("--rundir").arg(rundir).stdin(Stdio::null());
    if own {
        command.arg("--db").arg(rundir.join("conf.db"));
        command.arg(format!("--log-file={}", rundir.join("weft-switch.log").display()));
    }
    // It says itself why it cannot start.
    if !command.status().map_err(|e| format!("weft switch cannot be started: {e}"))?.success() {
        return Err("the switch did not start".into());
    }
    Ok(())
}

/// Runs `weft agent`.
pub(crate) fn exec(args: Args) -> Outcome {
    let rundir = Paths::resolve(args.rundir.as_deref(), None).rundir;
    let socket = args.socket.clone().unwrap_or_else(|| rundir.join(SOCKET));
    if args.cleanup {
        return cleanup(&rundir, &socket, &args.store);
    }
    if args.with_switch {
        ensure_switch(&rundir, args.rundir.is_some())?;
    }
    let token = args
        .token_file
        .as_ref()
        .map(|path| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display())));
    let token = token.transpose()?.map(|t| t.trim().to_owned());
    let tls = TcpOptions {
        certificate: args.tls_cert.unwrap_or_default(),
        key: args.tls_key.unwrap_or_default(),
        client_ca: args.client_ca,
        token: token.is_some(),
    };
    let hostname = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|n| n.trim().to_owned());
    let options = Options {
        node: Config {
            node: args.node.or_else(hostname).unwrap_or_else(|| "localhost".to_owned()),
            rundir,
            datapath: args.datapath_type,
            underlay_mtu: args.underlay_mtu,
            settings: Some(settings(&args.store)),
        },
        store: args.store,
        resolv_conf: args.resolv_conf,
        socket,
        tcp: args.listen.map(|address| (address, tls, token)),
    };
    let filter = EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(ansi).with_env_filter(filter).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (end, stop) = watch::channel(false);
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            end.send_replace(true);
            // Told again by nobody: the sender lives until the end.
            std::future::pending::<()>().await;
        });
        run(options, stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}
