//! Integer arithmetic on plain slices: what quantised layers compute, and the reference that integer kernels have to equal bit for bit.
//!
//! Codes are `i32` here, whatever bits they take when packed; accumulators are `i32` and wrap around as a kernel's would. A layer accumulates
//! $\sum (x - z_x)(w - z_w) + b$ and requantises once: $y = \mathrm{saturate}(\mathrm{round}(\text{acc} \cdot m) + z_y)$ with $m = s_x s_w / s_y$ in f32,
//! rounded half to even ([`Requantize`]). [`gemmlowp`] is the all-integer alternative. Everything else that an [`IntegerNetwork`] does on codes keeps to it:
//!
//! | What | Rule |
//! |---|---|
//! | sum of one scale and zero point | an accumulator, requantised once with $m = s/s_y$ ([`add`]) |
//! | sum of different scales | in f32, then quantised ([`add`]) |
//! | mean | the sum is an accumulator, requantised once with $m = (s/n)/s_y$ ([`average_pool2d`]) |
//! | maximum | of codes ([`max_pool2d`]) |
//! | concatenation | codes side by side if they have one scale, else each brought to the result's scale in f32 ([`rescale`]) |

mod conv;
mod epilogue;
pub mod gemmlowp;
mod joining;
mod linear;
mod linear_codes;
mod network;
mod packed;
mod pool;
mod stairs;
mod window;

pub use conv::{ConvCodes, conv2d};
pub use epilogue::{Format, Requantization};
pub use joining::{add, rescale};
pub use linear::matmul;
pub use linear_codes::{LinearCodes, Requantize, dequantize, dynamic_unsigned, quantize};
pub use network::{Agreement, Differences, FloatNode, IntegerNetwork, IntegerSettings, Products};
pub(crate) use network::{QuantisedWeight, quantised_weights};
pub use packed::PackedWeights;
pub use pool::{PoolCodes, average_pool2d, max_pool2d, sum_pool2d};
pub use window::Window;
