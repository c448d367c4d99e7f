//! From a batch on the host to tensors on a device.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kd_core::Value;
use kd_data::ImageBatch;

/// A batch that a [`Dataset`](kd_data::Dataset) assembled, and how it becomes a network's input.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use kd_core::Value;
/// use kd_train::HostBatch;
///
/// /// Token ids, padded to one length, and a label per sentence.
/// struct Sentences { tokens: Vec<Vec<i32>>, labels: Vec<i32> }
///
/// impl HostBatch for Sentences {
///     type Input = Tensor<2, Int>;
///     fn to_device(&self, device: &Device) -> (Tensor<2, Int>, Value) {
///         let length = self.tokens.first().map_or(0, Vec::len);
///         let tokens = Tensor::<1, Int>::from_ints(self.tokens.concat().as_slice(), device);
///         let labels = Tensor::<1, Int>::from_ints(self.labels.as_slice(), device);
///         (tokens.reshape([self.tokens.len(), length]), labels.into())
///     }
/// }
/// ```
pub trait HostBatch: Send + 'static {
    /// What the network takes.
    type Input: Clone;

    /// The input and the target (labels as integers; regression targets and class probabilities as floats) on `device`.
    fn to_device(&self, device: &Device) -> (Self::Input, Value);

    /// The input as one tensor, for losses on input gradients; `None` if it is not one float tensor.
    fn input_as_value(_input: &Self::Input) -> Option<Value> {
        None
    }

    /// The way back from [`input_as_value`](Self::input_as_value).
    fn input_from_value(_value: &Value) -> Option<Self::Input> {
        None
    }
}

impl HostBatch for ImageBatch {
    type Input = Tensor<4>;

    fn to_device(&self, device: &Device) -> (Tensor<4>, Value) {
        let pixels = Tensor::from_data(TensorData::new(self.pixels.clone(), self.shape), device);
        let labels = |labels: &[u32]| {
            let labels: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
            Tensor::<1, Int>::from_ints(labels.as_slice(), device)
        };
        let Some(mix) = &self.mix else { return (pixels, labels(&self.labels).into()) };
        // Mixup trains on probabilities: weight on the first label, the rest on the second.
        let weight = Tensor::<1>::from_floats(mix.weight.as_slice(), device).unsqueeze_dim::<2>(1);
        let first = labels(&self.labels).one_hot::<2>(mix.classes).float() * weight.clone();
        let second = labels(&mix.labels).one_hot::<2>(mix.classes).float() * weight.neg().add_scalar(1.0);
        (pixels, (first + second).into())
    }

    fn input_as_value(input: &Tensor<4>) -> Option<Value> {
        Some(input.clone().into())
    }

    fn input_from_value(value: &Value) -> Option<Tensor<4>> {
        value.float().ok()
    }
}
