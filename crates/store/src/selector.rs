//! Which resources are meant? Labels and what they must be.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// Conditions on labels, all of which must hold: `tier=web,env in (lab,test),!old`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Missing(String),
}

/// The text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no condition on labels; write key=value, key!=value, key in (a,b), key notin (a,b), key or !key"
)]
pub struct SelectorError(pub String);

impl Selector {
    /// The selector that chooses everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// True when the labels fit.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Condition::NotIn(key, values) => !labels.get(key).is_some_and(|v| values.contains(v)),
            Condition::Exists(key) => labels.contains_key(key),
            Condition::Missing(key) => !labels.contains_key(key),
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut conditions = Vec::new();
        for part in split(text).into_iter().map(str::trim).filter(|p| !p.is_empty()) {
            conditions.push(condition(part).ok_or_else(|| SelectorError(part.chars().take(100).collect()))?);
        }
        Ok(Self(conditions))
    }
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn condition(text: &str) -> Option<Condition> {
    let key = |text: &str| {
        let text = text.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        (!text.is_empty() && text.chars().all(fits)).then(|| text.to_owned())
    };
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    if let Some((k, v)) = text.split_once("!=") {
        return Some(Condition::NotIn(key(k)?, one(v)));
    }
    if let Some((k, v)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Condition::In(key(k)?, one(v)));
    }
    if let Some((head, values)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        let values = values.split(',').map(|v| v.trim().to_owned()).collect();
        let (k, word) = head.trim().rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => Some(Condition::In(key(k)?, values)),
            "notin" => Some(Condition::NotIn(key(k)?, values)),
            _ => None,
        };
    }
    match text.strip_prefix('!') {
        Some(k) => key(k).map(Condition::Missing),
        None => key(text).map(Condition::Exists),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let labels = BTreeMap::from([
            ("tier".to_owned(), "web".to_owned()),
            ("weft.dev/team".to_owned(), "core".to_owned()),
        ]);
        let cases = [
            ("", true),
            ("tier=web", true),
            ("tier==web, weft.dev/team = core", true),
            ("tier!=web", false),
            ("other!=web", true),
            ("tier in (db, web)", true),
            ("tier notin (db,web)", false),
            ("tier,!old", true),
            ("old", false),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Selector>().unwrap().matches(&labels), want, "{text}");
        }
        for bad in ["a b", "=x", "tier in db", "tier of (a)", "in (a)", "!"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }
}
