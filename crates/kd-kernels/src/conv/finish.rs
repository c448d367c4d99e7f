//! What happens to an output between the registers and memory.

use crate::error::length;
use crate::simd::Simd;
use crate::{Geometry, KernelError};

/// What is done to the convolution's result before it is stored, in this order.
#[derive(Debug, Default)]
pub struct Epilogue<'a> {
    /// Added to every output channel, `[out_channels]`.
    pub bias: Option<&'a [f32]>,
    /// Added to the output, of the output's shape.
    pub residual: Option<&'a [f32]>,
    /// Negative results become zero.
    pub relu: bool,
    /// Sums over the output, for a batch normalisation behind it.
    pub sums: Option<Sums<'a>>,
}

/// Per-channel sums over the output's positions, `[out_channels]` each; overwritten.
#[derive(Debug)]
pub struct Sums<'a> {
    /// A number near the channel's mean, such as its running mean; zeros will do where the mean isn't
    /// large beside the deviation.
    pub shift: &'a [f32],
    /// $$ \sum (y - \text{shift}) $$
    pub sum: &'a mut [f32],
    /// $$ \sum (y - \text{shift})^2 $$
    pub square_sum: &'a mut [f32],
}

impl Epilogue<'_> {
    pub(super) fn check(&self, geometry: &Geometry) -> Result<(), KernelError> {
        let channels = geometry.settings().out_channels;
        if let Some(bias) = self.bias {
            length("bias", bias.len(), channels)?;
        }
        if let Some(residual) = self.residual {
            length("residual", residual.len(), geometry.output_len())?;
        }
        if let Some(sums) = &self.sums {
            length("sums.shift", sums.shift.len(), channels)?;
            length("sums.sum", sums.sum.len(), channels)?;
            length("sums.square_sum", sums.square_sum.len(), channels)?;
        }
        Ok(())
    }
}

/// An [`Epilogue`] at one output position and channel; null pointers where there is nothing to do.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    pub bias: *const f32,
    pub residual: *const f32,
    pub relu: bool,
    pub shift: *const f32,
    pub sum: *mut f32,
    pub square_sum: *mut f32,
}

impl Finish {
    pub const NONE: Self = Self {
        bias: std::ptr::null(),
        residual: std::ptr::null(),
        relu: false,
        shift: std::ptr::null(),
        sum: std::ptr::null_mut(),
        square_sum: std::ptr::null_mut(),
    };

    /// Moves on by `channels`, and by `positions` numbers of the output.
    #[inline(always)]
    pub fn advance(self, channels: usize, positions: usize) -> Self {
        let Self { bias, residual, relu, shift, sum, square_sum } = self;
        Self {
            bias: if bias.is_null() { bias } else { bias.wrapping_add(channels) },
            residual: if residual.is_null() {
                residual
            } else {
                residual.wrapping_add(positions.wrapping_add(channels))
            },
            relu,
            shift: if shift.is_null() { shift } else { shift.wrapping_add(channels) },
            sum: if sum.is_null() { sum } else { sum.wrapping_add(channels) },
            square_sum: if square_sum.is_null() { square_sum } else { square_sum.wrapping_add(channels) },
        }
    }

    /// Finishes and stores one vector of `lanes` channels at each of `P` positions, `pixel` numbers apart.
    ///
    /// # Safety
    /// `lanes <= S::LANES` numbers are accessible at the output's positions and at all that isn't null.
    #[inline(always)]
    pub unsafe fn apply<S: Simd, const P: usize>(
        &self,
        s: S,
        mut values: [S::V; P],
        output: *mut f32,
        pixel: usize,
        lanes: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            if !self.bias.is_null() {
                let bias = s.load_partial(self.bias, lanes);
                for v in &mut values {
                    *v = s.add(*v, bias);
                }
            }
            if !self.residual.is_null() {
                for (p, v) in values.iter_mut().enumerate() {
                    *v = s.add(*v, s.load_partial(self.residual.add(p * pixel), lanes));
                }
            }
            if self.relu {
                for v in &mut values {
                    *v = s.max(*v, s.zero());
                }
            }
            if lanes == S::LANES {
                for (p, v) in values.iter().enumerate() {
                    s.store(output.add(p * pixel), *v);
                }
            } else {
                for (p, v) in values.iter().enumerate() {
                    s.store_partial(output.add(p * pixel), *v, lanes);
                }
            }
            if !self.sum.is_null() {
                let shift = s.load_partial(self.shift, lanes);
                let (mut sum, mut square) = (s.zero(), s.zero());
                for v in &values {
                    let v = s.sub(*v, shift);
                    sum = s.add(sum, v);
                    square = s.fma(v, v, square);
                }
                let total = s.add(s.load_partial(self.sum, lanes), sum);
                s.store_partial(self.sum, total, lanes);
                let total = s.add(s.load_partial(self.square_sum, lanes), square);
                s.store_partial(self.square_sum, total, lanes);
            }
        }
    }
}
