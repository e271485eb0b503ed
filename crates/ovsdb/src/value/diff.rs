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
        let new = match (self, diff) {
            (Datum::Set(old), Datum::Set(diff)) if diff.len() < old.len() / FEW => {
                Datum::Set(toggled(old, diff))
            }
            _ => symmetric(self, diff),
        };
        if new.len() > kind.max as usize || new.len() < kind.min as usize {
            let details = format!("a difference leads to {} elements in a {kind}", new.len());
            return Err(OvsdbError::new(ErrorKind::Constraint, details));
        }
        Ok(new)
    }
}

impl Datum {
    /// The elements that are in only one of two sets.
    pub(crate) fn elements_of_one(&self, other: &Self) -> Self {
        symmetric(self, other)
    }

    /// A set with these elements, or without them.
    pub(crate) fn with_elements(old: &[Atom], elements: &[Atom], there: bool) -> (Self, Self) {
        let missing = |atom: &&Atom| old.binary_search(atom).is_err() == there;
        let difference: Vec<Atom> = elements.iter().filter(missing).cloned().collect();
        (Datum::Set(toggled(old, &difference)), Datum::Set(difference))
    }
}

/// Of a set that has so many times as many elements as a difference, the rest is not looked at.
const FEW: usize = 8;

/// A set with the elements of another one that it has not, and without those that it has.
fn toggled(old: &[Atom], elements: &[Atom]) -> Vec<Atom> {
    let mut out = Vec::with_capacity(old.len() + elements.len());
    let mut rest = old;
    for element in elements {
        let (before, after) = match rest.binary_search(element) {
            Ok(at) => (&rest[..at], &rest[at + 1..]),
            Err(at) => rest.split_at(at),
        };
        let had = before.len() + after.len() < rest.len();
        out.extend_from_slice(before);
        out.extend((!had).then(|| element.clone()));
        rest = after;
    }
    out.extend_from_slice(rest);
    out
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

    proptest::proptest! {
        /// A few elements are toggled as any difference is applied; adding and removing say what they changed.
        #[test]
        fn toggling_is_merging(
            old in proptest::collection::btree_set(0_i64..300, 0..100),
            some in proptest::collection::btree_set(0_i64..300, 0..8),
            there: bool,
        ) {
            let set = |numbers: &std::collections::BTreeSet<i64>| Datum::set(numbers.iter().copied());
            let (old, some) = (set(&old), set(&some));
            proptest::prop_assert_eq!(&Datum::Set(toggled(old.atoms(), some.atoms())), &symmetric(&old, &some));
            let (new, difference) = Datum::with_elements(old.atoms(), some.atoms(), there);
            proptest::prop_assert!(some.atoms().iter().all(|a| new.atoms().contains(a) == there));
            proptest::prop_assert_eq!(symmetric(&old, &new), difference);
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
