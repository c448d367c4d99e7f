//! Hard labels of rows of scores, some of which do not count.

use burn::tensor::{Bool, Int, Tensor};

use crate::term::{Probe, TermError};

/// Labels that are safe to gather with, and which rows count.
pub(super) struct Labels {
    /// The class of every row, 0 where it is ignored: `[rows, 1]`.
    index: Tensor<2, Int>,
    /// 1 where the row counts, 0 where it is ignored: `[rows]`.
    counted: Tensor<1>,
}

impl Labels {
    /// `labels`: `[rows]`; rows labelled `ignore` do not count.
    pub(super) fn new(labels: Tensor<1, Int>, ignore: i64) -> Self {
        let ignored = labels.clone().equal_elem(ignore);
        let index = labels.mask_fill(ignored.clone(), 0).unsqueeze_dim(1);
        Self { index, counted: ignored.bool_not().float() }
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

    /// Refuses a target that is not one integer per row of scores.
    pub(super) fn check(rows: usize, probe: &Probe) -> Result<(), TermError> {
        let labels = probe.target.flat_int()?.dims();
        let advice = "this loss needs hard labels: one integer per row of scores";
        TermError::same_shape("rows of scores and labels", &[rows], &labels, advice)
    }
}
