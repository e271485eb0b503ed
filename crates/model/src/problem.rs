//! What is wrong with a document, where, and how is it mended?

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::object::ObjectRef;

/// No more problems than this are told at once.
const MAX_PROBLEMS: usize = 200;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The resource it is found in, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// Line in the text, from 1; the first line of the document when the exact one is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The field: `spec.dhcp.ranges[0].end`. Empty for the document as a whole.
    pub path: String,
    /// What is wrong: `10.0.0.300 is not an IP address`.
    pub what: String,
    /// What to do about it: `use an address inside 10.0.0.0/24`.
    pub mend: String,
}

/// What is said of a field that must be there and is not.
pub(crate) const MISSING: &str = "is missing";

impl Problem {
    /// True when the document lacks a field, which may be said by somebody else.
    #[must_use]
    pub fn is_missing_field(&self) -> bool {
        self.what == MISSING
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if !self.mend.is_empty() {
            write!(f, "; {}", self.mend)?;
        }
        Ok(())
    }
}

/// Everything that is wrong, never empty when it is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Collects problems and knows in which field it is looking.
#[derive(Debug, Default)]
pub struct Checker {
    path: String,
    found: Vec<Problem>,
}

impl Checker {
    /// A checker that looks at fields below `root`, for example `spec`.
    #[must_use]
    pub fn at(root: &str) -> Self {
        Self { path: root.to_owned(), found: Vec::new() }
    }

    /// Looks into a field (`dhcp`) while `look` runs.
    pub fn field(&mut self, name: &str, look: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
        look(self);
        self.path.truncate(before);
    }

    /// Looks into every element of a list (`ranges[0]`, `ranges[1]`, …), and refuses lists longer than `limit`.
    pub fn each<T>(
        &mut self,
        name: &str,
        limit: usize,
        list: &[T],
        mut look: impl FnMut(&mut Self, usize, &T),
    ) {
        if list.len() > limit {
            self.add(name, format!("has {} elements", list.len()), format!("keep to {limit} at most"));
        }
        for (i, item) in list.iter().take(limit).enumerate() {
            self.field(&format!("{name}[{i}]"), |c| look(c, i, item));
        }
    }

    /// Notes a problem with a field below the one that is looked at; an empty name means that one itself.
    pub fn add(&mut self, field: &str, what: impl Into<String>, mend: impl Into<String>) {
        if self.found.len() >= MAX_PROBLEMS {
            return;
        }
        let path = match (self.path.is_empty(), field.is_empty()) {
            (_, true) => self.path.clone(),
            (true, false) => field.to_owned(),
            (false, false) => format!("{}.{field}", self.path),
        };
        self.found.push(Problem { path, what: what.into(), mend: mend.into(), ..Problem::default() });
    }

    /// Notes a problem if a check found one: `check` says what is wrong with `value`.
    pub fn text(&mut self, field: &str, value: &str, check: Result<(), &'static str>, mend: &str) {
        if let Err(why) = check {
            self.add(field, format!("{:?} {why}", clip(value)), mend);
        }
    }

    /// Notes a problem if `value` is outside `low..=high`.
    pub fn within<T: PartialOrd + fmt::Display>(&mut self, field: &str, value: T, low: T, high: T) {
        if value < low || value > high {
            self.add(field, format!("{value} is out of range"), format!("use a number from {low} to {high}"));
        }
    }

    /// Everything found.
    #[must_use]
    pub fn finish(self) -> Vec<Problem> {
        self.found
    }
}

/// The beginning of a text that may be long.
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How to mend a word that is not one of `known`: the nearest one, or all of them.
pub(crate) fn nearest(word: &str, known: &[&str]) -> String {
    let word: String = word.to_ascii_lowercase().chars().take(40).collect();
    let best = known.iter().map(|k| (distance(&word, &k.to_ascii_lowercase()), *k)).min();
    match best {
        Some((d, k)) if d <= 1 + word.len() / 4 => format!("did you mean `{k}`?"),
        Some(_) => format!("use one of {}", known.join(", ")),
        None => "remove it".to_owned(),
    }
}

/// Edits (insert, delete, replace) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(ca != *cb)).min(left + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j] = left;
            left = cost;
        }
        row[b.len()] = left;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits() {
        for (a, b, n) in
            [("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("mtu", "mtu", 0)]
        {
            assert_eq!(distance(a, b), n, "{a} {b}");
        }
        assert_eq!(nearest("forwrders", &["enabled", "forwarders"]), "did you mean `forwarders`?");
        assert_eq!(nearest("zzz", &["enabled", "hosts"]), "use one of enabled, hosts");
        assert_eq!(nearest(&"x".repeat(10_000), &[]), "remove it");
    }

    #[test]
    fn paths() {
        let mut c = Checker::at("spec");
        c.field("dhcp", |c| c.each("ranges", 1, &[1, 2], |c, i, _| c.add("end", format!("{i}"), "m")));
        c.add("", "whole", "");
        let paths: Vec<_> = c.finish().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["spec.dhcp.ranges", "spec.dhcp.ranges[0].end", "spec"]);
    }
}
