//! Where is the reader, what has it found wrong, and what has it kept?

use std::collections::BTreeMap;

use weft_model::Problem;

use crate::form::Form;
use crate::known::{self, Wrong};
use crate::xml::{Child, Element, compact};
use crate::{Note, clip};

/// No more problems than this are told at once.
const MAX_PROBLEMS: usize = 200;

/// An element that is being taken apart, and where it stands.
#[derive(Debug)]
pub(crate) struct At {
    pub(crate) element: Element,
    /// Its path below `<network>`: `ip[2]/dhcp`; empty for `<network>` itself.
    pub(crate) path: String,
    /// Length of the part of paths that is not kept: of `ip[2]/` in an `<ip>`.
    base: usize,
}

impl At {
    pub(crate) fn root(element: Element) -> Self {
        Self { element, path: String::new(), base: 0 }
    }

    /// The same place, from which on paths are kept.
    pub(crate) fn rooted(mut self) -> Self {
        self.base = self.path.len() + 1;
        self
    }

    fn join(&self, part: &str) -> String {
        if self.path.is_empty() { part.to_owned() } else { format!("{}/{part}", self.path) }
    }

    fn below(&self, element: &Element) -> String {
        match element.index {
            0 | 1 => self.join(&element.name),
            n => self.join(&format!("{}[{n}]", element.name)),
        }
    }

    /// The elements of a name, taken out.
    pub(crate) fn many(&mut self, name: &str) -> Vec<Self> {
        let taken = self.element.take_all(name);
        taken.into_iter().map(|e| Self { path: self.below(&e), element: e, base: self.base }).collect()
    }
}

/// Which part of a resource came from which element.
#[derive(Debug)]
struct Place {
    resource: usize,
    field: String,
    line: u32,
    path: String,
}

/// What the reader has found.
#[derive(Debug, Default)]
pub(crate) struct Cx {
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Note>,
    places: Vec<Place>,
}

/// What a resource keeps.
pub(crate) type Kept = BTreeMap<String, String>;

impl Cx {
    /// Notes something wrong at a path.
    pub(crate) fn wrong(&mut self, line: u32, path: &str, what: impl Into<String>, mend: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem {
                line: usize::try_from(line).ok(),
                path: path.to_owned(),
                what: what.into(),
                mend: mend.into(),
                ..Problem::default()
            });
        }
    }

    /// Notes something wrong with an element.
    pub(crate) fn wrong_at(&mut self, at: &At, what: impl Into<String>, mend: impl Into<String>) {
        let path = if at.path.is_empty() { "network" } else { &at.path };
        self.wrong(at.element.line, path, what, mend);
    }

    fn all_wrong(&mut self, wrong: Vec<Wrong>) {
        for (path, line, what, mend) in wrong {
            self.wrong(line, &path, what, mend);
        }
    }

    /// Takes the only element of a name out.
    pub(crate) fn one(&mut self, at: &mut At, name: &str) -> Option<At> {
        let mut all = at.many(name).into_iter();
        let first = all.next();
        if let Some(second) = all.next() {
            self.wrong_at(&second, "is there twice", "keep one of them");
        }
        first
    }

    /// Takes an attribute out and reads it.
    pub(crate) fn attr<T>(&mut self, at: &mut At, name: &str, read: impl Fn(&str) -> Form<T>) -> Option<T> {
        let (value, line) = at.element.take(name)?;
        match read(&value) {
            Ok(value) => Some(value),
            Err(form) => {
                let path = at.join(&format!("@{name}"));
                self.wrong(line, &path, format!("{:?} is not {form}", clip(&value)), format!("write {form}"));
                None
            }
        }
    }

    /// Takes an attribute out that must be there, and reads it.
    pub(crate) fn need<T>(&mut self, at: &mut At, name: &str, read: impl Fn(&str) -> Form<T>) -> Option<T> {
        if at.element.attributes.iter().any(|(n, ..)| n == name) {
            return self.attr(at, name, read);
        }
        let path = at.join(&format!("@{name}"));
        self.wrong(at.element.line, &path, "is missing", format!("add {name}='…'"));
        None
    }

    /// Remembers that a field of a resource comes from an element.
    pub(crate) fn place(&mut self, resource: usize, field: impl Into<String>, at: &At) {
        let path = if at.path.is_empty() { "network".to_owned() } else { at.path.clone() };
        self.places.push(Place { resource, field: field.into(), line: at.element.line, path });
    }

    /// Tells a problem of a resource as one of the document: of the element that the field came from.
    pub(crate) fn told(&self, resource: usize, mut problem: Problem) -> Problem {
        let within = |field: &str, path: &str| {
            path.strip_prefix(field).is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']))
        };
        let best = self
            .places
            .iter()
            .filter(|p| p.resource == resource && (p.field.is_empty() || within(&p.field, &problem.path)))
            .max_by_key(|p| p.field.len());
        if let Some(place) = best {
            let rest = problem.path.get(place.field.len()..).unwrap_or_default().trim_start_matches('.');
            if !rest.is_empty() {
                problem.what = format!("{rest} {}", problem.what);
            }
            problem.line = usize::try_from(place.line).ok();
            problem.path.clone_from(&place.path);
        }
        problem.object = None;
        problem
    }

    /// Keeps what was not taken out of an element.
    pub(crate) fn rest(&mut self, mut at: At, kept: &mut Kept) {
        let text = at.element.take_text();
        if !text.is_empty() {
            let path = at.join("text()");
            self.keep(&at, path, text, at.element.line, None, kept);
        }
        for (name, value, line) in std::mem::take(&mut at.element.attributes) {
            let path = at.join(&format!("@{name}"));
            self.all_wrong(known::check_attribute(path.clone(), &value, line));
            self.keep(&at, path, value, line, None, kept);
        }
        for child in std::mem::take(&mut at.element.children) {
            let Child::Element(mut child) = child else { continue };
            let path = at.below(&child);
            let mut wrong = Vec::new();
            known::check_element(&path, &child, &mut wrong);
            self.all_wrong(wrong);
            let line = child.line;
            let mut value = compact(&child);
            if child.attributes.is_empty() && child.elements().next().is_none() {
                let text = child.take_text();
                if !text.is_empty() && !text.starts_with('<') {
                    value = text;
                }
            }
            self.keep(&at, path, value, line, None, kept);
        }
    }

    /// Keeps one thing and says so; `why` if the reason is not that of the path.
    pub(crate) fn keep(
        &mut self,
        at: &At,
        path: String,
        value: String,
        line: u32,
        why: Option<&str>,
        kept: &mut Kept,
    ) {
        let why =
            why.or_else(|| known::why(&path)).unwrap_or("it is not a part of libvirt's format that is known");
        let key = path.get(at.base..).unwrap_or_default().to_owned();
        self.notes.push(Note { line, path, why: why.to_owned(), kept: true });
        kept.insert(key, value);
    }

    /// Says that something has another meaning here.
    pub(crate) fn differs(&mut self, at: &At, why: &str) {
        self.notes.push(Note {
            line: at.element.line,
            path: at.path.clone(),
            why: why.to_owned(),
            kept: false,
        });
    }
}
