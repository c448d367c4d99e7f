//! Optimizers and learning-rate schedules: burn's, with PyTorch's meaning and PyTorch's defaults.

use burn::lr_scheduler::LrSchedulerConfig;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLrScheduler, ModuleLrSchedulerConfig};
use burn::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, SgdConfig};
use kd_core::{SettingsError, in_range};
use serde::{Deserialize, Serialize};

/// Paths of norms and biases, which are not decayed unless asked for.
const NORMS_AND_BIASES: &str = r"(^|\.)(bias|gamma|beta)$";

/// Which update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum: `v = m v + g`, `w -= lr v`, without dampening.
    #[default]
    Sgd,
    /// Adam; decay is added to the gradient.
    Adam,
    /// Adam with decoupled decay.
    Adamw,
}

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

/// Settings for the parameters whose path matches `pattern`; they come before the general ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ParameterGroup {
    /// A regular expression on the path, such as `^student\.conv1\.`; adapters start with `adapters.`.
    pub pattern: String,
    /// Learning rate instead of the general one; the schedule is the same.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// Weight decay instead of the general one.
    #[serde(default)]
    pub weight_decay: Option<f64>,
}

/// Settings of optimizer and schedule.
///
/// | key | default | range |
/// |---|---|---|
/// | `kind` | `sgd` | `sgd`, `adam`, `adamw` |
/// | `learning-rate` | 0.05 | above 0, at most 1 |
/// | `momentum` | 0.9 | 0 to below 1 (sgd) |
/// | `nesterov` | false | (sgd) |
/// | `betas` | [0.9, 0.999] | 0 to below 1 (adam, adamw) |
/// | `epsilon` | 1e-8 | above 0 (adam, adamw) |
/// | `weight-decay` | 0 | 0 or more |
/// | `decay-norms-and-biases` | false | |
/// | `schedule` | constant | see [`LearningRateSchedule`] |
/// | `warm-up-steps` | 0 | steps of a linear rise from a tenth of the learning rate |
/// | `clip-norm` | none | above 0: largest norm of all gradients together |
/// | `accumulate` | 1 | 1 or more: batches whose gradients make one step |
/// | `groups` | none | see [`ParameterGroup`] |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct OptimizerSettings {
    /// Update rule.
    pub kind: OptimizerKind,
    /// Step size at the start.
    pub learning_rate: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
    /// Decay rates of Adam's moments.
    pub betas: [f64; 2],
    /// Adam's denominator guard.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether norms and biases are decayed too.
    pub decay_norms_and_biases: bool,
    /// Learning rate over the run.
    pub schedule: LearningRateSchedule,
    /// Steps of linear warm-up.
    pub warm_up_steps: usize,
    /// Largest common gradient norm.
    pub clip_norm: Option<f64>,
    /// Batches per step.
    pub accumulate: usize,
    /// Exceptions by path.
    pub groups: Vec<ParameterGroup>,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Sgd,
            learning_rate: 0.05,
            momentum: 0.9,
            nesterov: false,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            decay_norms_and_biases: false,
            schedule: LearningRateSchedule::Constant,
            warm_up_steps: 0,
            clip_norm: None,
            accumulate: 1,
            groups: Vec::new(),
        }
    }
}

impl OptimizerSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        let rate = |key: &str, lr: f64| in_range(key, lr, lr > 0.0 && lr <= 1.0, "above 0, at most 1");
        let unit = |key: &str, x: f64| in_range(key, x, (0.0..1.0).contains(&x), "0 to below 1");
        let decay = |x: f64| in_range("optimizer.weight-decay", x, x >= 0.0 && x.is_finite(), "0 or more");
        rate("optimizer.learning-rate", self.learning_rate)?;
        unit("optimizer.momentum", self.momentum)?;
        self.betas.iter().try_for_each(|&beta| unit("optimizer.betas", beta))?;
        in_range("optimizer.epsilon", self.epsilon, self.epsilon > 0.0, "above 0")?;
        decay(self.weight_decay)?;
        if let Some(norm) = self.clip_norm {
            in_range("optimizer.clip-norm", norm, norm > 0.0, "above 0, or left out")?;
        }
        in_range("optimizer.accumulate", self.accumulate, self.accumulate > 0, "1 or more")?;
        match &self.schedule {
            LearningRateSchedule::Constant => {}
            LearningRateSchedule::Cosine { minimum } => {
                let fine = (0.0..=self.learning_rate).contains(minimum);
                in_range("optimizer.schedule.minimum", minimum, fine, "0 to the learning rate")?;
            }
            LearningRateSchedule::Steps { epochs, factor } => {
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
        for group in &self.groups {
            pattern(&group.pattern)?;
            group.learning_rate.map_or(Ok(()), |lr| rate("optimizer.groups.learning-rate", lr))?;
            group.weight_decay.map_or(Ok(()), decay)?;
        }
        Ok(())
    }

    /// burn's optimizer with these settings.
    ///
    /// # Errors
    /// [`SettingsError`] for a pattern that is no regular expression.
    pub fn optimizer(&self) -> Result<ModuleOptimizer, SettingsError> {
        let mut optimizer = match self.kind {
            OptimizerKind::Sgd => self.sgd(self.weight_decay).init(),
            OptimizerKind::Adam => self.adam(self.weight_decay).init(),
            OptimizerKind::Adamw => self.adamw(self.weight_decay).init(),
        };
        if self.weight_decay > 0.0 && !self.decay_norms_and_biases {
            tracing::info!("weight decay {} leaves out norms and biases", self.weight_decay);
            optimizer = self.add_group(optimizer, NORMS_AND_BIASES, 0.0)?;
        }
        for group in &self.groups {
            if let Some(decay) = group.weight_decay {
                optimizer = self.add_group(optimizer, &group.pattern, decay)?;
            }
        }
        Ok(optimizer)
    }

    fn add_group(
        &self,
        optimizer: ModuleOptimizer,
        path: &str,
        decay: f64,
    ) -> Result<ModuleOptimizer, SettingsError> {
        let group = pattern(path)?;
        Ok(match self.kind {
            OptimizerKind::Sgd => optimizer.with_group(group, self.sgd(decay).build(), None),
            OptimizerKind::Adam => optimizer.with_group(group, self.adam(decay).build(), None),
            OptimizerKind::Adamw => optimizer.with_group(group, self.adamw(decay).build(), None),
        })
    }

    fn sgd(&self, decay: f64) -> SgdConfig {
        let momentum = MomentumConfig { momentum: self.momentum, dampening: 0.0, nesterov: self.nesterov };
        SgdConfig::new()
            .with_momentum((self.momentum > 0.0).then_some(momentum))
            .with_weight_decay((decay > 0.0).then(|| WeightDecayConfig::new(decay as f32)))
    }

    fn adam(&self, decay: f64) -> AdamConfig {
        let [first, second] = self.betas;
        AdamConfig::new()
            .with_beta_1(first as f32)
            .with_beta_2(second as f32)
            .with_epsilon(self.epsilon as f32)
            .with_weight_decay((decay > 0.0).then(|| WeightDecayConfig::new(decay as f32)))
    }

    fn adamw(&self, decay: f64) -> AdamWConfig {
        let [first, second] = self.betas;
        AdamWConfig::new()
            .with_beta_1(first as f32)
            .with_beta_2(second as f32)
            .with_epsilon(self.epsilon as f32)
            .with_weight_decay(decay as f32)
    }

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

fn pattern(path: &str) -> Result<ParamGroup, SettingsError> {
    let wrong = || SettingsError::OutOfRange {
        key: "optimizer.groups.pattern".to_owned(),
        value: path.to_owned(),
        allowed: "a regular expression on parameter paths".to_owned(),
    };
    ParamGroup::from_regex(path).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::module::Param;
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    fn rates(settings: &OptimizerSettings, epochs: usize, steps: usize) -> Vec<f64> {
        let mut scheduler = settings.scheduler(epochs, steps).unwrap();
        (0..epochs * steps).map(|_| scheduler.step().base()).collect()
    }

    #[test]
    fn momentum_has_no_hidden_dampening() {
        let device = Device::flex().autodiff();
        let mut optimizer =
            OptimizerSettings { learning_rate: 1.0, ..Default::default() }.optimizer().unwrap();
        let mut param = Param::from_tensor(Tensor::<1>::zeros([1], &device));
        let mut values = vec![];
        for _ in 0..3 {
            let grads = GradientsParams::from_grads(param.val().sum().backward(), &param);
            param = optimizer.step(1.0, param, grads);
            values.push(param.val().into_scalar::<f32>());
        }
        // v = 1, 1.9, 2.71; w is minus their sum, as PyTorch's SGD gives.
        let expected = [-1.0, -2.9, -5.61];
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{values:?}");
    }

    #[test]
    fn norms_and_biases_are_not_decayed_unless_asked_for() {
        let group = pattern(NORMS_AND_BIASES).unwrap();
        let matches = |path: &str| group.matches(&Default::default(), Some(path));
        assert!(["student.fc.bias", "bias", "student.bn1.gamma", "a.beta"].into_iter().all(matches));
        assert!(!["student.fc.weight", "student.bias_net.weight", "alphabeta"].into_iter().any(matches));
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

    #[test]
    fn a_bad_value_is_an_error_with_key_value_and_range() {
        let settings = OptimizerSettings { learning_rate: -0.1, ..Default::default() };
        let error = settings.validate().unwrap_err().to_string();
        assert_eq!(error, "`optimizer.learning-rate` is -0.1, but it must be above 0, at most 1");
        let bad = ParameterGroup { pattern: "(".into(), learning_rate: None, weight_decay: None };
        assert!(OptimizerSettings { groups: vec![bad], ..Default::default() }.validate().is_err());
    }
}
