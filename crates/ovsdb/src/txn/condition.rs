//! Which rows does a `where` mean (RFC 7047 §5.1 `<condition>`)?

use std::cmp::Ordering;

use serde_json::Value;

use super::column::{ColumnRef, find_column};
use crate::db::Row;
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::schema::{AtomicType, ColumnType, TableSchema};
use crate::uuids::Uuid;
use crate::value::{Atom, Datum, Symbols};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
    Includes,
    Excludes,
}

impl Function {
    fn from_str(name: &str) -> Option<Self> {
        Some(match name {
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            ">=" => Self::GreaterOrEqual,
            ">" => Self::Greater,
            "includes" => Self::Includes,
            "excludes" => Self::Excludes,
            _ => return None,
        })
    }

    fn is_order(self) -> bool {
        matches!(self, Self::Less | Self::LessOrEqual | Self::GreaterOrEqual | Self::Greater)
    }

    fn holds(self, cell: &Datum, argument: &Datum) -> bool {
        match self {
            Self::Equal => cell == argument,
            Self::NotEqual => cell != argument,
            Self::Includes => includes(cell, argument),
            Self::Excludes => excludes(cell, argument),
            Self::Less => order(cell, argument).is_some_and(Ordering::is_lt),
            Self::LessOrEqual => order(cell, argument).is_some_and(Ordering::is_le),
            Self::GreaterOrEqual => order(cell, argument).is_some_and(Ordering::is_ge),
            Self::Greater => order(cell, argument).is_some_and(Ordering::is_gt),
        }
    }
}

/// An empty optional column is neither less nor greater than anything.
fn order(cell: &Datum, argument: &Datum) -> Option<Ordering> {
    Some(cell.as_scalar()?.cmp(argument.as_scalar()?))
}

fn includes(cell: &Datum, wanted: &Datum) -> bool {
    match (cell, wanted) {
        (Datum::Set(cell), Datum::Set(wanted)) => wanted.iter().all(|a| cell.binary_search(a).is_ok()),
        (Datum::Map(cell), Datum::Map(wanted)) => wanted.iter().all(|p| cell.binary_search(p).is_ok()),
        _ => false,
    }
}

fn excludes(cell: &Datum, unwanted: &Datum) -> bool {
    match (cell, unwanted) {
        (Datum::Set(cell), Datum::Set(unwanted)) => unwanted.iter().all(|a| cell.binary_search(a).is_err()),
        (Datum::Map(cell), Datum::Map(unwanted)) => unwanted.iter().all(|p| cell.binary_search(p).is_err()),
        _ => true,
    }
}

#[derive(Debug, Clone)]
enum Clause {
    Constant(bool),
    Compare { column: ColumnRef, function: Function, argument: Datum },
}

impl Clause {
    fn from_json(schema: &TableSchema, value: &Value, symbols: Option<&mut Symbols<'_>>) -> Result<Self> {
        if let Some(constant) = value.as_bool() {
            return Ok(Self::Constant(constant));
        }
        let Some([Value::String(column), Value::String(function), argument]) =
            value.as_array().map(Vec::as_slice)
        else {
            let details = "a condition is [<column>, <function>, <value>] or a boolean";
            return Err(OvsdbError::syntax(value, details));
        };
        let (column, kind) = find_column(schema, column).map_err(|e| e.at(value))?;
        let function = Function::from_str(function).ok_or_else(|| {
            let details = format!("there is no function {function:?}");
            OvsdbError::new(ErrorKind::UnknownFunction, details).at(value)
        })?;
        let kind = argument_type(&kind, function).ok_or_else(|| {
            let details = format!("this function does not apply to a {kind}");
            OvsdbError::syntax(value, details)
        })?;
        let argument = Datum::read(argument, &kind, symbols)?;
        Ok(Self::Compare { column, function, argument })
    }

    fn matches(&self, row: &Row) -> bool {
        match self {
            Self::Constant(constant) => *constant,
            Self::Compare { column, function, argument } => {
                column.with(row, |cell| function.holds(cell, argument))
            }
        }
    }
}

/// The type a function's argument is read as; `None` where it does not apply.
fn argument_type(column: &ColumnType, function: Function) -> Option<ColumnType> {
    let mut kind = column.clone();
    match function {
        Function::Equal | Function::NotEqual => {}
        function if function.is_order() => {
            let number = matches!(kind.key.atomic(), AtomicType::Integer | AtomicType::Real);
            if !number || !(kind.is_scalar() || kind.is_optional()) {
                return None;
            }
            kind.min = 1;
        }
        _ if kind.is_scalar() => {}
        Function::Excludes => (kind.min, kind.max) = (0, u32::MAX),
        _ => kind.min = 0,
    }
    Some(kind)
}

/// A parsed `where`: in a transaction every clause must hold, in a monitor any.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    clauses: Vec<Clause>,
}

impl Condition {
    pub(crate) fn from_json(
        schema: &TableSchema,
        clauses: &[Value],
        mut symbols: Option<&mut Symbols<'_>>,
    ) -> Result<Self> {
        let read = |value| Clause::from_json(schema, value, symbols.as_deref_mut());
        let clauses = clauses.iter().map(read).collect::<Result<_>>()?;
        Ok(Self { clauses })
    }

    /// True when every clause holds; without clauses, for every row.
    pub(crate) fn matches_all(&self, row: &Row) -> bool {
        self.clauses.iter().all(|c| c.matches(row))
    }

    /// True when any clause holds; without clauses, for every row.
    pub(crate) fn matches_any(&self, row: &Row) -> bool {
        self.clauses.is_empty() || self.clauses.iter().any(|c| c.matches(row))
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let clause = |clause: &Clause| match clause {
            Clause::Constant(_) => 64,
            Clause::Compare { argument, .. } => 64 + argument.weight(),
        };
        24 + self.clauses.iter().map(clause).sum::<usize>()
    }

    /// The only value that a column can have, when a clause fixes it.
    pub(crate) fn only_value(&self, position: usize) -> Option<&Datum> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Compare { column, function: Function::Equal, argument }
                if *column == ColumnRef::Cell(position) =>
            {
                Some(argument)
            }
            _ => None,
        })
    }

    /// The only row that can match, when a clause fixes `_uuid`.
    pub(crate) fn only_uuid(&self) -> Option<Uuid> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Compare {
                column: ColumnRef::Uuid,
                function: Function::Equal | Function::Includes,
                argument,
            } => match argument.as_scalar() {
                Some(Atom::Uuid(uuid)) => Some(*uuid),
                _ => None,
            },
            _ => None,
        })
    }
}
