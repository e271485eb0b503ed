//! What went wrong, in the words RFC 7047 gives clients for it?

use std::fmt;

use serde_json::{Map, Value};

use crate::json;

/// The `error` member of RFC 7047's `<error>` object (§3.1, §4.1, §5.2), plus
/// the additions ovsdb-server(7) documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is not of the form the RFC asks for.
    Syntax,
    /// A column is named that its table does not have.
    UnknownColumn,
    /// A database is named that the server does not hold.
    UnknownDatabase,
    /// A condition names a function that does not exist.
    UnknownFunction,
    /// A mutation names a mutator that does not exist.
    UnknownMutator,
    /// A value, a row count or an index breaks what the schema demands.
    Constraint,
    /// A strong reference would lead nowhere.
    Referential,
    /// A set or map holds the same key twice.
    Duplicate,
    /// A `uuid-name` is used by two inserts.
    DuplicateUuidName,
    /// An insert asks for a UUID that is taken.
    DuplicateUuid,
    /// Division by zero in a mutation.
    Domain,
    /// The result of a mutation does not fit its type.
    Range,
    /// A `wait` did not come true in time.
    TimedOut,
    /// An `assert` names a lock the client does not own.
    NotOwner,
    /// The client asked for `abort`.
    Aborted,
    /// The database or the connection is read-only.
    NotAllowed,
    /// A limit of this server is reached.
    ResourcesExhausted,
    /// The record could not be made durable.
    Io,
    /// Parameters parse but make no sense together.
    InvalidParameters,
}

impl ErrorKind {
    /// The string put on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax error",
            Self::UnknownColumn => "unknown column",
            Self::UnknownDatabase => "unknown database",
            Self::UnknownFunction => "unknown function",
            Self::UnknownMutator => "unknown mutator",
            Self::Constraint => "constraint violation",
            Self::Referential => "referential integrity violation",
            Self::Duplicate => "ovsdb error",
            Self::DuplicateUuidName => "duplicate uuid-name",
            Self::DuplicateUuid => "duplicate uuid",
            Self::Domain => "domain error",
            Self::Range => "range error",
            Self::TimedOut => "timed out",
            Self::NotOwner => "not owner",
            Self::Aborted => "aborted",
            Self::NotAllowed => "not allowed",
            Self::ResourcesExhausted => "resources exhausted",
            Self::Io => "I/O error",
            Self::InvalidParameters => "invalid parameters",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An RFC 7047 `<error>`: a fixed kind, words for the reader, and the JSON that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {details}{}", .syntax.as_ref().map(|s| format!(" in {s}")).unwrap_or_default())]
pub struct OvsdbError {
    /// Which rule was broken.
    pub kind: ErrorKind,
    /// What was wrong and where, for a person.
    pub details: String,
    /// The piece of the request that was refused, as JSON text.
    pub syntax: Option<String>,
}

impl OvsdbError {
    /// An error without the JSON it is about.
    pub fn new(kind: ErrorKind, details: impl Into<String>) -> Self {
        Self { kind, details: details.into(), syntax: None }
    }

    /// A `syntax error` about `value`.
    pub fn syntax(value: &Value, details: impl Into<String>) -> Self {
        Self::new(ErrorKind::Syntax, details).at(value)
    }

    /// Adds the JSON the error is about, shortened when it is long.
    pub fn at(mut self, value: &Value) -> Self {
        self.syntax = Some(json::canonical_short(value));
        self
    }

    /// The `<error>` object of RFC 7047 §3.1.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("error".into(), self.kind.as_str().into());
        map.insert("details".into(), self.details.as_str().into());
        if let Some(syntax) = &self.syntax {
            map.insert("syntax".into(), syntax.as_str().into());
        }
        Value::Object(map)
    }
}

/// The result of anything a client's request can make fail.
pub type Result<T, E = OvsdbError> = std::result::Result<T, E>;
