//! Pooling of channels-last maps: maximum and mean over windows, forward and backward.

mod average;
mod max;

#[cfg(test)]
mod tests;

use crate::error::{KernelError, elements, geometry, length};

/// A window that slides over a map, `[height, width]` in each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Size, at least 1.
    pub kernel: [usize; 2],
    /// Step, at least 1.
    pub stride: [usize; 2],
    /// Positions beyond each edge, at most half of the kernel's extent: they never win a maximum, and count for a mean only on request.
    pub padding: [usize; 2],
    /// Distance between the positions of a window, at least 1.
    pub dilation: [usize; 2],
}

impl Window {
    /// Windows of `kernel`×`kernel` side by side, without padding.
    #[must_use]
    pub const fn square(kernel: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [kernel; 2], padding: [0; 2], dilation: [1; 2] }
    }
}

/// Shapes of a pooling: `input` `[batch, height, width, channels]` to `output` `[batch, height', width', channels]`.
///
/// Made once per layer and batch size; it holds the windows of every row and column.
///
/// ```
/// use kd_kernels::pool::{Pool2d, Window};
///
/// let pool = Pool2d::new(1, [2, 4], 1, Window::square(2))?;
/// let mut y = [0.0; 2];
/// pool.max(&[1.0, 2.0, 3.0, 4.0, 8.0, 7.0, 6.0, 5.0], &mut y)?;
/// assert_eq!(y, [8.0, 6.0]);
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool2d {
    batch: usize,
    input: [usize; 2],
    channels: usize,
    rows: Axis,
    columns: Axis,
    /// Positions of a whole window, padding included; `None` where windows differ in size.
    area: Option<usize>,
}

impl Pool2d {
    /// A window that slides over maps of `input` = `[height, width]`. Incomplete steps at the end are left out: the output has
    /// `(input + 2 padding - dilation (kernel - 1) - 1) / stride + 1` positions.
    ///
    /// # Errors
    /// [`KernelError::Geometry`] for a size of 0, a window larger than the padded input, too much padding, or a window with nothing of the input in it.
    pub fn new(
        batch: usize,
        input: [usize; 2],
        channels: usize,
        window: Window,
    ) -> Result<Self, KernelError> {
        let axis = |i: usize| {
            let pick = |[h, w]: [usize; 2]| if i == 0 { h } else { w };
            let Window { kernel, stride, padding, dilation } = window;
            Axis::sliding(pick(input), pick(kernel), pick(stride), pick(padding), pick(dilation))
        };
        let [kernel_h, kernel_w] = window.kernel;
        let area = elements("kernel", &[kernel_h, kernel_w])?;
        Self::of(batch, input, channels, axis(0)?, axis(1)?, Some(area))
    }

    /// As many windows as `output` says, spread evenly: window `i` reaches from `floor(i input / output)` to `ceil((i + 1) input / output)`.
    ///
    /// # Errors
    /// [`KernelError::Geometry`] for a size of 0.
    pub fn adaptive(
        batch: usize,
        input: [usize; 2],
        channels: usize,
        output: [usize; 2],
    ) -> Result<Self, KernelError> {
        let ([input_h, input_w], [output_h, output_w]) = (input, output);
        let (rows, columns) = (Axis::even(input_h, output_h)?, Axis::even(input_w, output_w)?);
        Self::of(batch, input, channels, rows, columns, None)
    }

    /// One window over the whole map: `[batch, channels]`.
    ///
    /// # Errors
    /// [`KernelError::Geometry`] for a size of 0.
    pub fn global(batch: usize, input: [usize; 2], channels: usize) -> Result<Self, KernelError> {
        Self::adaptive(batch, input, channels, [1, 1])
    }

    fn of(
        batch: usize,
        input: [usize; 2],
        channels: usize,
        rows: Axis,
        columns: Axis,
        area: Option<usize>,
    ) -> Result<Self, KernelError> {
        geometry(channels > 0, "channels", channels, "at least 1")?;
        let pool = Self { batch, input, channels, rows, columns, area };
        elements("input", &pool.input_shape())?;
        elements("output", &pool.output_shape())?;
        Ok(pool)
    }

    /// `[batch, height, width, channels]` of what goes in.
    #[must_use]
    pub fn input_shape(&self) -> [usize; 4] {
        let [height, width] = self.input;
        [self.batch, height, width, self.channels]
    }

    /// `[batch, height, width, channels]` of what comes out.
    #[must_use]
    pub fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.rows.windows.len(), self.columns.windows.len(), self.channels]
    }

    /// Whether every position of the map is in exactly one window.
    fn tiled(&self) -> bool {
        let [height, width] = self.input;
        self.rows.tiles(height) && self.columns.tiles(width)
    }

    /// Requires a slice to be as long as the input.
    fn check_input(&self, name: &'static str, len: usize) -> Result<(), KernelError> {
        length(name, len, self.input_shape().iter().product())
    }

    /// Requires a slice to be as long as the output.
    fn check_output(&self, name: &'static str, len: usize) -> Result<(), KernelError> {
        length(name, len, self.output_shape().iter().product())
    }

    /// Numbers of one image that go in and that come out.
    fn image_lengths(&self) -> (usize, usize) {
        let len = |[_, height, width, channels]: [usize; 4]| height * width * channels;
        (len(self.input_shape()), len(self.output_shape()))
    }
}

/// The windows along one direction of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Axis {
    windows: Vec<Span>,
    /// Distance between the positions of a window.
    step: usize,
}

/// The positions of a window that lie on the map: `count` of them from `start`, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    count: usize,
}

impl Axis {
    /// Whether each window starts where the one before has ended.
    fn tiles(&self, input: usize) -> bool {
        let mut end = 0;
        let each = self.windows.iter().all(|&Span { start, count }| {
            let joined = start == end && (self.step == 1 || count == 1);
            end = start + count;
            joined
        });
        each && end == input
    }

    fn sliding(
        input: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        dilation: usize,
    ) -> Result<Self, KernelError> {
        for (name, size) in [("input", input), ("kernel", kernel), ("stride", stride), ("dilation", dilation)]
        {
            geometry(size > 0, name, size, "at least 1")?;
        }
        let extent = elements("dilation times kernel", &[dilation, kernel - 1])? + 1;
        geometry(padding <= extent / 2, "padding", padding, "at most half of the kernel's extent")?;
        let padded = elements("input", &[input])? + 2 * padding;
        geometry(extent <= padded, "kernel", kernel, format!("no larger than the padded input, {padded}"))?;
        let windows = (0..=(padded - extent) / stride).map(|window| {
            let first = window * stride; // counted from the start of the padding
            let skipped = padding.saturating_sub(first).div_ceil(dilation);
            let start = first + skipped * dilation - padding;
            let left = input.saturating_sub(start).div_ceil(dilation);
            let count = left.min(kernel.saturating_sub(skipped));
            geometry(count > 0, "dilation", dilation, "small enough for every window to touch the input")?;
            Ok(Span { start, count })
        });
        Ok(Self { windows: windows.collect::<Result<_, _>>()?, step: dilation })
    }

    fn even(input: usize, output: usize) -> Result<Self, KernelError> {
        geometry(input > 0, "input", input, "at least 1")?;
        geometry(output > 0, "output", output, "at least 1")?;
        elements("input times output", &[input, output])?;
        let window = |i: usize| {
            let start = i * input / output;
            Span { start, count: ((i + 1) * input).div_ceil(output) - start }
        };
        Ok(Self { windows: (0..output).map(window).collect(), step: 1 })
    }
}
