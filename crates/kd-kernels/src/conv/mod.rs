//! Two-dimensional convolution and its gradients: any kernel, stride, padding, dilation and groups.
//!
//! Activations are `[batch, height, width, channels]`, weights `[out_channels, in_channels / groups, height,
//! width]`. For the same number of threads results are the same to the last bit.
//!
//! An image is copied, padded, into a scratch image that stays in the cache, and a micro-kernel keeps a tile of
//! output positions times channels in registers; the input gradient of a strided convolution falls into dense parts
//! by the remainder of the position. Convolutions 3×3 of stride 1 with at least 16 channels on either side are
//! computed by minimal filtering (Winograd), which needs 16 products instead of 36 and agrees with the direct sum to
//! 1e-6 of the largest output.
//!
//! A convolution over a sequence is one with height 1; there is none over volumes.
//!
//! ```
//! use kd_kernels::{Conv2d, Geometry, Workspace, conv};
//!
//! let geometry = Geometry::new(Conv2d {
//!     batch: 1,
//!     input: [3, 3],
//!     in_channels: 1,
//!     out_channels: 1,
//!     kernel: [3, 3],
//!     stride: [1, 1],
//!     padding: [1, 1],
//!     dilation: [1, 1],
//!     groups: 1,
//! })?;
//! let workspace = Workspace::new();
//! let (x, weight) = ([1.0; 9], [1.0; 9]);
//! let mut y = [0.0; 9];
//! conv::forward(&geometry, &x, &weight, conv::Epilogue::default(), &mut y, &workspace)?;
//! assert_eq!(y, [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0]);
//!
//! let (mut dx, mut dw, mut db) = ([0.0; 9], [0.0; 9], [0.0]);
//! conv::input_gradient(&geometry, &y, &weight, &mut dx, &workspace)?;
//! conv::weight_gradient(&geometry, &x, &y, &mut dw, Some(&mut db), &workspace)?;
//! assert_eq!((dx[4], dw[4], db), (49.0, 49.0, [49.0]));
//! # Ok::<(), kd_kernels::KernelError>(())
//! ```

mod fill;
mod finish;
mod gather;
mod pack;
pub(crate) mod plan;
mod reduce;
mod tile;
mod weight_gradient;
mod weight_tile;
mod winograd;

#[cfg(test)]
mod tests;

pub use finish::{Epilogue, Sums};
pub use pack::PackedWeight;
pub use weight_gradient::weight_gradient;

use crate::error::length;
use crate::simd::Level;
use crate::{Geometry, KernelError, Workspace};
use gather::Gather;
use pack::{lanes, pack, packed_len};

/// The convolution `y` of `x`; then what the epilogue says.
///
/// # Errors
/// [`KernelError::Length`] if a slice isn't as long as the geometry says.
pub fn forward(
    geometry: &Geometry,
    x: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
    workspace: &Workspace,
) -> Result<(), KernelError> {
    length("weight", weight.len(), geometry.weight_len())?;
    let (plan, level) = (geometry.forward_plan(), Level::current());
    let mut packed = workspace.take(packed_len(plan, lanes(level)));
    pack(plan, level, weight, &mut packed);
    forward_with(geometry, level, x, &packed, epilogue, y, workspace)
}

/// As [`forward`], with a weight that was packed before, for the instruction set it was packed for.
///
/// # Errors
/// [`KernelError::Length`] if a slice isn't as long as the geometry says, or the weight was packed for another
/// geometry.
pub fn forward_packed(
    geometry: &Geometry,
    x: &[f32],
    weight: &PackedWeight,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
    workspace: &Workspace,
) -> Result<(), KernelError> {
    let wanted = packed_len(geometry.forward_plan(), lanes(weight.level));
    length("packed weight", weight.data.len(), wanted)?;
    forward_with(geometry, weight.level, x, &weight.data, epilogue, y, workspace)
}

fn forward_with(
    geometry: &Geometry,
    level: Level,
    x: &[f32],
    packed: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
    workspace: &Workspace,
) -> Result<(), KernelError> {
    length("x", x.len(), geometry.input_len())?;
    length("y", y.len(), geometry.output_len())?;
    epilogue.check(geometry)?;
    let (plan, target) = (geometry.forward_plan(), geometry.output());
    Gather { plan, level, source: x, packed, target, workspace }.run(epilogue, y);
    Ok(())
}

/// The gradient `dx` with respect to the input, from `dy` with respect to the output.
///
/// # Errors
/// [`KernelError::Length`] if a slice isn't as long as the geometry says.
pub fn input_gradient(
    geometry: &Geometry,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    workspace: &Workspace,
) -> Result<(), KernelError> {
    length("dy", dy.len(), geometry.output_len())?;
    length("weight", weight.len(), geometry.weight_len())?;
    length("dx", dx.len(), geometry.input_len())?;
    let (plan, level) = (geometry.backward_plan(), Level::current());
    let mut packed = workspace.take(packed_len(plan, lanes(level)));
    pack(plan, level, weight, &mut packed);
    let target = geometry.settings().input;
    Gather { plan, level, source: dy, packed: &packed, target, workspace }.run(Epilogue::default(), dx);
    Ok(())
}
