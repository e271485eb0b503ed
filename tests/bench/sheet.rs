//! How are two switches compared row by row? Samples are collected by row and switch; the table says medians and ratio.

use crate::report::{Table, cell, last_lines, median};

/// Which switch is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// Debian's Open vSwitch, user-space datapath.
    Ovs,
    /// Weft.
    Weft,
}

impl Who {
    /// Both, in the order of a round.
    pub(crate) const BOTH: [Who; 2] = [Who::Ovs, Who::Weft];
}

/// Whether a row is better when larger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// Rates.
    More,
    /// Times and sizes.
    Less,
    /// Neither: there is no ratio.
    Neither,
}

struct Row {
    name: String,
    unit: &'static str,
    better: Better,
    samples: [Vec<f64>; 2],
}

/// The rows of one table.
pub(crate) struct Sheet {
    title: &'static str,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Sheet {
    /// An empty sheet.
    pub(crate) fn new(title: &'static str, note: &str) -> Sheet {
        Sheet { title, rows: Vec::new(), notes: vec![note.to_owned()] }
    }

    /// Adds a sample; the row is made when it is the first.
    pub(crate) fn put(&mut self, who: Who, name: &str, unit: &'static str, better: Better, value: f64) {
        let at = self.rows.iter().position(|r| r.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), unit, better, samples: Default::default() });
            self.rows.len() - 1
        });
        self.rows[at].samples[who as usize].push(value);
    }

    /// Adds a line under the table, once.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Runs every step for both switches, round by round; what fails is noted once.
    pub(crate) fn rounds(&mut self, rounds: usize, steps: &[(&str, Step)], scale: &Scale) {
        for round in 1..=rounds {
            for (name, step) in steps {
                for who in Who::BOTH {
                    eprint!("\r\x1b[K{}: round {round}/{rounds}: {name}, {who:?}", self.title);
                    if let Err(e) = step(who, self, scale) {
                        self.note(format!("{name} ({who:?}) failed: {}", last_lines(&e)));
                    }
                }
            }
        }
        eprintln!("\r\x1b[K{}: done", self.title);
    }

    /// The table of medians.
    pub(crate) fn table(self) -> Table {
        let rows = self.rows.iter().map(|row| {
            let [o, w] = [median(&row.samples[0]), median(&row.samples[1])];
            let ratio = match row.better {
                Better::More => o.zip(w).map(|(o, w)| w / o),
                Better::Less => o.zip(w).map(|(o, w)| o / w),
                Better::Neither => None,
            };
            vec![
                row.name.clone(),
                row.unit.to_owned(),
                figure(o),
                figure(w),
                ratio.map_or_else(String::new, |r| cell(Some(r)) + " ×"),
            ]
        });
        let head = ["row", "unit", "OVS", "Weft", "Weft is better by"];
        Table {
            title: self.title.to_owned(),
            rows: rows.collect(),
            head: head.map(str::to_owned).to_vec(),
            notes: self.notes,
        }
    }
}

/// Large numbers in thousands or millions.
fn figure(value: Option<f64>) -> String {
    match value {
        Some(v) if v >= 1e6 => format!("{:.2} M", v / 1e6),
        Some(v) if v >= 1e4 => format!("{:.0} k", v / 1e3),
        other => cell(other),
    }
}

/// One measurement of one switch.
pub(crate) type Step = fn(Who, &mut Sheet, &Scale) -> Result<(), String>;

/// How much is measured.
pub(crate) struct Scale {
    /// Seconds of each traffic measurement.
    pub(crate) seconds: u64,
    /// Rules of the largest table.
    pub(crate) rules: u32,
    /// Packets of one-shot replays: misses, new connections.
    pub(crate) packets: u32,
}
