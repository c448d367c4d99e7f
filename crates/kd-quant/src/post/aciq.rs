//! ACIQ: the clipping range that a distribution of known form asks for.

use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::data::check_finite;
use crate::error::in_range;
use crate::observer::Ranges;

/// What values are taken to be distributed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Laplace, of scale $\mathrm{mean}|x - \bar x|$.
    #[default]
    Laplace,
    /// Normal, of the unbiased standard deviation.
    Gauss,
}

impl Distribution {
    /// The best clipping level for 2 to 8 bits, in units of the distribution's scale.
    ///
    /// Laplace: the $a$ with $a e^a = 3 \cdot 4^b$, where clipping and rounding cost the same at the margin; published with two decimals.
    fn level(self, bits: u32) -> Option<f64> {
        let levels = match self {
            Distribution::Laplace => [2.83, 3.89, 5.03, 6.20, 7.41, 8.64, 9.89],
            Distribution::Gauss => [1.71, 2.15, 2.55, 2.93, 3.28, 3.61, 3.92],
        };
        levels.get(usize::try_from(bits).ok()?.checked_sub(2)?).copied()
    }
}

/// Analytical clipping: $\alpha$ is a fixed multiple of the distribution's scale.
///
/// Banner et al., *Post Training 4-bit Quantization of Convolutional Networks for Rapid-Deployment*, NeurIPS 2019.
///
/// ```
/// use kd_quant::post::{Aciq, Distribution};
///
/// // Ten values around zero and one far from all others, which four bits are better without.
/// let values = [-1.0, 1.0, -2.0, 2.0, -1.0, 1.0, -2.0, 2.0, -1.0, 1.0, 60.0];
/// let ranges = Aciq { bits: 4, distribution: Distribution::Laplace }.symmetric(&values)?;
/// assert!(ranges.max[0] < 60.0 && ranges.min[0] == -ranges.max[0]);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aciq {
    /// From 2 to 8.
    pub bits: u32,
    /// What the values are distributed by; default Laplace.
    #[serde(default)]
    pub distribution: Distribution,
}

impl Aciq {
    /// Mean and clipping level of some values.
    fn mean_and_level(&self, values: &[f32]) -> Result<(f64, f64), QuantError> {
        check_finite("the values to clip", values)?;
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let scale = match self.distribution {
            Distribution::Laplace => values.iter().map(|&x| (f64::from(x) - mean).abs()).sum::<f64>() / n,
            Distribution::Gauss => {
                let squares: f64 = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
                (squares / (n - 1.0).max(1.0)).sqrt()
            }
        };
        let level = self.distribution.level(self.bits);
        in_range("bits", self.bits, level.is_some(), "from 2 to 8")?;
        Ok((mean, level.unwrap_or_default() * scale))
    }

    /// The range $\pm(|\bar x| + \alpha)$.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8; [`QuantError::Empty`] and [`QuantError::NonFinite`] for values that can't be used.
    pub fn symmetric(&self, values: &[f32]) -> Result<Ranges, QuantError> {
        let (mean, level) = self.mean_and_level(values)?;
        let end = (mean.abs() + level) as f32;
        Ok(Ranges::single(-end, end))
    }

    /// The range of width $2\alpha$ from $\max(\min x, \bar x - \alpha)$ on.
    ///
    /// # Errors
    /// As [`symmetric`](Self::symmetric).
    pub fn asymmetric(&self, values: &[f32]) -> Result<Ranges, QuantError> {
        let (mean, level) = self.mean_and_level(values)?;
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let low = f64::from(least).max(mean - level);
        Ok(Ranges::single(low as f32, (low + 2.0 * level) as f32))
    }
}
