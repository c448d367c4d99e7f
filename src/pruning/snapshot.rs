//! What a network was after some epochs, for rewinding.

use std::path::PathBuf;

use burn::module::Module;
use kd_core::Time;
use kd_train::{Hook, HookError, LearnerState};

use super::Net;

/// Saves the graph at the end of an epoch.
pub(super) struct Snapshot {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The graph's file.
    pub file: PathBuf,
}

impl Hook<Net> for Snapshot {
    fn name(&self) -> &str {
        "snapshot"
    }

    fn end_epoch(&mut self, time: Time, state: LearnerState<Net>) -> Result<LearnerState<Net>, HookError> {
        if time.epoch + 1 == self.epoch {
            let failed = |error: &dyn std::error::Error| HookError(error.to_string());
            let graph = state.learner.student.module().valid().to_graph().map_err(|error| failed(&error))?;
            graph.save(&self.file).map_err(|error| failed(&error))?;
        }
        Ok(state)
    }
}
