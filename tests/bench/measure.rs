//! What is measured between two workloads? TCP, CPU per gigabyte, latency, small packets; and what an idle switch costs.

use std::collections::HashMap;

use crate::ns::World;
use crate::ovs;
use crate::report::{self, Table, cell, median};
use crate::setups::Setup;
use crate::weft;

const SERVER: &str = "10.9.0.2";

#[derive(Default)]
struct Samples {
    gbit: Vec<f64>,
    cpu_per_gb: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    mpps: Vec<f64>,
    failed: Option<String>,
}

/// Measures every set-up once a round and compares medians.
pub(crate) fn traffic(group: &str, setups: &[Setup], rounds: usize, seconds: u64) -> Table {
    let mut all: Vec<Samples> = setups.iter().map(|_| Samples::default()).collect();
    for round in 1..=rounds {
        for (setup, samples) in setups.iter().zip(&mut all) {
            eprint!("\r\x1b[K{group}: round {round}/{rounds}: {}", setup.name);
            if samples.failed.is_none() {
                samples.failed = one(setup, samples, seconds).err();
            }
        }
    }
    eprintln!("\r\x1b[K{group}: done");
    table(group, setups, &all, rounds, seconds)
}

fn one(setup: &Setup, s: &mut Samples, seconds: u64) -> Result<(), String> {
    let mut w = World::new("t")?;
    (setup.build)(&mut w)?;
    let none = HashMap::new();
    w.spawn("c2", &none, &["iperf3", "-s", "-1"], "iperf-server")?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = busy_seconds();
    let json = w.exec("c1", &none, &["iperf3", "-c", SERVER, "-J", "-t", &seconds.to_string()])?;
    let busy = busy_seconds() - before;
    let json: serde_json::Value = serde_json::from_str(&json).map_err(|e| e.to_string())?;
    let bytes = json["end"]["sum_received"]["bytes"].as_f64().unwrap_or(0.0);
    s.gbit.push(json["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e9);
    s.cpu_per_gb.push(busy / (bytes / 1e9));

    let me = std::env::current_exe().map_err(|e| e.to_string())?.display().to_string();
    w.spawn("c2", &none, &[&me, "--tool", "echo", "10.9.0.2:7"], "echo")?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    let rr = numbers(&w.exec("c1", &none, &[&me, "--tool", "rr", "10.9.0.2:7", "2"])?);
    s.p50.push(*rr.get(1).unwrap_or(&f64::NAN));
    s.p99.push(*rr.get(2).unwrap_or(&f64::NAN));

    let sink = w.spawn("c2", &none, &[&me, "--tool", "sink", "10.9.0.2:9"], "sink")?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    w.exec("c1", &none, &[&me, "--tool", "blast", "10.9.0.2:9", "2"])?;
    w.wait(sink, 6.0);
    s.mpps.push(*numbers(&w.output("sink")).get(1).unwrap_or(&f64::NAN) / 1e6);
    Ok(())
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

/// CPU seconds all processors have been busy since boot.
fn busy_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let f: Vec<f64> =
        stat.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq
    if f.len() < 7 { 0.0 } else { (f[0] + f[1] + f[2] + f[5] + f[6]) / 100.0 }
}

fn table(group: &str, setups: &[Setup], all: &[Samples], rounds: usize, seconds: u64) -> Table {
    let reference = if group == "overlay" { "OVS AF_PACKET vxlan" } else { "OVS AF_PACKET" };
    let base = setups.iter().position(|s| s.name == reference).and_then(|i| median(&all[i].gbit));
    let base_p50 = setups.iter().position(|s| s.name == reference).and_then(|i| median(&all[i].p50));
    let mut notes = vec![format!(
        "Medians of {rounds} interleaved rounds, one TCP stream of {seconds} s, 18-byte UDP; ratios are to {reference}."
    )];
    let ratio = |v: Option<f64>, b: Option<f64>| cell(v.zip(b).map(|(v, b)| v / b)) + " ×";
    let mut rows = Vec::new();
    for (setup, s) in setups.iter().zip(all) {
        let (gbit, p50) = (median(&s.gbit), median(&s.p50));
        let name = if setup.peer { setup.name.to_owned() } else { format!("**{}**", setup.name) };
        rows.push(vec![
            name,
            cell(gbit),
            ratio(gbit, base),
            cell(median(&s.cpu_per_gb)),
            cell(p50),
            ratio(p50, base_p50),
            cell(median(&s.p99)),
            cell(median(&s.mpps)),
        ]);
        if let Some(e) = &s.failed {
            notes.push(format!("{} failed: {}", setup.name, report::last_lines(e)));
        }
    }
    let head = ["set-up", "TCP Gbit/s", "ratio", "CPU s/GB", "RR p50 µs", "ratio", "p99 µs", "64 B Mpps"];
    Table { title: format!("Traffic, {group}"), head: head.map(str::to_owned).to_vec(), rows, notes }
}

/// CPU of an idle switch over ten seconds and its resident memory with ten ports.
pub(crate) fn idle() -> Result<Table, String> {
    let mut w = World::new("i")?;
    w.add("sw")?;
    let pid = weft::start(&mut w, "sw")?;
    ovs::vsctl(&w, "sw", "add-br br0")?;
    for n in 0..9 {
        w.sh(
            "sw",
            &format!("ip link add p{n} type veth peer name q{n}; ip link set p{n} up; ip link set q{n} up"),
        )?;
        ovs::vsctl(&w, "sw", &format!("add-port br0 p{n}"))?;
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
    let before = weft::cpu_exact(pid).ok_or("the switch is gone")?;
    std::thread::sleep(std::time::Duration::from_secs(10));
    let used = weft::cpu_exact(pid).ok_or("the switch is gone")? - before;
    let row = vec!["**Weft**".into(), format!("{:.3} %", used * 10.0), cell(weft::rss_mb(pid))];
    Ok(Table {
        title: "Idle, ten ports".into(),
        head: ["switch", "CPU", "RSS MB"].map(str::to_owned).to_vec(),
        rows: vec![row],
        notes: vec![],
    })
}
