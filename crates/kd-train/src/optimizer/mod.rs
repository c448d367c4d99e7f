//! Optimizers with PyTorch's meaning and PyTorch's defaults, in one pass over memory where our kernels run.

mod adam;
#[cfg(all(test, feature = "flex"))]
mod against_burn;
mod fused;
mod sgd;
#[cfg(test)]
mod tests;

use burn::module::ParamGroup;
use burn::optim::ModuleOptimizer;
use kd_core::{SettingsError, in_range};
use serde::{Deserialize, Serialize};

use crate::schedule::LearningRateSchedule;

pub use adam::{Adam, AdamDecay};
pub use sgd::{Sgd, SgdState};

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
/// | `kernels` | true | one pass over memory per step where the device has our kernels (flex, f32); else burn's operations |
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
    /// Whether our kernels make the step where the device has them.
    pub kernels: bool,
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
            kernels: true,
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

    /// The optimizer of a whole module with these settings.
    ///
    /// # Errors
    /// [`SettingsError`] for a pattern that is no regular expression.
    pub fn optimizer(&self) -> Result<ModuleOptimizer, SettingsError> {
        let mut optimizer = match self.kind {
            OptimizerKind::Sgd => self.sgd(self.weight_decay).into(),
            OptimizerKind::Adam | OptimizerKind::Adamw => self.adam(self.weight_decay).into(),
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
            OptimizerKind::Sgd => optimizer.with_group(group, self.sgd(decay), None),
            OptimizerKind::Adam | OptimizerKind::Adamw => optimizer.with_group(group, self.adam(decay), None),
        })
    }

    fn sgd(&self, decay: f64) -> Sgd {
        Sgd {
            momentum: self.momentum,
            dampening: 0.0,
            nesterov: self.nesterov,
            weight_decay: decay,
            kernels: self.kernels,
        }
    }

    fn adam(&self, decay: f64) -> Adam {
        let [beta_1, beta_2] = self.betas;
        let decay = if self.kind == OptimizerKind::Adamw {
            AdamDecay::Weight(decay)
        } else {
            AdamDecay::Gradient(decay)
        };
        Adam { beta_1, beta_2, epsilon: self.epsilon, amsgrad: false, decay, kernels: self.kernels }
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
