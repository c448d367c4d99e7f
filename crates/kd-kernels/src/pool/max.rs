//! Maximum over windows.

use super::{Pool2d, Span};
use crate::error::{KernelError, geometry, length};
use crate::parallel::{for_each_chunk, for_each_pair, rows_per_task};
use crate::simd::{Kernel, Level, Simd, dispatch};

/// The largest window of which the winner can be noted.
const LARGEST: usize = u16::MAX as usize;

impl Pool2d {
    /// The largest number of every window. (A NaN may or may not win.)
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn max(&self, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        self.check_input("x", x.len())?;
        self.check_output("y", y.len())?;
        let (rows, level) = (self.output_rows(), Level::current());
        for_each_chunk(y, rows.per_task * rows.len, |task, y| {
            let first = task * rows.per_task;
            dispatch(level, Max::<false> { pool: self, x, y, winners: &mut [], first });
        });
        Ok(())
    }

    /// As [`max`](Self::max); notes for every output which position of its window won (the first of equals), for
    /// [`max_backward`](Self::max_backward): neither `x` nor `y` is needed there.
    ///
    /// # Errors
    /// [`KernelError::Length`]; [`KernelError::Geometry`] for windows of more than 65,535 positions.
    pub fn max_with_winners(&self, x: &[f32], y: &mut [f32], winners: &mut [u16]) -> Result<(), KernelError> {
        self.check_input("x", x.len())?;
        self.check_output("y", y.len())?;
        length("winners", winners.len(), y.len())?;
        let largest = |spans: &[Span]| spans.iter().map(|span| span.count).max().unwrap_or(0);
        let area = largest(&self.rows.windows).saturating_mul(largest(&self.columns.windows));
        geometry(area <= LARGEST, "window", area, "at most 65535 positions")?;
        let (rows, level) = (self.output_rows(), Level::current());
        let step = rows.per_task * rows.len;
        for_each_pair((y, step), (winners, step), |task, y, winners| {
            let first = task * rows.per_task;
            dispatch(level, Max::<true> { pool: self, x, y, winners, first });
        });
        Ok(())
    }

    /// Gradient of [`max_with_winners`](Self::max_with_winners): `dy` goes to the winners, all else is 0; where windows overlap, gradients are summed.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn max_backward(&self, dy: &[f32], winners: &[u16], dx: &mut [f32]) -> Result<(), KernelError> {
        self.check_output("dy", dy.len())?;
        length("winners", winners.len(), dy.len())?;
        self.check_input("dx", dx.len())?;
        let (input_len, output_len) = self.image_lengths();
        let (images, level) = (rows_per_task(self.batch, input_len), Level::current());
        for_each_chunk(dx, images * input_len, |task, dx| {
            for (image, dx) in dx.chunks_mut(input_len).enumerate() {
                let start = (task * images + image) * output_len;
                let (dy, winners) = (&dy[start..start + output_len], &winners[start..start + output_len]);
                dispatch(level, MaxBackward { pool: self, dy, winners, dx });
            }
        });
        Ok(())
    }

    /// Rows of the output, all images one after another.
    pub(super) fn output_rows(&self) -> OutputRows {
        let len = self.columns.windows.len() * self.channels;
        let rows = self.batch * self.rows.windows.len();
        // What a row costs is what it reads.
        let [_, height, width, channels] = self.input_shape();
        let read = (height * width * channels).div_ceil(self.rows.windows.len());
        OutputRows { len, per_task: rows_per_task(rows, read) }
    }
}

/// How rows of the output are split.
pub(super) struct OutputRows {
    /// Numbers in a row, at least 1.
    pub len: usize,
    /// Rows per task, at least 1.
    pub per_task: usize,
}

/// Rows of the output from the row `first`.
struct Max<'a, const NOTE: bool> {
    pool: &'a Pool2d,
    x: &'a [f32],
    y: &'a mut [f32],
    winners: &'a mut [u16],
    first: usize,
}

impl<const NOTE: bool> Kernel for Max<'_, NOTE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { pool, x, y, winners, first } = self;
        let [_, height, width, channels] = pool.input_shape();
        let out_rows = pool.rows.windows.len();
        for (row, y) in y.chunks_mut(pool.columns.windows.len() * channels).enumerate() {
            let image = (first + row) / out_rows;
            let vertical = pool.rows.windows[(first + row) % out_rows];
            for (column, y) in y.chunks_mut(channels).enumerate() {
                let horizontal = pool.columns.windows[column];
                let corner = ((image * height + vertical.start) * width + horizontal.start) * channels;
                let place = (row * pool.columns.windows.len() + column) * channels;
                let mut c = 0;
                while c < channels {
                    let n = S::LANES.min(channels - c);
                    // SAFETY: spans lie on the map, `c + n <= channels`, and `x` is as long as the geometry says.
                    unsafe {
                        let at = |ptr: *const f32| {
                            if n == S::LANES { s.load(ptr) } else { s.load_partial(ptr, n) }
                        };
                        let corner = x.as_ptr().add(corner + c);
                        let (mut best, mut winner) = (at(corner), s.zero());
                        let mut position = 0.0;
                        for i in 0..vertical.count {
                            let line = corner.add(i * pool.rows.step * width * channels);
                            for j in 0..horizontal.count {
                                let candidate = at(line.add(j * pool.columns.step * channels));
                                if NOTE {
                                    let gain = s.sub(s.splat(position), winner);
                                    winner = s.add(winner, s.keep_if_greater(candidate, best, gain));
                                    position += 1.0;
                                }
                                best = s.max(candidate, best);
                            }
                        }
                        let y = y.as_mut_ptr().add(c);
                        if n == S::LANES {
                            s.store(y, best)
                        } else {
                            s.store_partial(y, best, n)
                        }
                        if NOTE {
                            let mut lanes = [0.0f32; WIDEST];
                            s.store(lanes.as_mut_ptr(), winner);
                            let winners = winners.as_mut_ptr().add(place + c);
                            for (i, lane) in lanes.into_iter().enumerate().take(n) {
                                winners.add(i).write(lane.to_int_unchecked()); // whole and below 65536
                            }
                        }
                    }
                    c += n;
                }
            }
        }
    }
}

/// Lanes of the widest vector.
const WIDEST: usize = 16;

/// One image.
struct MaxBackward<'a> {
    pool: &'a Pool2d,
    dy: &'a [f32],
    winners: &'a [u16],
    dx: &'a mut [f32],
}

impl Kernel for MaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { pool, dy, winners, dx } = self;
        let [_, _, width, channels] = pool.input_shape();
        let tiled = pool.tiled();
        if !tiled {
            dx.fill(0.0); // positions that no window covers, and the start of sums where several do
        }
        let spans = pool.rows.windows.iter().flat_map(|v| pool.columns.windows.iter().map(move |h| (v, h)));
        for (place, (vertical, horizontal)) in spans.enumerate() {
            let mut c = 0;
            while c < channels {
                let n = S::LANES.min(channels - c);
                let from = place * channels + c;
                let corner = (vertical.start * width + horizontal.start) * channels + c;
                // SAFETY: spans lie on the map, `c + n <= channels`, and all slices are whole images.
                unsafe {
                    let mut lanes = [0.0f32; WIDEST];
                    let winners = winners.as_ptr().add(from);
                    for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                        *lane = winners.add(i).read().into();
                    }
                    let winner = s.load(lanes.as_ptr());
                    let gradient = s.load_partial(dy.as_ptr().add(from), n);
                    let corner = dx.as_mut_ptr().add(corner);
                    let mut position = 0.0;
                    for i in 0..vertical.count {
                        let line = corner.add(i * pool.rows.step * width * channels);
                        for j in 0..horizontal.count {
                            let dx = line.add(j * pool.columns.step * channels);
                            let not_above = s.keep_if_greater(s.splat(position + 0.5), winner, gradient);
                            let mut mine = s.keep_if_greater(winner, s.splat(position - 0.5), not_above);
                            if !tiled {
                                mine = s.add(s.load_partial(dx, n), mine);
                            }
                            s.store_partial(dx, mine, n);
                            position += 1.0;
                        }
                    }
                }
                c += n;
            }
        }
    }
}
