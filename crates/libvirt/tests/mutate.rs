//! Documents that are broken in 10,000 ways give a valid network or problems with their places, and never a panic.

mod support;
mod touch;

use support::documents;

/// xorshift64*: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n.max(1) as u64).expect("fits")
    }
}

const WORDS: &[&str] = &[
    "",
    "0",
    "-1",
    "1",
    "4095",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "99999999999999999999",
    "yes",
    "no",
    "on",
    "off",
    "nat",
    "route",
    "open",
    "bridge",
    "private",
    "vepa",
    "passthrough",
    "hostdev",
    "10.0.0.1",
    "10.0.0.255",
    "0.0.0.0",
    "255.255.255.255",
    "127.0.0.1",
    "224.0.0.1",
    "255.255.255.252",
    "::",
    "::1",
    "ff02::1",
    "fd00::1",
    "ipv4",
    "ipv6",
    "24",
    "31",
    "32",
    "33",
    "64",
    "127",
    "128",
    "00:00:00:00:00:00",
    "ff:ff:ff:ff:ff:ff",
    "52:54:00:00:00:09",
    ".",
    "..",
    "a",
    "é",
    "/",
    "eth0",
    "a b",
    "&lt;",
    "&#0;",
    "&#x1F600;",
    "&amp;",
    "&quot;",
    "hours",
    "seconds",
    "tcp",
    "[]",
    "{}",
    "weft:network",
];

/// The values and names of a document: what stands between quotes, and what follows `<`, `</` and blanks.
fn places(text: &str, quotes: bool) -> Vec<std::ops::Range<usize>> {
    let stop = |c: char| if quotes { c == '\'' || c == '"' } else { !c.is_ascii_alphanumeric() };
    let mut found = Vec::new();
    let mut from = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| stop(*c)) {
        if at > from && from > 0 {
            found.push(from..at);
        }
        from = at + c.len_utf8();
    }
    found
}

/// Elements as ranges of the text; good enough for documents that are not broken yet.
fn elements(text: &str) -> Vec<std::ops::Range<usize>> {
    match roxmltree::Document::parse(text) {
        Ok(document) => document
            .descendants()
            .filter(|n| n.is_element() && !n.ancestors().nth(1).is_some_and(|p| p.is_root()))
            .map(|n| n.range())
            .collect(),
        Err(_) => Vec::new(),
    }
}

fn mutate(text: &str, other: &str, random: &mut Random) -> String {
    let mut out = text.to_owned();
    for _ in 0..=random.below(3) {
        let pick = |all: Vec<std::ops::Range<usize>>, random: &mut Random| {
            let n = random.below(all.len());
            all.into_iter().nth(n).unwrap_or(0..0)
        };
        match random.below(8) {
            // Another value.
            0..3 => out.replace_range(pick(places(&out, true), random), WORDS[random.below(WORDS.len())]),
            // Another name.
            3 => {
                let from = pick(places(other, false), random);
                out.replace_range(pick(places(&out, false), random), &other[from]);
            }
            // An element that goes.
            4 => out.replace_range(pick(elements(&out), random), ""),
            // An element more: its own or another document's.
            5 => {
                let from = pick(elements(other), random);
                let to = pick(elements(&out), random).start;
                out.insert_str(to, &other[from]);
            }
            // A value from elsewhere.
            6 => {
                let from = pick(places(other, true), random);
                out.replace_range(pick(places(&out, true), random), &other[from]);
            }
            // A broken place.
            _ => {
                let at = random.below(out.len());
                let at = (0..=at).rev().find(|i| out.is_char_boundary(*i)).unwrap_or_default();
                match random.below(3) {
                    0 => out.truncate(at),
                    1 => out.insert(at, ['<', '>', '&', '\'', '"', '\0', '/', 'x'][random.below(8)]),
                    _ => {
                        out.drain(at..).next();
                    }
                }
            }
        }
    }
    out
}

#[test]
fn ten_thousand_broken_documents() {
    let all = documents();
    let mut random = Random(0x5eed_0007);
    let mut counts = [0, 0];
    for _ in 0..10_000 {
        let text = &all[random.below(all.len())].1;
        let broken = mutate(text, &all[random.below(all.len())].1, &mut random);
        counts[usize::from(touch::document(&broken))] += 1;
    }
    // The breaking breaks, and not everything.
    assert!(counts[0] > 2_000 && counts[1] > 1_000, "{counts:?}");
}
