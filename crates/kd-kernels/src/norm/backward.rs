//! Gradients of batch normalisation, fused with the rectifier and the residual sum behind it.

use super::batch::{Affine, BatchNorm};
use super::period::Period;
use super::sums::{Sums, Terms, load, store};
use crate::error::{KernelError, length};
use crate::parallel::{Shared, for_each_chunk, rows_per_task};
use crate::simd::{Kernel, Level, Simd, dispatch};
use crate::workspace::Workspace;

/// Which gradients pass the rectifier that was fused into the forward pass.
#[derive(Clone, Copy, Debug)]
pub enum Gate<'a> {
    /// All: there was none.
    Open,
    /// Those of a positive output, which is computed again from `x`. Only where no residual was added.
    Recomputed,
    /// Those of a positive output, given here.
    Output(&'a [f32]),
}

/// Where the statistics came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// From this batch: gradients flow through them.
    Batch,
    /// From elsewhere (running ones): they are constants.
    Constant,
}

/// Where gradients go.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the input, `[rows, channels]`.
    pub x: &'a mut [f32],
    /// Of the residual, `[rows, channels]`: `dy` behind the gate. Without a gate it is `dy` itself and need not be asked for.
    pub residual: Option<&'a mut [f32]>,
    /// Of the scale, `[channels]`.
    pub gamma: &'a mut [f32],
    /// Of the offset, `[channels]`.
    pub beta: &'a mut [f32],
}

impl BatchNorm<'_> {
    /// Gradients, given `dy` with respect to the output of [`forward`](BatchNorm::forward); `self` and `x` as they were there. With $\hat x$ the
    /// normalised input, $g$ what of `dy` passes the gate, and means over rows:
    /// $$d\beta = \sum g, \quad d\gamma = \sum g \hat x, \quad dx = \frac{\gamma}{\sqrt{\sigma^2 + \varepsilon}}
    /// (g - \overline{g} - \hat x\, \overline{g \hat x})$$
    /// where the last two terms are there for [`Statistics::Batch`] only. Two passes over the rows.
    ///
    /// # Errors
    /// [`KernelError::Length`], [`KernelError::Geometry`] without channels, [`KernelError::Setting`] for a negative epsilon.
    pub fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        gate: Gate<'_>,
        statistics: Statistics,
        gradients: Gradients<'_>,
        workspace: &Workspace,
    ) -> Result<(), KernelError> {
        let period = self.period(x.len())?;
        let Gradients { x: dx, residual, gamma, beta } = gradients;
        length("dy", dy.len(), x.len())?;
        length("gradient of x", dx.len(), x.len())?;
        length("gradient of gamma", gamma.len(), period.channels)?;
        length("gradient of beta", beta.len(), period.channels)?;
        if let Some(residual) = &residual {
            length("gradient of the residual", residual.len(), x.len())?;
        }
        if let Gate::Output(y) = gate {
            length("y", y.len(), x.len())?;
        }
        let affine = Affine::new(self, period, workspace);
        let pass = Passes { norm: self, x, affine: &affine, period, statistics, workspace };
        match gate {
            Gate::Open => pass.run(Open, dy, dx, residual, gamma, beta),
            Gate::Recomputed => pass.run(Recomputed { affine: &affine }, dy, dx, residual, gamma, beta),
            Gate::Output(y) => pass.run(Output { y }, dy, dx, residual, gamma, beta),
        }
        Ok(())
    }
}

/// What both passes know; lengths have been checked.
struct Passes<'a> {
    norm: &'a BatchNorm<'a>,
    x: &'a [f32],
    affine: &'a Affine<'a>,
    period: Period,
    statistics: Statistics,
    workspace: &'a Workspace,
}

impl Passes<'_> {
    fn run(
        &self,
        gate: impl Rectifier,
        dy: &[f32],
        dx: &mut [f32],
        mut residual: Option<&mut [f32]>,
        gamma: &mut [f32],
        beta: &mut [f32],
    ) {
        let &Self { norm, x, affine, period, workspace, .. } = self;
        let keep = residual.as_deref_mut().map(Shared::new);
        let terms = Gated { x, dy, mean: &affine.mean, gate, keep };
        let sums = Sums::new(terms, x.len(), period, workspace);
        for (c, (gamma, beta)) in gamma.iter_mut().zip(beta.iter_mut()).enumerate() {
            let (gradient, with_distance) = sums.channel(c);
            *beta = gradient as f32;
            *gamma = (with_distance * f64::from(norm.inverse_deviation(c))) as f32;
        }
        drop(sums);
        match residual {
            // What passed the gate has just been written: it need not pass it again.
            Some(passed) => self.input_gradient(Open, passed, gamma, beta, dx),
            None => self.input_gradient(gate, dy, gamma, beta, dx),
        }
    }

    fn input_gradient(&self, gate: impl Rectifier, dy: &[f32], gamma: &[f32], beta: &[f32], dx: &mut [f32]) {
        let &Self { norm, x, affine, period, statistics, workspace } = self;
        let (channels, count) = (period.channels, (x.len() / period.channels).max(1) as f32);
        let mean = |slice: &[f32], c| match statistics {
            Statistics::Batch => slice.get(c).copied().unwrap_or_default() / count,
            Statistics::Constant => 0.0,
        };
        let scale = |c: usize| affine.scale.get(c % channels).copied().unwrap_or_default();
        let slope = period.expand(workspace, |c| -scale(c) * norm.inverse_deviation(c) * mean(gamma, c));
        let offset = period.expand(workspace, |c| -scale(c) * mean(beta, c));

        let step = rows_per_task(x.len().div_ceil(period.len), period.len) * period.len;
        let (level, end) = (Level::current(), x.len());
        for_each_chunk(dx, step, |task, dx| {
            let start = task * step;
            let terms = Gated { x, dy, mean: &affine.mean, gate, keep: None };
            let tables = [&*affine.scale, &*slope, &*offset];
            dispatch(level, InputGradient { terms, tables, start, end: end.min(start + step), dx, period });
        });
    }
}

/// A gate as code.
trait Rectifier: Copy + Send + Sync {
    /// What of `dy` passes.
    ///
    /// # Safety
    /// As [`Terms::terms`].
    unsafe fn pass<S: Simd>(self, s: S, at: [usize; 3], distance: S::V, dy: S::V) -> S::V;
}

#[derive(Clone, Copy)]
struct Open;

impl Rectifier for Open {
    #[inline(always)]
    unsafe fn pass<S: Simd>(self, _: S, _: [usize; 3], _: S::V, dy: S::V) -> S::V {
        dy
    }
}

#[derive(Clone, Copy)]
struct Recomputed<'a> {
    affine: &'a Affine<'a>,
}

impl Rectifier for Recomputed<'_> {
    #[inline(always)]
    unsafe fn pass<S: Simd>(self, s: S, [_, p, n]: [usize; 3], distance: S::V, dy: S::V) -> S::V {
        // SAFETY: the caller's. The same instructions as forward give the same sign.
        let y =
            unsafe { s.fma(distance, load(s, &self.affine.scale, p, n), load(s, &self.affine.beta, p, n)) };
        s.keep_if_greater(y, s.zero(), dy)
    }
}

#[derive(Clone, Copy)]
struct Output<'a> {
    y: &'a [f32],
}

impl Rectifier for Output<'_> {
    #[inline(always)]
    unsafe fn pass<S: Simd>(self, s: S, [i, _, n]: [usize; 3], _: S::V, dy: S::V) -> S::V {
        // SAFETY: the caller's: `y` has as many elements as `dy`.
        s.keep_if_greater(unsafe { load(s, self.y, i, n) }, s.zero(), dy)
    }
}

/// What passes the gate, and the distance of `x` from the mean; the former is also written to `keep`.
#[derive(Clone, Copy)]
struct Gated<'a, G> {
    x: &'a [f32],
    dy: &'a [f32],
    mean: &'a [f32],
    gate: G,
    keep: Option<Shared>,
}

impl<G: Rectifier> Terms for Gated<'_, G> {
    #[inline(always)]
    unsafe fn terms<S: Simd>(self, s: S, i: usize, p: usize, n: usize) -> (S::V, S::V) {
        // SAFETY: the caller's: all slices have all elements, `mean` is a super-row, and no other task touches element `i`.
        unsafe {
            let distance = s.sub(load(s, self.x, i, n), load(s, self.mean, p, n));
            let passed = self.gate.pass(s, [i, p, n], distance, load(s, self.dy, i, n));
            if let Some(keep) = self.keep {
                store(s, keep.at(i), passed, n);
            }
            (passed, distance)
        }
    }
}

/// `dx = scale * g + slope * distance + offset` for the elements from `start`, a multiple of the period, to `end`.
struct InputGradient<'a, G> {
    terms: Gated<'a, G>,
    tables: [&'a [f32]; 3],
    start: usize,
    end: usize,
    dx: &'a mut [f32],
    period: Period,
}

impl<G: Rectifier> InputGradient<'_, G> {
    /// # Safety
    /// `i + n` is at most `end`, `p + n` at most a period.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&mut self, s: S, i: usize, p: usize, n: usize) {
        // SAFETY: the caller's; `dx` begins with element `start`.
        unsafe {
            let (passed, distance) = self.terms.terms(s, i, p, n);
            let [scale, slope, offset] = self.tables.map(|table| load(s, table, p, n));
            let dx = s.fma(passed, scale, s.fma(distance, slope, offset));
            store(s, self.dx.as_mut_ptr().add(i - self.start), dx, n);
        }
    }
}

impl<G: Rectifier> Kernel for InputGradient<'_, G> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut row = self.start;
        while row < self.end {
            let len = self.period.len.min(self.end - row);
            let whole = len - len % S::LANES;
            // SAFETY: `row + len <= end` and `len <= period`.
            unsafe {
                let mut p = 0;
                while p < whole {
                    self.vector(s, row + p, p, S::LANES);
                    p += S::LANES;
                }
                if whole < len {
                    self.vector(s, row + whole, whole, len - whole);
                }
            }
            row += self.period.len;
        }
    }
}
