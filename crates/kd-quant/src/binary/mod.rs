//! Binary weights and activations.

mod abc_net;
mod binary_connect;
mod scale_map;
mod sibnn;
mod sign;
mod sttn;
mod xnor;

pub use abc_net::{AbcActivation, AbcNet};
pub use binary_connect::BinaryConnect;
pub use scale_map::ScaleMap;
pub use sibnn::SibnnActivation;
pub use sign::{Heaviside, SignActivation, SignGradient, Zero, hard_tanh, sign};
pub use sttn::{SttnActivation, SttnWeight};
pub use xnor::{Xnor, XnorGradient};

use burn::tensor::Tensor;

/// `[filters, elements]` of a weight whose axis 0 is the output channel.
pub(crate) fn filters<const D: usize>(w: Tensor<D>) -> Tensor<2> {
    let shape = w.dims();
    let filters = shape.first().copied().unwrap_or(1);
    let elements = shape.iter().skip(1).product();
    w.reshape([filters, elements])
}
