//! Normalisation forward, with what may follow it in the same pass.

use super::period::Period;
use super::statistics::rows;
use super::sums::{load, store};
use crate::error::{KernelError, length, setting};
use crate::parallel::{for_each_chunk, rows_per_task};
use crate::simd::{Kernel, Level, Simd, dispatch};
use crate::workspace::{Scratch, Workspace};

/// Batch normalisation of rows of channels (a channels-last map, flattened), one number per channel in each slice:
/// $$y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta$$
///
/// With the statistics of the batch ([`statistics`](super::statistics())) this is training, with running ones evaluation.
///
/// Ioffe and Szegedy, *Batch Normalization*, 2015, [arXiv:1502.03167](https://arxiv.org/abs/1502.03167).
///
/// ```
/// use kd_kernels::{Workspace, norm::BatchNorm};
///
/// let norm = BatchNorm { gamma: &[1.0], beta: &[0.5], mean: &[2.0], variance: &[4.0], epsilon: 0.0 };
/// let mut y = [0.0; 3];
/// norm.forward(&[0.0, 2.0, 4.0], None, true, &mut y, &Workspace::new())?;
/// assert_eq!(y, [0.0, 0.5, 1.5]); // -0.5 before the rectifier
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// Scale $\gamma$.
    pub gamma: &'a [f32],
    /// Offset $\beta$.
    pub beta: &'a [f32],
    /// Mean $\mu$.
    pub mean: &'a [f32],
    /// Biased variance $\sigma^2$.
    pub variance: &'a [f32],
    /// $\varepsilon$, at least 0; 1e-5 is usual.
    pub epsilon: f32,
}

impl BatchNorm<'_> {
    /// `y = norm(x) (+ residual)`, then, with `relu`, `max(y, 0)`. All of shape `[rows, channels]`.
    ///
    /// # Errors
    /// [`KernelError::Length`], [`KernelError::Geometry`] without channels, [`KernelError::Setting`] for a negative epsilon.
    pub fn forward(
        &self,
        x: &[f32],
        residual: Option<&[f32]>,
        relu: bool,
        y: &mut [f32],
        workspace: &Workspace,
    ) -> Result<(), KernelError> {
        let period = self.period(x.len())?;
        length("y", y.len(), x.len())?;
        if let Some(residual) = residual {
            length("residual", residual.len(), x.len())?;
        }
        let affine = Affine::new(self, period, workspace);
        match (residual, relu) {
            (None, false) => apply::<false, false>(x, x, &affine, period, y),
            (None, true) => apply::<false, true>(x, x, &affine, period, y),
            (Some(residual), false) => apply::<true, false>(x, residual, &affine, period, y),
            (Some(residual), true) => apply::<true, true>(x, residual, &affine, period, y),
        }
        Ok(())
    }

    /// Checks the parameters and that `len` elements are whole rows.
    pub(super) fn period(&self, len: usize) -> Result<Period, KernelError> {
        let channels = self.gamma.len();
        for (name, slice) in [("beta", self.beta), ("mean", self.mean), ("variance", self.variance)] {
            length(name, slice.len(), channels)?;
        }
        setting(self.epsilon >= 0.0, "epsilon", self.epsilon.into(), "at least 0")?;
        rows("x", len, channels)?;
        Ok(Period::new(channels))
    }

    /// $1/\sqrt{\sigma^2 + \varepsilon}$ of a channel; 0 for a channel that does not exist.
    pub(super) fn inverse_deviation(&self, channel: usize) -> f32 {
        self.variance.get(channel).map_or(0.0, |variance| (variance + self.epsilon).sqrt().recip())
    }
}

/// `(x - mean) * scale + beta`, over a super-row. Not `x * scale + offset`, which loses digits where the mean is far from 0.
pub(super) struct Affine<'a> {
    pub mean: Scratch<'a>,
    pub scale: Scratch<'a>,
    pub beta: Scratch<'a>,
}

impl<'a> Affine<'a> {
    pub fn new(norm: &BatchNorm<'_>, period: Period, workspace: &'a Workspace) -> Self {
        let at = |slice: &[f32], c| slice.get(c).copied().unwrap_or_default();
        Self {
            mean: period.expand(workspace, |c| at(norm.mean, c)),
            scale: period.expand(workspace, |c| at(norm.gamma, c) * norm.inverse_deviation(c)),
            beta: period.expand(workspace, |c| at(norm.beta, c)),
        }
    }
}

fn apply<const RESIDUAL: bool, const RELU: bool>(
    x: &[f32],
    residual: &[f32],
    affine: &Affine<'_>,
    period: Period,
    y: &mut [f32],
) {
    let step = rows_per_task(x.len().div_ceil(period.len), period.len) * period.len;
    let level = Level::current();
    for_each_chunk(y, step, |task, y| {
        let range = task * step..task * step + y.len();
        let (x, residual) = (&x[range.clone()], &residual[range]);
        dispatch(level, Apply::<RESIDUAL, RELU> { x, residual, affine, y, period: period.len });
    });
}

/// `x`, `residual` and `y` are of one length and start where a super-row does.
struct Apply<'a, const RESIDUAL: bool, const RELU: bool> {
    x: &'a [f32],
    residual: &'a [f32],
    affine: &'a Affine<'a>,
    y: &'a mut [f32],
    period: usize,
}

impl<const RESIDUAL: bool, const RELU: bool> Apply<'_, RESIDUAL, RELU> {
    /// # Safety
    /// `i + n` is at most the length of `x`, `p + n` at most a period.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&mut self, s: S, i: usize, p: usize, n: usize) {
        let Affine { mean, scale, beta } = self.affine;
        // SAFETY: the caller's.
        unsafe {
            let centred = s.sub(load(s, self.x, i, n), load(s, mean, p, n));
            let mut y = s.fma(centred, load(s, scale, p, n), load(s, beta, p, n));
            if RESIDUAL {
                y = s.add(y, load(s, self.residual, i, n));
            }
            if RELU {
                y = s.max(s.zero(), y);
            }
            store(s, self.y.as_mut_ptr().add(i), y, n);
        }
    }
}

impl<const RESIDUAL: bool, const RELU: bool> Kernel for Apply<'_, RESIDUAL, RELU> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let len = self.x.len();
        let mut row = 0;
        while row < len {
            let end = self.period.min(len - row);
            let whole = end - end % S::LANES;
            // SAFETY: `row + end <= len` and `end <= period`.
            unsafe {
                let mut p = 0;
                while p < whole {
                    self.vector(s, row + p, p, S::LANES);
                    p += S::LANES;
                }
                if whole < end {
                    self.vector(s, row + whole, whole, end - whole);
                }
            }
            row += self.period;
        }
    }
}
