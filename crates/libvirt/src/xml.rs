//! What does an XML text say, as a tree that can be taken apart, and how is a tree written?

use std::fmt::Write as _;

use roxmltree::{Document, ParsingOptions};
use weft_model::Problem;

/// Longest text that is read, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;
/// Most nodes (elements, texts, comments) of a text.
const MAX_NODES: u32 = 100_000;
/// Deepest nesting of elements.
const MAX_DEPTH: usize = 64;
/// Most declarations of namespaces, and most attributes of one element: the parser compares each with all others.
const MAX_NAMESPACES: usize = 64;
const MAX_ATTRIBUTES: usize = 4_096;
/// The namespace of libvirt's options for dnsmasq.
const DNSMASQ: &str = "http://libvirt.org/schemas/network/dnsmasq/1.0";
/// The namespace of what libvirt's format has no words for.
pub(crate) const WEFT: &str = "https://weft.dev/libvirt/1";

/// An element, from which whoever understands something takes it: what is left at the end was not understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Name with its prefix: `forward`, `dnsmasq:options`.
    pub(crate) name: String,
    /// Attributes and namespace declarations, with the lines on which they stand.
    pub(crate) attributes: Vec<(String, String, u32)>,
    /// Elements and texts.
    pub(crate) children: Vec<Child>,
    /// Its place among its siblings of the same name, from 1.
    pub(crate) index: usize,
    /// Line of its start tag, from 1.
    pub(crate) line: u32,
}

/// A part of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Child {
    Element(Element),
    Text(String),
}

impl Element {
    /// An element without anything in it.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), index: 1, ..Self::default() }
    }

    /// The same with an attribute more.
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.push((name.to_owned(), value.to_string(), 0));
        self
    }

    /// The same with an attribute more if there is a value.
    pub(crate) fn maybe(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The same with an element more.
    pub(crate) fn child(mut self, child: Self) -> Self {
        self.children.push(Child::Element(child));
        self
    }

    /// The same with a text more.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.children.push(Child::Text(text.to_owned()));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.attributes.is_empty() && self.children.is_empty()
    }

    /// True for an element without prefix that is in a namespace all the same.
    pub(crate) fn is_foreign(&self) -> bool {
        self.attributes.iter().any(|(name, ..)| name == "xmlns")
    }

    /// The elements in it.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|c| if let Child::Element(e) = c { Some(e) } else { None })
    }

    /// Takes an attribute out: value and line.
    pub(crate) fn take(&mut self, name: &str) -> Option<(String, u32)> {
        let at = self.attributes.iter().position(|(n, ..)| n == name)?;
        let (_, value, line) = self.attributes.remove(at);
        Some((value, line))
    }

    /// Takes all elements of a name out.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<Self> {
        let mut taken = Vec::new();
        self.children.retain_mut(|child| match child {
            Child::Element(element) if element.name == name && !element.is_foreign() => {
                taken.push(std::mem::take(element));
                false
            }
            _ => true,
        });
        taken
    }

    /// Takes the texts out, joined, without white space around.
    pub(crate) fn take_text(&mut self) -> String {
        let mut all = String::new();
        self.children.retain(|child| match child {
            Child::Text(text) => {
                all.push_str(text);
                false
            }
            Child::Element(_) => true,
        });
        all.trim().to_owned()
    }
}

/// Reads a text. White space between elements and comments are no part of the tree.
pub(crate) fn parse(text: &str) -> Result<Element, Problem> {
    let problem = |line: Option<u32>, what: String, mend: &str| Problem {
        line: line.and_then(|l| usize::try_from(l).ok()),
        what,
        mend: mend.to_owned(),
        ..Problem::default()
    };
    if text.len() > MAX_TEXT {
        let what = format!("the document is {} bytes", text.len());
        return Err(problem(None, what, "keep it to 1 MiB at most"));
    }
    if text.matches("xmlns").count() > MAX_NAMESPACES {
        let what = format!("there are more than {MAX_NAMESPACES} namespaces");
        return Err(problem(None, what, "declare each once, at the root"));
    }
    if text.split('<').any(|tag| tag.bytes().filter(|b| *b == b'=').count() > MAX_ATTRIBUTES) {
        let what = format!("an element has more than {MAX_ATTRIBUTES} attributes");
        return Err(problem(None, what, "split it"));
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, entity_resolver: None };
    let document = Document::parse_with_options(text, options).map_err(|e| {
        let what = e.to_string();
        let what = what.split(" at ").next().unwrap_or_default().chars().take(200).collect();
        let mend = match e {
            roxmltree::Error::DtdDetected => "remove <!DOCTYPE>; entities are not expanded",
            roxmltree::Error::NodesLimitReached => "split the document",
            _ => "write well-formed XML",
        };
        problem(Some(e.pos().row), what, mend)
    })?;
    let lines = Lines::of(text);
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        if node.ancestors().take(MAX_DEPTH + 2).count() > MAX_DEPTH + 1 {
            let what = format!("elements are nested deeper than {MAX_DEPTH}");
            return Err(problem(Some(lines.at(node.range().start)), what, "make it flatter"));
        }
    }
    Ok(convert(document.root_element(), &mut Vec::new(), &lines))
}

/// Where lines begin: the parser would count from the beginning each time.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|newline| *newline < offset))
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }
}

/// Prefixes that are declared at a place: prefix (empty for the default) and namespace.
type Scope = Vec<(String, String)>;

/// The name with prefix of something in a namespace, and the declaration that it needs beside those in scope.
fn qualified(
    node: roxmltree::Node<'_, '_>,
    namespace: Option<&str>,
    local: &str,
    attribute: bool,
    scope: &mut Scope,
) -> (String, Option<(String, String)>) {
    let declared = |scope: &Scope, prefix: &str| {
        scope.iter().rev().find(|(p, _)| p == prefix).map(|(_, uri)| uri.clone()).unwrap_or_default()
    };
    let uri = namespace.unwrap_or_default();
    let prefix = match uri {
        "" => "",
        roxmltree::NS_XML_URI => return (format!("xml:{local}"), None),
        DNSMASQ => "dnsmasq",
        WEFT => "weft",
        _ => node
            .namespaces()
            .find(|n| n.uri() == uri && (!attribute || n.name().is_some()))
            .and_then(|n| n.name())
            .unwrap_or_default(),
    };
    let name = if prefix.is_empty() { local.to_owned() } else { format!("{prefix}:{local}") };
    if (attribute && prefix.is_empty()) || declared(scope, prefix) == uri {
        return (name, None);
    }
    scope.push((prefix.to_owned(), uri.to_owned()));
    let declaration = if prefix.is_empty() { "xmlns".to_owned() } else { format!("xmlns:{prefix}") };
    (name, Some((declaration, uri.to_owned())))
}

/// The tree of an element; its depth has been looked at.
fn convert(node: roxmltree::Node<'_, '_>, scope: &mut Scope, lines: &Lines) -> Element {
    let before = scope.len();
    let line = lines.at(node.range().start);
    let mut attributes = Vec::new();
    let tag = node.tag_name();
    let (name, declaration) = qualified(node, tag.namespace(), tag.name(), false, scope);
    attributes.extend(declaration.map(|(n, v)| (n, v, line)));
    for attribute in node.attributes() {
        let (name, declaration) = qualified(node, attribute.namespace(), attribute.name(), true, scope);
        attributes.extend(declaration.map(|(n, v)| (n, v, line)));
        attributes.push((name, attribute.value().to_owned(), lines.at(attribute.range().start)));
    }
    // libvirt's own elements hold no white space that means something; those of others may.
    let plain = tag.namespace().is_none() || node.children().any(|c| c.is_element());
    let mut children: Vec<Child> = Vec::new();
    let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for child in node.children() {
        if child.is_element() {
            let mut element = convert(child, scope, lines);
            let count = seen.entry(element.name.clone()).or_default();
            *count += 1;
            element.index = *count;
            children.push(Child::Element(element));
        } else if child.is_text() {
            let text = child.text().unwrap_or_default();
            match children.last_mut() {
                _ if plain && text.trim().is_empty() => {}
                // A comment stood between two parts of one text.
                Some(Child::Text(before)) => before.push_str(text),
                _ => children.push(Child::Text(text.to_owned())),
            }
        }
    }
    scope.truncate(before);
    Element { name, attributes, children, index: 1, line }
}

/// True for characters that XML 1.0 has (§2.2).
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// True for what can be the name of an element or attribute, with or without prefix.
pub(crate) fn is_name(name: &str) -> bool {
    let part = |p: &str| {
        let mut chars = p.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        first && chars.all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    name.split(':').count() <= 2 && name.split(':').all(part)
}

/// True when everything in an element can be written as XML.
pub(crate) fn is_writable(element: &Element) -> bool {
    element.attributes.iter().all(|(_, value, _)| value.chars().all(is_char))
        && element.children.iter().all(|child| match child {
            Child::Text(text) => text.chars().all(is_char),
            Child::Element(element) => is_writable(element),
        })
}

fn escape(out: &mut String, text: &str, attribute: bool) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' if attribute => out.push_str("&apos;"),
            '\n' | '\t' if !attribute => out.push(c),
            '\n' | '\t' | '\r' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// An element on one line.
pub(crate) fn compact(element: &Element) -> String {
    let mut out = String::new();
    write_to(&mut out, element, None);
    out
}

/// An element on lines, indented by two blanks a level; elements with text stay on one line.
pub(crate) fn pretty(element: &Element) -> String {
    let mut out = String::new();
    write_to(&mut out, element, Some(0));
    out.push('\n');
    out
}

fn write_to(out: &mut String, element: &Element, indent: Option<usize>) {
    let _ = write!(out, "<{}", element.name);
    for (name, value, _) in &element.attributes {
        let _ = write!(out, " {name}='");
        escape(out, value, true);
        out.push('\'');
    }
    if element.children.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    let mixed = element.children.iter().any(|c| matches!(c, Child::Text(_)));
    let indent = indent.filter(|_| !mixed);
    for child in &element.children {
        match child {
            Child::Text(text) => escape(out, text, false),
            Child::Element(child) => {
                if let Some(level) = indent {
                    let _ = write!(out, "\n{:1$}", "", (level + 1) * 2);
                }
                write_to(out, child, indent.map(|level| level + 1));
            }
        }
    }
    if let Some(level) = indent {
        let _ = write!(out, "\n{:1$}", "", level * 2);
    }
    let _ = write!(out, "</{}>", element.name);
}
