//! AdaRound: whether each weight rounds down or up is learned.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use serde::{Deserialize, Serialize};

use crate::affine::column;
use crate::error::in_range;
use crate::{Granularity, Grid, QuantError};

/// Adaptive rounding.
///
/// $$ \tilde w = s\,\Big(\mathrm{clamp}\big(\lfloor w/s \rfloor + h(V) + z, q_{\min}, q_{\max}\big) - z\Big), \qquad
///    h(V) = \mathrm{clamp}((\zeta - \gamma)\,\sigma(V) + \gamma, 0, 1) $$
///
/// $V$ starts where $h$ is the fraction of $w/s$, that is with the weights as they are, and is learned to reproduce the layer's output while
/// [`Regulariser`] drives $h$ to 0 or 1. [`harden`](Self::harden) then takes $V \ge 0$ for up.
///
/// | Setting | Default | Range | Purpose |
/// |---|---|---|---|
/// | `grid` | | | the codes |
/// | `granularity` | tensor | | which weights share a scale |
/// | `gamma` | -0.1 | below 0 | where the stretched sigmoid begins |
/// | `zeta` | 1.1 | above 1 | where it ends: beyond 0 and 1, so that $h$ reaches both |
///
/// Nagel et al., *Up or Down? Adaptive Rounding for Post-Training Quantization*, ICML 2020.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::{Grid, post::AdaRound};
///
/// let device = Device::flex();
/// let rule = AdaRound::new(Grid::signed(4)?);
/// let (w, scale) = (Tensor::<1>::from_floats([0.3, -0.9], &device), Tensor::<1>::from_floats([0.5], &device));
/// // Down to code 0, up to code -1: not the nearest, but what a layer's output may ask for.
/// let v = Tensor::from_floats([-2.0, 2.0], &device);
/// let y = rule.harden(w, v, scale, Tensor::zeros([1], &device))?;
/// assert_eq!(y.into_data().try_to_vec::<f32>(), Ok(vec![0.0, -0.5]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaRound {
    /// The codes.
    pub grid: Grid,
    /// Which weights share a scale.
    #[serde(default)]
    pub granularity: Granularity,
    /// $\gamma$, where the stretched sigmoid begins.
    #[serde(default = "gamma")]
    pub gamma: f64,
    /// $\zeta$, where it ends.
    #[serde(default = "zeta")]
    pub zeta: f64,
}

fn gamma() -> f64 {
    -0.1
}

fn zeta() -> f64 {
    1.1
}

impl AdaRound {
    /// One scale, and the paper's stretch.
    pub fn new(grid: Grid) -> Self {
        Self { grid, granularity: Granularity::Tensor, gamma: gamma(), zeta: zeta() }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`QuantError::Setting`].
    pub fn validate(&self) -> Result<(), QuantError> {
        in_range("gamma", self.gamma, self.gamma < 0.0 && self.gamma.is_finite(), "below 0")?;
        in_range("zeta", self.zeta, self.zeta > 1.0 && self.zeta.is_finite(), "above 1")
    }

    /// $h(V)$, on the tape.
    pub fn rounding<const D: usize>(&self, v: Tensor<D>) -> Tensor<D> {
        (sigmoid(v) * (self.zeta - self.gamma) + self.gamma).clamp(0.0, 1.0)
    }

    /// Where $V$ starts: $-\ln((\zeta - \gamma)/(f - \gamma) - 1)$ with $f$ the fraction of $w/s$. `scale` is `[blocks]`.
    ///
    /// # Errors
    /// As [`Granularity::blocks`] and [`validate`](Self::validate); [`QuantError::Length`] for scales that are not one per block.
    pub fn initial<const D: usize>(&self, w: Tensor<D>, scale: Tensor<1>) -> Result<Tensor<D>, QuantError> {
        self.validate()?;
        let shape = w.dims();
        let rows = self.granularity.split(w.detach())?;
        let [blocks, _] = rows.dims();
        let ratio = rows / column("the scale", scale, blocks)?;
        let fraction = ratio.clone() - ratio.floor();
        let odds = (fraction - self.gamma).recip() * (self.zeta - self.gamma) - 1.0;
        Ok(self.granularity.join(odds.log().neg(), shape))
    }

    /// The weights with the rounding $h$ added to the codes below; `h` of the weights' shape, on the tape.
    fn with<const D: usize>(
        &self,
        w: Tensor<D>,
        h: Tensor<D>,
        scale: Tensor<1>,
        zero_point: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        self.validate()?;
        let shape = w.dims();
        if h.dims() != shape {
            let (got, wanted) = (h.dims().to_vec(), format!("the weight's, {shape:?},"));
            return Err(QuantError::Shape { what: "the rounding", got, wanted });
        }
        let rows = self.granularity.split(w.detach())?;
        let [blocks, _] = rows.dims();
        let scale = column("the scale", scale, blocks)?.detach();
        let zero = column("the zero point", zero_point, blocks)?.detach();
        let (low, high) = self.grid.bounds();
        let below = (rows / scale.clone()).floor() + zero.clone();
        let code = (below + self.granularity.split(h)?).clamp(low, high);
        Ok(self.granularity.join((code - zero) * scale, shape))
    }

    /// The soft weights of `v`; the gradient goes to `v` alone. `scale` and `zero_point` are `[blocks]`.
    ///
    /// # Errors
    /// As [`initial`](Self::initial); [`QuantError::Shape`] for a `v` of another shape than the weight's.
    pub fn soften<const D: usize>(
        &self,
        w: Tensor<D>,
        v: Tensor<D>,
        scale: Tensor<1>,
        zero_point: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        let h = self.rounding(v);
        self.with(w, h, scale, zero_point)
    }

    /// The final weights: up where `v` is not negative.
    ///
    /// # Errors
    /// As [`soften`](Self::soften).
    pub fn harden<const D: usize>(
        &self,
        w: Tensor<D>,
        v: Tensor<D>,
        scale: Tensor<1>,
        zero_point: Tensor<1>,
    ) -> Result<Tensor<D>, QuantError> {
        self.with(w, v.detach().greater_equal_scalar(0.0).float(), scale, zero_point)
    }
}

/// $\lambda \sum 1 - |2h(V) - 1|^{\beta}$, nothing during the warm-up; $\beta$ falls linearly from `from` to `to` after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Regulariser {
    /// $\lambda$; default 0.01.
    pub weight: f64,
    /// All steps; default 20000.
    pub steps: usize,
    /// The part of the steps without; default 0.2.
    pub warm_up: f64,
    /// $\beta$ at the end of the warm-up; default 20.
    pub from: f64,
    /// $\beta$ at the end; default 2.
    pub to: f64,
}

impl Default for Regulariser {
    fn default() -> Self {
        Self { weight: 0.01, steps: 20_000, warm_up: 0.2, from: 20.0, to: 2.0 }
    }
}

impl Regulariser {
    fn start(&self) -> f64 {
        self.warm_up * self.steps as f64
    }

    /// $\beta$ in a step.
    pub fn beta(&self, step: usize) -> f64 {
        let passed = (step as f64 - self.start()) / (self.steps as f64 - self.start()).max(1.0);
        self.to + (self.from - self.to) * (1.0 - passed.clamp(0.0, 1.0))
    }

    /// The loss in a step, `[1]`, or `None` during the warm-up.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `warm_up` is from 0 to 1.
    pub fn loss<const D: usize>(
        &self,
        rule: &AdaRound,
        v: Tensor<D>,
        step: usize,
    ) -> Result<Option<Tensor<1>>, QuantError> {
        in_range("warm_up", self.warm_up, (0.0..=1.0).contains(&self.warm_up), "from 0 to 1")?;
        if (step as f64) < self.start() {
            return Ok(None);
        }
        let distance = (rule.rounding(v) * 2.0 - 1.0).abs().powf_scalar(self.beta(step));
        Ok(Some((distance.neg() + 1.0).sum() * self.weight))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn directions_start_with_the_weights_as_they_are_whatever_the_stretch() {
        let device = Device::flex();
        let w = Tensor::<1>::from_floats([-0.8, 0.0, 0.13, 0.49, 0.5], &device);
        let (scale, zero) = (Tensor::<1>::from_floats([0.25], &device), Tensor::<1>::zeros([1], &device));
        for (gamma, zeta) in [(-0.1, 1.1), (-0.5, 1.01), (-0.01, 2.0)] {
            let rule = AdaRound { gamma, zeta, ..AdaRound::new(Grid::signed(8).unwrap()) };
            let v = rule.initial(w.clone(), scale.clone()).unwrap();
            let soft = rule.soften(w.clone(), v, scale.clone(), zero.clone()).unwrap();
            let off = (soft - w.clone()).abs().max().into_scalar::<f32>();
            assert!(off < 1e-6, "{gamma} {zeta}: {off}");
        }
    }

    #[test]
    fn a_stretch_that_does_not_reach_zero_and_one_is_refused() {
        let grid = Grid::signed(4).unwrap();
        let (w, scale) = (Tensor::<1>::zeros([2], &Device::flex()), Tensor::<1>::ones([1], &Device::flex()));
        for (rule, key) in [
            (AdaRound { gamma: 0.0, ..AdaRound::new(grid) }, "`gamma` is 0"),
            (AdaRound { zeta: 1.0, ..AdaRound::new(grid) }, "`zeta` is 1"),
            (AdaRound { zeta: f64::NAN, ..AdaRound::new(grid) }, "`zeta` is NaN"),
        ] {
            let error = rule.initial(w.clone(), scale.clone()).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        let text = r#"{"grid": {"min": -8, "max": 7}}"#;
        assert_eq!(serde_json::from_str::<AdaRound>(text).unwrap(), AdaRound::new(grid));
    }
}
