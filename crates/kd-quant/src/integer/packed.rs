//! Convolution and matrix product on packed rows of 16-bit differences.

use rayon::prelude::*;

use super::{ConvCodes, Window};
use crate::QuantError;

/// Elements of a row are padded with zeros to a multiple of this, so that no inner loop has a tail.
const LANES: usize = 16;
/// Pixels and filters that are multiplied together: a row that was loaded is used more than once.
const PIXELS: usize = 2;
const FILTERS: usize = 4;

/// A convolution's weight as rows of $w - z_w$, ready to be multiplied with the pixels' rows of $x - z_x$.
///
/// The accumulators equal those of [`conv2d`](super::conv2d) and [`matmul`](super::matmul) bit for bit: the products of 16-bit differences are exact in i32,
/// and i32 sums that wrap around do not depend on their order. Images run in parallel.
///
/// ```
/// use kd_quant::integer::{PackedWeights, Window};
///
/// // One 1x2 filter on a row of three pixels.
/// let weights = PackedWeights::new(&[1, -1], [1, 1, 1, 2], &[0], &[10], Window::default(), 1)?;
/// assert_eq!(weights.conv2d(&[5, 7, 4], [1, 1, 1, 3], 0)?, (vec![8, 13], [1, 1, 1, 2]));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PackedWeights {
    /// Filter by filter; within one by window row, window column and channel.
    rows: Vec<i16>,
    row: usize,
    shape: [usize; 4],
    bias: Vec<i32>,
    window: Window,
    groups: usize,
}

impl PackedWeights {
    /// Of a weight `[out, in / groups, kh, kw]`; the slices are those of [`ConvCodes`].
    ///
    /// # Errors
    /// As [`conv2d`](super::conv2d); [`QuantError::Setting`] for a code more than 32767 from its zero point.
    pub fn new(
        w: &[i32],
        shape: [usize; 4],
        w_zero: &[i32],
        bias: &[i32],
        window: Window,
        groups: usize,
    ) -> Result<Self, QuantError> {
        let [out, inputs, kh, kw] = shape;
        // An image of the window's size stands for any other.
        let reach = |axis: usize| window.dilation[axis] * shape[axis + 2].saturating_sub(1) + 1;
        let x_shape = [0, inputs * groups, reach(0), reach(1)];
        ConvCodes { x: &[], x_shape, x_zero: 0, w, w_shape: shape, w_zero, bias, window, groups }
            .result_shape()?;
        let row = (inputs * kh * kw).next_multiple_of(LANES);
        let mut rows = vec![0; out * row];
        for (o, (row, w)) in rows.chunks_mut(row.max(1)).zip(w.chunks((inputs * kh * kw).max(1))).enumerate()
        {
            let zero = if w_zero.len() == 1 { w_zero[0] } else { w_zero[o] };
            for (i, &code) in w.iter().enumerate() {
                let (channel, place) = (i / (kh * kw), i % (kh * kw));
                row[place * inputs + channel] = difference(code, zero)?;
            }
        }
        Ok(Self { rows, row, shape, bias: bias.to_vec(), window, groups })
    }

    /// Of the weight `[in, out]` of a linear layer.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn linear(
        w: &[i32],
        [inputs, out]: [usize; 2],
        w_zero: &[i32],
        bias: &[i32],
    ) -> Result<Self, QuantError> {
        if w.len() != inputs * out {
            return Err(QuantError::Length {
                what: "the weight's codes",
                got: w.len(),
                wanted: inputs * out,
            });
        }
        let turned: Vec<i32> =
            (0..out).flat_map(|o| (0..inputs).map(move |i| (o, i))).map(|(o, i)| w[i * out + o]).collect();
        Self::new(&turned, [out, inputs, 1, 1], w_zero, bias, Window::default(), 1)
    }

    /// How many outputs there are.
    pub fn outputs(&self) -> usize {
        self.shape[0]
    }

    /// The accumulators of images `[batch, in, height, width]`, and their sizes.
    ///
    /// # Errors
    /// As [`conv2d`](super::conv2d); [`QuantError::Setting`] for a code more than 32767 from its zero point.
    pub fn conv2d(
        &self,
        x: &[i32],
        x_shape: [usize; 4],
        x_zero: i32,
    ) -> Result<(Vec<i32>, [usize; 4]), QuantError> {
        let [batch, channels, height, width] = x_shape;
        let [out, inputs, kh, kw] = self.shape;
        let fits = channels == inputs * self.groups && x.len() == batch * channels * height * width;
        if !fits {
            let wanted = format!("[batch, {}, height, width], one code an element", inputs * self.groups);
            return Err(QuantError::Shape { what: "the input", got: x_shape.to_vec(), wanted });
        }
        let [down, across] = self.window.places([height, width], [kh, kw])?;
        let mut y = vec![0; batch * out * down * across];
        let images = x.par_chunks((channels * height * width).max(1));
        let results = y.par_chunks_mut((out * down * across).max(1));
        images.zip(results).try_for_each(|(x, y)| {
            let image = Padded::new(x, x_shape, x_zero, &self.window)?;
            for (group, y) in y.chunks_mut((out / self.groups * down * across).max(1)).enumerate() {
                let pixels = self.pixels(&image, group, [down, across]);
                self.multiply(&pixels, group, |o, pixel, sum| y[o * down * across + pixel] = sum);
            }
            Ok::<(), QuantError>(())
        })?;
        Ok((y, [batch, out, down, across]))
    }

    /// The accumulators `[rows, out]` of rows of codes `[rows, in]`.
    ///
    /// # Errors
    /// [`QuantError::Length`] for codes that are no whole rows; [`QuantError::Setting`] for a code more than 32767 from its zero point.
    pub fn product(&self, x: &[i32], x_zero: i32) -> Result<Vec<i32>, QuantError> {
        let [out, inputs, ..] = self.shape;
        let rows = x.len() / inputs.max(1);
        if rows * inputs != x.len() {
            return Err(QuantError::Length { what: "the codes", got: x.len(), wanted: rows * inputs });
        }
        // Enough rows a task that their weights are read once for many.
        const ROWS: usize = 32;
        let mut y = vec![0; rows * out];
        let parts = y.par_chunks_mut((ROWS * out).max(1));
        x.par_chunks((ROWS * inputs).max(1)).zip(parts).try_for_each(|(x, y)| {
            let mut packed = vec![0; x.len() / inputs.max(1) * self.row];
            for (to, from) in packed.chunks_mut(self.row.max(1)).zip(x.chunks(inputs.max(1))) {
                for (to, &code) in to.iter_mut().zip(from) {
                    *to = difference(code, x_zero)?;
                }
            }
            self.multiply(&packed, 0, |o, row, sum| y[row * out + o] = sum);
            Ok::<(), QuantError>(())
        })?;
        Ok(y)
    }

    /// The rows that a group's filters are multiplied with, one a pixel of the result.
    fn pixels(&self, image: &Padded, group: usize, [down, across]: [usize; 2]) -> Vec<i16> {
        let [_, inputs, kh, kw] = self.shape;
        let Window { stride, dilation, .. } = self.window;
        // Neighbouring columns of all channels lie one after the other.
        let run = if self.groups == 1 && dilation[1] == 1 { kw } else { 1 };
        let mut rows = vec![0; down * across * self.row];
        for (pixel, row) in rows.chunks_mut(self.row.max(1)).enumerate() {
            let (py, px) = (pixel / across * stride[0], pixel % across * stride[1]);
            let starts = (0..kh).flat_map(|ky| (0..kw).step_by(run).map(move |kx| (ky, kx)));
            for (to, (ky, kx)) in row.chunks_mut((run * inputs).max(1)).zip(starts) {
                let (y, x) = (py + ky * dilation[0], px + kx * dilation[1]);
                let from = (y * image.width + x) * image.channels + group * inputs;
                to.copy_from_slice(&image.values[from..from + run * inputs]);
            }
        }
        rows
    }

    /// Every row with every filter of the group; `put` receives the filter's number in the group, the row's and the accumulator.
    fn multiply(&self, rows: &[i16], group: usize, mut put: impl FnMut(usize, usize, i32)) {
        let out = self.shape[0] / self.groups;
        let (first, row) = (group * out, self.row.max(1));
        let bias = |o: usize| self.bias.get(first + o).copied().unwrap_or(0);
        let filter = |o: usize| &self.rows[(first + o) * self.row..][..self.row];
        for (tile, pixels) in rows.chunks(PIXELS * row).enumerate() {
            for o in (0..out).step_by(FILTERS) {
                if pixels.len() == PIXELS * row && o + FILTERS <= out {
                    let (a, b) = pixels.split_at(row);
                    let sums = products([a, b], [filter(o), filter(o + 1), filter(o + 2), filter(o + 3)]);
                    for (p, sums) in sums.iter().enumerate() {
                        for (i, sum) in sums.iter().enumerate() {
                            put(o + i, tile * PIXELS + p, sum.wrapping_add(bias(o + i)));
                        }
                    }
                } else {
                    for (p, pixel) in pixels.chunks(row).enumerate() {
                        for o in o..(o + FILTERS).min(out) {
                            let [[sum]] = products([pixel], [filter(o)]);
                            put(o, tile * PIXELS + p, sum.wrapping_add(bias(o)));
                        }
                    }
                }
            }
        }
    }
}

/// The products of some rows with some filters, all of one length. A plain loop that compilers turn into multiply-add instructions on 16-bit lanes.
fn products<const P: usize, const F: usize>(rows: [&[i16]; P], filters: [&[i16]; F]) -> [[i32; F]; P] {
    let mut sums = [[0_i32; F]; P];
    let rows = rows.map(|row| row.as_chunks::<LANES>().0);
    let filters = filters.map(|filter| filter.as_chunks::<LANES>().0);
    let chunks = rows.iter().chain(&filters).map(|chunks| chunks.len()).min().unwrap_or(0);
    for i in 0..chunks {
        for p in 0..P {
            for f in 0..F {
                let pairs = rows[p][i].iter().zip(&filters[f][i]);
                let part = pairs.fold(0_i32, |sum, (&x, &w)| sum.wrapping_add(i32::from(x) * i32::from(w)));
                sums[p][f] = sums[p][f].wrapping_add(part);
            }
        }
    }
    sums
}

/// An image of differences with its padding, `[height, width, channels]`.
struct Padded {
    values: Vec<i16>,
    width: usize,
    channels: usize,
}

impl Padded {
    fn new(
        x: &[i32],
        [_, channels, height, width]: [usize; 4],
        zero: i32,
        window: &Window,
    ) -> Result<Self, QuantError> {
        let [(above, below), (left, right)] = window.padding;
        let padded = left + width + right;
        let mut values = vec![0; (above + height + below) * padded * channels];
        for (channel, plane) in x.chunks((height * width).max(1)).enumerate() {
            for (y, line) in plane.chunks(width.max(1)).enumerate() {
                let start = ((y + above) * padded + left) * channels + channel;
                for (to, &code) in values[start..].iter_mut().step_by(channels.max(1)).zip(line) {
                    *to = difference(code, zero)?;
                }
            }
        }
        Ok(Self { values, width: padded, channels })
    }
}

fn difference(code: i32, zero: i32) -> Result<i16, QuantError> {
    let wide = code.wrapping_sub(zero);
    i16::try_from(wide).map_err(|_| QuantError::Setting {
        key: "code",
        value: code.to_string(),
        allowed: format!("within 32767 of its zero point {zero}"),
    })
}
