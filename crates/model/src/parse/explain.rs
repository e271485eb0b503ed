//! How are the readers' messages told to people: in which field, what is wrong, how is it mended?

use super::MISSING;
use crate::problem::{Problem, clip, nearest};

/// The reader's message without the path in front and the place behind, which are told otherwise.
pub(super) fn yaml_message<'a>(text: &'a str, path: &str) -> &'a str {
    let text = match text.split_once(": ") {
        Some((head, rest)) if !head.contains(' ') && path.starts_with(head) => rest,
        _ => text,
    };
    let end = text.rfind(" at line ").filter(|i| text[*i..].contains(" column ")).unwrap_or(text.len());
    &text[..end]
}

/// The path as people write it; the root is the empty text.
pub(super) fn path_of(path: &serde_path_to_error::Path) -> String {
    let text = path.to_string();
    let text = text.strip_suffix(".?").unwrap_or(&text);
    if text == "." || text == "?" { String::new() } else { text.to_owned() }
}

pub(super) fn join(a: &str, b: &str) -> String {
    if b.is_empty() { a.to_owned() } else { format!("{a}.{b}") }
}

/// Makes a problem of what serde says.
pub(super) fn explain(path: &str, message: &str) -> Problem {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (mut path, mut what) = (path.to_owned(), message.to_owned());
    let mend = match (message, quoted.as_slice()) {
        (m, [word, known @ ..]) if m.starts_with("unknown field") => {
            // The reader's path may end in the field itself.
            let parent = path.strip_suffix(word).map(|p| p.trim_end_matches('.')).unwrap_or(&path).to_owned();
            path = join_field(&parent, word);
            what = "there is no such field".to_owned();
            nearest(word, known)
        }
        (m, [word, known @ ..]) if m.starts_with("unknown variant") => {
            what = format!("{:?} is not one of its values", clip(word));
            nearest(word, known)
        }
        (m, [word, ..]) if m.starts_with("missing field") => {
            path = join_field(&path, word);
            what = MISSING.to_owned();
            "add it".to_owned()
        }
        (m, [word, ..]) if m.starts_with("duplicate field") => {
            path =
                join_field(path.strip_suffix(word).map(|p| p.trim_end_matches('.')).unwrap_or(&path), word);
            what = "is there twice".to_owned();
            "remove one".to_owned()
        }
        (m, _) if m.contains("IP address") || m.contains("prefix length") => hint_address(&path).to_owned(),
        (m, _) if m.contains("MAC address") => "write it as 52:54:00:12:34:56".to_owned(),
        (m, _) if m.contains("expected a string") || m.contains("expected string") => {
            "put the value in quotes".to_owned()
        }
        (m, _) if m.starts_with("invalid type") || m.starts_with("invalid value") => m
            .split("expected ")
            .nth(1)
            .map_or_else(|| "write another value".to_owned(), |e| format!("write {e}")),
        _ => "correct the text there".to_owned(),
    };
    Problem { path: clip(&path), what: clip(&what), mend, ..Problem::default() }
}

pub(super) fn join_field(parent: &str, field: &str) -> String {
    if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") }
}

pub(super) fn hint_address(path: &str) -> &'static str {
    let last = path.rsplit('.').next().unwrap_or(path);
    match last.split('[').next().unwrap_or(last) {
        "cidr" | "cidrs" | "to" => "write an address and a prefix length, such as 10.20.0.0/24",
        "ip" if path.contains("allowedPairs") => "write an address and a prefix length, such as 10.20.0.5/32",
        "gateway" => "write an address, auto or none",
        _ => "write an IPv4 or IPv6 address",
    }
}
