//! Why an objective has no value.

use crate::term::TermError;

/// Why an objective cannot be used or has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectiveError {
    /// A term failed.
    #[error("term `{term}`: {source}")]
    Term {
        /// The term's name.
        term: String,
        /// What it said.
        source: TermError,
    },
    /// There is nothing to minimise.
    #[error("the objective has no terms; add at least one, such as `cross-entropy`")]
    Empty,
    /// Student and teacher disagree about the number of samples.
    #[error(
        "the student's output has shape {student:?} and teacher {teacher}'s {theirs:?}: the first axes differ, so they did not see the same batch"
    )]
    Batch {
        /// Shape of the student's output.
        student: Vec<usize>,
        /// Index of the teacher.
        teacher: usize,
        /// Shape of its output.
        theirs: Vec<usize>,
    },
    /// A term is not a number or is infinite.
    #[error(
        "term `{term}` is {value}; lower the learning rate or its weight, and check that every label is a class"
    )]
    NotFinite {
        /// The term's name.
        term: String,
        /// Its value.
        value: String,
    },
    /// A term does not depend on anything that learns.
    #[error("term `{term}` is detached: no gradient reaches the student or an adapter; check its taps")]
    Detached {
        /// The term's name.
        term: String,
    },
    /// A term is exactly zero where it should start to teach.
    #[error(
        "term `{term}` is zero on the first batch: student and target agree exactly, or its taps carry nothing"
    )]
    Zero {
        /// The term's name.
        term: String,
    },
}
