//! How fast is Weft beside its peers? One interleaved run: every round measures every set-up once, medians are compared.
//!
//! `make bench` runs all; `make bench BENCH_ARGS="--rounds 3 --seconds 2 --only overlay"` a part. Absolute numbers of a
//! shared machine mean little; the ratios are what counts.

mod agent;
mod cycles;
mod dhcp;
mod flood;
mod lab;
#[path = "../vm/machine.rs"]
mod machine;
mod measure;
mod misses;
mod names;
mod ns;
mod ofp;
mod ovs;
mod replay;
mod report;
mod rules;
mod setups;
mod sheet;
mod tools;
mod tracking;
mod vms;
mod weft;

use std::process::ExitCode;

use clap::Parser;

/// Compares Weft with real peers and prints ratios.
#[derive(Parser, Debug)]
struct Args {
    /// Rounds; medians are taken over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each throughput measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Only groups whose name contains this: same-host, overlay, cycles, rules, misses, masks, tracking, vm,
    /// dns, agent, dhcp, idle.
    #[arg(long)]
    only: Option<String>,
    /// Only set-ups whose name contains this; of group agent, the number of ports.
    #[arg(long)]
    setup: Option<String>,
    /// Rules of the largest table of group rules.
    #[arg(long, default_value_t = 1_000_000)]
    rules: u32,
    /// Packets of each replay of groups misses and tracking: new flows, new connections.
    #[arg(long, default_value_t = 300_000)]
    packets: u32,
    /// Write the tables as Markdown here too.
    #[arg(long)]
    markdown: Option<std::path::PathBuf>,
    /// A measuring tool that the bench runs inside a namespace.
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    tool: Option<Vec<String>>,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(tool) = &args.tool {
        return tools::run(tool);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let wanted = |group: &str| args.only.as_deref().is_none_or(|o| group.contains(o));
    let mut tables: Vec<report::Table> = Vec::new();
    let mut done = |table: report::Table| {
        println!("\n{}", table.markdown());
        tables.push(table);
    };
    for (group, setups) in [("same-host", setups::same_host()), ("overlay", setups::overlay())] {
        if wanted(group) {
            let setups: Vec<_> = setups
                .into_iter()
                .filter(|s| args.setup.as_deref().is_none_or(|o| s.name.contains(o)))
                .collect();
            done(measure::traffic(group, &setups, args.rounds, args.seconds));
        }
    }
    if wanted("cycles") {
        done(cycles::table(args.rounds, args.seconds));
    }
    let scale = sheet::Scale { seconds: args.seconds, rules: args.rules, packets: args.packets };
    if wanted("rules") {
        done(rules::table(args.rounds, &scale));
    }
    if wanted("misses") {
        done(misses::table(args.rounds, &scale));
    }
    if wanted("masks") {
        done(misses::masks(args.rounds, args.seconds));
    }
    if wanted("tracking") {
        done(tracking::table(args.rounds, &scale));
        done(tracking::known(args.rounds, args.seconds));
    }
    if wanted("vm") {
        done(vms::table(args.setup.as_deref(), args.rounds, args.seconds));
    }
    if wanted("dns") {
        done(names::table(args.rounds, args.seconds));
    }
    if wanted("agent") {
        done(agent::table(args.setup.as_deref(), args.rounds));
    }
    if wanted("dhcp") {
        done(dhcp::table(args.rounds, args.seconds));
    }
    if wanted("idle") {
        done(measure::idle()?);
    }
    let text: String = tables.iter().map(report::Table::markdown).collect::<Vec<_>>().join("\n");
    if let Some(path) = &args.markdown {
        std::fs::write(path, &text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}
