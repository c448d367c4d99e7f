//! Divergence from a teacher's softened distribution.

use super::row::{Normaliser, Vectors, first};
use crate::error::{KernelError, length, setting};
use crate::parallel::{for_each_pair, rows_per_task};
use crate::simd::{Kernel, Level, Simd, dispatch};

/// Kullback-Leibler divergence of the student's softened distribution from the teacher's. With $p$ and $q$ the softmax of the student's and the
/// teacher's logits over $T$:
/// $$\ell = \sum_k q_k (\log q_k - \log p_k), \quad \frac{\partial \ell}{\partial z} = \frac{p - q}{T}$$
///
/// Hinton et al., *Distilling the Knowledge in a Neural Network*, 2015, [arXiv:1503.02531](https://arxiv.org/abs/1503.02531), multiply by $T^2$:
/// here that is part of the factor.
///
/// ```
/// use kd_kernels::loss::SoftTargets;
///
/// let (mut losses, mut gradient) = ([1.0], [1.0; 2]);
/// let loss = SoftTargets { classes: 2, temperature: 4.0 };
/// loss.forward_backward(&[1.0, 3.0], &[2.0, 4.0], 16.0, &mut losses, &mut gradient)?;
/// assert!(losses[0].abs() < 1e-5 && gradient[0].abs() < 1e-5); // logits may differ by a constant
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftTargets {
    /// Logits per row.
    pub classes: usize,
    /// $T$, above 0.
    pub temperature: f32,
}

impl SoftTargets {
    /// Loss of every row of `student` `[rows, classes]` against the same row of `teacher` into `losses` `[rows]`, and its gradient with respect to the
    /// student's logits into `gradient`, both times `factor`.
    ///
    /// # Errors
    /// [`KernelError::Length`], [`KernelError::Geometry`] without classes, [`KernelError::Setting`].
    pub fn forward_backward(
        &self,
        student: &[f32],
        teacher: &[f32],
        factor: f32,
        losses: &mut [f32],
        gradient: &mut [f32],
    ) -> Result<(), KernelError> {
        let &Self { classes, temperature } = self;
        super::check(classes, student.len(), losses.len(), gradient.len())?;
        length("teacher", teacher.len(), student.len())?;
        setting(temperature > 0.0, "temperature", temperature.into(), "above 0")?;
        let (rows, level) = (rows_per_task(losses.len(), classes), Level::current());
        for_each_pair((losses, rows), (gradient, rows * classes), |task, losses, gradient| {
            let start = task * rows * classes;
            let range = start..start + gradient.len();
            let (student, teacher) = (&student[range.clone()], &teacher[range]);
            dispatch(level, Rows { classes, temperature, factor, student, teacher, losses, gradient });
        });
        Ok(())
    }
}

struct Rows<'a> {
    classes: usize,
    temperature: f32,
    factor: f32,
    student: &'a [f32],
    teacher: &'a [f32],
    losses: &'a mut [f32],
    gradient: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { classes, temperature, factor, student, teacher, losses, gradient } = self;
        let inverse = temperature.recip();
        let rows = student.chunks_exact(classes).zip(teacher.chunks_exact(classes));
        for ((student, teacher), (gradient, loss)) in rows.zip(gradient.chunks_exact_mut(classes).zip(losses))
        {
            let (p, q) = (Normaliser::new(s, student, inverse), Normaliser::new(s, teacher, inverse));
            // log q - log p is the difference of the distances from the largest, plus this.
            let shift = s.splat(p.sum.ln() - q.sum.ln());
            let mut sum = s.zero();
            for (i, n) in Vectors::of(s, student) {
                // SAFETY: vectors stay within the row.
                unsafe {
                    let student = p.distance(s, s.load_partial(student.as_ptr().add(i), n), inverse);
                    let teacher = q.distance(s, s.load_partial(teacher.as_ptr().add(i), n), inverse);
                    let p_k = s.mul(s.exp(student), s.splat(p.sum.recip()));
                    let q_k = s.mul(s.exp(teacher), s.splat(q.sum.recip()));
                    let logarithm = s.add(s.sub(teacher, student), shift);
                    sum = s.add(sum, first(s, s.mul(q_k, logarithm), n));
                    let d = s.mul(s.sub(p_k, q_k), s.splat(factor * inverse));
                    s.store_partial(gradient.as_mut_ptr().add(i), d, n);
                }
            }
            *loss = factor * s.reduce_sum(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{assert_close, at_every_level, cases, numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(64))]

        #[test]
        fn loss_and_gradient_are_the_formulas(rows in 0usize..40, classes in 1usize..130, seed: u32, temperature in 0.5f32..20.0) {
            let logits = |seed| numbers(seed, rows * classes + 1).iter().map(|x| x * 8.0 + 3.0).collect::<Vec<_>>();
            let (student, teacher) = (logits(seed), logits(seed ^ 1));
            let (student, teacher) = (&student[1..], &teacher[1..]);
            let t = f64::from(temperature);
            let factor = temperature * temperature;
            let softmax = |row: &[f32]| {
                let sum: f64 = row.iter().map(|&x| (f64::from(x) / t).exp()).sum();
                row.iter().map(|&x| (f64::from(x) / t).exp() / sum).collect::<Vec<f64>>()
            };
            let (mut wanted, mut wanted_gradient) = (Vec::new(), Vec::new());
            for (student, teacher) in student.chunks(classes).zip(teacher.chunks(classes)) {
                let (p, q) = (softmax(student), softmax(teacher));
                wanted.push(t * t * p.iter().zip(&q).map(|(p, q)| q * (q / p).ln()).sum::<f64>());
                wanted_gradient.extend(p.iter().zip(&q).map(|(p, q)| t * (p - q)));
            }
            at_every_level(|| {
                let (mut losses, mut gradient) = (vec![f32::NAN; rows], vec![f32::NAN; rows * classes + 1]);
                let loss = SoftTargets { classes, temperature };
                loss.forward_backward(student, teacher, factor, &mut losses, &mut gradient[1..]).unwrap();
                // A divergence is a small difference of logarithms: at high temperature each of them is 100 times larger.
                assert_close("loss", &losses, &wanted, 1e-4);
                assert_close("gradient", &gradient[1..], &wanted_gradient, 1e-5);
            });
        }
    }

    #[test]
    fn a_temperature_of_zero_is_refused() {
        let loss = SoftTargets { classes: 1, temperature: 0.0 };
        let error = loss.forward_backward(&[0.0], &[0.0], 1.0, &mut [0.0], &mut [0.0]).unwrap_err();
        assert_eq!(error.to_string(), "temperature is 0, but it must be above 0");
    }
}
