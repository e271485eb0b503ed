//! What went wrong with a lab, where in its file, and what to do?

use std::io;

/// The result of a deed on a lab.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a lab could not be read, built, used or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file does not read as a lab: syntax, an unknown field, a wrong type.
    #[error("{file}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// Field, reason, line and column.
        message: String,
    },
    /// A field's value makes no sense.
    #[error("{field}: {problem}; {mend}")]
    Field {
        /// Which, for example `hosts[0].links[1].network`.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to write instead.
        mend: String,
    },
    /// The kernel refused.
    #[error("{field}: {source}")]
    Host {
        /// The field that asked for it.
        field: String,
        /// What was being done, and why it failed.
        #[source]
        source: weft_host::Error,
    },
    /// A file or process of the lab could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// The deed and its object.
        what: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A command of the lab's file failed.
    #[error("{field}: `{command}` failed ({status}){output}")]
    Command {
        /// The field that holds the command.
        field: String,
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// What it said, on lines of its own.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("{field}: waited {seconds} s for {what}{output}")]
    Timeout {
        /// The field that holds the condition.
        field: String,
        /// The condition.
        what: String,
        /// How long.
        seconds: f64,
        /// The last lines of the log of the command that should have made it true.
        output: String,
    },
    /// There is no lab of that name.
    #[error("no lab {name:?} is up; {known}")]
    NoSuchLab {
        /// The name asked for.
        name: String,
        /// Which ones are.
        known: String,
    },
    /// The lab has no such host, workload, network or command.
    #[error("lab {lab} has no {what}; it has {known}")]
    NoSuchPlace {
        /// The lab.
        lab: String,
        /// What was asked for.
        what: String,
        /// What there is.
        known: String,
    },
    /// A lab of that name is up, from another file.
    #[error(
        "lab {0} is up with another definition; take it down first (weft lab down {0}), or use --replace"
    )]
    Differs(String),
    /// A namespace name is in use by somebody else.
    #[error(
        "network namespace {name} exists and lab {lab} did not make it; rename the lab, or remove it (ip netns del {name})"
    )]
    NameTaken {
        /// The namespace.
        name: String,
        /// The lab.
        lab: String,
    },
    /// Labs need the rights to make namespaces.
    #[error("labs need root to make namespaces; run with sudo")]
    NotRoot,
    /// Teardown did what it could; these things remain.
    #[error("lab {lab} is not wholly removed: {}", left.join("; "))]
    Left {
        /// The lab.
        lab: String,
        /// What could not be removed, and why.
        left: Vec<String>,
    },
}

impl Error {
    /// A senseless value and its mend.
    pub(crate) fn field(
        field: impl Into<String>,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::Field { field: field.into(), problem: problem.into(), mend: mend.into() }
    }
}

/// Adds the field or deed to a failure.
pub(crate) trait At<T> {
    fn at(self, place: impl Into<String>) -> Result<T>;
}

impl<T> At<T> for weft_host::Result<T> {
    fn at(self, place: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Host { field: place.into(), source })
    }
}

impl<T> At<T> for io::Result<T> {
    fn at(self, place: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { what: place.into(), source })
    }
}
