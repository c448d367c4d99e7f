//! Straight-through estimators: a value for the forward pass, a slope for the backward pass.
//!
//! A quantiser is constant almost everywhere, so its derivative says nothing. Every method states another one. With $z = x - \bar x$, where $\bar x$
//! is $x$ cut off from the tape, $z$ is zero and has the gradient one, so that
//!
//! $$ y = \bar v + z \cdot \bar m $$
//!
//! is exactly $v$ forward and $\partial y / \partial x = m$ backward, for any value $v$ and slope $m$.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

/// Whether a gradient passes at exactly a bound of its interval. Sources differ: older torch, TensorFlow and larq keep it; torch since 2.15 and the
/// LSQ paper don't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// The gradient is zero at the bound.
    #[default]
    Exclusive,
    /// The gradient passes at the bound.
    Inclusive,
}

impl Bound {
    /// Where `low <= x <= high`, or `low < x < high`.
    pub fn inside<const D: usize>(self, x: Tensor<D>, low: f32, high: f32) -> Tensor<D, Bool> {
        match self {
            Bound::Exclusive => x.clone().greater_scalar(low).bool_and(x.lower_scalar(high)),
            Bound::Inclusive => x.clone().greater_equal_scalar(low).bool_and(x.lower_equal_scalar(high)),
        }
    }
}

/// A zero with the gradient one: $x - \bar x$.
pub fn only_gradient<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.clone() - x.detach()
}

/// `value`, with the gradient of `x`.
pub fn straight_through<const D: usize>(x: Tensor<D>, value: Tensor<D>) -> Tensor<D> {
    value.detach() + only_gradient(x)
}

/// `value`, with `slope` times the incoming gradient for `x`. Of one shape.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::with_slope;
///
/// let x = Tensor::<1>::from_floats([-2.0, 0.4], &Device::flex().autodiff()).require_grad();
/// let y = with_slope(x.clone(), x.clone().sign(), Tensor::from_floats([0.0, 1.0], &x.device()));
/// let gradients = y.sum().backward();
/// assert_eq!(x.grad(&gradients).map(|g| g.into_data().try_to_vec::<f32>()), Some(Ok(vec![0.0, 1.0])));
/// ```
pub fn with_slope<const D: usize>(x: Tensor<D>, value: Tensor<D>, slope: Tensor<D>) -> Tensor<D> {
    value.detach() + only_gradient(x) * slope.detach()
}

/// `value`, with the gradient of `x` inside an interval and none outside.
pub(crate) fn clipped_through<const D: usize>(
    x: Tensor<D>,
    value: Tensor<D>,
    inside: Tensor<D, Bool>,
) -> Tensor<D> {
    with_slope(x, value, inside.float())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_forward_value_is_exact() {
        let x = Tensor::<1>::from_floats([1e-30, -3.4e7, 0.1], &Device::flex().autodiff()).require_grad();
        let value = Tensor::<1>::from_floats([1.0, 1e-9, -0.3], &x.device());
        let y = with_slope(x.clone(), value.clone(), Tensor::full([3], 7.0, &x.device()));
        assert_eq!(
            y.into_data().try_to_vec::<f32>().unwrap(),
            value.into_data().try_to_vec::<f32>().unwrap()
        );
    }

    #[test]
    fn bounds_differ_only_at_the_bounds() {
        let x = Tensor::<1>::from_floats([-1.0, -0.5, 1.0, 1.5], &Device::flex());
        let read = |mask: Tensor<1, Bool>| mask.into_data().try_to_vec::<bool>().unwrap();
        assert_eq!(read(Bound::Exclusive.inside(x.clone(), -1.0, 1.0)), [false, true, false, false]);
        assert_eq!(read(Bound::Inclusive.inside(x, -1.0, 1.0)), [true, true, true, false]);
    }
}
