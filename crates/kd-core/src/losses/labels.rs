//! Hard labels of rows of scores, some of which do not count.

use burn::tensor::{Bool, Int, Tensor};

use crate::term::{Probe, TermError};

/// Labels that are safe to gather with, and which rows count.
///
/// A label that is neither a class nor the ignored one makes its row NaN: the first batch is checked by [`check`](Self::check), and reading the labels of
/// every later one back would stall an accelerator, while a loss that is not finite stops a run anyway.
pub(super) struct Labels {
    /// The class of every row, 0 where there is none: `[rows, 1]`.
    index: Tensor<2, Int>,
    /// 1 where the row counts, 0 where it is ignored, NaN where the label is wrong: `[rows]`.
    counted: Tensor<1>,
}

impl Labels {
    /// `labels`: `[rows]`, below `classes`; rows labelled `ignore` do not count.
    pub(super) fn new(labels: Tensor<1, Int>, classes: usize, ignore: i64) -> Self {
        let ignored = labels.clone().equal_elem(ignore);
        let outside = labels.clone().lower_elem(0).bool_or(labels.clone().greater_equal_elem(classes as i64));
        let index = labels.mask_fill(outside.clone(), 0).unsqueeze_dim(1);
        let wrong = outside.bool_and(ignored.clone().bool_not());
        Self { index, counted: ignored.bool_not().float().mask_fill(wrong, f32::NAN) }
    }

    /// True at every row's own class: `[rows, classes]`.
    pub(super) fn one_hot(&self, classes: usize) -> Tensor<2, Bool> {
        let [rows, _] = self.index.dims();
        let class = Tensor::<1, Int>::arange(0..classes as i64, &self.index.device()).unsqueeze_dim::<2>(0);
        class.expand([rows, classes]).equal(self.index.clone().expand([rows, classes]))
    }

    /// The entry of every row's own class: `[rows, classes]` to `[rows]`.
    pub(super) fn pick(&self, scores: Tensor<2>) -> Tensor<1> {
        scores.gather(1, self.index.clone()).squeeze_dim::<1>(1)
    }

    /// Zero where a row is ignored.
    pub(super) fn mask(&self, per_row: Tensor<1>) -> Tensor<1> {
        per_row * self.counted.clone()
    }

    /// As [`mask`](Self::mask), scaled so that a plain mean over all rows is the mean over those that count (zero if none does).
    pub(super) fn mask_for_mean(&self, per_row: Tensor<1>) -> Tensor<1> {
        let [rows] = self.counted.dims();
        let scale = self.counted.clone().sum().clamp_min(1.0).recip().mul_scalar(rows as f64);
        self.mask(per_row) * scale
    }

    /// Refuses a target that is not one integer per row of scores, each a class or `ignore`.
    pub(super) fn check([rows, classes]: [usize; 2], ignore: i64, probe: &Probe) -> Result<(), TermError> {
        let labels = probe.target.flat_int()?;
        let advice = "this loss needs hard labels: one integer per row of scores";
        TermError::same_shape("rows of scores and labels", &[rows], &labels.dims(), advice)?;
        let fine = |label: i64| label == ignore || usize::try_from(label).is_ok_and(|class| class < classes);
        match labels.into_data().iter::<i64>().find(|&label| !fine(label)) {
            None => Ok(()),
            Some(label) => Err(TermError::Label { label, classes }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Taps, Value};
    use burn::tensor::Device;

    fn check(labels: [i64; 3]) -> Result<(), TermError> {
        let device = Device::flex();
        let target = Value::from(Tensor::<1, Int>::from_ints(labels, &device));
        let probe = Probe { student: Taps::none(), teachers: vec![], target, samples: 3, device };
        Labels::check([3, 4], -100, &probe)
    }

    #[test]
    fn a_label_that_is_no_class_is_an_error_that_names_it_and_the_number_of_classes() {
        assert_eq!(check([0, 3, -100]), Ok(()));
        assert_eq!(check([0, 4, 1]), Err(TermError::Label { label: 4, classes: 4 }));
        let error = check([0, 1, -1]).unwrap_err().to_string();
        assert!(error.contains("label -1") && error.contains("4 classes"), "{error}");
    }

    #[test]
    fn a_wrong_label_after_the_first_batch_makes_its_row_nan_instead_of_a_panic() {
        let labels = Tensor::<1, Int>::from_ints([1, 7, -100], &Device::flex());
        let labels = Labels::new(labels, 2, -100);
        let scores = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::flex());
        let values = labels.mask(labels.pick(scores)).into_data().try_to_vec::<f32>().unwrap();
        assert!(values[0] == 2.0 && values[1].is_nan() && values[2] == 0.0, "{values:?}");
    }
}
