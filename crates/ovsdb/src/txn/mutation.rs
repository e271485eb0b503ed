//! What does a mutation make of a value (RFC 7047 §5.1 `<mutation>`)?

use serde_json::Value;

use crate::error::{ErrorKind, OvsdbError, Result};
use crate::schema::{AtomicType, BaseType, ColumnSchema, ColumnType, TableSchema};
use crate::value::{Atom, Datum, Real, Symbols};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Insert,
    Delete,
}

impl Mutator {
    fn from_str(name: &str) -> Option<Self> {
        Some(match name {
            "+=" => Self::Add,
            "-=" => Self::Subtract,
            "*=" => Self::Multiply,
            "/=" => Self::Divide,
            "%=" => Self::Modulo,
            "insert" => Self::Insert,
            "delete" => Self::Delete,
            _ => return None,
        })
    }
}

/// One parsed mutation of one column.
#[derive(Debug, Clone)]
pub(crate) struct Mutation {
    /// Position of the column.
    pub(crate) column: usize,
    mutator: Mutator,
    argument: Datum,
}

impl Mutation {
    pub(crate) fn from_json(schema: &TableSchema, value: &Value, symbols: &mut Symbols<'_>) -> Result<Self> {
        let Some([Value::String(name), Value::String(mutator), argument]) =
            value.as_array().map(Vec::as_slice)
        else {
            let details = "a mutation is [<column>, <mutator>, <value>]";
            return Err(OvsdbError::syntax(value, details));
        };
        let (position, column) = mutable_column(schema, name).map_err(|e| e.at(value))?;
        let mutator = Mutator::from_str(mutator).ok_or_else(|| {
            let details = format!("there is no mutator {mutator:?}");
            OvsdbError::new(ErrorKind::UnknownMutator, details).at(value)
        })?;
        let argument = read_argument(&column.kind, mutator, argument, symbols)?.ok_or_else(|| {
            let details = format!("this mutator does not apply to a {}", column.kind);
            OvsdbError::syntax(value, details)
        })?;
        Ok(Self { column: position, mutator, argument })
    }

    /// The value after the mutation, and the elements in which it differs, if that is known.
    pub(crate) fn apply(&self, cell: &Datum, kind: &ColumnType) -> Result<(Datum, Option<Datum>)> {
        let (new, difference) = match (self.mutator, cell, &self.argument) {
            (Mutator::Insert | Mutator::Delete, Datum::Set(old), Datum::Set(elements)) => {
                let (new, difference) = Datum::with_elements(old, elements, self.mutator == Mutator::Insert);
                (new, Some(difference))
            }
            (Mutator::Insert, ..) => (insert(cell, &self.argument), None),
            (Mutator::Delete, ..) => (delete(cell, &self.argument), None),
            (arithmetic, ..) => (calculate(cell, arithmetic, &self.argument, kind)?, None),
        };
        new.check_len(kind)?;
        Ok((new, difference))
    }
}

/// The column of that name, unless it may not be changed.
pub(crate) fn mutable_column<'a>(schema: &'a TableSchema, name: &str) -> Result<(usize, &'a ColumnSchema)> {
    match schema.column(name) {
        Some((position, column)) if column.mutable => Ok((position, column)),
        None if !matches!(name, "_uuid" | "_version") => {
            let details = format!("the table has no column {name:?}");
            Err(OvsdbError::new(ErrorKind::UnknownColumn, details))
        }
        _ => {
            let details = format!("column {name:?} may not be changed");
            Err(OvsdbError::new(ErrorKind::Constraint, details))
        }
    }
}

/// Reads the argument; `None` where the mutator does not apply to the column's type.
fn read_argument(
    column: &ColumnType,
    mutator: Mutator,
    value: &Value,
    symbols: &mut Symbols<'_>,
) -> Result<Option<Datum>> {
    let mut kind = column.clone();
    match mutator {
        Mutator::Insert | Mutator::Delete if column.is_scalar() => return Ok(None),
        Mutator::Insert => kind.min = 0,
        Mutator::Delete => {
            (kind.min, kind.max) = (0, u32::MAX);
            // A map loses pairs, or keys whatever their values.
            let is_pairs = value.get(0).is_some_and(|tag| tag == "map");
            if kind.value.is_some() && !is_pairs {
                kind.value = None;
            }
        }
        arithmetic => {
            let fits = match column.key.atomic() {
                AtomicType::Integer => true,
                AtomicType::Real => arithmetic != Mutator::Modulo,
                _ => false,
            };
            if !fits || column.value.is_some() {
                return Ok(None);
            }
            kind = ColumnType::scalar(column.key.atomic());
        }
    }
    Datum::read(value, &kind, Some(symbols)).map(Some)
}

/// Of maps; sets are added to by [`Datum::with_elements`].
fn insert(cell: &Datum, new: &Datum) -> Datum {
    match (cell, new) {
        // The sort is stable, so a key that is there keeps its value.
        (Datum::Map(old), Datum::Map(new)) => Datum::map(old.iter().chain(new).cloned()),
        (cell, _) => cell.clone(),
    }
}

/// From maps.
fn delete(cell: &Datum, gone: &Datum) -> Datum {
    match (cell, gone) {
        (Datum::Map(old), Datum::Map(gone)) => {
            let kept = |p: &&(Atom, Atom)| gone.binary_search(p).is_err();
            Datum::Map(old.iter().filter(kept).cloned().collect())
        }
        (Datum::Map(old), Datum::Set(keys)) => {
            let kept = |p: &&(Atom, Atom)| keys.binary_search(&p.0).is_err();
            Datum::Map(old.iter().filter(kept).cloned().collect())
        }
        (cell, _) => cell.clone(),
    }
}

fn calculate(cell: &Datum, mutator: Mutator, operand: &Datum, kind: &ColumnType) -> Result<Datum> {
    let Some(operand) = operand.as_scalar() else {
        return Ok(cell.clone());
    };
    let mut atoms = Vec::with_capacity(cell.len());
    for atom in cell.atoms() {
        let atom = match (atom, operand) {
            (Atom::Integer(a), Atom::Integer(b)) => Atom::Integer(integer(*a, mutator, *b)?),
            (Atom::Real(a), Atom::Real(b)) => Atom::Real(real(a.get(), mutator, b.get())?),
            (other, _) => other.clone(),
        };
        BaseType::check(&kind.key, &atom)?;
        atoms.push(atom);
    }
    atoms.sort_unstable();
    if atoms.windows(2).any(|w| w[0] == w[1]) {
        let details = "the mutation makes two elements of the set equal";
        return Err(OvsdbError::new(ErrorKind::Constraint, details));
    }
    Ok(Datum::Set(atoms))
}

fn out_of_range() -> OvsdbError {
    OvsdbError::new(ErrorKind::Range, "the result of the mutation is too large")
}

fn division_by_zero() -> OvsdbError {
    OvsdbError::new(ErrorKind::Domain, "the mutation divides by zero")
}

fn integer(a: i64, mutator: Mutator, b: i64) -> Result<i64> {
    if b == 0 && matches!(mutator, Mutator::Divide | Mutator::Modulo) {
        return Err(division_by_zero());
    }
    let result = match mutator {
        Mutator::Add => a.checked_add(b),
        Mutator::Subtract => a.checked_sub(b),
        Mutator::Multiply => a.checked_mul(b),
        Mutator::Divide => a.checked_div(b),
        // The remainder of i64::MIN by -1 is 0; only the quotient overflows.
        Mutator::Modulo => Some(a.wrapping_rem(b)),
        Mutator::Insert | Mutator::Delete => Some(a),
    };
    result.ok_or_else(out_of_range)
}

fn real(a: f64, mutator: Mutator, b: f64) -> Result<Real> {
    if b == 0.0 && mutator == Mutator::Divide {
        return Err(division_by_zero());
    }
    let result = match mutator {
        Mutator::Add => a + b,
        Mutator::Subtract => a - b,
        Mutator::Multiply => a * b,
        Mutator::Divide => a / b,
        Mutator::Modulo | Mutator::Insert | Mutator::Delete => a,
    };
    Real::new(result).ok_or_else(out_of_range)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::uuids::UuidStream;

    fn mutate(kind: Value, cell: Value, mutator: &str, argument: Value) -> Result<Value> {
        let schema = json!({"name": "D", "tables": {"T": {"columns": {"c": {"type": kind}}}}});
        let schema = crate::schema::DatabaseSchema::from_json(&schema)?;
        let (_, table) = schema.table("T").unwrap();
        let kind = &table.column("c").unwrap().1.kind;
        let cell = Datum::from_json(&cell, kind)?;
        let mut uuids = UuidStream::new([0; 32]);
        let mut symbols = Symbols::new(&mut uuids);
        let mutation = Mutation::from_json(table, &json!(["c", mutator, argument]), &mut symbols)?;
        Ok(mutation.apply(&cell, kind)?.0.to_json())
    }

    type Case = (Value, Value, &'static str, Value, Result<Value, ErrorKind>);

    #[test]
    fn results() {
        let ints = json!({"key": {"type": "integer", "minInteger": 0, "maxInteger": 9}, "min": 0, "max": 3});
        let map = json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"});
        let ab = json!(["map", [["a", "1"], ["b", "2"]]]);
        let cases: Vec<Case> = vec![
            (json!("integer"), json!(7), "+=", json!(3), Ok(json!(10))),
            (json!("integer"), json!(7), "-=", json!(9), Ok(json!(-2))),
            (json!("integer"), json!(7), "*=", json!(3), Ok(json!(21))),
            (json!("integer"), json!(-7), "/=", json!(2), Ok(json!(-3))),
            (json!("integer"), json!(-7), "%=", json!(3), Ok(json!(-1))),
            (json!("integer"), json!(7), "/=", json!(0), Err(ErrorKind::Domain)),
            (json!("integer"), json!(7), "%=", json!(0), Err(ErrorKind::Domain)),
            (json!("integer"), json!(i64::MIN), "%=", json!(-1), Ok(json!(0))),
            (json!("integer"), json!(i64::MIN), "/=", json!(-1), Err(ErrorKind::Range)),
            (json!("integer"), json!(i64::MAX), "+=", json!(1), Err(ErrorKind::Range)),
            (json!("real"), json!(1.5), "*=", json!(2), Ok(json!(3.0))),
            (json!("real"), json!(1e300), "*=", json!(1e300), Err(ErrorKind::Range)),
            (json!("real"), json!(1), "/=", json!(0), Err(ErrorKind::Domain)),
            (json!("real"), json!(1), "%=", json!(1), Err(ErrorKind::Syntax)),
            (json!("string"), json!("a"), "+=", json!(1), Err(ErrorKind::Syntax)),
            (json!("string"), json!("a"), "insert", json!("b"), Err(ErrorKind::Syntax)),
            (json!("string"), json!("a"), "^=", json!("b"), Err(ErrorKind::UnknownMutator)),
            (ints.clone(), json!(["set", [1, 2]]), "+=", json!(1), Ok(json!(["set", [2, 3]]))),
            (ints.clone(), json!(["set", [1, 2]]), "+=", json!(8), Err(ErrorKind::Constraint)),
            (ints.clone(), json!(["set", [1, 2]]), "/=", json!(3), Err(ErrorKind::Constraint)),
            (
                ints.clone(),
                json!(["set", [1, 2]]),
                "insert",
                json!(["set", [2, 3]]),
                Ok(json!(["set", [1, 2, 3]])),
            ),
            (
                ints.clone(),
                json!(["set", [1, 2]]),
                "insert",
                json!(["set", [3, 4]]),
                Err(ErrorKind::Constraint),
            ),
            (ints.clone(), json!(["set", [1, 2]]), "delete", json!(["set", [2, 3, 4, 5]]), Ok(json!(1))),
            (
                map.clone(),
                ab.clone(),
                "insert",
                json!(["map", [["a", "9"], ["c", "3"]]]),
                Ok(json!(["map", [["a", "1"], ["b", "2"], ["c", "3"]]])),
            ),
            (
                map.clone(),
                ab.clone(),
                "delete",
                json!(["map", [["a", "9"], ["b", "2"]]]),
                Ok(json!(["map", [["a", "1"]]])),
            ),
            (map.clone(), ab.clone(), "delete", json!(["set", ["a", "b"]]), Ok(json!(["map", []]))),
            (map.clone(), ab.clone(), "delete", json!("a"), Ok(json!(["map", [["b", "2"]]]))),
        ];
        for (kind, cell, mutator, argument, expected) in cases {
            let what = format!("{cell} {mutator} {argument}");
            let found = mutate(kind, cell, mutator, argument).map_err(|e| e.kind);
            assert_eq!(found, expected, "{what}");
        }
    }
}
