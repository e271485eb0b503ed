//! What is one value of RFC 7047 §5.1 `<atom>`?

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::Symbols;
use crate::error::{OvsdbError, Result};
use crate::json;
use crate::schema::AtomicType;
use crate::uuids::{Uuid, parse_uuid};

/// A finite double; negative zero is held as zero, so that equality is that of bits.
#[derive(Debug, Clone, Copy)]
pub struct Real(f64);

impl Real {
    /// Takes a finite number.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(if value == 0.0 { 0.0 } else { value }))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// One integer, real, boolean, string or UUID.
///
/// Atoms of one column are of one type, so the order between variants never shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A finite double.
    Real(Real),
    /// True or false.
    Boolean(bool),
    /// UTF-8 without U+0000.
    String(Arc<str>),
    /// A UUID; in reference columns the `_uuid` of a row.
    Uuid(Uuid),
}

impl Atom {
    /// The type of this atom.
    pub fn atomic_type(&self) -> AtomicType {
        match self {
            Self::Integer(_) => AtomicType::Integer,
            Self::Real(_) => AtomicType::Real,
            Self::Boolean(_) => AtomicType::Boolean,
            Self::String(_) => AtomicType::String,
            Self::Uuid(_) => AtomicType::Uuid,
        }
    }

    /// The default of RFC 7047 §5.2.1: zero, false, the empty string, the nil UUID.
    pub fn default_of(kind: AtomicType) -> Self {
        match kind {
            AtomicType::Integer => Self::Integer(0),
            AtomicType::Real => Self::Real(Real(0.0)),
            AtomicType::Boolean => Self::Boolean(false),
            AtomicType::String => Self::String(Arc::from("")),
            AtomicType::Uuid => Self::Uuid(Uuid::nil()),
        }
    }

    /// Reads an `<atom>` of the given type. `["named-uuid", id]` needs `symbols`.
    pub(crate) fn from_json(
        value: &Value,
        kind: AtomicType,
        symbols: Option<&mut Symbols<'_>>,
    ) -> Result<Self> {
        let wrong = || OvsdbError::syntax(value, format!("a value of type {kind} is needed"));
        match kind {
            AtomicType::Integer => json::as_i64(value).map(Self::Integer).ok_or_else(wrong),
            AtomicType::Real => value.as_f64().and_then(Real::new).map(Self::Real).ok_or_else(wrong),
            AtomicType::Boolean => value.as_bool().map(Self::Boolean).ok_or_else(wrong),
            AtomicType::String => {
                let text = value.as_str().ok_or_else(wrong)?;
                if text.contains('\0') {
                    return Err(OvsdbError::syntax(value, "strings may not hold U+0000"));
                }
                Ok(Self::String(Arc::from(text)))
            }
            AtomicType::Uuid => uuid_from_json(value, symbols).map(Self::Uuid),
        }
    }

    /// The `<atom>` of RFC 7047 §5.1.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Integer(i) => Value::from(*i),
            Self::Real(r) => Value::from(r.0),
            Self::Boolean(b) => Value::from(*b),
            Self::String(s) => Value::from(&**s),
            Self::Uuid(u) => Value::Array(vec!["uuid".into(), u.to_string().into()]),
        }
    }
}

fn uuid_from_json(value: &Value, symbols: Option<&mut Symbols<'_>>) -> Result<Uuid> {
    let pair = value.as_array().map(Vec::as_slice);
    match pair {
        Some([Value::String(tag), Value::String(text)]) if tag == "uuid" => {
            parse_uuid(text).ok_or_else(|| OvsdbError::syntax(value, "this is not a UUID"))
        }
        Some([Value::String(tag), Value::String(name)]) if tag == "named-uuid" => {
            if !json::is_id(name) {
                return Err(OvsdbError::syntax(value, "the name must be an <id>"));
            }
            match symbols {
                Some(symbols) => Ok(symbols.resolve(name)),
                None => Err(OvsdbError::syntax(value, "named-uuid has no meaning here")),
            }
        }
        _ => Err(OvsdbError::syntax(value, "[\"uuid\", <string>] or [\"named-uuid\", <id>] is needed")),
    }
}

/// As people read it in messages: strings bare unless empty, UUIDs without brackets.
impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(i) => i.fmt(f),
            Self::Real(r) => r.0.fmt(f),
            Self::Boolean(b) => b.fmt(f),
            Self::String(s) if s.is_empty() => f.write_str("\"\""),
            Self::String(s) => f.write_str(s),
            Self::Uuid(u) => u.fmt(f),
        }
    }
}

impl From<i64> for Atom {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<&str> for Atom {
    fn from(value: &str) -> Self {
        Self::String(Arc::from(value))
    }
}

impl From<Uuid> for Atom {
    fn from(value: Uuid) -> Self {
        Self::Uuid(value)
    }
}
