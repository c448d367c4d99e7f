//! Batch normalisation in evaluation: folded into the convolution in front of it, or applied with the rectifier behind it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::{DispatchTensor, Flex};
use burn::tensor::Tensor;
use burn_flex::{FlexTensor, Layout};
use burn_std::Bytes;
use kd_kernels::conv::{self, Epilogue, PackedWeight};
use kd_kernels::{Geometry, KernelError};

use super::conv::{geometry, output};
use super::{Norm, Window, channels_last, dims, filled, images, norm, numbers};
use crate::kernels::pooled::POOL;

/// The folded weight of one layer, kept until a tensor that it was made of is another one.
#[derive(Default)]
pub(crate) struct FoldCache(Mutex<Option<Arc<Folded>>>);

impl fmt::Debug for FoldCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FoldCache")
    }
}

struct Folded {
    /// Memory of weight, gamma, beta, mean, variance, and which part of it. Holding it keeps its address from being given to another tensor.
    sources: [(Arc<Bytes>, Layout); 5],
    /// Input sizes without the batch.
    input: [usize; 3],
    weight: PackedWeight,
    bias: Vec<f32>,
}

/// `relu?(norm(conv?(x)) (+ residual))` with running statistics; `parts` are gamma, beta, mean, variance. `None` where a tensor is tracked by
/// autodiff or not on flex.
pub(crate) fn evaluate(
    cache: &FoldCache,
    conv: Option<(&DispatchTensor, Window)>,
    x: &DispatchTensor,
    parts: &[DispatchTensor; 4],
    residual: Option<&DispatchTensor>,
    norm: Norm,
) -> Option<DispatchTensor> {
    let flat = |tensor: &DispatchTensor| {
        Tensor::<1>::from_dispatch(tensor.clone()).try_into_primitive::<Flex>().ok()
    };
    let image = |tensor: &DispatchTensor| {
        Tensor::<4>::from_dispatch(tensor.clone()).try_into_primitive::<Flex>().ok()
    };
    let x = image(x)?;
    let [gamma, beta, mean, variance] = parts;
    let parts = [flat(gamma)?, flat(beta)?, flat(mean)?, flat(variance)?];
    let residual = match residual {
        Some(residual) => Some(image(residual)?),
        None => None,
    };
    let y = match conv {
        Some((weight, window)) => fold(cache, x, image(weight)?, parts, residual, window, norm),
        None => norm::apply(&x, parts.each_ref(), residual, norm),
    };
    Some(Tensor::<4>::from_primitive::<Flex>(y).into_dispatch())
}

fn fold(
    cache: &FoldCache,
    x: FlexTensor,
    weight: FlexTensor,
    parts: [FlexTensor; 4],
    residual: Option<FlexTensor>,
    window: Window,
    norm: Norm,
) -> FlexTensor {
    let (sizes, kernel) = (dims(&x), dims(&weight));
    let geometry = geometry(sizes, kernel, window);
    let shape = output(&geometry, sizes, kernel);
    let (x, residual) = (channels_last(x), residual.map(channels_last));
    let y = filled(shape.iter().product(), |y| {
        let geometry = geometry?;
        let folded = cache.get(&geometry, sizes, &weight, &parts, norm.epsilon)?;
        let epilogue = Epilogue {
            bias: Some(&folded.bias),
            residual: residual.as_ref().map(numbers),
            relu: norm.relu,
            sums: None,
        };
        conv::forward_packed(&geometry, numbers(&x), &folded.weight, epilogue, y, &POOL)
    });
    images(y, shape)
}

impl FoldCache {
    fn get(
        &self,
        geometry: &Geometry,
        [_, channels, height, width]: [usize; 4],
        weight: &FlexTensor,
        parts: &[FlexTensor; 4],
        epsilon: f64,
    ) -> Result<Arc<Folded>, KernelError> {
        let [gamma, beta, mean, variance] = parts;
        let tensors = [weight, gamma, beta, mean, variance];
        let sources = tensors.map(|tensor| (tensor.data_arc(), tensor.layout().clone()));
        let input = [channels, height, width];
        // Not held while folding: a thread of the pool that waits for its part of the work may meanwhile run another pass over this very layer.
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(folded) = kept
            && folded.input == input
            && folded
                .sources
                .iter()
                .zip(&sources)
                .all(|(kept, now)| Arc::ptr_eq(&kept.0, &now.0) && kept.1 == now.1)
        {
            return Ok(folded);
        }
        let dense = tensors.map(FlexTensor::to_contiguous);
        let [weight, gamma, beta, mean, variance] = dense.each_ref().map(numbers);
        let (scale, bias): (Vec<f32>, Vec<f32>) = gamma
            .iter()
            .zip(beta)
            .zip(mean.iter().zip(variance))
            .map(|((&gamma, &beta), (&mean, &variance))| {
                let scale = f64::from(gamma) / (f64::from(variance) + epsilon).sqrt();
                (scale as f32, (f64::from(beta) - f64::from(mean) * scale) as f32)
            })
            .unzip();
        let filter = weight.len() / scale.len().max(1);
        let scaled: Vec<f32> = weight
            .chunks(filter.max(1))
            .zip(&scale)
            .flat_map(|(filter, scale)| filter.iter().map(move |weight| weight * scale))
            .collect();
        let folded = Arc::new(Folded { sources, input, weight: PackedWeight::new(geometry, &scaled)?, bias });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(folded.clone());
        Ok(folded)
    }
}
