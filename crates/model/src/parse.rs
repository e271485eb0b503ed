//! How does text become resources, and what is said when it does not?
//!
//! YAML (several documents) and JSON (one object, or `kind: List` with `items`). Every document is read by itself, so
//! that a mistake in one does not hide mistakes in others. A document is read twice: once for `kind` alone, once as
//! that kind. The reader keeps the path, so that an error names line and field.

mod explain;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use self::explain::{explain, join, path_of, yaml_message};
use crate::kind::Kind;
use crate::object::{API_VERSION, Object, ObjectRef, Resource, Spec};
use crate::problem::{MISSING, Problem, Problems, clip, nearest};
use crate::scalar::check_label;

/// Longest text that is read, in bytes.
pub const MAX_TEXT: usize = 32 * 1024 * 1024;
/// Longest single document, in bytes.
pub const MAX_DOCUMENT: usize = 1024 * 1024;
/// Most documents in one text.
pub const MAX_DOCUMENTS: usize = 100_000;
/// Deepest nesting of brackets in a YAML document: its scanner needs time in proportion to the depth for every word.
const MAX_DEPTH: usize = 256;
/// No more problems than this are told at once.
const MAX_PROBLEMS: usize = 200;

/// A resource and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The resource, valid by itself.
    pub resource: Resource,
    /// The first line of its document, from 1.
    pub line: usize,
}

/// Reads all resources of a text, in order. All of them are valid by themselves, or none is returned.
///
/// # Errors
/// Everything that is wrong in any document, at most 200 problems.
pub fn parse(text: &str) -> Result<Vec<Parsed>, Problems> {
    let mut parsed = Vec::new();
    let mut problems = Vec::new();
    for document in split_text(text)? {
        if parsed.len() >= MAX_DOCUMENTS {
            let what = format!("there are more than {MAX_DOCUMENTS} documents");
            problems.push(Problem { line: Some(document.line), ..plain(what, "split the text") });
        }
        if problems.len() >= MAX_PROBLEMS {
            break;
        }
        match document.read() {
            Ok(resources) => {
                for resource in resources {
                    let found = resource.validate();
                    problems.extend(found.into_iter().map(|p| Problem { line: Some(document.line), ..p }));
                    parsed.push(Parsed { resource, line: document.line });
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    problems.truncate(MAX_PROBLEMS);
    if problems.is_empty() { Ok(parsed) } else { Err(Problems(problems)) }
}

/// A document that says something about a resource, perhaps not all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Which resource.
    pub object: ObjectRef,
    /// What was written.
    pub value: Value,
    /// The first line of its document, from 1.
    pub line: usize,
    /// The resource, if the document says all that it must; else what is wrong. A field that is missing may be said
    /// elsewhere, see [`Problem::is_missing_field`].
    pub resource: Result<Resource, Problem>,
}

/// Reads all documents of a text as they were written, for those who put several together.
///
/// # Errors
/// Everything that is wrong in any document, except fields that are missing.
pub fn parse_drafts(text: &str) -> Result<Vec<Draft>, Problems> {
    let mut drafts = Vec::new();
    let mut problems = Vec::new();
    for document in split_text(text)? {
        if drafts.len() >= MAX_DOCUMENTS || problems.len() >= MAX_PROBLEMS {
            break;
        }
        match document.drafts() {
            Ok(read) => {
                for draft in read {
                    match &draft.resource {
                        Err(problem) if !problem.is_missing_field() => problems.push(problem.clone()),
                        _ => drafts.push(draft),
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(drafts) } else { Err(Problems(problems)) }
}

/// Reads a text that holds exactly one resource.
///
/// # Errors
/// As [`parse`], and when there is none or more than one.
pub fn parse_one(text: &str) -> Result<Resource, Problems> {
    let mut all = parse(text)?;
    match (all.pop(), all.len()) {
        (Some(parsed), 0) => Ok(parsed.resource),
        (None, _) => Err(plain("there is no resource", "write one document").into()),
        (Some(_), more) => {
            Err(plain(format!("there are {} resources", more + 1), "write one document").into())
        }
    }
}

/// Makes a resource of a JSON value. It is not yet validated.
///
/// # Errors
/// The first thing that does not fit, with its path.
pub fn resource_from_value(value: Value) -> Result<Resource, Problem> {
    let header: Header = Header::deserialize(&value).map_err(|e| {
        plain(clip(&e.to_string()), "write a resource with apiVersion, kind, metadata and spec")
    })?;
    let kind = header.check()?;
    let object = header.object(kind);
    let place = |problem: Problem| Problem { object: object.clone(), ..problem };
    by_kind(kind, FromValue(value)).map_err(place)
}

fn split_text(text: &str) -> Result<Vec<Document<'_>>, Problems> {
    if text.len() > MAX_TEXT {
        let what = format!("the text is {} bytes", text.len());
        return Err(plain(what, format!("split it; {MAX_TEXT} bytes are read at once")).into());
    }
    Ok(documents(text))
}

fn plain(what: impl Into<String>, mend: impl Into<String>) -> Problem {
    Problem { what: what.into(), mend: mend.into(), ..Problem::default() }
}

/// Only what says how to read the rest; types are loose so that the second reading tells what is wrong.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Header {
    api_version: Option<Value>,
    kind: Option<Value>,
    metadata: Option<HeaderMetadata>,
    items: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HeaderMetadata {
    Named {
        name: String,
    },
    #[allow(dead_code)] // It is enough to know that it is there.
    Other(IgnoredAny),
}

impl Header {
    fn is_list(&self) -> bool {
        self.items.is_some() && self.kind.as_ref().is_some_and(|k| k == "List")
    }

    fn check(&self) -> Result<Kind, Problem> {
        let at = |path: &str, p: Problem| Problem { path: path.to_owned(), ..p };
        match &self.api_version {
            Some(Value::String(version)) if version == API_VERSION => {}
            Some(version) => {
                let what = format!("{} is not known", clip(&version.to_string()));
                return Err(at("apiVersion", plain(what, format!("write `apiVersion: {API_VERSION}`"))));
            }
            None => {
                return Err(at(
                    "apiVersion",
                    plain("is missing", format!("add `apiVersion: {API_VERSION}`")),
                ));
            }
        }
        let names = Kind::ALL.map(Kind::name);
        match &self.kind {
            Some(Value::String(word)) => Kind::ALL.into_iter().find(|k| k.name() == word).ok_or_else(|| {
                at("kind", plain(format!("there is no kind {:?}", clip(word)), nearest(word, &names)))
            }),
            Some(other) => {
                let what = format!("{} is not a kind", clip(&other.to_string()));
                Err(at("kind", plain(what, format!("use one of {}", names.join(", ")))))
            }
            None => Err(at("kind", plain("is missing", format!("add one of {}", names.join(", "))))),
        }
    }

    fn object(&self, kind: Kind) -> Option<ObjectRef> {
        match &self.metadata {
            Some(HeaderMetadata::Named { name }) if check_label(name).is_ok() => {
                Some(ObjectRef::new(kind, name))
            }
            _ => None,
        }
    }
}

/// What is wrong with a name that names nothing.
fn bad_name(name: Option<&Value>) -> Problem {
    let what = match name {
        Some(Value::String(name)) => {
            format!("{:?} {}", clip(name), check_label(name).err().unwrap_or("is no name"))
        }
        Some(_) => "is not text".to_owned(),
        None => MISSING.to_owned(),
    };
    let mend = "write one label of a-z, 0-9 and hyphen, at most 63 long";
    Problem { path: "metadata.name".to_owned(), ..plain(what, mend) }
}

fn header_of(value: &Value) -> Result<Header, Problem> {
    Header::deserialize(value)
        .map_err(|e| plain(clip(&e.to_string()), "write a resource with apiVersion, kind, metadata and spec"))
}

/// Something that can be read as an object of any kind.
trait Source {
    fn read<S: Spec>(self) -> Result<Object<S>, Problem>;
}

fn by_kind(kind: Kind, source: impl Source) -> Result<Resource, Problem> {
    Ok(match kind {
        Kind::Network => Resource::Network(source.read()?),
        Kind::Subnet => Resource::Subnet(source.read()?),
        Kind::Port => Resource::Port(source.read()?),
        Kind::Router => Resource::Router(source.read()?),
        Kind::AddressPool => Resource::AddressPool(source.read()?),
    })
}

struct FromValue(Value);

impl Source for FromValue {
    fn read<S: Spec>(self) -> Result<Object<S>, Problem> {
        serde_path_to_error::deserialize(self.0)
            .map_err(|e| explain(&path_of(e.path()), &e.inner().to_string()))
    }
}

/// One document of a text.
struct Document<'a> {
    text: &'a str,
    /// Line of its first character, from 1.
    line: usize,
    json: bool,
}

/// Cuts a text into documents, empty ones left out. A line that begins with `---` or `...` separates, whatever it is
/// in (YAML 1.2 §9.1.2), so that each part can be read by itself.
fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with(['{', '[']) {
        return vec![Document { text, line: 1, json: true }];
    }
    let mut found = Vec::new();
    let (mut start, mut first, mut at) = (0, 1, 0);
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
        if rest.is_some_and(|r| r.is_empty() || r.starts_with(char::is_whitespace)) {
            found.push(Document { text: &text[start..at], line: first, json: false });
            // What follows the mark on its line belongs to the next document.
            start = at + 3;
            first = i + 1;
        }
        at += line.len();
    }
    found.push(Document { text: &text[start..], line: first, json: false });
    found.retain(|d| {
        d.text
            .lines()
            .any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#') && !l.starts_with('%'))
    });
    for document in &mut found {
        let blank = |l: &&str| l.trim().is_empty() || l.trim_start().starts_with('#');
        document.line += document.text.lines().take_while(blank).count();
        let skip: usize =
            document.text.split_inclusive('\n').take_while(|l| blank(&l.trim_end())).map(str::len).sum();
        document.text = &document.text[skip..];
    }
    found
}

impl Document<'_> {
    fn read(&self) -> Result<Vec<Resource>, Problem> {
        let at = |problem: Problem| Problem { line: problem.line.or(Some(self.line)), ..problem };
        match self.read_header()? {
            None => self.list().map_err(at),
            Some(kind) => {
                let named = |p: Problem| {
                    let object = self.typed::<Header>().ok().and_then(|header| header.object(kind));
                    at(Problem { object, ..p })
                };
                Ok(vec![by_kind(kind, self).map_err(named)?])
            }
        }
    }

    /// The kind of a single resource; `None` for a list.
    fn read_header(&self) -> Result<Option<Kind>, Problem> {
        let at = |problem: Problem| Problem { line: problem.line.or(Some(self.line)), ..problem };
        if let Some(line) = self.too_deep() {
            let what = format!("brackets are nested deeper than {MAX_DEPTH}");
            return Err(Problem { line: Some(line), ..plain(what, "close them") });
        }
        let header: Header = self.typed().map_err(|p| at(self.refine(p)))?;
        if header.is_list() {
            return Ok(None);
        }
        if self.text.len() > MAX_DOCUMENT {
            let what = format!("the document is {} bytes", self.text.len());
            return Err(at(plain(what, format!("keep to {MAX_DOCUMENT} bytes"))));
        }
        header.check().map(Some).map_err(at)
    }

    /// The line at which more brackets are open than are read, without regard to quotes.
    fn too_deep(&self) -> Option<usize> {
        let (mut depth, mut line) = (0_usize, self.line);
        for byte in self.text.bytes().filter(|_| !self.json) {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                b'\n' => line += 1,
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Some(line);
            }
        }
        None
    }

    /// The resources of the document as they were written.
    fn drafts(&self) -> Result<Vec<Draft>, Problem> {
        let at = |problem: Problem| Problem { line: problem.line.or(Some(self.line)), ..problem };
        // A list's elements have no lines of their own; a single document is read as text, for the sake of its lines.
        let single = self.read_header()?;
        let (values, typed) = match single {
            None => (self.items().map_err(at)?, None),
            Some(kind) => (vec![self.typed().map_err(at)?], Some(by_kind(kind, self).map_err(at))),
        };
        let mut drafts = Vec::new();
        for (i, value) in values.into_iter().enumerate() {
            let place = |p: Problem| match single {
                Some(_) => at(p),
                None => at(Problem { path: join(&format!("items[{i}]"), &p.path), ..p }),
            };
            let header = header_of(&value).map_err(place)?;
            let kind = header.check().map_err(place)?;
            let Some(object) = header.object(kind) else {
                return Err(place(bad_name(value.pointer("/metadata/name"))));
            };
            let resource = match &typed {
                Some(typed) => typed.clone().map_err(|p| Problem { object: Some(object.clone()), ..p }),
                None => resource_from_value(value.clone()).map_err(place),
            };
            drafts.push(Draft { object, value, line: self.line, resource });
        }
        Ok(drafts)
    }

    /// The header could not be read: usually broken syntax, or not a mapping.
    fn refine(&self, mut problem: Problem) -> Problem {
        if problem.what.contains("expected struct Header") {
            "the document is not a resource".clone_into(&mut problem.what);
            "write a mapping with apiVersion, kind, metadata and spec".clone_into(&mut problem.mend);
        }
        problem
    }

    fn list(&self) -> Result<Vec<Resource>, Problem> {
        let read = |(i, item): (usize, Value)| {
            resource_from_value(item)
                .map_err(|p| Problem { path: join(&format!("items[{i}]"), &p.path), ..p })
        };
        self.items()?.into_iter().enumerate().map(read).collect()
    }

    fn items(&self) -> Result<Vec<Value>, Problem> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<Value>,
        }
        Ok(self.typed::<List>()?.items)
    }

    fn typed<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        if self.json {
            let mut reader = serde_json::Deserializer::from_str(self.text);
            let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
                let (path, inner) = (path_of(e.path()), e.inner());
                let text = inner.to_string();
                let text = text.split(" at line ").next().unwrap_or(&text);
                Problem { line: Some(inner.line()).filter(|l| *l > 0), ..explain(&path, text) }
            })?;
            let trailing = |e: serde_json::Error| Problem {
                line: Some(e.line()),
                ..explain("", "text after the object")
            };
            reader.end().map_err(trailing)?;
            return Ok(value);
        }
        let reader = serde_yaml_ng::Deserializer::from_str(self.text);
        serde_path_to_error::deserialize(reader).map_err(|e| {
            let (path, inner) = (path_of(e.path()), e.inner());
            // What ends too early is told of the line behind the last.
            let last = self.text.lines().count().saturating_sub(1);
            let line = inner.location().map(|l| self.line + l.line().saturating_sub(1).min(last));
            let text = inner.to_string();
            Problem { line, ..explain(&path, yaml_message(&text, &path)) }
        })
    }
}

impl Source for &Document<'_> {
    fn read<S: Spec>(self) -> Result<Object<S>, Problem> {
        self.typed()
    }
}
