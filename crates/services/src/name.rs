//! How is a domain name written in options? (RFC 1035 §3.1)

/// The labels of a name behind their lengths, a zero at the end, no pointers. None for a name
/// with an empty or overlong label, or longer than 255 bytes in all.
#[must_use]
pub(crate) fn wire(name: &str) -> Option<Vec<u8>> {
    let name = name.trim_matches('.');
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        out.push(label.len() as u8);
        out.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    out.push(0);
    (out.len() <= 255).then_some(out)
}
