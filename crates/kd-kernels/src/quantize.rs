//! Fake quantisation: numbers moved to the nearest point of a grid, and the gradients that training with few bits gives them.

use crate::elementwise::{Map, map};
use crate::error::{KernelError, length};
use crate::parallel::{for_each_pair, rows_per_task};
use crate::simd::{Kernel, Level, Simd, dispatch};

/// What has to lie within the grid for a gradient to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// The code that $x/s$ is rounded to.
    #[default]
    Code,
    /// $x/s$ itself.
    Quotient,
}

/// An even grid with straight-through gradients.
///
/// $$ v = x/s, \qquad q = \mathrm{clamp}(\mathrm{round}(v), q_{\min}, q_{\max}), \qquad y = q\,s $$
///
/// Codes are counted from the code of zero, so that a zero point $z$ has been subtracted from both bounds. Rounding is half to even; NaN stays NaN; a
/// result of zero is positive. With $g$ the gradient of $y$:
///
/// | Of | inside | outside |
/// |---|---|---|
/// | $x$ | $g$ | 0 |
/// | $s$ | $\sum g\,(q - v)$ | $\sum g\,q$ |
/// | $z$ | 0 | $-s\sum g$ |
///
/// ```
/// use kd_kernels::quantize::FakeQuantize;
///
/// let rule = FakeQuantize { scale: 0.5, least: -2.0, most: 1.0, ..FakeQuantize::default() };
/// let (x, mut y) = ([0.3, -0.75, 9.0], [0.0; 3]);
/// rule.forward(&x, &mut y)?;
/// assert_eq!(y, [0.5, -1.0, 0.5]);
/// let mut dx = [0.0; 3];
/// let [scale, zero_point] = rule.gradients(&x, &[1.0; 3], &mut dx)?;
/// assert_eq!((dx, zero_point), ([1.0, 1.0, 0.0], -0.5));
/// assert!((scale - (0.4 - 0.5 + 1.0)).abs() < 1e-6);
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
///
/// Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*, CVPR 2018; Esser et al., *Learned Step
/// Size Quantization*, ICLR 2020, for the gradient of the scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FakeQuantize {
    /// $s$; default 1.
    pub scale: f32,
    /// $q_{\min}$, whole; default -128.
    pub least: f32,
    /// $q_{\max}$, whole; default 127.
    pub most: f32,
    /// Whether $v$ is $x \cdot (1/s)$ and not $x/s$: the two differ by one unit in the last place; default no.
    pub by_inverse: bool,
    /// What has to lie within the bounds; default the code.
    pub gate: Gate,
    /// Whether the bounds themselves are inside; default yes.
    pub inclusive: bool,
}

impl Default for FakeQuantize {
    fn default() -> Self {
        Self { scale: 1.0, least: -128.0, most: 127.0, by_inverse: false, gate: Gate::Code, inclusive: true }
    }
}

impl FakeQuantize {
    /// `y`.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn forward(&self, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        length("x", x.len(), y.len())?;
        map(Forward(*self), x, [], y);
        Ok(())
    }

    /// Writes the gradient of `x` and gives those of scale and zero point. Sums are the same for the same number of threads.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn gradients(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<[f32; 2], KernelError> {
        length("x", x.len(), dx.len())?;
        length("dy", dy.len(), dx.len())?;
        let (level, step) = (Level::current(), rows_per_task(dx.len(), 1));
        let mut sums = vec![[0.0_f64; 2]; dx.len().div_ceil(step)];
        for_each_pair((dx, step), (&mut sums, 1), |task, dx, sums| {
            let range = task * step..task * step + dx.len();
            let blocks =
                x[range.clone()].chunks(BLOCK).zip(dy[range].chunks(BLOCK)).zip(dx.chunks_mut(BLOCK));
            for ((x, dy), dx) in blocks {
                let part = dispatch(level, Gradients { rule: *self, x, dy, dx });
                for sum in sums.iter_mut() {
                    *sum = [0, 1].map(|i| sum[i] + f64::from(part[i]));
                }
            }
        });
        let total = |i: usize| sums.iter().map(|sum| sum[i]).sum::<f64>();
        Ok([total(0) as f32, (-total(1) * f64::from(self.scale)) as f32])
    }

    /// $v$ and $q$.
    #[inline(always)]
    fn code<S: Simd>(&self, s: S, x: S::V) -> (S::V, S::V) {
        let v =
            if self.by_inverse { s.mul(x, s.splat(1.0 / self.scale)) } else { s.div(x, s.splat(self.scale)) };
        // In this order NaN passes.
        let q = s.max(s.splat(self.least), s.min(s.splat(self.most), s.round(v)));
        (v, q)
    }
}

/// Numbers whose products are summed in single precision.
const BLOCK: usize = 4096;

#[derive(Clone, Copy)]
struct Forward(FakeQuantize);

impl Map<0> for Forward {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, []: [S::V; 0]) -> S::V {
        let (_, q) = self.0.code(s, x);
        // The sum makes a negative zero positive.
        s.add(s.mul(q, s.splat(self.0.scale)), s.zero())
    }
}

/// Of one block: `dx`, $\sum g\,\partial y/\partial s$ and the sum of what did not pass.
struct Gradients<'a> {
    rule: FakeQuantize,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Gradients<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; 2] {
        let Self { rule, x, dy, dx } = self;
        let (mut least, mut most) = (rule.least, rule.most);
        if rule.inclusive {
            (least, most) = (least.next_down(), most.next_up());
        }
        let (least, most) = (s.splat(least), s.splat(most));
        let (mut scale, mut lost) = (s.zero(), s.zero());
        let len = dx.len().min(x.len()).min(dy.len());
        for i in (0..len).step_by(S::LANES) {
            let n = S::LANES.min(len - i);
            // SAFETY: `n` numbers from `i` on lie within all three slices.
            let (x, dy) =
                unsafe { (s.load_partial(x.as_ptr().add(i), n), s.load_partial(dy.as_ptr().add(i), n)) };
            let (v, q) = rule.code(s, x);
            let gate = if rule.gate == Gate::Code { s.round(v) } else { v };
            let inside = |value: S::V| s.keep_if_greater(gate, least, s.keep_if_greater(most, gate, value));
            let passed = inside(dy);
            scale = s.fma(dy, s.sub(q, inside(v)), scale);
            lost = s.add(lost, s.sub(dy, passed));
            // SAFETY: as above.
            unsafe { s.store_partial(dx.as_mut_ptr().add(i), passed, n) };
        }
        [s.reduce_sum(scale), s.reduce_sum(lost)]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_close, at_every_level, cases, numbers};

    /// The definition, one number at a time: `y`, whether it is inside, and the slope of the scale.
    fn definition(rule: &FakeQuantize, x: f32) -> (f32, bool, f32) {
        let v = if rule.by_inverse { x * (1.0 / rule.scale) } else { x / rule.scale };
        let q = v.round_ties_even().clamp(rule.least, rule.most);
        let gate = if rule.gate == Gate::Code { v.round_ties_even() } else { v };
        let inside = if rule.inclusive {
            (rule.least..=rule.most).contains(&gate)
        } else {
            gate > rule.least && gate < rule.most
        };
        (q * rule.scale, inside, if inside { q - v } else { q })
    }

    proptest! {
        #![proptest_config(cases(64))]

        #[test]
        fn values_and_gradients_are_those_of_the_definition(
            len in 0usize..200, large: bool, seed: u32, by_inverse: bool, quotient: bool, inclusive: bool, steps in 1u32..20,
        ) {
            let len = if large && !cfg!(miri) { len + (1 << 16) } else { len };
            let gate = if quotient { Gate::Quotient } else { Gate::Code };
            // A power of two among the scales, so that quotients meet ties and bounds.
            let scale = steps as f32 / 32.0;
            let rule = FakeQuantize { scale, least: -4.0, most: 3.0, by_inverse, gate, inclusive };
            // Slices that start one element late are not aligned to vectors.
            let all = [0, 1].map(|i| numbers(seed.wrapping_add(i), len + 1));
            let dy = &all[1][1..];
            let x: Vec<f32> = all[0].iter().map(|x| (x * 256.0).round() / 64.0).collect();
            let x = &x[1..];
            let each: Vec<_> = x.iter().map(|&x| definition(&rule, x)).collect();
            at_every_level(|| {
                let mut memory = vec![f32::NAN; len + 1];
                let out = &mut memory[1..];
                rule.forward(x, out).unwrap();
                assert_eq!(out, each.iter().map(|(y, ..)| *y).collect::<Vec<_>>());
                assert!(out.iter().all(|y| *y != 0.0 || y.is_sign_positive()));

                let [scale_gradient, zero_gradient] = rule.gradients(x, dy, out).unwrap();
                let passed = each.iter().zip(dy).map(|((_, inside, _), &dy)| if *inside { dy } else { 0.0 });
                assert_eq!(out, passed.collect::<Vec<_>>());
                let sum = |of: &dyn Fn(&(f32, bool, f32)) -> f32| {
                    each.iter().zip(dy).map(|(each, &dy)| f64::from(of(each)) * f64::from(dy)).sum::<f64>()
                };
                let wanted = [sum(&|each| each.2), sum(&|each| if each.1 { 0.0 } else { -scale })];
                // Relative to the magnitude of what is summed.
                let got = [scale_gradient, zero_gradient].map(|sum| sum / (len.max(1) as f32).sqrt());
                assert_close("sums", &got, &wanted.map(|sum| sum / (len.max(1) as f64).sqrt()), 1e-4);
            });
        }
    }

    #[test]
    fn nan_is_not_hidden() {
        let rule = FakeQuantize::default();
        at_every_level(|| {
            let mut y = [0.0; 17];
            rule.forward(&[f32::NAN; 17], &mut y).unwrap();
            assert!(y.iter().all(|y| y.is_nan()));
            rule.forward(&[f32::INFINITY; 17], &mut y).unwrap();
            assert_eq!(y, [127.0; 17]);
        });
    }

    #[test]
    fn slices_of_different_lengths_are_refused() {
        let rule = FakeQuantize::default();
        let error = rule.forward(&[0.0; 3], &mut [0.0; 4]).unwrap_err();
        assert_eq!(error, KernelError::Length { name: "x", got: 3, wanted: 4 });
        assert!(rule.gradients(&[0.0; 3], &[0.0; 2], &mut [0.0; 3]).is_err());
    }
}
