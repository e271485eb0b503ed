//! What can be wrong with a text?

use crate::{ActionError, Field};

/// Why a text is not a match, an action or a flow. Says what was written and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A keyword that is neither a field nor a shorthand nor an option.
    #[error("unknown keyword {0}")]
    UnknownKeyword(String),
    /// An action that does not exist.
    #[error("unknown action {0}")]
    UnknownAction(String),
    /// Something that exists but is not supported (yet).
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A tunnel option that the TLV table does not have.
    #[error("{} is not mapped to a tunnel option", .0.name())]
    Unmapped(Field),
    /// A field without a value.
    #[error("field {0} missing value")]
    MissingValue(String),
    /// A value that its field cannot have.
    #[error("{text}: invalid value for {field} (want {want})")]
    BadValue {
        /// Field or option.
        field: String,
        /// What was written.
        text: String,
        /// What would be right.
        want: &'static str,
    },
    /// A value with more bits than its field.
    #[error("{text}: value too large for {bits}-bit field {field}")]
    TooLarge {
        /// Field or option.
        field: String,
        /// What was written.
        text: String,
        /// Bits of the field.
        bits: u16,
    },
    /// A mask on a field that is only matched or set as a whole.
    #[error("{text}: invalid mask for field {}", field.name())]
    BadMask {
        /// Field.
        field: Field,
        /// What was written.
        text: String,
    },
    /// A flag that the field does not have.
    #[error("{flag}: unknown {} flag(s)", field.name())]
    UnknownFlag {
        /// Field.
        field: Field,
        /// What was written.
        flag: String,
    },
    /// A port that does not exist.
    #[error("{0}: invalid or unknown port")]
    UnknownPort(String),
    /// A subfield (`NAME[a..b]`) that is malformed or not in its field.
    #[error("{text}: {problem}")]
    BadSubfield {
        /// What was written.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An action that does not fit its match.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// A field that is matched or set without what it depends on, such as `nw_src` without `ip`.
    #[error("{}: prerequisites not met (see ovs-fields(7))", .0.name())]
    Prerequisite(Field),
    /// Instructions in an order in which they are not executed.
    #[error("invalid instruction ordering: {late} must appear before {early}")]
    Order {
        /// What came too late.
        late: &'static str,
        /// What came before it.
        early: &'static str,
    },
    /// An instruction that may stand only once.
    #[error("duplicate {0} instruction not allowed")]
    Twice(&'static str),
    /// `drop` beside other actions.
    #[error("\"drop\" must not be accompanied by any other action or instruction")]
    DropNotAlone,
    /// A flow that says nothing about actions where it must.
    #[error("must specify an action")]
    NoActions,
    /// `cookie=value/mask` where a flow is added.
    #[error("flow additions cannot use a cookie mask")]
    CookieMask,
    /// A parenthesis that is not closed, or closed without being open.
    #[error("{0}: unbalanced parentheses")]
    Unbalanced(String),
    /// Actions nested deeper than anyone needs.
    #[error("actions are nested too deeply")]
    TooDeep,
}

pub(super) type Result<T> = core::result::Result<T, ParseError>;

pub(super) fn bad(field: &str, text: &str, want: &'static str) -> ParseError {
    ParseError::BadValue { field: field.to_owned(), text: text.to_owned(), want }
}
