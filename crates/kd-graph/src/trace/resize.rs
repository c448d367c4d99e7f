//! The sample at another batch size.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Int, Tensor};

use super::{TensorMap, Tensors, TraceError};

/// Repeats or leaves out rows until every input has `batch` of them along its batch axis.
pub(super) fn resize<I: Tensors>(
    sample: I,
    batch: usize,
    axes: &BTreeMap<usize, Option<usize>>,
) -> Result<I, TraceError> {
    let mut resize = Resize { batch, axes, next: 0, problem: None };
    let sample = sample.map(&mut resize);
    if resize.next == 0 {
        resize.problem = Some("it holds no tensor; give the model's inputs".to_owned());
    }
    let unknown = axes.keys().find(|&&input| input >= resize.next);
    let problem = resize.problem.or_else(|| {
        unknown.map(|input| format!("it has {} tensors; there is none of number {input}", resize.next))
    });
    match problem {
        Some(reason) => Err(TraceError::Sample { reason }),
        None => Ok(sample),
    }
}

struct Resize<'a> {
    batch: usize,
    axes: &'a BTreeMap<usize, Option<usize>>,
    next: usize,
    problem: Option<String>,
}

impl Resize<'_> {
    /// The axis to resize and its size.
    fn axis(&mut self, sizes: &[usize]) -> Option<(usize, usize)> {
        let input = self.next;
        self.next += 1;
        let axis = self.axes.get(&input).copied().unwrap_or(Some(0))?;
        match sizes.get(axis) {
            Some(&rows) if rows > 0 => Some((axis, rows)),
            Some(_) => {
                self.problem.get_or_insert(format!(
                    "tensor {input} of shape {sizes:?} holds no example; give at least one"
                ));
                None
            }
            None => {
                self.problem.get_or_insert(format!(
                    "tensor {input} of shape {sizes:?} has no axis {axis}; say which one is the batch with `Tracer::batch_axis`"
                ));
                None
            }
        }
    }
}

macro_rules! resized {
    ($name:ident, $kind:ty) => {
        fn $name<const D: usize>(&mut self, tensor: Tensor<D, $kind>) -> Tensor<D, $kind> {
            match self.axis(&tensor.dims()) {
                Some((axis, rows)) => {
                    let tensor = tensor.without_autodiff();
                    tensor.repeat_dim(axis, self.batch.div_ceil(rows)).narrow(axis, 0, self.batch)
                }
                None => tensor,
            }
        }
    };
}

impl TensorMap for Resize<'_> {
    resized!(float, burn::tensor::Float);
    resized!(int, Int);
    resized!(bool, Bool);
}
