//! The integer convolution, element by element.

use super::Window;
use crate::QuantError;
use crate::error::in_range;

/// Codes, sizes and zero points of a convolution, for [`conv2d`].
///
/// ```
/// use kd_quant::integer::{ConvCodes, Window, conv2d};
///
/// // One 1x2 filter on a row of three pixels, padded by one on the left: the padding has the code of zero.
/// let window = Window { padding: [(0, 0), (1, 0)], ..Window::default() };
/// let (x_shape, w_shape) = ([1, 1, 1, 3], [1, 1, 1, 2]);
/// let (x, w) = (&[5, 7, 4], &[1, -1]);
/// let conv = ConvCodes { x, x_shape, x_zero: 4, w, w_shape, w_zero: &[0], bias: &[10], window, groups: 1 };
/// assert_eq!(conv2d(&conv)?, (vec![9, 8, 13], [1, 1, 1, 3]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ConvCodes<'a> {
    /// The input's codes, `[batch, in, height, width]`.
    pub x: &'a [i32],
    /// The input's sizes.
    pub x_shape: [usize; 4],
    /// The input's code of zero; padding has it.
    pub x_zero: i32,
    /// The weight's codes, `[out, in / groups, kh, kw]`.
    pub w: &'a [i32],
    /// The weight's sizes.
    pub w_shape: [usize; 4],
    /// The weight's codes of zero: one, or one for each output channel.
    pub w_zero: &'a [i32],
    /// One for each output channel, in steps of $s_x s_w$; empty for none.
    pub bias: &'a [i32],
    /// How the window moves.
    pub window: Window,
    /// Of the channels.
    pub groups: usize,
}

impl ConvCodes<'_> {
    /// The result's sizes `[batch, out, h', w']`, after every length was checked.
    pub(super) fn result_shape(&self) -> Result<[usize; 4], QuantError> {
        let [batch, channels, height, width] = self.x_shape;
        let [out, inputs, kh, kw] = self.w_shape;
        in_range("groups", self.groups, self.groups > 0, "at least 1")?;
        let lengths = [
            ("the input's codes", self.x.len(), batch * channels * height * width),
            ("the weight's codes", self.w.len(), out * inputs * kh * kw),
            ("the bias", self.bias.len(), if self.bias.is_empty() { 0 } else { out }),
            ("the weight's zero points", self.w_zero.len(), if self.w_zero.len() == 1 { 1 } else { out }),
        ];
        for (what, got, wanted) in lengths {
            if got != wanted {
                return Err(QuantError::Length { what, got, wanted });
            }
        }
        if inputs * self.groups != channels || !out.is_multiple_of(self.groups) {
            let wanted = format!("{channels} input channels in {} groups", self.groups);
            return Err(QuantError::Shape { what: "the weight", got: self.w_shape.to_vec(), wanted });
        }
        let [down, across] = self.window.places([height, width], [kh, kw])?;
        Ok([batch, out, down, across])
    }

    fn zero_of(&self, o: usize) -> i32 {
        if self.w_zero.len() == 1 { self.w_zero[0] } else { self.w_zero[o] }
    }
}

/// The accumulators $\sum (x - z_x)(w - z_w) + b$, i32 that wraps around, and their sizes `[batch, out, h', w']`, as in the example of [`ConvCodes`]. The
/// definition, slowly: see [`PackedWeights`](super::PackedWeights).
///
/// # Errors
/// [`QuantError::Length`] and [`QuantError::Shape`] for slices and sizes that do not fit; [`QuantError::Setting`] for a stride, dilation or groups of 0.
pub fn conv2d(conv: &ConvCodes<'_>) -> Result<(Vec<i32>, [usize; 4]), QuantError> {
    let shape @ [batch, out, down, across] = conv.result_shape()?;
    let [_, channels, height, width] = conv.x_shape;
    let [_, inputs, kh, kw] = conv.w_shape;
    let mut y = Vec::with_capacity(batch * out * down * across);
    for n in 0..batch {
        for o in 0..out {
            let first = o / (out / conv.groups) * inputs;
            let w_zero = conv.zero_of(o);
            let bias = conv.bias.get(o).copied().unwrap_or(0);
            for (py, px) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
                let mut sum = bias;
                for i in 0..inputs {
                    for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                        // Padding has the code of zero and adds nothing.
                        if let (Some(row), Some(column)) =
                            (conv.window.inside(0, py, ky, height), conv.window.inside(1, px, kx, width))
                        {
                            let x = conv.x[((n * channels + first + i) * height + row) * width + column];
                            let w = conv.w[((o * inputs + i) * kh + ky) * kw + kx];
                            let product = x.wrapping_sub(conv.x_zero).wrapping_mul(w.wrapping_sub(w_zero));
                            sum = sum.wrapping_add(product);
                        }
                    }
                }
                y.push(sum);
            }
        }
    }
    Ok((y, shape))
}
