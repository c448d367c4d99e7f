//! Cross-entropy with labels.

use super::row::{Normaliser, Vectors};
use crate::error::{KernelError, length, setting};
use crate::parallel::{for_each_pair, rows_per_task};
use crate::simd::{Kernel, Level, Simd, dispatch};

/// Softmax cross-entropy with one label per row. With $p$ the softmax of a row's logits $z$ and $t$ one for the label, smoothed by $\varepsilon$
/// (Szegedy et al., 2016, [arXiv:1512.00567](https://arxiv.org/abs/1512.00567)), over $K$ classes:
/// $$\ell = -\sum_k t_k \log p_k, \quad \frac{\partial \ell}{\partial z} = p - t,
/// \quad t = (1 - \varepsilon)\,\text{onehot} + \varepsilon / K$$
///
/// ```
/// use kd_kernels::loss::CrossEntropy;
///
/// let (mut losses, mut gradient) = ([0.0], [0.0; 2]);
/// let loss = CrossEntropy { classes: 2, smoothing: 0.0 };
/// loss.forward_backward(&[1.0, 1.0], &[0], 1.0, &mut losses, &mut gradient)?;
/// assert!((losses[0] - 2f32.ln()).abs() < 1e-6);
/// assert_eq!(gradient, [-0.5, 0.5]);
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// Logits per row.
    pub classes: usize,
    /// $\varepsilon$, from 0 to 1.
    pub smoothing: f32,
}

impl CrossEntropy {
    /// Loss of every row of `logits` `[rows, classes]` into `losses` `[rows]` and its gradient into `gradient`, both times `factor`.
    ///
    /// # Errors
    /// [`KernelError::Length`], [`KernelError::Geometry`] without classes, [`KernelError::Label`], [`KernelError::Setting`].
    pub fn forward_backward(
        &self,
        logits: &[f32],
        labels: &[i64],
        factor: f32,
        losses: &mut [f32],
        gradient: &mut [f32],
    ) -> Result<(), KernelError> {
        let &Self { classes, smoothing } = self;
        super::check(classes, logits.len(), losses.len(), gradient.len())?;
        length("labels", labels.len(), losses.len())?;
        setting((0.0..=1.0).contains(&smoothing), "smoothing", smoothing.into(), "from 0 to 1")?;
        let wrong = |&label: &i64| usize::try_from(label).map_or(true, |label| label >= classes);
        if let Some(row) = labels.iter().position(wrong) {
            let label = labels.get(row).copied().unwrap_or_default();
            return Err(KernelError::Label { row, label, classes });
        }
        let (rows, level) = (rows_per_task(labels.len(), classes), Level::current());
        for_each_pair((losses, rows), (gradient, rows * classes), |task, losses, gradient| {
            let first = task * rows;
            let labels = &labels[first..first + losses.len()];
            let logits = &logits[first * classes..][..gradient.len()];
            dispatch(level, Rows { classes, smoothing, factor, logits, labels, losses, gradient });
        });
        Ok(())
    }
}

struct Rows<'a> {
    classes: usize,
    smoothing: f32,
    factor: f32,
    logits: &'a [f32],
    labels: &'a [i64],
    losses: &'a mut [f32],
    gradient: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { classes, smoothing, factor, logits, labels, losses, gradient } = self;
        let rows = logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes));
        for ((logits, gradient), (&label, loss)) in rows.zip(labels.iter().zip(losses)) {
            let label = label as usize; // checked to be a class
            let normaliser = Normaliser::new(s, logits, 1.0);
            let (share, floor) = (factor / normaliser.sum, factor * smoothing / classes as f32);
            let mut sum = s.zero();
            for (i, n) in Vectors::of(s, logits) {
                // SAFETY: vectors stay within the row.
                unsafe {
                    let x = s.load_partial(logits.as_ptr().add(i), n);
                    sum = s.add(sum, x);
                    let e = s.exp(normaliser.distance(s, x, 1.0));
                    let d = s.fma(e, s.splat(share), s.splat(-floor));
                    s.store_partial(gradient.as_mut_ptr().add(i), d, n);
                }
            }
            gradient[label] -= factor * (1.0 - smoothing);
            let log_sum = normaliser.log_sum_exp(1.0);
            let smooth = if smoothing > 0.0 { log_sum - s.reduce_sum(sum) / classes as f32 } else { 0.0 };
            *loss = factor * ((1.0 - smoothing) * (log_sum - logits[label]) + smoothing * smooth);
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
        fn loss_and_gradient_are_the_formulas(rows in 0usize..40, classes in 1usize..130, seed: u32, smooth: bool, scale in 0.1f32..30.0) {
            let logits: Vec<f32> = numbers(seed, rows * classes + 1).iter().map(|x| x * scale - 5.0).collect();
            let logits = &logits[1..];
            let labels: Vec<i64> = (0..rows).map(|r| ((r * 7 + seed as usize) % classes) as i64).collect();
            let (smoothing, factor) = (if smooth { 0.1 } else { 0.0 }, 0.25);
            let (mut wanted, mut wanted_gradient) = (Vec::new(), Vec::new());
            for (row, &label) in logits.chunks(classes).zip(&labels) {
                let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                let target = |k: usize| f64::from(smoothing) / classes as f64 + if k as i64 == label { 1.0 - f64::from(smoothing) } else { 0.0 };
                let p = |k: usize| f64::from(row[k]).exp() / sum;
                wanted.push(-0.25 * (0..classes).map(|k| target(k) * p(k).ln()).sum::<f64>());
                wanted_gradient.extend((0..classes).map(|k| 0.25 * (p(k) - target(k))));
            }
            at_every_level(|| {
                let (mut losses, mut gradient) = (vec![f32::NAN; rows], vec![f32::NAN; rows * classes + 1]);
                let loss = CrossEntropy { classes, smoothing };
                loss.forward_backward(logits, &labels, factor, &mut losses, &mut gradient[1..]).unwrap();
                assert_close("loss", &losses, &wanted, 1e-5);
                assert_close("gradient", &gradient[1..], &wanted_gradient, 1e-5);
            });
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        at_every_level(|| {
            let (mut losses, mut gradient) = ([0.0], [0.0; 3]);
            let loss = CrossEntropy { classes: 3, smoothing: 0.0 };
            let logits = [1e30, -1e30, 0.0];
            loss.forward_backward(&logits, &[0], 1.0, &mut losses, &mut gradient).unwrap();
            assert!(
                losses[0].abs() < 1e-6 && gradient.iter().all(|g| g.abs() < 1e-6),
                "{losses:?} {gradient:?}"
            );
        });
    }

    #[test]
    fn a_label_that_is_no_class_is_refused() {
        let loss = CrossEntropy { classes: 3, smoothing: 0.0 };
        let run = |labels: &[i64]| {
            loss.forward_backward(&[0.0; 6], labels, 1.0, &mut [0.0; 2], &mut [0.0; 6])
                .unwrap_err()
                .to_string()
        };
        assert!(run(&[0, 3]).contains("label 3 of row 1"));
        assert!(run(&[-1, 0]).contains("label -1 of row 0"));
        assert!(run(&[0]).contains("labels"));
    }
}
