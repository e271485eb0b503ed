//! `weft metrics`: what has been counted, for Prometheus?
//!
//! The switch itself speaks no HTTP: this process does, and asks the switch for each scrape.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use weft_switch::Paths;

use super::{Outcome, ask};
use crate::output::Format;

const EXAMPLES: &str = "\
Examples:
  weft metrics                                 print all counters once
  weft metrics -o json                         the same for other programs
  weft metrics --listen 127.0.0.1:9477         serve http://127.0.0.1:9477/metrics until interrupted

Counters: packets and bytes by rule and port, drops by reason and by rule, cache hits, connections,
events. Series are bounded: of 10,000 rules at most, and of the 1,000 that drop most; weft_rules
tells how many there are. `ovs-appctl metrics` prints the same.";

/// Arguments of `weft metrics`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Serve HTTP at this address instead of printing.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Run directory of the switch [default: $OVS_RUNDIR, or /var/run/openvswitch].
    #[arg(long, value_name = "DIR")]
    rundir: Option<PathBuf>,
}

/// Runs `weft metrics`.
pub(crate) fn exec(args: &Args, format: Format) -> Outcome {
    let rundir = Paths::resolve(args.rundir.as_deref(), None).rundir;
    match args.listen {
        None => format.relay(&rundir, "weft/metrics", Vec::new())?,
        Some(_) if format == Format::Json => {
            return Err("--listen serves the text that Prometheus reads: leave -o json out".into());
        }
        Some(address) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let served = runtime.block_on(serve(address, rundir));
            served.map_err(|e| format!("serve metrics at {address}: {e}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(address: SocketAddr, rundir: PathBuf) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}/metrics", listener.local_addr()?);
    let app = Router::new().route("/metrics", get(move || scrape(rundir.clone())));
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await
}

async fn scrape(rundir: PathBuf) -> Response {
    let asked = move || ask(&rundir, "weft/metrics", &[]).map_err(|e| e.to_string());
    match tokio::task::spawn_blocking(asked).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Ok(Err(e)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}
