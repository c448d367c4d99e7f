//! Weights drawn from few parameters by a hash.

use burn::tensor::Tensor;

use super::quantizer::HashedBy;
use crate::QuantError;
use crate::data::{numbers, tensor};
use crate::sharing::Hashed;

fn layer(shape: &[usize], by: HashedBy) -> Result<Hashed, QuantError> {
    let rows = shape.first().copied().unwrap_or(1);
    let columns: usize = shape.iter().skip(1).product();
    let parameters = (rows * columns).div_ceil(by.factor.max(1));
    Ok(Hashed::new(columns, rows, parameters)?.with_seed(by.seed))
}

/// The parameters whose weight is nearest to `x`: every one is the mean of its elements, signs taken off.
pub(super) fn start<const D: usize>(x: Tensor<D>, by: HashedBy) -> Result<Tensor<1>, QuantError> {
    let (device, shape) = (x.device(), x.dims());
    let layer = layer(&shape, by)?;
    let values = numbers("the weight to hash", x.detach())?;
    let columns = shape.iter().skip(1).product::<usize>().max(1);
    let parameters = values.len().div_ceil(by.factor.max(1));
    let (mut sums, mut counts) = (vec![0.0_f32; parameters], vec![0.0_f32; parameters]);
    for (at, value) in values.iter().enumerate() {
        let (index, sign) = layer.element(at / columns, at % columns);
        if let (Some(sum), Some(count)) = (sums.get_mut(index), counts.get_mut(index)) {
            *sum += sign * value;
            *count += 1.0;
        }
    }
    let means = sums.iter().zip(&counts).map(|(sum, count)| sum / count.max(1.0)).collect();
    Ok(tensor(means, [parameters], &device))
}

/// The whole weight.
pub(super) fn weight<const D: usize>(
    parameters: &Tensor<1>,
    shape: [usize; D],
    by: HashedBy,
) -> Result<Tensor<D>, QuantError> {
    Ok(layer(&shape, by)?.weight(parameters)?.reshape(shape))
}
