//! What changed between two values, in the form update2 and the log write it?
//!
//! ovsdb-server(7) §4.1.14: for a column of at most one element the difference is the
//! new value; for other sets it is the elements found in only one of the two; for other
//! maps the pairs whose key is in only one, plus the new pair where the values differ.

use std::cmp::Ordering;

use super::{Atom, Datum};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::schema::ColumnType;

impl Datum {
    /// The difference that leads from `self` to `new`.
    pub fn diff(&self, new: &Self, kind: &ColumnType) -> Self {
        if kind.max <= 1 {
            return new.clone();
        }
        symmetric(self, new)
    }

    /// Applies a difference made by [`diff`](Self::diff).
    ///
    /// # Errors
    /// `constraint violation` when the outcome has a number of elements the type forbids.
    pub fn apply_diff(&self, diff: &Self, kind: &ColumnType) -> Result<Self> {
        if kind.max <= 1 {
            return Ok(diff.clone());
        }
        let new = symmetric(self, diff);
        if new.len() > kind.max as usize || new.len() < kind.min as usize {
            let details = format!("a difference leads to {} elements in a {kind}", new.len());
            return Err(OvsdbError::new(ErrorKind::Constraint, details));
        }
        Ok(new)
    }
}

/// Elements on one side only; of map pairs with equal keys and other values the one in `b`.
fn symmetric(a: &Datum, b: &Datum) -> Datum {
    match (a, b) {
        (Datum::Map(a), Datum::Map(b)) => Datum::Map(merge(a, b, |p| &p.0, |x, y| x.1 != y.1)),
        (a, b) => Datum::Set(merge(a.atoms(), b.atoms(), |x: &Atom| x, |_, _| false)),
    }
}

fn merge<T: Clone>(
    a: &[T],
    b: &[T],
    key: impl Fn(&T) -> &Atom,
    keep_both: impl Fn(&T, &T) -> bool,
) -> Vec<T> {
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < a.len() && j < b.len() {
        match key(&a[i]).cmp(key(&b[j])) {
            Ordering::Less => {
                out.push(a[i].clone());
                i += 1;
            }
            Ordering::Greater => {
                out.push(b[j].clone());
                j += 1;
            }
            Ordering::Equal => {
                if keep_both(&a[i], &b[j]) {
                    out.push(b[j].clone());
                }
                i += 1;
                j += 1;
            }
        }
    }
    out.extend_from_slice(&a[i..]);
    out.extend_from_slice(&b[j..]);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(text: serde_json::Value) -> ColumnType {
        ColumnType::from_json(&text).unwrap()
    }

    #[test]
    fn differences_as_a_server_sends_them() {
        let many = kind(json!({"key": "integer", "min": 0, "max": "unlimited"}));
        let map = kind(json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"}));
        let one = kind(json!({"key": "string", "min": 0, "max": 1}));
        let cases = [
            (&many, json!(["set", [1, 2]]), json!(["set", [2, 3]]), json!(["set", [1, 3]])),
            (&many, json!(["set", []]), json!(7), json!(7)),
            (
                &map,
                json!(["map", [["a", "b"], ["c", "d"], ["s", "s"]]]),
                json!(["map", [["a", "x"], ["e", "f"], ["s", "s"]]]),
                json!(["map", [["a", "x"], ["c", "d"], ["e", "f"]]]),
            ),
            (&one, json!("a"), json!(["set", []]), json!(["set", []])),
            (&one, json!("a"), json!("b"), json!("b")),
        ];
        for (kind, old, new, expected) in cases {
            let old = Datum::from_json(&old, kind).unwrap();
            let new = Datum::from_json(&new, kind).unwrap();
            let diff = old.diff(&new, kind);
            assert_eq!(diff.to_json(), expected);
            assert_eq!(old.apply_diff(&diff, kind).unwrap(), new);
        }
    }

    #[test]
    fn a_difference_may_not_overfill() {
        let two = kind(json!({"key": "integer", "min": 1, "max": 2}));
        let set = Datum::set([1, 2]);
        assert!(set.apply_diff(&Datum::set([3]), &two).is_err());
        assert!(set.apply_diff(&Datum::set([1, 2]), &two).is_err());
    }
}
