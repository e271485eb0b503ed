//! How fast do rules come, how large are they, how fast are they read back? OpenFlow by its bytes, both switches.

use std::time::{Duration, Instant};

use crate::lab;
use crate::ofp::{Command, Ofp, flow_mod};
use crate::report::Table;
use crate::sheet::{Better, Scale, Sheet, Step, Who};
use crate::weft;

const NOTE: &str = "OpenFlow 1.4 written as bytes to the bridge's management socket; eight shapes of mask, \
one output action. OVS: Debian's openvswitch-switch, user-space datapath. By CPU time: of the whole process of the switch, \
which other work on the machine hardly changes.";

/// Every row, round by round.
pub(crate) fn table(rounds: usize, scale: &Scale) -> Table {
    let mut sheet = Sheet::new("Rules", NOTE);
    let steps: [(&str, Step); 2] = [("flow-mods", flow_mods), ("large tables", large)];
    sheet.rounds(rounds, &steps, scale);
    sheet.table()
}

/// What some work took.
#[derive(Clone, Copy, Default)]
struct Took {
    /// Seconds of the clock.
    wall: f64,
    /// Seconds of processors, all threads of the switch.
    cpu: f64,
}

impl std::ops::AddAssign for Took {
    fn add_assign(&mut self, other: Took) {
        (self.wall, self.cpu) = (self.wall + other.wall, self.cpu + other.cpu);
    }
}

fn took(pid: u32, work: impl FnOnce() -> Result<(), String>) -> Result<Took, String> {
    let cpu = || weft::cpu_exact(pid).ok_or("the switch is gone");
    let (before, start) = (cpu()?, Instant::now());
    work()?;
    let wall = start.elapsed().as_secs_f64();
    Ok(Took { wall, cpu: cpu()? - before })
}

fn clear(ofp: &mut Ofp) -> Result<(), String> {
    ofp.stream(Command::DeleteAll, 0..1)
}

/// Flow-mods a second: each with a barrier, pipelined, in bundles.
fn flow_mods(who: Who, sheet: &mut Sheet, _scale: &Scale) -> Result<(), String> {
    let lab = lab::control(who, "f")?;
    let mut ofp = lab.openflow()?;
    let mut rate = |name: &str, n: u32, t: Took| {
        let rules = f64::from(n);
        sheet.put(who, name, "flow-mods/s", Better::More, rules / t.wall);
        sheet.put(who, &format!("{name}: by CPU time"), "flow-mods/CPU s", Better::More, rules / t.cpu);
    };
    let pid = lab.pid;
    clear(&mut ofp)?;
    let n = 2_000;
    let t = took(pid, || (0..n).try_for_each(|rule| ofp.stream(Command::Add, rule..rule + 1)))?;
    rate("one at a time, each with a barrier", n, t);
    clear(&mut ofp)?;
    let n = 10_000;
    rate("10,000 pipelined, one barrier", n, took(pid, || ofp.stream(Command::Add, 0..n))?);
    clear(&mut ofp)?;
    let (n, each) = (10_000, 1_000);
    let t = took(pid, || (0..n / each).try_for_each(|i| ofp.bundle(i * each..(i + 1) * each)))?;
    rate("bundles of 1,000", n, t);
    clear(&mut ofp)?;
    let n = 100_000;
    rate("a bundle of 100,000", n, took(pid, || ofp.bundle(0..n))?);
    let t = took(pid, || ofp.stream(Command::DeleteStrict, 0..n))?;
    rate("100,000 deleted one by one, pipelined", n, t);
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
    let (before, mut time, mut from) = (rss()?, Took::default(), 0);
    for n in [100_000, scale.rules] {
        if n <= from {
            continue;
        }
        time += took(lab.pid, || ofp.stream(Command::Add, from..n))?;
        from = n;
        let name = |what: &str| format!("{n} rules: {what}");
        sheet.put(who, &name("time"), "s", Better::Less, time.wall);
        sheet.put(who, &name("CPU time"), "s", Better::Less, time.cpu);
        std::thread::sleep(Duration::from_millis(500));
        let bytes = (rss()? - before) * 1024.0 * 1024.0 / f64::from(n);
        sheet.put(who, &name("resident memory"), "bytes/rule", Better::Less, bytes);
        let mut rules = 0;
        let t = took(lab.pid, || ofp.dump().map(|r| rules = r))?;
        if rules != u64::from(n) {
            return Err(format!("the dump has {rules} rules instead of {n}"));
        }
        sheet.put(who, &name("dump"), "rules/s", Better::More, f64::from(n) / t.wall);
        let by_cpu = name("dump, by CPU time");
        sheet.put(who, &by_cpu, "rules/CPU s", Better::More, f64::from(n) / t.cpu);
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
