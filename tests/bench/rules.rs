//! How fast do rules come, how large are they, how fast are they read back? OpenFlow by its bytes, both switches.

use std::time::{Duration, Instant};

use crate::lab;
use crate::ofp::{Command, Ofp, flow_mod};
use crate::report::Table;
use crate::sheet::{Better, Scale, Sheet, Step, Who};
use crate::weft;

const NOTE: &str = "OpenFlow 1.4 written as bytes to the bridge's management socket; eight shapes of mask, \
one output action. OVS: Debian's openvswitch-switch, user-space datapath.";

/// Every row, round by round.
pub(crate) fn table(rounds: usize, scale: &Scale) -> Table {
    let mut sheet = Sheet::new("Rules", NOTE);
    let steps: [(&str, Step); 2] = [("flow-mods", flow_mods), ("large tables", large)];
    sheet.rounds(rounds, &steps, scale);
    sheet.table()
}

fn seconds(work: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn clear(ofp: &mut Ofp) -> Result<(), String> {
    ofp.stream(Command::DeleteAll, 0..1)
}

/// Flow-mods a second: each with a barrier, pipelined, in bundles.
fn flow_mods(who: Who, sheet: &mut Sheet, _scale: &Scale) -> Result<(), String> {
    let lab = lab::control(who, "f")?;
    let mut ofp = lab.openflow()?;
    let mut rate = |name: &str, n: u32, s: f64| {
        sheet.put(who, name, "flow-mods/s", Better::More, f64::from(n) / s);
    };
    clear(&mut ofp)?;
    let n = 2_000;
    let s = seconds(|| (0..n).try_for_each(|rule| ofp.stream(Command::Add, rule..rule + 1)))?;
    rate("one at a time, each with a barrier", n, s);
    clear(&mut ofp)?;
    let n = 10_000;
    rate("10,000 pipelined, one barrier", n, seconds(|| ofp.stream(Command::Add, 0..n))?);
    clear(&mut ofp)?;
    let (n, each) = (10_000, 1_000);
    let s = seconds(|| (0..n / each).try_for_each(|i| ofp.bundle(i * each..(i + 1) * each)))?;
    rate("bundles of 1,000", n, s);
    clear(&mut ofp)?;
    let n = 100_000;
    rate("a bundle of 100,000", n, seconds(|| ofp.bundle(0..n))?);
    rate("100,000 deleted one by one, pipelined", n, seconds(|| ofp.stream(Command::DeleteStrict, 0..n))?);
    match ofp.dump()? {
        0 => Ok(()),
        left => Err(format!("{left} rules are left")),
    }
}

/// Time to many rules, bytes of each, speed of the dump.
fn large(who: Who, sheet: &mut Sheet, scale: &Scale) -> Result<(), String> {
    let lab = lab::control(who, "l")?;
    let mut ofp = lab.openflow()?;
    clear(&mut ofp)?;
    std::thread::sleep(Duration::from_millis(300));
    let rss = || weft::rss_mb(lab.pid).ok_or("the switch is gone");
    let (before, mut time, mut from) = (rss()?, 0.0, 0);
    for n in [100_000, scale.rules] {
        if n <= from {
            continue;
        }
        time += seconds(|| ofp.stream(Command::Add, from..n))?;
        from = n;
        let name = |what: &str| format!("{n} rules: {what}");
        sheet.put(who, &name("time"), "s", Better::Less, time);
        std::thread::sleep(Duration::from_millis(500));
        let bytes = (rss()? - before) * 1024.0 * 1024.0 / f64::from(n);
        sheet.put(who, &name("resident memory"), "bytes/rule", Better::Less, bytes);
        let mut rules = 0;
        let s = seconds(|| ofp.dump().map(|r| rules = r))?;
        if rules != u64::from(n) {
            return Err(format!("the dump has {rules} rules instead of {n}"));
        }
        sheet.put(who, &name("dump"), "rules/s", Better::More, f64::from(n) / s);
    }
    Ok(())
}

/// Adds and deletes rules at a steady rate until `stop` says so; returns how many a second were applied.
pub(crate) fn churn(ofp: &mut Ofp, a_second: u32, stop: impl Fn() -> bool) -> Result<f64, String> {
    const LIVE: u32 = 5_000;
    let (start, mut done) = (Instant::now(), 0u32);
    let mut bytes = Vec::new();
    while !stop() {
        let due = (start.elapsed().as_secs_f64() * f64::from(a_second)) as u32;
        bytes.clear();
        while done < due {
            let rule = done / 2;
            match done % 2 {
                0 => flow_mod(&mut bytes, Command::Add, 0x8_0000 + rule % (2 * LIVE), 1),
                _ => flow_mod(&mut bytes, Command::DeleteStrict, 0x8_0000 + (rule + LIVE) % (2 * LIVE), 1),
            }
            done += 1;
        }
        ofp.write(&bytes)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    ofp.barrier()?;
    Ok(f64::from(done) / start.elapsed().as_secs_f64())
}
