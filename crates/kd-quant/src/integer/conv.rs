//! The integer convolution.

use crate::QuantError;
use crate::error::in_range;

/// Codes, sizes and zero points of a convolution.
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
    /// Vertical and horizontal.
    pub stride: [usize; 2],
    /// Above and below, left and right.
    pub padding: [usize; 2],
    /// Of the channels.
    pub groups: usize,
}

/// The accumulators $\sum (x - z_x)(w - z_w) + b$, i32 that wraps around, and their sizes `[batch, out, h', w']`.
///
/// # Errors
/// [`QuantError::Length`] and [`QuantError::Shape`] for slices and sizes that do not fit; [`QuantError::Setting`] for a stride or groups of 0.
pub fn conv2d(conv: &ConvCodes<'_>) -> Result<(Vec<i32>, [usize; 4]), QuantError> {
    let [batch, channels, height, width] = conv.x_shape;
    let [out, inputs, kh, kw] = conv.w_shape;
    in_range("stride", format!("{:?}", conv.stride), !conv.stride.contains(&0), "at least 1")?;
    in_range("groups", conv.groups, conv.groups > 0, "at least 1")?;
    let lengths = [
        ("the input's codes", conv.x.len(), batch * channels * height * width),
        ("the weight's codes", conv.w.len(), out * inputs * kh * kw),
        ("the bias", conv.bias.len(), if conv.bias.is_empty() { 0 } else { out }),
        ("the weight's zero points", conv.w_zero.len(), if conv.w_zero.len() == 1 { 1 } else { out }),
    ];
    for (what, got, wanted) in lengths {
        if got != wanted {
            return Err(QuantError::Length { what, got, wanted });
        }
    }
    let places = |size: usize, kernel: usize, axis: usize| {
        Some((size + 2 * conv.padding[axis]).checked_sub(kernel)? / conv.stride[axis] + 1)
    };
    let grouped = inputs * conv.groups == channels && out.is_multiple_of(conv.groups);
    let (Some(oh), Some(ow), true) = (places(height, kh, 0), places(width, kw, 1), grouped) else {
        let wanted = format!(
            "{} input channels in {} groups, and a window within the padded {height}x{width} image",
            channels, conv.groups
        );
        return Err(QuantError::Shape { what: "the weight", got: conv.w_shape.to_vec(), wanted });
    };

    let mut y = Vec::with_capacity(batch * out * oh * ow);
    let inside = |place: usize, k: usize, axis: usize, size: usize| {
        (place * conv.stride[axis] + k).checked_sub(conv.padding[axis]).filter(|&i| i < size)
    };
    for n in 0..batch {
        for o in 0..out {
            let first = o / (out / conv.groups) * inputs;
            let w_zero = if conv.w_zero.len() == 1 { conv.w_zero[0] } else { conv.w_zero[o] };
            let bias = conv.bias.get(o).copied().unwrap_or(0);
            for (py, px) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                let mut sum = bias;
                for i in 0..inputs {
                    for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                        // Padding has the code of zero and adds nothing.
                        if let (Some(row), Some(column)) =
                            (inside(py, ky, 0, height), inside(px, kx, 1, width))
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
    Ok((y, [batch, out, oh, ow]))
}
