use super::super::finish::Finish;
use super::super::plan::BLOCK;
use super::POSITIONS;
use super::gather::Windows;
use crate::simd::{Kernel, Simd};

/// `B^T d B` of every window: from the scratch image to position, block of channels, window, channel.
pub(super) struct Input<'a> {
    pub windows: &'a Windows,
    /// The scratch image, at the first window.
    pub source: *const f32,
    pub target: *mut f32,
}

impl Kernel for Input<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let w = self.windows;
        for block in 0..w.blocks {
            for row in 0..w.rows {
                for col in 0..w.cols {
                    for lane in (0..BLOCK).step_by(S::LANES) {
                        // SAFETY: the scratch image has two slots more than there are outputs along either axis,
                        // rounded up; the target has a block for every position and window.
                        unsafe {
                            let at = block * w.block_len + 2 * row * w.source_row + 2 * col * BLOCK + lane;
                            let source = self.source.add(at);
                            let to =
                                self.target.add((block * w.capacity + row * w.cols + col) * BLOCK + lane);
                            let mut d = [[s.zero(); 4]; 4];
                            for (i, d) in d.iter_mut().enumerate() {
                                let v: [S::V; 4] =
                                    std::array::from_fn(|j| s.load(source.add(i * w.source_row + j * BLOCK)));
                                *d = spread(s, v);
                            }
                            for j in 0..4 {
                                let column = spread(s, d.map(|row| row[j]));
                                for (i, v) in column.into_iter().enumerate() {
                                    s.store(to.add((4 * i + j) * w.input_stride()), v);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `B^T d` of four numbers.
#[inline(always)]
fn spread<S: Simd>(s: S, d: [S::V; 4]) -> [S::V; 4] {
    [s.sub(d[0], d[2]), s.add(d[1], d[2]), s.sub(d[2], d[1]), s.sub(d[1], d[3])]
}

/// `A^T m A` of every window: from position, window, channel to the output.
pub(super) struct Output<'a> {
    pub windows: &'a Windows,
    pub source: *const f32,
    /// First output of the first window.
    pub output: *mut f32,
    /// Numbers between the output's rows.
    pub row: usize,
    pub finish: Finish,
}

impl Kernel for Output<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let w = self.windows;
        for row in 0..w.rows {
            for col in 0..w.cols {
                for channel in (0..w.channels).step_by(S::LANES) {
                    let lanes = S::LANES.min(w.channels - channel);
                    // SAFETY: the source has `padded` channels for every position and window; outputs are written
                    // below the numbers of rows and columns only.
                    unsafe {
                        let from = self.source.add((row * w.cols + col) * w.padded + channel);
                        let mut m = [[s.zero(); 2]; 4];
                        for (i, m) in m.iter_mut().enumerate() {
                            let v: [S::V; 4] =
                                std::array::from_fn(|j| s.load(from.add((4 * i + j) * w.output_stride())));
                            *m = gather(s, v);
                        }
                        let left = gather(s, [m[0][0], m[1][0], m[2][0], m[3][0]]);
                        let right = gather(s, [m[0][1], m[1][1], m[2][1], m[3][1]]);
                        for i in 0..2.min(w.height - 2 * row) {
                            let at = (2 * row + i) * self.row + 2 * col * w.channels + channel;
                            // Channels move the bias too, rows and columns only what has the output's shape.
                            let finish = self.finish.advance(channel, at - channel);
                            let output = self.output.add(at);
                            if 2 * col + 1 < w.width {
                                finish.apply(s, [left[i], right[i]], output, w.channels, lanes);
                            } else {
                                finish.apply(s, [left[i]], output, w.channels, lanes);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `A^T m` of four numbers.
#[inline(always)]
fn gather<S: Simd>(s: S, m: [S::V; 4]) -> [S::V; 2] {
    [s.add(s.add(m[0], m[1]), m[2]), s.sub(s.sub(m[1], m[2]), m[3])]
}

/// `A y A^T` of every 2×2 outputs: from the output's gradient to position, window, channel.
pub(super) struct Gradient<'a> {
    pub windows: &'a Windows,
    pub source: *const f32,
    /// Numbers between the gradient's rows.
    pub row: usize,
    pub target: *mut f32,
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let w = self.windows;
        for row in 0..w.rows {
            for col in 0..w.cols {
                for channel in (0..w.channels).step_by(S::LANES) {
                    let lanes = S::LANES.min(w.channels - channel);
                    // SAFETY: as for `Output`, the other way.
                    unsafe {
                        let read = |i: usize, j: usize| {
                            if 2 * row + i >= w.height || 2 * col + j >= w.width {
                                return s.zero();
                            }
                            let from = self
                                .source
                                .add((2 * row + i) * self.row + (2 * col + j) * w.channels + channel);
                            if lanes == S::LANES { s.load(from) } else { s.load_partial(from, lanes) }
                        };
                        let upper = scatter(s, [read(0, 0), read(0, 1)]);
                        let lower = scatter(s, [read(1, 0), read(1, 1)]);
                        let to = self.target.add((row * w.cols + col) * w.padded + channel);
                        for j in 0..4 {
                            let column = scatter(s, [upper[j], lower[j]]);
                            for (i, v) in column.into_iter().enumerate() {
                                s.store(to.add((4 * i + j) * w.output_stride()), v);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `A y` of two numbers.
#[inline(always)]
fn scatter<S: Simd>(s: S, y: [S::V; 2]) -> [S::V; 4] {
    [y[0], s.add(y[0], y[1]), s.sub(y[0], y[1]), s.sub(s.zero(), y[1])]
}

/// `G g G^T` of a kernel.
pub(super) fn kernel(g: [[f32; 3]; 3]) -> [f32; POSITIONS] {
    let spread = |g: [f32; 3]| [g[0], 0.5 * (g[0] + g[1] + g[2]), 0.5 * (g[0] - g[1] + g[2]), g[2]];
    let rows = g.map(spread);
    let mut u = [0.0; POSITIONS];
    for j in 0..4 {
        for (i, v) in spread([rows[0][j], rows[1][j], rows[2][j]]).into_iter().enumerate() {
            u[4 * i + j] = v;
        }
    }
    u
}

/// `G^T u G`: the gradient of a kernel.
pub(super) fn kernel_gradient(u: [f32; POSITIONS]) -> [[f32; 3]; 3] {
    let gather = |u: [f32; 4]| {
        let (sum, difference) = (0.5 * (u[1] + u[2]), 0.5 * (u[1] - u[2]));
        [u[0] + sum, difference, sum + u[3]]
    };
    let rows: [[f32; 3]; 4] =
        std::array::from_fn(|i| gather([u[4 * i], u[4 * i + 1], u[4 * i + 2], u[4 * i + 3]]));
    let columns: [[f32; 3]; 3] =
        std::array::from_fn(|j| gather([rows[0][j], rows[1][j], rows[2][j], rows[3][j]]));
    std::array::from_fn(|i| std::array::from_fn(|j| columns[j][i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gradient_is_the_transpose_of_the_kernel_transform() {
        // <G g G^T, u> = <g, G^T u G> for unit kernels and positions.
        for k in 0..9 {
            let mut g = [[0.0; 3]; 3];
            g[k / 3][k % 3] = 1.0;
            for position in 0..POSITIONS {
                let mut u = [0.0; POSITIONS];
                u[position] = 1.0;
                assert_eq!(kernel(g)[position], kernel_gradient(u)[k / 3][k % 3]);
            }
        }
    }
}
