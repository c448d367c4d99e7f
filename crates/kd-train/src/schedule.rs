//! Learning-rate schedules: burn's, put together from warm-up and decay.

use burn::lr_scheduler::LrSchedulerConfig;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLrScheduler, ModuleLrSchedulerConfig};
use burn::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use kd_core::{SettingsError, in_range};
use serde::{Deserialize, Serialize};

use crate::optimizer::{OptimizerSettings, pattern};

/// How the learning rate changes over a run, by optimizer step.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LearningRateSchedule {
    /// Always the same.
    #[default]
    Constant,
    /// Half a cosine from the learning rate to `minimum` at the last step.
    Cosine {
        /// Learning rate at the end.
        #[serde(default)]
        minimum: f64,
    },
    /// Multiplied by `factor` at the start of each of `epochs`.
    Steps {
        /// Epochs at which it drops, rising, above 0.
        epochs: Vec<usize>,
        /// What it is multiplied by.
        factor: f64,
    },
}

impl LearningRateSchedule {
    /// Checks every value, given the rate it starts from.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn validate(&self, learning_rate: f64) -> Result<(), SettingsError> {
        match self {
            Self::Constant => {}
            Self::Cosine { minimum } => {
                let fine = (0.0..=learning_rate).contains(minimum);
                in_range("optimizer.schedule.minimum", minimum, fine, "0 to the learning rate")?;
            }
            Self::Steps { epochs, factor } => {
                let rising = epochs.first().is_some_and(|&first| first > 0)
                    && epochs.windows(2).all(|pair| pair[0] < pair[1]);
                let key = "optimizer.schedule.epochs";
                in_range(key, format!("{epochs:?}"), rising, "rising epoch numbers above 0")?;
                in_range(
                    "optimizer.schedule.factor",
                    factor,
                    *factor > 0.0 && *factor <= 1.0,
                    "above 0, at most 1",
                )?;
            }
        }
        Ok(())
    }
}

impl OptimizerSettings {
    /// burn's schedule for a run of `epochs` epochs of `steps` optimizer steps.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] when the warm-up does not fit into the run.
    pub fn scheduler(&self, epochs: usize, steps: usize) -> Result<ModuleLrScheduler, SettingsError> {
        let base = self.phases(self.learning_rate, epochs, steps)?;
        let mut config = ModuleLrSchedulerConfig::new(base);
        for group in &self.groups {
            if let Some(lr) = group.learning_rate {
                config = config.with_group(pattern(&group.pattern)?, self.phases(lr, epochs, steps)?);
            }
        }
        config.init().map_err(SettingsError::Parse)
    }

    /// Warm-up, then the schedule, for a learning rate `lr`.
    fn phases(&self, lr: f64, epochs: usize, steps: usize) -> Result<LrSchedulerConfig, SettingsError> {
        let warm_up = self.warm_up_steps;
        let total = (epochs * steps).max(1);
        let (mut phases, mut milestones): (Vec<LrSchedulerConfig>, Vec<usize>) = match &self.schedule {
            LearningRateSchedule::Constant => (vec![lr.into()], vec![]),
            LearningRateSchedule::Cosine { minimum } => {
                let share = minimum / self.learning_rate;
                let cosine = CosineAnnealingLrSchedulerConfig::new(lr, total.saturating_sub(warm_up).max(1));
                (vec![cosine.with_min_lr(lr * share).into()], vec![])
            }
            LearningRateSchedule::Steps { epochs, factor } => {
                let rates = (0..=epochs.len()).map(|drops| (lr * factor.powi(drops as i32)).into());
                (rates.collect(), epochs.iter().map(|epoch| epoch * steps).collect())
            }
        };
        if warm_up > 0 {
            let end = milestones.first().copied().unwrap_or(total);
            let key = "optimizer.warm-up-steps";
            in_range(key, warm_up, warm_up < end, format!("below {end}, where the schedule goes on"))?;
            phases.insert(0, LinearLrSchedulerConfig::new(lr * 0.1, lr, warm_up).into());
            milestones.insert(0, warm_up);
        }
        match phases.pop() {
            Some(only) if milestones.is_empty() => Ok(only),
            last => {
                phases.extend(last);
                Ok(LrSchedulerConfig::Sequential(SequentialLrSchedulerConfig::new(phases, milestones)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unwrap_used)]
    fn rates(settings: &OptimizerSettings, epochs: usize, steps: usize) -> Vec<f64> {
        let mut scheduler = settings.scheduler(epochs, steps).unwrap();
        (0..epochs * steps).map(|_| scheduler.step().base()).collect()
    }

    #[test]
    fn cosine_starts_at_the_learning_rate_and_falls() {
        let schedule = LearningRateSchedule::Cosine { minimum: 0.0 };
        let rates = rates(&OptimizerSettings { schedule, learning_rate: 0.2, ..Default::default() }, 2, 5);
        assert_eq!(rates[0], 0.2);
        assert!((rates[5] - 0.1).abs() < 1e-12);
        assert!(rates.windows(2).all(|pair| pair[1] < pair[0]));
    }

    #[test]
    fn warm_up_comes_before_the_steps() {
        let schedule = LearningRateSchedule::Steps { epochs: vec![1, 2], factor: 0.1 };
        let settings =
            OptimizerSettings { schedule, learning_rate: 1.0, warm_up_steps: 2, ..Default::default() };
        let rates = rates(&settings, 3, 4);
        assert!((rates[0] - 0.1).abs() < 1e-12, "{rates:?}");
        assert_eq!(rates[2..4], [1.0, 1.0]);
        assert!(rates[4..8].iter().all(|lr| (lr - 0.1).abs() < 1e-12), "{rates:?}");
        assert!(rates[8..].iter().all(|lr| (lr - 0.01).abs() < 1e-12), "{rates:?}");
    }
}
