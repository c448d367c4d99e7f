//! Mean over windows.

use super::Pool2d;
use crate::error::KernelError;
use crate::parallel::{for_each_chunk, rows_per_task};
use crate::simd::{Kernel, Level, Simd, dispatch};

impl Pool2d {
    /// The mean of every window. With `count_padding`, padding counts as zeros; else the mean is over what lies on the map. (Even windows have no
    /// padding.)
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn average(&self, x: &[f32], count_padding: bool, y: &mut [f32]) -> Result<(), KernelError> {
        self.check_input("x", x.len())?;
        self.check_output("y", y.len())?;
        let area = self.area.filter(|_| count_padding);
        let (rows, level) = (self.output_rows(), Level::current());
        for_each_chunk(y, rows.per_task * rows.len, |task, y| {
            dispatch(level, Average { pool: self, x, y, first: task * rows.per_task, area });
        });
        Ok(())
    }

    /// Gradient of [`average`](Self::average): every position gets its share of `dy`, summed where windows overlap.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn average_backward(
        &self,
        dy: &[f32],
        count_padding: bool,
        dx: &mut [f32],
    ) -> Result<(), KernelError> {
        self.check_output("dy", dy.len())?;
        self.check_input("dx", dx.len())?;
        let area = self.area.filter(|_| count_padding);
        let (input_len, output_len) = self.image_lengths();
        let (images, level) = (rows_per_task(self.batch, input_len), Level::current());
        for_each_chunk(dx, images * input_len, |task, dx| {
            for (image, dx) in dx.chunks_mut(input_len).enumerate() {
                let start = (task * images + image) * output_len;
                let dy = &dy[start..start + output_len];
                dispatch(level, AverageBackward { pool: self, dy, dx, area });
            }
        });
        Ok(())
    }
}

/// Rows of the output from the row `first`; `area` is what to divide by, the positions on the map if `None`.
struct Average<'a> {
    pool: &'a Pool2d,
    x: &'a [f32],
    y: &'a mut [f32],
    first: usize,
    area: Option<usize>,
}

impl Kernel for Average<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { pool, x, y, first, area } = self;
        let [_, height, width, channels] = pool.input_shape();
        let out_rows = pool.rows.windows.len();
        for (row, y) in y.chunks_mut(pool.columns.windows.len() * channels).enumerate() {
            let image = (first + row) / out_rows;
            let vertical = pool.rows.windows[(first + row) % out_rows];
            for (horizontal, y) in pool.columns.windows.iter().zip(y.chunks_mut(channels)) {
                let corner = ((image * height + vertical.start) * width + horizontal.start) * channels;
                let share = share(area.unwrap_or(vertical.count * horizontal.count));
                let mut c = 0;
                while c < channels {
                    let n = S::LANES.min(channels - c);
                    // SAFETY: spans lie on the map, `c + n <= channels`, and `x` is as long as the geometry says.
                    unsafe {
                        let corner = x.as_ptr().add(corner + c);
                        let mut total = s.zero();
                        for i in 0..vertical.count {
                            // Line by line: a sum of sums loses less.
                            let line = corner.add(i * pool.rows.step * width * channels);
                            let mut sum = s.zero();
                            for j in 0..horizontal.count {
                                let ptr = line.add(j * pool.columns.step * channels);
                                sum = s.add(
                                    sum,
                                    if n == S::LANES { s.load(ptr) } else { s.load_partial(ptr, n) },
                                );
                            }
                            total = s.add(total, sum);
                        }
                        s.store_partial(y.as_mut_ptr().add(c), s.mul(total, s.splat(share)), n);
                    }
                    c += n;
                }
            }
        }
    }
}

/// One image.
struct AverageBackward<'a> {
    pool: &'a Pool2d,
    dy: &'a [f32],
    dx: &'a mut [f32],
    area: Option<usize>,
}

impl Kernel for AverageBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { pool, dy, dx, area } = self;
        let [_, _, width, channels] = pool.input_shape();
        let tiled = pool.tiled();
        if !tiled {
            dx.fill(0.0); // positions that no window covers, and the start of sums where several do
        }
        let spans = pool.rows.windows.iter().flat_map(|v| pool.columns.windows.iter().map(move |h| (v, h)));
        for (dy, (vertical, horizontal)) in dy.chunks(channels).zip(spans) {
            let share = share(area.unwrap_or(vertical.count * horizontal.count));
            let corner = (vertical.start * width + horizontal.start) * channels;
            let mut c = 0;
            while c < channels {
                let n = S::LANES.min(channels - c);
                // SAFETY: spans lie on the map, `c + n <= channels`, and both slices are whole images.
                unsafe {
                    let gradient = s.mul(s.load_partial(dy.as_ptr().add(c), n), s.splat(share));
                    let corner = dx.as_mut_ptr().add(corner + c);
                    for i in 0..vertical.count {
                        let line = corner.add(i * pool.rows.step * width * channels);
                        for j in 0..horizontal.count {
                            let dx = line.add(j * pool.columns.step * channels);
                            let gradient =
                                if tiled { gradient } else { s.add(s.load_partial(dx, n), gradient) };
                            s.store_partial(dx, gradient, n);
                        }
                    }
                }
                c += n;
            }
        }
    }
}

#[inline(always)]
fn share(positions: usize) -> f32 {
    (positions as f32).recip()
}
