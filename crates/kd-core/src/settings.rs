//! Errors of user-facing settings.

/// A setting that cannot be accepted. Every message names the key, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A value outside its range.
    #[error("`{key}` is {value}, but it must be {allowed}")]
    OutOfRange {
        /// The setting.
        key: String,
        /// What was given.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// An unknown key or a value of another type, in the parser's words.
    #[error("{0}")]
    Parse(String),
    /// What is wrong with the settings of a loss.
    #[error("loss `{loss}`: {message}")]
    Loss {
        /// The loss.
        loss: String,
        /// What is wrong, from the parser or the loss's own check.
        message: String,
    },
    /// No loss of this name.
    #[error("there is no loss `{name}`; the losses are: {}", known.join(", "))]
    UnknownLoss {
        /// The name given.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
}

/// `Ok` if `ok`, else an error that says what `key` must be.
///
/// # Errors
/// [`SettingsError::OutOfRange`].
pub fn in_range(
    key: impl Into<String>,
    value: impl ToString,
    ok: bool,
    allowed: impl Into<String>,
) -> Result<(), SettingsError> {
    if ok {
        return Ok(());
    }
    Err(SettingsError::OutOfRange { key: key.into(), value: value.to_string(), allowed: allowed.into() })
}
