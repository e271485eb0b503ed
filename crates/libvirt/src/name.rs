//! Which names do the resources of a network get? Libvirt takes nearly any text, resources want DNS labels.

/// Longest name of a network that leaves room for what is appended to it.
const MAX: usize = 48;

fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// The name of the Network for a name in libvirt: the same if it is a label, else a label made of it with a hash, so
/// that two names of libvirt do not become one.
pub(crate) fn network(name: &str) -> String {
    if weft_model::check_label(name).is_ok() {
        return name.to_owned();
    }
    let hash = hash(name);
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let word: String = name.chars().map(fit).take(MAX - 9).collect();
    let word = word.trim_matches('-');
    if word.is_empty() { format!("net-{hash:08x}") } else { format!("{word}-{hash:08x}") }
}

/// The name of the `nth` Subnet of a family, counted from 1.
pub(crate) fn subnet(network: &str, ipv6: bool, nth: usize) -> String {
    let family = if ipv6 { "v6" } else { "v4" };
    let short: String = network.chars().take(MAX - 9).collect();
    let short = format!("{}-{:08x}", short.trim_end_matches('-'), hash(network));
    let network = if network.len() > MAX { &short } else { network };
    if nth == 1 { format!("{network}-{family}") } else { format!("{network}-{family}-{nth}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_differ() {
        let names = [
            "default",
            "Default",
            "DEFAULT",
            "my net",
            "my-net",
            "my_net",
            "",
            "-",
            "ä",
            "ö",
            &"x".repeat(63),
            &"x".repeat(300),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            let label = network(name);
            assert_eq!(weft_model::check_label(&label), Ok(()), "{name:?}");
            assert_eq!(weft_model::check_label(&subnet(&label, true, 10_000)), Ok(()), "{name:?}");
            assert!(seen.insert(label), "{name:?} has the name of another one");
        }
        assert_eq!(network("default"), "default");
        assert_eq!(subnet("default", false, 1), "default-v4");
        assert_eq!(subnet("default", true, 3), "default-v6-3");
    }
}
