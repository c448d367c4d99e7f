//! AdaRound: whether each weight rounds down or up is learned.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use serde::{Deserialize, Serialize};

use crate::affine::column;
use crate::error::in_range;
use crate::{Granularity, Grid, QuantError};

/// How far the rectified sigmoid is stretched beyond 0 and 1.
const STRETCH: f64 = 0.1;

/// Adaptive rounding.
///
/// $$ \tilde w = s\,\Big(\mathrm{clamp}\big(\lfloor w/s \rfloor + h(V) + z, q_{\min}, q_{\max}\big) - z\Big), \qquad
///    h(V) = \mathrm{clamp}(1.2\,\sigma(V) - 0.1, 0, 1) $$
///
/// $V$ starts where $h$ is the fraction of $w/s$, that is with the weights as they are, and is learned to reproduce the layer's output while
/// [`Regulariser`] drives $h$ to 0 or 1. [`harden`](Self::harden) then takes $V \ge 0$ for up.
///
/// Nagel et al., *Up or Down? Adaptive Rounding for Post-Training Quantization*, ICML 2020.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaRound {
    /// The codes.
    pub grid: Grid,
    /// Which weights share a scale.
    #[serde(default)]
    pub granularity: Granularity,
}

impl AdaRound {
    /// $h(V)$, on the tape.
    pub fn rounding<const D: usize>(&self, v: Tensor<D>) -> Tensor<D> {
        (sigmoid(v) * (1.0 + 2.0 * STRETCH) - STRETCH).clamp(0.0, 1.0)
    }

    /// Where $V$ starts: $-\ln(1.2/(f + 0.1) - 1)$ with $f$ the fraction of $w/s$. `scale` is `[blocks]`.
    ///
    /// # Errors
    /// As [`Granularity::blocks`]; [`QuantError::Length`] for scales that are not one per block.
    pub fn initial<const D: usize>(&self, w: Tensor<D>, scale: Tensor<1>) -> Result<Tensor<D>, QuantError> {
        let shape = w.dims();
        let rows = self.granularity.split(w.detach())?;
        let [blocks, _] = rows.dims();
        let ratio = rows / column("the scale", scale, blocks)?;
        let fraction = ratio.clone() - ratio.floor();
        let odds = (fraction + STRETCH).recip() * (1.0 + 2.0 * STRETCH) - 1.0;
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
