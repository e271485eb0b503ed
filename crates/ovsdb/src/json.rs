//! How is JSON read strictly and written the same way every time?

use serde_json::{Map, Value};

use crate::error::{OvsdbError, Result};

/// Longest JSON text quoted back in an error, in bytes.
const QUOTE_LIMIT: usize = 512;

/// JSON text with the members of every object in the order of their names.
pub(crate) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out, usize::MAX);
    out
}

/// [`canonical`], cut short (with an ellipsis) when the value is large.
pub(crate) fn canonical_short(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out, QUOTE_LIMIT);
    if out.len() > QUOTE_LIMIT {
        let mut end = QUOTE_LIMIT;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.push('…');
    }
    out
}

fn write_canonical(value: &Value, out: &mut String, limit: usize) {
    if out.len() > limit {
        return;
    }
    match value {
        Value::Object(map) => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort_unstable();
            out.push('{');
            for (i, name) in names.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_canonical(&map[name], out, limit);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out, limit);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// An integer, also when it was written with a fraction of zero (`1.0`) or an exponent.
pub(crate) fn as_i64(value: &Value) -> Option<i64> {
    // 2^63 as a double; every integral double below it fits an i64.
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    if let Some(i) = value.as_i64() {
        return Some(i);
    }
    if value.is_u64() {
        return None;
    }
    let real = value.as_f64()?;
    (real.fract() == 0.0 && (-BOUND..BOUND).contains(&real)).then_some(real as i64)
}

/// True when any string or member name holds U+0000, which OVSDB strings may not.
pub(crate) fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(s) => s.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(k, v)| k.contains('\0') || has_nul(v)),
        _ => false,
    }
}

/// True for an RFC 7047 `<id>`: a letter or underscore, then letters, digits, underscores.
pub(crate) fn is_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// An object read member by member; a member nobody asked for is an error.
pub(crate) struct Fields<'a> {
    what: &'a str,
    value: &'a Value,
    map: &'a Map<String, Value>,
    used: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Starts reading `value`, which `what` names in errors.
    pub(crate) fn open(value: &'a Value, what: &'a str) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self { what, value, map, used: Vec::new() }),
            other => Err(OvsdbError::syntax(other, format!("{what}: an object is needed"))),
        }
    }

    /// An error about the whole object.
    pub(crate) fn error(&self, details: impl std::fmt::Display) -> OvsdbError {
        OvsdbError::syntax(self.value, format!("{}: {details}", self.what))
    }

    /// The member, if present.
    pub(crate) fn optional(&mut self, name: &'static str) -> Option<&'a Value> {
        self.used.push(name);
        self.map.get(name)
    }

    /// The member, which must be present.
    pub(crate) fn required(&mut self, name: &'static str) -> Result<&'a Value> {
        self.optional(name).ok_or_else(|| self.error(format_args!("member {name:?} is missing")))
    }

    fn typed<T>(
        &self,
        name: &str,
        wanted: &str,
        value: &'a Value,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        read(value).ok_or_else(|| self.error(format_args!("member {name:?} must be {wanted}")))
    }

    /// A string member, if present.
    pub(crate) fn opt_str(&mut self, name: &'static str) -> Result<Option<&'a str>> {
        match self.optional(name) {
            None => Ok(None),
            Some(v) => self.typed(name, "a string", v, Value::as_str).map(Some),
        }
    }

    /// A string member.
    pub(crate) fn str(&mut self, name: &'static str) -> Result<&'a str> {
        let v = self.required(name)?;
        self.typed(name, "a string", v, Value::as_str)
    }

    /// An `<id>` member, if present.
    pub(crate) fn opt_id(&mut self, name: &'static str) -> Result<Option<&'a str>> {
        match self.optional(name) {
            None => Ok(None),
            Some(v) => self.typed(name, "an <id>", v, |v| v.as_str().filter(|s| is_id(s))).map(Some),
        }
    }

    /// An `<id>` member.
    pub(crate) fn id(&mut self, name: &'static str) -> Result<&'a str> {
        self.required(name)?;
        let id = self.opt_id(name)?;
        id.ok_or_else(|| self.error(format_args!("member {name:?} is missing")))
    }

    /// A boolean member, if present.
    pub(crate) fn opt_bool(&mut self, name: &'static str) -> Result<Option<bool>> {
        match self.optional(name) {
            None => Ok(None),
            Some(v) => self.typed(name, "a boolean", v, Value::as_bool).map(Some),
        }
    }

    /// An integer member, if present.
    pub(crate) fn opt_int(&mut self, name: &'static str) -> Result<Option<i64>> {
        match self.optional(name) {
            None => Ok(None),
            Some(v) => self.typed(name, "an integer", v, as_i64).map(Some),
        }
    }

    /// An array member, if present.
    pub(crate) fn opt_array(&mut self, name: &'static str) -> Result<Option<&'a Vec<Value>>> {
        match self.optional(name) {
            None => Ok(None),
            Some(v) => self.typed(name, "an array", v, Value::as_array).map(Some),
        }
    }

    /// An array member.
    pub(crate) fn array(&mut self, name: &'static str) -> Result<&'a Vec<Value>> {
        let v = self.required(name)?;
        self.typed(name, "an array", v, Value::as_array)
    }

    /// An object member.
    pub(crate) fn object(&mut self, name: &'static str) -> Result<&'a Map<String, Value>> {
        let v = self.required(name)?;
        self.typed(name, "an object", v, Value::as_object)
    }

    /// Ends the reading: everything present must have been asked for.
    pub(crate) fn close(self) -> Result<()> {
        match self.map.keys().find(|k| !self.used.contains(&k.as_str())) {
            None => Ok(()),
            Some(name) => Err(self.error(format_args!("member {name:?} is not allowed here"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_sorts_names_at_every_level() {
        let value = json!({"b": [{"y": 1, "x": "\n"}], "a": null});
        assert_eq!(canonical(&value), r#"{"a":null,"b":[{"x":"\n","y":1}]}"#);
    }

    #[test]
    fn long_quotes_are_cut_at_a_character() {
        let quoted = canonical_short(&Value::from("é".repeat(2000)));
        assert!(quoted.len() <= QUOTE_LIMIT + '…'.len_utf8());
        assert!(quoted.ends_with('…'));
    }

    #[test]
    fn integers_may_be_written_as_reals() {
        let cases = [
            (json!(1.0), Some(1)),
            (json!(1e3), Some(1000)),
            (json!(1.5), None),
            (json!(i64::MIN), Some(i64::MIN)),
            (json!(u64::MAX), None),
            (json!(9.3e18), None),
            (json!("1"), None),
        ];
        for (value, expected) in cases {
            assert_eq!(as_i64(&value), expected, "{value}");
        }
    }

    #[test]
    fn ids() {
        for (text, ok) in [("a", true), ("_A9", true), ("", false), ("9a", false), ("a-b", false)] {
            assert_eq!(is_id(text), ok, "{text}");
        }
    }

    #[test]
    fn unknown_members_are_refused() {
        let value = json!({"a": 1, "b": 2});
        let mut fields = Fields::open(&value, "thing").unwrap();
        assert_eq!(fields.opt_int("a").unwrap(), Some(1));
        assert!(fields.close().unwrap_err().details.contains("\"b\""));
    }
}
