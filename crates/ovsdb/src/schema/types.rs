//! What may a column hold (RFC 7047 §3.2 `<type>` and `<base-type>`)?

use std::fmt;

use serde_json::{Map, Value};

use crate::error::{ErrorKind, OvsdbError, Result};
use crate::json::{self, Fields};
use crate::value::{Atom, Datum, Real};

/// `<atomic-type>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AtomicType {
    /// Signed 64-bit integer.
    Integer,
    /// Finite double.
    Real,
    /// True or false.
    Boolean,
    /// UTF-8 string.
    String,
    /// UUID.
    Uuid,
}

impl AtomicType {
    /// The name used in schemas.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    fn from_json(value: &Value) -> Result<Self> {
        let all = [Self::Integer, Self::Real, Self::Boolean, Self::String, Self::Uuid];
        let found = value.as_str().and_then(|s| all.into_iter().find(|t| t.as_str() == s));
        found.ok_or_else(|| OvsdbError::syntax(value, "this is not an atomic type"))
    }
}

impl fmt::Display for AtomicType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `refType`: does a reference keep its row alive, or go away with it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefKind {
    /// The row must exist, and lives while it is referred to.
    Strong,
    /// The reference is dropped when the row goes.
    Weak,
}

/// `<base-type>`: an atomic type and what narrows it.
#[derive(Debug, Clone, PartialEq)]
pub enum BaseType {
    /// One of the listed atoms (sorted), all of the given type.
    Enum(AtomicType, Vec<Atom>),
    /// An integer in a range; bounds are inclusive.
    Integer {
        /// Smallest value.
        min: Option<i64>,
        /// Largest value.
        max: Option<i64>,
    },
    /// A real in a range; bounds are inclusive.
    Real {
        /// Smallest value.
        min: Option<Real>,
        /// Largest value.
        max: Option<Real>,
    },
    /// True or false.
    Boolean,
    /// A string of a length, counted in characters; bounds are inclusive.
    String {
        /// Shortest length.
        min: u32,
        /// Longest length; `u32::MAX` is no bound.
        max: u32,
    },
    /// A UUID, perhaps of a row in a table.
    Uuid(Option<(String, RefKind)>),
}

impl BaseType {
    /// The atomic type underneath.
    pub fn atomic(&self) -> AtomicType {
        match self {
            Self::Enum(kind, _) => *kind,
            Self::Integer { .. } => AtomicType::Integer,
            Self::Real { .. } => AtomicType::Real,
            Self::Boolean => AtomicType::Boolean,
            Self::String { .. } => AtomicType::String,
            Self::Uuid(_) => AtomicType::Uuid,
        }
    }

    /// The base type without anything that narrows it.
    pub fn plain(kind: AtomicType) -> Self {
        match kind {
            AtomicType::Integer => Self::Integer { min: None, max: None },
            AtomicType::Real => Self::Real { min: None, max: None },
            AtomicType::Boolean => Self::Boolean,
            AtomicType::String => Self::String { min: 0, max: u32::MAX },
            AtomicType::Uuid => Self::Uuid(None),
        }
    }

    /// Checks one atom of the right type; references are the transaction's business.
    pub(crate) fn check(&self, atom: &Atom) -> Result<()> {
        let within = match (self, atom) {
            (Self::Enum(_, allowed), atom) => allowed.binary_search(atom).is_ok(),
            (Self::Integer { min, max }, Atom::Integer(i)) => {
                min.is_none_or(|m| *i >= m) && max.is_none_or(|m| *i <= m)
            }
            (Self::Real { min, max }, Atom::Real(r)) => {
                min.is_none_or(|m| *r >= m) && max.is_none_or(|m| *r <= m)
            }
            (Self::String { min, max }, Atom::String(s)) => {
                (*min == 0 && *max == u32::MAX)
                    || (*min as usize..=*max as usize).contains(&s.chars().count())
            }
            _ => true,
        };
        if within {
            return Ok(());
        }
        let details = format!("{atom} is not allowed here: {}", self.allowed());
        Err(OvsdbError::new(ErrorKind::Constraint, details))
    }

    /// Says in words what [`check`](Self::check) lets through.
    fn allowed(&self) -> String {
        fn range<T: fmt::Display>(what: &str, min: Option<T>, max: Option<T>) -> String {
            match (min, max) {
                (Some(min), Some(max)) => format!("{what} is {min} to {max}"),
                (Some(min), None) => format!("{what} is at least {min}"),
                (None, Some(max)) => format!("{what} is at most {max}"),
                (None, None) => format!("{what} is free"),
            }
        }
        match self {
            Self::Enum(_, atoms) => {
                let names: Vec<String> = atoms.iter().map(Atom::to_string).collect();
                format!("the values are {}", names.join(", "))
            }
            Self::Integer { min, max } => range("the range", *min, *max),
            Self::Real { min, max } => range("the range", min.map(Real::get), max.map(Real::get)),
            Self::String { min, max } => {
                let max = (*max != u32::MAX).then_some(*max);
                range("the length in characters", Some(*min), max)
            }
            Self::Boolean | Self::Uuid(_) => String::from("the value is free"),
        }
    }

    fn from_json(value: &Value) -> Result<Self> {
        if value.is_string() {
            return AtomicType::from_json(value).map(Self::plain);
        }
        let mut fields = Fields::open(value, "base type")?;
        let kind = AtomicType::from_json(fields.required("type")?)?;
        let base = match (fields.optional("enum"), kind) {
            (Some(list), kind) => Self::enum_from_json(list, kind)?,
            (None, AtomicType::Integer) => {
                let (min, max) = (fields.opt_int("minInteger")?, fields.opt_int("maxInteger")?);
                Self::Integer { min, max }
            }
            (None, AtomicType::Real) => {
                Self::Real { min: opt_real(&mut fields, "minReal")?, max: opt_real(&mut fields, "maxReal")? }
            }
            (None, AtomicType::Boolean) => Self::Boolean,
            (None, AtomicType::String) => Self::String {
                min: opt_length(&mut fields, "minLength")?.unwrap_or(0),
                max: opt_length(&mut fields, "maxLength")?.unwrap_or(u32::MAX),
            },
            (None, AtomicType::Uuid) => Self::reference_from_json(&mut fields)?,
        };
        let empty_range = match &base {
            Self::Integer { min, max } => matches!((min, max), (Some(a), Some(b)) if a > b),
            Self::Real { min, max } => matches!((min, max), (Some(a), Some(b)) if a > b),
            Self::String { min, max } => min > max,
            _ => false,
        };
        if empty_range {
            return Err(fields.error("the minimum exceeds the maximum"));
        }
        fields.close()?;
        Ok(base)
    }

    fn enum_from_json(list: &Value, kind: AtomicType) -> Result<Self> {
        let set = ColumnType { key: Self::plain(kind), value: None, min: 1, max: u32::MAX };
        match Datum::from_json(list, &set)? {
            Datum::Set(atoms) => Ok(Self::Enum(kind, atoms)),
            Datum::Map(_) => Err(OvsdbError::syntax(list, "a set is needed")),
        }
    }

    fn reference_from_json(fields: &mut Fields<'_>) -> Result<Self> {
        let Some(table) = fields.opt_id("refTable")? else {
            return Ok(Self::Uuid(None));
        };
        let kind = match fields.opt_str("refType")? {
            None | Some("strong") => RefKind::Strong,
            Some("weak") => RefKind::Weak,
            Some(_) => return Err(fields.error("refType is \"strong\" or \"weak\"")),
        };
        Ok(Self::Uuid(Some((table.to_owned(), kind))))
    }

    fn to_json(&self) -> Value {
        if *self == Self::plain(self.atomic()) {
            return self.atomic().as_str().into();
        }
        let mut map = Map::new();
        map.insert("type".into(), self.atomic().as_str().into());
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(name.into(), value);
            }
        };
        match self {
            Self::Enum(_, atoms) => put("enum", Some(Datum::Set(atoms.clone()).to_json())),
            Self::Integer { min, max } => {
                put("minInteger", min.map(Value::from));
                put("maxInteger", max.map(Value::from));
            }
            Self::Real { min, max } => {
                put("minReal", min.map(|r| r.get().into()));
                put("maxReal", max.map(|r| r.get().into()));
            }
            Self::String { min, max } => {
                put("minLength", (*min > 0).then(|| (*min).into()));
                put("maxLength", (*max < u32::MAX).then(|| (*max).into()));
            }
            Self::Uuid(Some((table, kind))) => {
                put("refTable", Some(table.as_str().into()));
                put("refType", (*kind == RefKind::Weak).then(|| "weak".into()));
            }
            Self::Uuid(None) | Self::Boolean => {}
        }
        Value::Object(map)
    }
}

fn opt_real(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<Real>> {
    match fields.optional(name) {
        None => Ok(None),
        Some(value) => match value.as_f64().and_then(Real::new) {
            Some(real) => Ok(Some(real)),
            None => Err(fields.error(format_args!("member {name:?} must be a number"))),
        },
    }
}

fn opt_length(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<u32>> {
    match fields.opt_int(name)? {
        None => Ok(None),
        Some(length) => match u32::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) => Err(fields.error(format_args!("member {name:?} is out of range"))),
        },
    }
}

/// `<type>`: a scalar, an optional, a set or a map.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnType {
    /// The type of elements, or of keys.
    pub key: BaseType,
    /// The type of a map's values.
    pub value: Option<BaseType>,
    /// Fewest elements: 0 or 1.
    pub min: u32,
    /// Most elements; `u32::MAX` is "unlimited".
    pub max: u32,
}

impl ColumnType {
    /// A scalar of an unconstrained type.
    pub fn scalar(kind: AtomicType) -> Self {
        Self { key: BaseType::plain(kind), value: None, min: 1, max: 1 }
    }

    /// True for exactly one atom.
    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    /// True for zero or one atom.
    pub fn is_optional(&self) -> bool {
        self.value.is_none() && self.min == 0 && self.max == 1
    }

    /// True when a value may have `len` elements.
    pub fn allows_len(&self, len: usize) -> bool {
        len >= self.min as usize && (self.max == u32::MAX || len <= self.max as usize)
    }

    /// Reads a `<type>`.
    ///
    /// # Errors
    /// `syntax error` naming what is wrong.
    pub fn from_json(value: &Value) -> Result<Self> {
        if value.is_string() {
            return AtomicType::from_json(value).map(Self::scalar);
        }
        let mut fields = Fields::open(value, "type")?;
        let key = BaseType::from_json(fields.required("key")?)?;
        let map_value = fields.optional("value").map(BaseType::from_json).transpose()?;
        let min = fields.optional("min").map_or(Ok(1), read_count)?;
        let max = fields.optional("max").map_or(Ok(1), read_count)?;
        if min > 1 || max < 1 {
            return Err(fields.error("min is 0 or 1, max is at least 1"));
        }
        fields.close()?;
        Ok(Self { key, value: map_value, min, max })
    }

    /// The `<type>`, in its shortest form.
    pub fn to_json(&self) -> Value {
        let key = self.key.to_json();
        if self.is_scalar() && key.is_string() {
            return key;
        }
        let mut map = Map::new();
        map.insert("key".into(), key);
        if let Some(value) = &self.value {
            map.insert("value".into(), value.to_json());
        }
        if self.min != 1 {
            map.insert("min".into(), self.min.into());
        }
        match self.max {
            1 => {}
            u32::MAX => drop(map.insert("max".into(), "unlimited".into())),
            max => drop(map.insert("max".into(), max.into())),
        }
        Value::Object(map)
    }
}

fn read_count(value: &Value) -> Result<u32> {
    if value == "unlimited" {
        return Ok(u32::MAX);
    }
    json::as_i64(value)
        .and_then(|i| u32::try_from(i).ok())
        .ok_or_else(|| OvsdbError::syntax(value, "min or max must be a count"))
}

/// In words, as in "set of up to 4096 integer".
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_scalar() {
            return self.key.atomic().fmt(f);
        }
        f.write_str(if self.value.is_some() { "map" } else { "set" })?;
        match (self.min, self.max) {
            (0, u32::MAX) => f.write_str(" of")?,
            (min, u32::MAX) => write!(f, " of {min} or more")?,
            (0, max) => write!(f, " of up to {max}")?,
            (min, max) => write!(f, " of {min} to {max}")?,
        }
        write!(f, " {}", self.key.atomic())?;
        match &self.value {
            Some(value) => write!(f, "-{}", value.atomic()),
            None => Ok(()),
        }
    }
}
