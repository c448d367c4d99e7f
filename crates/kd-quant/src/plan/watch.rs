//! What quantisers saw of the last training batches.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Tensor;

use super::Quantizer;
use crate::QuantError;
use crate::observer::RangeMethod;

/// Least and greatest value of every place since it was last asked, by the place's number.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Mutex<BTreeMap<usize, (f32, f32)>>,
}

/// Whether a range goes on moving in training: those of extremes do, others need all values and stay as they were set.
pub(super) fn moves(quantizer: &Quantizer) -> bool {
    let Quantizer::Uniform(uniform) = quantizer else { return false };
    matches!(uniform.range, RangeMethod::MinMax {} | RangeMethod::MovingAverage { .. })
}

impl Watch {
    /// Takes a batch in; several since the last question are one.
    pub fn see<const D: usize>(&self, point: usize, x: &Tensor<D>) -> Result<(), QuantError> {
        let x = x.clone().detach();
        let ends = Tensor::cat(vec![x.clone().min(), x.max()], 0);
        let ends = crate::data::finite("the activation", ends)?;
        if let [low, high] = *ends {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let range = seen.entry(point).or_insert((low, high));
            *range = (range.0.min(low), range.1.max(high));
        }
        Ok(())
    }

    /// Everything seen, which is then forgotten.
    pub fn take(&self) -> BTreeMap<usize, (f32, f32)> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
