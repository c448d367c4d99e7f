//! Gradient attention.
//!
//! `$$ L = \frac{1}{2} \left\| J_S - J_T \right\|_2, \qquad J = \frac{\partial}{\partial x} \mathrm{CE}(f(x), y) $$`
//!
//! What the loss depends on in the input: the student's input gradient follows the teacher's, or (without a teacher) the mirrored one of the mirrored input,
//! `$L = \frac{1}{2} \| J(x) - \mathrm{flip}(J(\mathrm{flip}(x))) \|_2$`, where `$J(\mathrm{flip}(x))$` is the gradient at the mirrored input.
//! Zagoruyko, Komodakis: *Paying More Attention to Attention*, 2017, [arXiv:1612.03928](https://arxiv.org/abs/1612.03928), section 3.2. The paper's factor
//! `$\beta$` is the weight; the half is part of the formula.
//!
//! The value comes from first-order gradients. Its gradient needs a second derivative, which is taken as a central difference along the direction
//! `$v = \partial L / \partial J_S$` that the value hands back:
//!
//! `$$ \frac{\partial L}{\partial \theta} = \frac{\partial}{\partial \theta} \left\langle v, J_S \right\rangle
//! \approx \frac{\partial}{\partial \theta} \frac{\mathrm{CE}(x + h v) - \mathrm{CE}(x - h v)}{2 h} $$`
//!
//! The step `$h$` moves an example by `step` times its own length. A training step costs three forward and backward passes of the student and one of the
//! teacher besides the usual ones (six of the student for the mirrored form). The models must take one float tensor.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::math::{EPSILON, row_norms, unit};
use super::{CrossEntropy, CrossEntropySettings, LossSettings};
use crate::settings::{SettingsError, in_range};
use crate::taps::{OUTPUT, Taps};
use crate::term::{Probe, Replay, Step, Term, TermError, TermParams, Wants};
use crate::value::{Kind, Value};

/// What the student's input gradient is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientComparison {
    /// The first teacher's.
    #[default]
    Teacher,
    /// Its own on the mirrored input, mirrored back: no teacher is needed.
    Mirrored,
}

/// Settings of [`GradientAttention`].
///
/// | key | default | range |
/// |---|---|---|
/// | `compare` | `teacher` | `teacher`, `mirrored` |
/// | `flip-axis` | -1 | an axis of the input but the first; negative counts from the end; `mirrored` only |
/// | `class-axis` | -1 | an axis of the output; negative counts from the end |
/// | `step` | 0.01 | above 0, at most 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct GradientAttentionSettings {
    /// The other side of the comparison.
    pub compare: GradientComparison,
    /// The input's axis along which it is mirrored: the width of `[batch, channel, h, w]`.
    pub flip_axis: isize,
    /// Axis of the output that holds the classes.
    pub class_axis: isize,
    /// Step of the central difference, as a share of an input's length.
    pub step: f64,
}

impl Default for GradientAttentionSettings {
    fn default() -> Self {
        Self { compare: GradientComparison::default(), flip_axis: -1, class_axis: -1, step: 1e-2 }
    }
}

impl GradientAttentionSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for a step or an axis out of range.
    pub fn build(self) -> Result<GradientAttention, SettingsError> {
        in_range("step", self.step, self.step > 0.0 && self.step <= 1.0, "above 0 and at most 1")?;
        in_range("flip-axis", self.flip_axis, self.flip_axis != 0, "another axis than 0, the batch")?;
        let cross_entropy =
            CrossEntropySettings { class_axis: self.class_axis, ..Default::default() }.build()?;
        Ok(GradientAttention { settings: self, cross_entropy })
    }
}

impl LossSettings for GradientAttentionSettings {
    type Loss = GradientAttention;
    fn build(self) -> Result<GradientAttention, SettingsError> {
        self.build()
    }
}

/// The loss: see the [settings](GradientAttentionSettings) and the [formula](self). An example with several rows of scores (pixels, tokens) counts with their
/// mean cross-entropy.
///
/// ```
/// use kd_core::Term;
/// use kd_core::losses::{GradientAttentionSettings, GradientComparison};
///
/// let compare = GradientComparison::Mirrored;
/// let loss = GradientAttentionSettings { compare, ..Default::default() }.build()?;
/// assert!(loss.wants().replays && !loss.wants().needs_teacher);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GradientAttention {
    settings: GradientAttentionSettings,
    cross_entropy: CrossEntropy,
}

impl GradientAttention {
    /// The value for inputs of rank `D`.
    fn value<const D: usize>(&self, step: &Step<'_>, replay: &dyn Replay) -> Result<Tensor<1>, TermError> {
        let input = replay.input().inner().float::<D>()?;
        let student = |x: Tensor<D>| self.losses(&replay.student(&x.into())?, step.target);
        let teacher = |x: Tensor<D>| self.losses(&replay.teacher(0, &x.into())?, step.target);
        let mirrored = self.settings.compare == GradientComparison::Mirrored;
        let axis = if mirrored { flip_axis(self.settings.flip_axis, D)? } else { 0 };
        let flip = |x: Tensor<D>| x.flip([axis]);

        let theirs = if mirrored {
            flip(gradient(flip(input.clone()), student)?)
        } else {
            gradient(input.clone(), teacher)?
        };
        let difference = (gradient(input.clone(), student)? - theirs).flatten::<2>(1, D - 1);
        let distance = row_norms(difference.clone());
        let direction = unit(difference, 1, EPSILON).reshape(input.dims());
        let lengths = lengths(&input).mul_scalar(self.settings.step);

        let mut slope = slope(&input, &direction, &lengths, student)?;
        if mirrored {
            slope = slope - self::slope(&flip(input), &flip(direction), &lengths, student)?;
        }
        // The value is the distance, the gradient the slope's.
        Ok((distance.autodiff() + slope.clone() - slope.detach()).mul_scalar(0.5))
    }

    /// The cross-entropy of every example, `[batch]`.
    fn losses(&self, taps: &Taps, target: &Value) -> Result<Tensor<1>, TermError> {
        let (output, axis) = (taps.value(OUTPUT)?, self.settings.class_axis);
        let rows = output.rows(axis)?;
        let losses = match target.kind() {
            Kind::Float => self.cross_entropy.per_example_soft(rows, target.rows(axis)?),
            Kind::Int => self.cross_entropy.per_example(rows, target.flat_int()?),
        };
        let ([rows], batch) = (losses.dims(), output.batch().max(1));
        Ok(losses.reshape([batch, rows / batch]).mean_dim(1).squeeze_dim::<1>(1))
    }
}

/// The gradient of the sum of `losses` at `x`; all off the autodiff device.
fn gradient<const D: usize>(
    x: Tensor<D>,
    losses: impl Fn(Tensor<D>) -> Result<Tensor<1>, TermError>,
) -> Result<Tensor<D>, TermError> {
    let leaf = x.autodiff().require_grad();
    let grads = losses(leaf.clone())?.sum().backward();
    let detached = || TermError::Other("the output does not depend on the input".to_owned());
    leaf.grad(&grads).ok_or_else(detached)
}

/// The change of every example's loss per unit of length along its `direction`, `[batch]`; tracked, as the losses are.
fn slope<const D: usize>(
    x: &Tensor<D>,
    direction: &Tensor<D>,
    lengths: &Tensor<1>,
    losses: impl Fn(Tensor<D>) -> Result<Tensor<1>, TermError>,
) -> Result<Tensor<1>, TermError> {
    let mut shape = [1; D];
    shape[..1].copy_from_slice(&lengths.dims());
    let offset = direction.clone() * lengths.clone().reshape(shape);
    let ahead = losses((x.clone() + offset.clone()).autodiff())?;
    let behind = losses((x.clone() - offset).autodiff())?;
    Ok((ahead - behind) / lengths.clone().mul_scalar(2.0).autodiff())
}

/// Euclidean length of every example, 1 for one that is all zero: `[batch]`.
fn lengths<const D: usize>(x: &Tensor<D>) -> Tensor<1> {
    let norms = row_norms(x.clone().flatten::<2>(1, D - 1));
    let zero = norms.clone().lower_equal_elem(0.0);
    norms.mask_fill(zero, 1.0)
}

fn flip_axis(axis: isize, rank: usize) -> Result<isize, TermError> {
    let resolved = if axis < 0 { axis + rank as isize } else { axis };
    if resolved > 0 && resolved < rank as isize {
        return Ok(resolved);
    }
    Err(TermError::Other(format!(
        "`flip-axis` is {axis}, but the input has axes 0 (the batch) to {}",
        rank - 1
    )))
}

impl Term for GradientAttention {
    fn wants(&self) -> Wants {
        Wants { needs_teacher: self.settings.compare == GradientComparison::Teacher, ..Wants::replay() }
    }

    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        if self.settings.compare == GradientComparison::Teacher {
            let (ours, theirs) = (probe.student_shape(OUTPUT)?, probe.teacher_shape(OUTPUT)?);
            let advice = "both must score the same classes, so that their losses on a label compare";
            TermError::same_shape("student and teacher logits", &ours, &theirs, advice)?;
        }
        self.cross_entropy.init(probe, params)
    }

    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
        let replay = step.replay.ok_or(TermError::NoReplay)?;
        let input = replay.input();
        match (input.kind(), input.rank()) {
            (Kind::Float, 2) => self.value::<2>(step, replay),
            (Kind::Float, 3) => self.value::<3>(step, replay),
            (Kind::Float, 4) => self.value::<4>(step, replay),
            (Kind::Float, 5) => self.value::<5>(step, replay),
            _ => Err(TermError::NoReplay),
        }
    }
}

#[cfg(test)]
mod tests;
