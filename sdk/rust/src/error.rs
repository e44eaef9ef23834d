//! Why an action could not do what was asked.

use std::cell::RefCell;
use std::fmt;
use std::panic::Location;

use crate::__bindings::epicenter::workspace::types as wit;
use crate::issue::{FieldPath, Issue};

/// The result of everything that can fail here; [`Error`] unless another type is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an action could not do what was asked. An action that returns one leaves nothing written.
///
/// Any `std::error::Error` turns into [`Failed`](Error::Failed) under `?`. For that this type cannot
/// be a `std::error::Error` itself: the two blanket conversions would overlap. When an action fails
/// so, the host's log names the line with that `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The row, key, table or action does not exist. REST answers 404.
    NotFound,
    /// Something else does not exist; the text says what. REST answers 404 with it.
    Missing(String),
    /// The value was refused; at least one issue. REST answers 422 with them.
    Invalid(Vec<Issue>),
    /// The value does not go with what is there: it is taken, refers to a row that does not exist, or others
    /// refer to the row. At least one issue. REST answers 409 with them.
    Conflict(Vec<Issue>),
    /// The caller may not do this; the text says what. REST answers 403.
    Denied(String),
    /// Anything else; the text is shown to the caller. REST answers 500.
    Failed(String),
}

impl Error {
    /// Refuses a value for one thing that is wrong with it; see [`Issue::new`] for `at`.
    pub fn invalid(at: impl Into<FieldPath>, message: impl Into<String>) -> Error {
        Error::Invalid(vec![Issue::new(at, message)])
    }

    /// Says that something does not exist.
    pub fn not_found(what: impl Into<String>) -> Error {
        Error::Missing(what.into())
    }

    /// Refuses the caller.
    pub fn denied(message: impl Into<String>) -> Error {
        Error::Denied(message.into())
    }

    /// Gives up for any other reason.
    #[track_caller]
    pub fn failed(message: impl Into<String>) -> Error {
        let message = message.into();
        NEWEST_FAILURE.set(Some((message.clone(), Location::caller())));
        Error::Failed(message)
    }

    /// The line of the author's source at which this failure came about, if that is known. Kept
    /// beside the error, which is for the caller, while this is for the author.
    pub(crate) fn place(&self) -> Option<&'static Location<'static>> {
        let Error::Failed(message) = self else { return None };
        let newest = NEWEST_FAILURE.take();
        newest.filter(|(text, _)| text == message).map(|(_, place)| place)
    }
}

thread_local! {
    static NEWEST_FAILURE: RefCell<Option<(String, &'static Location<'static>)>> =
        const { RefCell::new(None) };
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound => out.write_str("not found"),
            Error::Invalid(issues) | Error::Conflict(issues) => {
                let lines: Vec<String> = issues.iter().map(Issue::to_string).collect();
                out.write_str(&lines.join("; "))
            }
            Error::Missing(message) | Error::Denied(message) | Error::Failed(message) => {
                out.write_str(message)
            }
        }
    }
}

impl<E: std::error::Error> From<E> for Error {
    #[track_caller]
    fn from(error: E) -> Error {
        Error::failed(error.to_string())
    }
}

impl From<Issue> for Error {
    fn from(issue: Issue) -> Error {
        Error::Invalid(vec![issue])
    }
}

impl Error {
    /// From the contract's error. Not `From`, because wit-bindgen's type is a `std::error::Error`,
    /// which the blanket conversion would flatten to text.
    pub(crate) fn from_host(error: wit::Error) -> Error {
        match error {
            wit::Error::NotFound(what) if what.is_empty() => Error::NotFound,
            wit::Error::NotFound(what) => Error::Missing(what),
            wit::Error::Conflict(issues) => {
                Error::Conflict(issues.into_iter().map(Issue::from).collect())
            }
            wit::Error::Invalid(issues) => {
                Error::Invalid(issues.into_iter().map(Issue::from).collect())
            }
            wit::Error::Denied(message) => Error::Denied(message),
            wit::Error::Failed(message) => Error::Failed(message),
        }
    }

    pub(crate) fn into_host(self) -> wit::Error {
        match self {
            Error::NotFound => wit::Error::NotFound(String::new()),
            Error::Missing(what) => wit::Error::NotFound(what),
            Error::Conflict(issues) => {
                wit::Error::Conflict(issues.into_iter().map(wit::Issue::from).collect())
            }
            Error::Invalid(issues) => {
                wit::Error::Invalid(issues.into_iter().map(wit::Issue::from).collect())
            }
            Error::Denied(message) => wit::Error::Denied(message),
            Error::Failed(message) => wit::Error::Failed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_turns_any_error_into_a_failure_with_its_text() {
        fn count(text: &str) -> Result<u64> {
            Ok(text.parse::<u64>()?)
        }
        assert_eq!(count("7"), Ok(7));
        assert_eq!(count("x"), Err(Error::Failed("invalid digit found in string".into())));
    }

    #[test]
    fn a_failure_knows_the_line_of_its_question_mark() {
        let count = || -> Result<u64> { Ok("x".parse::<u64>()?) };
        let line = line!() - 1;
        let error = count().expect_err("x is no number");
        let place = error.place().expect("the place is known");
        assert_eq!((place.file().ends_with("error.rs"), place.line()), (true, line));
        let hosts = Error::from_host(wit::Error::Failed("the disk is full".into()));
        let _handled = Error::failed("something else");
        assert_eq!(hosts.place(), None);
    }
}
