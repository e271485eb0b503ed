//! How fast do flow tables change, and how large are they? Flow-mods one by one, in bundles, to a million rules; bytes
//! per rule; listing; deletion. Times are of the processor.
//!
//! Prints one line for each figure: `scale/<what> <number> <unit>`. Arguments: rules of the large table (1000000). Each
//! table is made in a process of its own, so that memory that another one left behind is not counted.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{bridge, device, flow_mod, pipeline};
use weft_flow::{Field, Match};
use weft_pipeline::{
    ALL_TABLES, FlowMod, FlowModCommand, FlowModError, Pipeline, RuleCursor, RuleFilter, Snapshot,
};

fn ports() -> Pipeline {
    pipeline(vec![bridge(1, (1..=4).map(|n| device(1, n)).collect())])
}

/// Shapes of rules: routes to hosts, and connections by both addresses and ports.
#[derive(Clone, Copy)]
enum Shape {
    Routes,
    Connections,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Shape::Routes => "routes",
            Shape::Connections => "connections",
        }
    }
    /// Rule number `n`.
    fn rule(self, base: &FlowMod, n: u32) -> FlowMod {
        let any = match self {
            Shape::Routes => base.matching.with(Field::IpDst, u128::from(0x0a00_0000 + n)),
            Shape::Connections => base
                .matching
                .with(Field::IpSrc, u128::from(0x0a00_0000 + n / 7))
                .with(Field::IpDst, u128::from(0x0b00_0000 + n % 1009))
                .with(Field::TcpDst, u128::from(n % 499)),
        };
        let matching = Match::new(&any.key, any.mask);
        FlowMod { matching, cookie: u64::from(n), ..base.clone() }
    }
    fn base(self) -> FlowMod {
        match self {
            Shape::Routes => flow_mod("priority=10,ip,actions=2"),
            Shape::Connections => flow_mod("priority=10,tcp,actions=2"),
        }
    }
}

fn apply(snapshot: &mut Snapshot, flow_mod: &FlowMod) -> Result<(), FlowModError> {
    let tables = snapshot.tables_mut(1).ok_or(FlowModError::BadTableId(0))?;
    tables.apply(flow_mod, 0).map(drop)
}

/// Processor time that the thread has used, nanoseconds: other work of the machine does not count.
#[derive(Clone, Copy)]
struct Instant(u64);

impl Instant {
    fn now() -> Instant {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Instant(stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
    }
    /// Seconds since.
    fn elapsed(self) -> f64 {
        (Instant::now().0 - self.0).max(1) as f64 / 1e9
    }
}

/// Resident memory of the process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|p| p.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn show(what: &str, number: f64, unit: &str) {
    println!("scale/{what} {number:.1} {unit}");
}

fn rate(what: &str, count: u32, started: Instant) {
    let seconds = started.elapsed();
    show(what, f64::from(count) / seconds, "flow-mods/s");
}

fn fill(shape: Shape, rules: u32, bundle: u32) {
    let (pipeline, base) = (ports(), shape.base());
    let before = resident();
    let started = Instant::now();
    let mut n = 0;
    while n < rules {
        let end = (n + bundle).min(rules);
        let done = pipeline.update(|s| (n..end).try_for_each(|i| apply(s, &shape.rule(&base, i))));
        assert!(done.is_ok());
        n = end;
    }
    let name = format!("{}/{rules}/bundles-of-{bundle}", shape.name());
    rate(&name, rules, started);
    show(&format!("{name}/time"), started.elapsed() * 1e3, "ms");
    let bytes = resident().saturating_sub(before);
    show(&format!("{name}/memory"), bytes as f64 / f64::from(rules), "bytes/rule");
    one_by_one(&pipeline, shape, &base, rules);
    listing(&pipeline, &name, rules);
    let started = Instant::now();
    let delete = FlowMod::new(FlowModCommand::Delete { strict: false }, ALL_TABLES, 0, Match::any());
    let gone = pipeline.update(|s| apply(s, &delete));
    assert!(gone.is_ok());
    rate(&format!("{name}/delete-all"), rules, started);
}

/// Rules changed in a large table, each seen by packets before the next.
fn one_by_one(pipeline: &Pipeline, shape: Shape, base: &FlowMod, rules: u32) {
    let changes: u32 = 20_000;
    let picks: Vec<u32> = (0..changes).map(|n| (n.wrapping_mul(0x9e37_79b1)) % rules).collect();
    let started = Instant::now();
    for n in &picks {
        assert!(pipeline.update(|s| apply(s, &shape.rule(base, *n))).is_ok());
    }
    rate(&format!("{}/{rules}/replace-one-by-one", shape.name()), changes, started);
    let started = Instant::now();
    for n in 0..changes {
        assert!(pipeline.update(|s| apply(s, &shape.rule(base, rules + n))).is_ok());
    }
    rate(&format!("{}/{rules}/add-one-by-one", shape.name()), changes, started);
    let strict = FlowModCommand::Delete { strict: true };
    let started = Instant::now();
    for n in 0..changes {
        let delete = FlowMod { command: strict, ..shape.rule(base, rules + n) };
        assert!(pipeline.update(|s| apply(s, &delete)).is_ok());
    }
    rate(&format!("{}/{rules}/delete-one-by-one", shape.name()), changes, started);
}

fn listing(pipeline: &Pipeline, name: &str, rules: u32) {
    let started = Instant::now();
    let tables = pipeline.snapshot().bridge(1).map(|b| b.tables.clone()).unwrap_or_default();
    let mut cursor = RuleCursor::new(tables, RuleFilter::default());
    let (mut seen, mut sum) = (0, 0u64);
    while !cursor.is_done() {
        for rule in cursor.next_page(512) {
            seen += 1;
            sum = sum.wrapping_add(rule.cookie);
        }
    }
    assert!(seen > rules && sum > 0);
    show(&format!("{name}/list"), f64::from(seen) / started.elapsed(), "rules/s");
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |n: usize| args.get(n).and_then(|a| a.parse::<u32>().ok());
    if let (Some(shape), Some(rules), Some(bundle)) = (number(1), number(2), number(3)) {
        return fill([Shape::Routes, Shape::Connections][shape as usize], rules, bundle);
    }
    let large = number(1).unwrap_or(1_000_000);
    for shape in ["0", "1"] {
        for (rules, bundle) in [(100_000, 1), (100_000, 1000), (100_000, 100_000), (large, 10_000)] {
            let one = [shape, &rules.min(large).to_string(), &bundle.to_string()].map(str::to_owned);
            let run = std::env::current_exe().map(|me| std::process::Command::new(me).args(one).status());
            assert!(run.is_ok_and(|status| status.is_ok_and(|s| s.success())));
        }
    }
}
