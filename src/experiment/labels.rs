//! The objective that everything is compared with.

use kd_core::Objective;
use kd_core::losses::CrossEntropySettings;

use super::error::StudyError;

/// Learning from labels alone: cross-entropy, for [`Plan::new`](super::Plan::new). Other terms can be added to it.
///
/// ```
/// use kd::experiment::labels;
///
/// assert_eq!(labels()?.names(), ["cross-entropy"]);
/// # Ok::<(), kd::experiment::StudyError>(())
/// ```
///
/// # Errors
/// [`StudyError::Settings`], never for the settings there are.
pub fn labels() -> Result<Objective, StudyError> {
    Ok(Objective::new().with("cross-entropy", CrossEntropySettings::default().build()?, 1.0))
}
