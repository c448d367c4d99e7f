//! The last epoch counts, not the best one.

use kd_core::Time;
use kd_train::{Hook, HookError, LearnerState};

use super::Net;

/// A hook for networks whose gates still close: whatever validation says of an earlier epoch, the last one is pruned.
pub(super) struct LastEpoch;

impl Hook<Net> for LastEpoch {
    fn name(&self) -> &str {
        "last-epoch"
    }

    fn end_epoch(&mut self, _time: Time, state: LearnerState<Net>) -> Result<LearnerState<Net>, HookError> {
        Ok(LearnerState { restart_best: true, ..state })
    }
}
