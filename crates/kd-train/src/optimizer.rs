//! Optimizers: burn's, with PyTorch's meaning and PyTorch's defaults.

use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, SgdConfig};
use kd_core::{SettingsError, in_range};
use serde::{Deserialize, Serialize};

use crate::schedule::LearningRateSchedule;

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

/// Settings for the parameters whose path matches `pattern`; they come before the general ones, and where several groups match, the last one
/// counts. A group that sets `weight-decay` decays the norms and biases among its parameters too.
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
///
/// ```
/// let settings: kd_train::OptimizerSettings = toml::from_str(r#"
///     learning-rate = 0.1
///     weight-decay = 5e-4
///     schedule = { kind = "steps", epochs = [30, 45], factor = 0.1 }
///     groups = [{ pattern = '^adapters\.', learning-rate = 0.01 }]
/// "#)?;
/// settings.validate()?;
/// let rates: Vec<f64> = {
///     let mut schedule = settings.scheduler(60, 2)?;
///     (0..120).map(|_| schedule.step().base()).collect()
/// };
/// assert_eq!((rates[59], rates[60]), (0.1, 0.1 * 0.1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
        self.schedule.validate(self.learning_rate)?;
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
}

pub(crate) fn pattern(path: &str) -> Result<ParamGroup, SettingsError> {
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
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};
    use kd_core::Params;

    use crate::learner::{Learner, TensorMap, map_weights};

    /// Three steps on $\frac12 \sum_i c_i w_i^2$ with c = (1, -2, 1/2), in double precision by the rules in the documentation of PyTorch's
    /// `torch.optim`, from w = (1/2, -1, 2), with learning rate 0.1, weight decay 0.01 and otherwise the defaults:
    ///
    /// ```text
    /// SGD:    g = c w + d w;  v = g at first, then 0.9 v + g;  w -= lr v,  or lr (g + 0.9 v) with nesterov
    /// Adam:   g = c w + d w;  m = 0.9 m + 0.1 g;  v = 0.999 v + 0.001 g²;  w -= lr m/(1-0.9^t) / (sqrt(v/(1-0.999^t)) + 1e-8)
    /// AdamW:  w *= 1 - lr d, then as Adam with g = c w of before
    /// ```
    #[test]
    fn three_steps_of_every_optimizer_are_those_of_pytorch() {
        let golden = [
            (OptimizerKind::Sgd, false, [0.24066225, -2.3143554, 1.4524843]),
            (OptimizerKind::Sgd, true, [0.16092984, -3.20657474, 1.24953171]),
            (OptimizerKind::Adam, false, [0.20487126, -1.30049005, 1.70062339]),
            (OptimizerKind::Adamw, false, [0.20371239, -1.29719201, 1.69494452]),
        ];
        let device = Device::flex().autodiff();
        for (kind, nesterov, expected) in golden {
            let settings = OptimizerSettings {
                kind,
                nesterov,
                learning_rate: 0.1,
                weight_decay: 0.01,
                ..Default::default()
            };
            let mut optimizer = settings.optimizer().unwrap();
            let factors = Tensor::<1>::from_floats([1.0, -2.0, 0.5], &device);
            let mut weight = Param::from_tensor(Tensor::<1>::from_floats([0.5, -1.0, 2.0], &device));
            for _ in 0..3 {
                let loss = (weight.val().square() * factors.clone()).sum() * 0.5;
                let grads = GradientsParams::from_grads(loss.backward(), &weight);
                weight = optimizer.step(0.1, weight, grads);
            }
            let found = weight.val().into_data().try_to_vec::<f32>().unwrap();
            let near = |(a, b): (&f32, f64)| (f64::from(*a) - b).abs() < 2e-6;
            assert!(found.iter().zip(expected).all(near), "{kind:?}: {found:?}, expected {expected:?}");
        }
    }

    /// One step of plain descent from weights of 1 under a gradient of 1.
    fn one_step(settings: &OptimizerSettings) -> [f32; 3] {
        struct One;
        impl TensorMap for One {
            fn map<const D: usize>(&mut self, _path: &str, tensor: Tensor<D>) -> Tensor<D> {
                tensor.ones_like()
            }
        }
        let device = Device::flex().autodiff();
        let mut adapters = Params::default();
        adapters.insert("hint.weight", Tensor::<1>::ones([1], &device)).unwrap();
        let learner = Learner { student: LinearConfig::new(1, 1).init(&device), adapters };
        let learner = map_weights(learner, &mut One);
        let adapter = |learner: &Learner<Linear>| learner.adapters.get::<1>("hint.weight").unwrap();
        let input = Tensor::<2>::ones([1, 1], &device);
        let loss = learner.student.forward(input).sum() + adapter(&learner).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &learner);
        let rates = settings.scheduler(1, 1).unwrap().step();
        let learner = settings.optimizer().unwrap().step(rates, learner, grads);
        let bias = learner.student.bias.as_ref().unwrap().val();
        [
            learner.student.weight.val().into_scalar::<f32>(),
            bias.into_scalar::<f32>(),
            adapter(&learner).into_scalar::<f32>(),
        ]
    }

    #[test]
    fn a_group_has_its_own_learning_rate_and_decay_and_the_last_that_matches_counts() {
        let group = |pattern: &str, learning_rate, weight_decay| ParameterGroup {
            pattern: pattern.into(),
            learning_rate,
            weight_decay,
        };
        let general =
            OptimizerSettings { learning_rate: 0.1, momentum: 0.0, weight_decay: 0.3, ..Default::default() };
        let close = |found: [f32; 3], expected: [f32; 3]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
        };
        // Weight, bias, adapter: the bias is not decayed.
        close(one_step(&general), [1.0 - 0.1 * 1.3, 1.0 - 0.1, 1.0 - 0.1 * 1.3]);
        let groups =
            vec![group(r"^adapters\.", Some(0.5), None), group(r"^student\.weight$", None, Some(0.2))];
        close(
            one_step(&OptimizerSettings { groups, ..general.clone() }),
            [1.0 - 0.1 * 1.2, 1.0 - 0.1, 1.0 - 0.5 * 1.3],
        );
        let groups = vec![group("^student", Some(0.2), Some(0.4)), group("bias$", Some(0.3), None)];
        close(
            one_step(&OptimizerSettings { groups, ..general }),
            [1.0 - 0.2 * 1.4, 1.0 - 0.3 * 1.4, 1.0 - 0.1 * 1.3],
        );
    }

    #[test]
    fn norms_and_biases_are_not_decayed_unless_asked_for() {
        let group = pattern(NORMS_AND_BIASES).unwrap();
        let matches = |path: &str| group.matches(&Default::default(), Some(path));
        assert!(["student.fc.bias", "bias", "student.bn1.gamma", "a.beta"].into_iter().all(matches));
        assert!(!["student.fc.weight", "student.bias_net.weight", "alphabeta"].into_iter().any(matches));
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
