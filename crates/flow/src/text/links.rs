//! How are `multipath(...)` and `bundle(...)` written?

use super::Syntax;
use super::error::{ParseError, Result, bad};
use super::subfield::{format_subfield, parse_writable};
use super::value::int;
use crate::{Action, Bundle, BundleAlgorithm, HashFields, Multipath, MultipathAlgorithm};

/// Words for what a hash is over.
const FIELDS: &[(&str, HashFields)] = &[
    ("eth_src", HashFields::EthSrc),
    ("symmetric_l4", HashFields::SymmetricL4),
    ("symmetric_l3l4", HashFields::SymmetricL3L4),
    ("symmetric_l3l4+udp", HashFields::SymmetricL3L4Udp),
    ("nw_src", HashFields::NwSrc),
    ("nw_dst", HashFields::NwDst),
    ("symmetric_l3", HashFields::SymmetricL3),
];

/// Words for the algorithms of `multipath`.
const MULTIPATHS: &[(&str, MultipathAlgorithm)] = &[
    ("modulo_n", MultipathAlgorithm::ModuloN),
    ("hash_threshold", MultipathAlgorithm::HashThreshold),
    ("hrw", MultipathAlgorithm::Hrw),
    ("iter_hash", MultipathAlgorithm::IterHash),
];

/// Words for the algorithms of `bundle`.
const BUNDLES: &[(&str, BundleAlgorithm)] =
    &[("active_backup", BundleAlgorithm::ActiveBackup), ("hrw", BundleAlgorithm::Hrw)];

fn find<T: Copy>(action: &str, text: &str, words: &[(&str, T)], want: &'static str) -> Result<T> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| bad(action, text, want))
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, v)| *v == value).map_or("<unknown>", |(word, _)| word)
}

fn words(text: &str) -> Vec<&str> {
    text.split([',', ' ', '\t']).filter(|w| !w.is_empty()).collect()
}

/// Reads `fields,basis,algorithm,n_links,argument,destination`.
pub(super) fn parse_multipath(text: &str) -> Result<Action> {
    let parts = words(text);
    let [fields, basis, algorithm, links, arg, dst] = parts[..] else {
        return Err(bad("multipath", text, "fields,basis,algorithm,n_links,arg,destination"));
    };
    let dst = parse_writable(dst)?;
    let links: u32 = int("multipath", links)?;
    if !(1..=65536).contains(&links) {
        return Err(bad("multipath", text, "1 to 65536 links"));
    }
    if dst.bits < 16 && links > 1 << dst.bits {
        let problem = format!(
            "{}-bit destination field has {} possible values, less than specified n_links {links}",
            dst.bits,
            1 << dst.bits
        );
        return Err(ParseError::BadSubfield { text: text.to_owned(), problem });
    }
    Ok(Action::Multipath(Box::new(Multipath {
        fields: find("multipath", fields, FIELDS, "a set of fields")?,
        basis: int("multipath", basis)?,
        algorithm: find("multipath", algorithm, MULTIPATHS, "an algorithm")?,
        max_link: (links - 1) as u16,
        arg: int("multipath", arg)?,
        dst,
    })))
}

/// Reads `fields,basis,algorithm,ofport,members:...`, with a destination behind `ofport` where `load` is set.
pub(super) fn parse_bundle(text: &str, load: bool, syntax: &Syntax<'_>) -> Result<Action> {
    let action = if load { "bundle_load" } else { "bundle" };
    let wrong = || bad(action, text, "fields,basis,algorithm,ofport,[destination,]members:port,...");
    let (head, members) =
        ["members:", "slaves:"].iter().find_map(|word| text.split_once(word)).ok_or_else(wrong)?;
    let head = words(head);
    let (fields, basis, algorithm, kind, dst) = match head[..] {
        [fields, basis, algorithm, kind] if !load => (fields, basis, algorithm, kind, None),
        [fields, basis, algorithm, kind, dst] if load => {
            (fields, basis, algorithm, kind, Some(parse_writable(dst)?))
        }
        _ => return Err(wrong()),
    };
    if kind != "ofport" {
        return Err(bad(action, kind, "ofport"));
    }
    let port =
        |text: &&str| syntax.parse_port(text).ok_or_else(|| ParseError::UnknownPort((*text).to_owned()));
    let members = members.trim().trim_start_matches('[').trim_end_matches(']');
    Ok(Action::Bundle(Box::new(Bundle {
        fields: find(action, fields, FIELDS, "a set of fields")?,
        basis: int(action, basis)?,
        algorithm: find(action, algorithm, BUNDLES, "an algorithm")?,
        members: words(members).iter().map(port).collect::<Result<_>>()?,
        dst,
    })))
}

pub(super) fn format_multipath(m: &Multipath) -> String {
    format!(
        "multipath({},{},{},{},{},{})",
        word(FIELDS, m.fields),
        m.basis,
        word(MULTIPATHS, m.algorithm),
        u32::from(m.max_link) + 1,
        m.arg,
        format_subfield(&m.dst)
    )
}

pub(super) fn format_bundle(b: &Bundle, syntax: &Syntax<'_>) -> String {
    let members: Vec<String> = b.members.iter().map(|p| syntax.port(*p)).collect();
    let (name, dst) = match &b.dst {
        Some(dst) => ("bundle_load", format!("{},", format_subfield(dst))),
        None => ("bundle", String::new()),
    };
    format!(
        "{name}({},{},{},ofport,{dst}members:{})",
        word(FIELDS, b.fields),
        b.basis,
        word(BUNDLES, b.algorithm),
        members.join(",")
    )
}

/// The word for what a hash is over, as groups and traces write it too.
pub fn format_hash_fields(fields: HashFields) -> &'static str {
    word(FIELDS, fields)
}
