//! APoT: sums of two powers of two.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::affine::column;
use crate::error::in_range;
use crate::ste::only_gradient;

/// The levels of plain powers of two, $\{0, 2^{-(2^b - 2)}, \ldots, \frac12, 1\}$, ascending.
///
/// # Errors
/// [`QuantError::Setting`] unless `bits` is from 1 to 5: below $2^{-30}$ no level tells.
pub fn power_levels(bits: u32) -> Result<Vec<f32>, QuantError> {
    in_range("bits", bits, (1..=5).contains(&bits), "from 1 to 5")?;
    let powers = (0..(1 << bits) - 1).rev().map(|k| 2.0_f32.powi(-k));
    Ok(std::iter::once(0.0).chain(powers).collect())
}

/// The levels of additive powers of two in $[0, 1]$, ascending, $2^b$ of them.
///
/// Every level is a sum of one term of each set, divided by the largest sum. A set holds two bits: zero and three powers; an odd bit has a set of zero
/// and one power. With four bits the sets are $\{0, 1, 2^{-2}, 2^{-4}\}$ and $\{0, 2^{-1}, 2^{-3}, 2^{-5}\}$.
///
/// # Errors
/// [`QuantError::Setting`] unless `bits` is from 2 to 8.
pub fn apot_levels(bits: u32) -> Result<Vec<f32>, QuantError> {
    in_range("bits", bits, (2..=8).contains(&bits), "from 2 to 8")?;
    let sets = sets(bits);
    let mut levels = vec![0.0_f64];
    for set in &sets {
        levels = levels.iter().flat_map(|level| set.iter().map(move |term| level + term)).collect();
    }
    levels.sort_by(f64::total_cmp);
    let max = levels.last().copied().unwrap_or(1.0);
    Ok(levels.into_iter().map(|level| (level / max) as f32).collect())
}

/// Term sets, each with its zero: the powers in turn to every set of four, the odd bit's set of two taking its one after the second round.
fn sets(bits: u32) -> Vec<Vec<f64>> {
    let power = |k: u32| 2.0_f64.powi(-(k as i32));
    let (pairs, odd) = (bits / 2, bits % 2);
    let four = |i| vec![0.0, power(i), power(pairs + i), power(2 * pairs + odd + i)];
    let two = (odd == 1).then(|| vec![0.0, power(2 * pairs)]);
    (0..pairs).map(four).chain(two).collect()
}

/// Projection to a set of levels times a learned clipping level $\alpha$.
///
/// $$ d = \mathrm{clamp}(x/\alpha, -1 \text{ or } 0, 1), \qquad y = \alpha\,\mathrm{sign}(d)\,\mathrm{nearest}(|d|) $$
///
/// A tie goes to the lower level. $\partial y/\partial x = 1$ inside; $\partial y/\partial\alpha$ is the nearest level minus $d$ inside, the sign beyond.
/// A layer normalises its weights to mean 0 and (unbiased) deviation 1 in front ([`normalise`](Self::normalise)). Weights of `b` bits take the levels of
/// `b - 1` and a sign.
///
/// Li et al., *Additive Powers-of-Two Quantization*, ICLR 2020.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apot {
    levels: Vec<f32>,
    signed: bool,
    gradient_scale: f32,
}

impl Apot {
    /// Weights of `bits` bits, sign included.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 3 to 8.
    pub fn weight(bits: u32) -> Result<Self, QuantError> {
        in_range("bits", bits, (3..=8).contains(&bits), "from 3 to 8")?;
        Ok(Self { levels: apot_levels(bits - 1)?, signed: true, gradient_scale: 1.0 })
    }

    /// Activations of `bits` bits, behind a rectifier.
    ///
    /// # Errors
    /// As [`apot_levels`].
    pub fn activation(bits: u32) -> Result<Self, QuantError> {
        Ok(Self { levels: apot_levels(bits)?, signed: false, gradient_scale: 1.0 })
    }

    /// With levels of one's own: from 0 to 1, ascending.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for levels that do not ascend from 0 to 1.
    pub fn with_levels(levels: Vec<f32>, signed: bool) -> Result<Self, QuantError> {
        let ascending = levels.windows(2).all(|pair| pair[0] < pair[1]);
        let ends = levels.first() == Some(&0.0) && levels.last() == Some(&1.0);
        in_range("levels", format!("{levels:?}"), ascending && ends, "ascending, from 0 to 1")?;
        Ok(Self { levels, signed, gradient_scale: 1.0 })
    }

    /// With a factor on the gradient of $\alpha$; default 1.
    pub fn with_gradient_scale(self, gradient_scale: f32) -> Self {
        Self { gradient_scale, ..self }
    }

    /// The levels, ascending from 0 to 1.
    pub fn levels(&self) -> &[f32] {
        &self.levels
    }

    /// $(w - \bar w)/\sigma_w$, the deviation unbiased. On the tape.
    pub fn normalise<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        let shape = w.dims();
        let elements: usize = shape.iter().product();
        let w: Tensor<1> = w.reshape([elements]);
        let centred = w.clone() - w.mean();
        let variance = centred.clone().square().sum() / (elements.max(2) - 1) as f32;
        (centred / variance.sqrt().clamp_min(f32::MIN_POSITIVE)).reshape(shape)
    }

    /// The nearest levels times `alpha`, `[1]` and positive.
    ///
    /// # Errors
    /// [`QuantError::Length`] unless `alpha` holds one value.
    pub fn quantize<const D: usize>(&self, x: Tensor<D>, alpha: Tensor<1>) -> Result<Tensor<D>, QuantError> {
        let shape = x.dims();
        let x = x.reshape([1, shape.iter().product::<usize>()]);
        let alpha = column("the clipping level", alpha, 1)?;
        let a = alpha.clone().detach();
        let low = if self.signed { -1.0 } else { 0.0 };
        let ratio = x.clone().detach() / a.clone();
        let d = ratio.clone().clamp(low, 1.0);
        let magnitude = d.clone().abs();
        let mut nearest = magnitude.zeros_like();
        for pair in self.levels.windows(2) {
            let above = magnitude.clone().greater_scalar((pair[0] + pair[1]) * 0.5);
            nearest = nearest.mask_fill(above, pair[1]);
        }
        let level = d.clone().sign() * nearest;
        let inside = ratio.clone().greater_equal_scalar(low).bool_and(ratio.lower_equal_scalar(1.0));
        let slope = d.clone().mask_where(inside.clone(), level.clone() - d);
        let y = level * a
            + only_gradient(x) * inside.float()
            + only_gradient(alpha) * (slope * self.gradient_scale);
        Ok(y.reshape(shape))
    }
}
