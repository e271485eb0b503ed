//! Breaks documents, the same way for the same seed.
#![allow(unreachable_pub)]

/// xorshift64*: the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }
}

const WORDS: &[&str] = &[
    "null",
    "-1",
    "0",
    "99999999999999999999",
    "1e400",
    "\"\"",
    "~",
    "[]",
    "{}",
    "true",
    "- ",
    ": ",
    "&a ",
    "*a",
    "!!binary ",
    "!x ",
    "<<: ",
    "? ",
    "| ",
    "---\n",
    "...\n",
    "%YAML 9.9\n",
    "\t",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "é",
    "10.0.0.0/33",
    "::/0",
    "255.255.255.255",
    "ff:ff:ff:ff:ff:ff",
    "'",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    "kind: List\nitems: [1]\n",
    "\\u0000",
    "0x10",
    ".nan",
    "2001-01-01",
    "metadata",
    "spec",
    "status",
    "network: a\n",
    "{start: 10.0.0.9, end: ::1}",
    "/0",
    "4294967296",
    "-9223372036854775809",
];

/// Breaks a text in one to four places.
pub fn mutate(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(chars.len() + 1);
        let end = (at + random.below(12)).min(chars.len());
        match random.below(7) {
            0 => drop(chars.drain(at..end)),
            1 => drop(chars.splice(at..at, WORDS[random.below(WORDS.len())].chars())),
            2 => drop(chars.splice(at..end, WORDS[random.below(WORDS.len())].chars())),
            3 => {
                let copy: Vec<char> = chars[at..end].to_vec();
                let to = random.below(chars.len() + 1);
                drop(chars.splice(to..to, copy));
            }
            4 => {
                if let Some(c) = chars.get_mut(at) {
                    *c = char::from(u8::try_from(random.below(128)).unwrap());
                }
            }
            5 => {
                // A value of a line, or of a JSON field, becomes something else.
                if let Some(colon) = chars[at..].iter().position(|c| *c == ':') {
                    let from = at + colon + 1;
                    let to = chars[from..]
                        .iter()
                        .position(|c| matches!(c, '\n' | ',' | '}'))
                        .map_or(chars.len(), |n| from + n);
                    let word = WORDS[random.below(WORDS.len())];
                    drop(chars.splice(from..to, format!(" {word}").chars()));
                }
            }
            _ => chars.truncate(at),
        }
    }
    chars.into_iter().collect()
}
