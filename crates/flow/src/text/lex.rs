//! Where does one `key=value` end and the next begin?

use super::error::{ParseError, Result};

/// A keyword with what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a str,
    /// What stands behind `=` or `:`, or between parentheses; `None` if there is nothing of the kind.
    pub(super) value: Option<&'a str>,
    /// Whether the value stood between parentheses.
    pub(super) parens: bool,
    /// What stands behind `->`, which stands behind the parentheses.
    pub(super) target: Option<&'a str>,
}

impl<'a> Pair<'a> {
    /// The value, or nothing.
    pub(super) fn text(&self) -> &'a str {
        self.value.unwrap_or("")
    }
}

fn is_separator(c: char) -> bool {
    c == ',' || c.is_ascii_whitespace()
}

/// Splits off the next pair. `None` at the end.
pub(super) fn next_pair<'a>(rest: &mut &'a str) -> Result<Option<Pair<'a>>> {
    let text = rest.trim_start_matches(is_separator);
    if text.is_empty() {
        *rest = text;
        return Ok(None);
    }
    let key_end = text.find(|c| is_separator(c) || "=:(".contains(c)).unwrap_or(text.len());
    let (key, behind) = text.split_at(key_end);
    match behind.chars().next() {
        Some('(') => {
            let close = closing(behind).ok_or_else(|| ParseError::Unbalanced(text.to_owned()))?;
            let (target, after) = target_of(&behind[close + 1..]);
            *rest = after;
            Ok(Some(Pair { key, value: Some(&behind[1..close]), parens: true, target }))
        }
        Some('=' | ':') => {
            let end = value_end(&behind[1..]).ok_or_else(|| ParseError::Unbalanced(text.to_owned()))? + 1;
            *rest = &behind[end..];
            Ok(Some(Pair { key, value: Some(&behind[1..end]), parens: false, target: None }))
        }
        _ => {
            *rest = behind;
            Ok(Some(Pair { key, value: None, parens: false, target: None }))
        }
    }
}

/// Splits off `->target`.
fn target_of(text: &str) -> (Option<&str>, &str) {
    let Some(target) = text.strip_prefix("->") else { return (None, text) };
    let (target, after) = target.split_at(target.find(is_separator).unwrap_or(target.len()));
    (Some(target), after)
}

/// Every pair of a text.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair<'_>>> {
    let mut rest = text;
    let mut out = Vec::new();
    while let Some(pair) = next_pair(&mut rest)? {
        out.push(pair);
    }
    Ok(out)
}

/// Where the parenthesis that opens `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

/// Where a value ends: at a separator outside parentheses and quotes, or with the text.
fn value_end(text: &str) -> Option<usize> {
    let (mut depth, mut quoted) = (0usize, false);
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.checked_sub(1)?,
            c if depth == 0 && !quoted && is_separator(c) => return Some(i),
            _ => {}
        }
    }
    (depth == 0 && !quoted).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        assert_eq!(pairs("x(5)->reg0[0],y").unwrap()[0].target, Some("reg0[0]"));
        let got: Vec<_> =
            pairs(" ip, in_port=\"a,b\" packet_type=(1,0x800),resubmit(,3),set_field:1->reg0,x(a(b),c),")
                .unwrap()
                .into_iter()
                .map(|p| (p.key, p.value, p.parens))
                .collect();
        let want = [
            ("ip", None, false),
            ("in_port", Some("\"a,b\""), false),
            ("packet_type", Some("(1,0x800)"), false),
            ("resubmit", Some(",3"), true),
            ("set_field", Some("1->reg0"), false),
            ("x", Some("a(b),c"), true),
        ];
        assert_eq!(got, want);
        for bad in ["x(", "x((a)", "x=(", "x=)", "x=\""] {
            assert!(pairs(bad).is_err(), "{bad}");
        }
        assert_eq!(pairs(",, ").unwrap(), []);
    }
}
