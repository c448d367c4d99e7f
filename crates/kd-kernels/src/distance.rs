//! Sums of absolute differences: a matrix product whose multiplication is a distance.

use crate::error::{KernelError, elements, length};
use crate::simd::{Kernel, Level, Simd, dispatch};

/// Sizes of $y_{mn} = -\sum_k |a_{mk} - b_{kn}|$: `a` `[rows, inner]`, `b` `[inner, columns]`, `y` `[rows, columns]`.
///
/// Runs on the thread that calls it. Rows of `b` and `y` that lie a multiple of 4 KiB apart share a few sets of the cache: a number of columns that is an
/// odd multiple of 16 is fastest.
///
/// Chen et al., *AdderNet: Do We Really Need Multiplications in Deep Learning?*, CVPR 2020, has it as a layer.
///
/// ```
/// use kd_kernels::distance::Distances;
///
/// let sizes = Distances { rows: 1, inner: 2, columns: 2 };
/// let mut y = [0.0; 2];
/// sizes.forward(&[1.0, 2.0], &[1.0, 4.0, 0.0, 2.0], &mut y)?;
/// assert_eq!(y, [-2.0, -3.0]);
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distances {
    /// Rows of `a` and of `y`.
    pub rows: usize,
    /// Numbers that are compared.
    pub inner: usize,
    /// Columns of `b` and of `y`.
    pub columns: usize,
}

impl Distances {
    /// `y`.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn forward(&self, a: &[f32], b: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        self.check(("a", a.len()), ("b", b.len()), ("y", y.len()))?;
        dispatch(Level::current(), Forward { sizes: *self, a, b, y });
        Ok(())
    }

    /// The gradient of `b` as AdderNet has it, $\sum_m g_{mn}\,\mathrm{clamp}(a_{mk} - b_{kn}, -1, 1)$ with $g$ = `dy`: the slope of the distance where two
    /// numbers are far apart, and no jump where they meet.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    pub fn clamped_gradient(
        &self,
        a: &[f32],
        b: &[f32],
        dy: &[f32],
        db: &mut [f32],
    ) -> Result<(), KernelError> {
        self.check(("a", a.len()), ("b", b.len()), ("dy", dy.len()))?;
        length("db", db.len(), b.len())?;
        dispatch(Level::current(), Gradient { sizes: *self, a, b, dy, db });
        Ok(())
    }

    fn check(
        &self,
        a: (&'static str, usize),
        b: (&'static str, usize),
        y: (&'static str, usize),
    ) -> Result<(), KernelError> {
        length(a.0, a.1, elements(a.0, &[self.rows, self.inner])?)?;
        length(b.0, b.1, elements(b.0, &[self.inner, self.columns])?)?;
        length(y.0, y.1, elements(y.0, &[self.rows, self.columns])?)
    }
}

/// A result that is computed in tiles of some rows and vectors, each kept in registers.
trait Tiled {
    /// Computes rows `row..row + R` and `C` vectors from `column` on, of which the last has `n` lanes within the matrix.
    ///
    /// # Safety
    /// The tile lies within the result, and every slice is as long as its shape says.
    unsafe fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        s: S,
        row: usize,
        column: usize,
        n: usize,
    );
}

/// Covers a result of `rows` x `columns` with tiles of `R` rows and two vectors, and with smaller ones at its ends.
#[inline(always)]
fn cover<S: Simd, const R: usize>(tiled: &mut impl Tiled, s: S, rows: usize, columns: usize) {
    let mut column = 0;
    while column < columns {
        let left = columns - column;
        let mut row = 0;
        // SAFETY: rows and lanes are those that are left; `check` has compared all lengths with the shapes.
        unsafe {
            if left >= 2 * S::LANES {
                while row + R <= rows {
                    tiled.tile::<S, R, 2>(s, row, column, S::LANES);
                    row += R;
                }
                (row..rows).for_each(|row| tiled.tile::<S, 1, 2>(s, row, column, S::LANES));
            } else {
                let n = left.min(S::LANES);
                while row + R <= rows {
                    tiled.tile::<S, R, 1>(s, row, column, n);
                    row += R;
                }
                (row..rows).for_each(|row| tiled.tile::<S, 1, 1>(s, row, column, n));
            }
        }
        column += if left >= 2 * S::LANES { 2 * S::LANES } else { S::LANES };
    }
}

/// Reads `C` vectors, of the last only `n` lanes.
///
/// # Safety
/// So many numbers can be read at `ptr`.
#[inline(always)]
unsafe fn vectors<S: Simd, const C: usize>(s: S, ptr: *const f32, n: usize) -> [S::V; C] {
    // SAFETY: as the caller says.
    std::array::from_fn(|c| unsafe {
        if c + 1 < C || n == S::LANES {
            s.load(ptr.add(c * S::LANES))
        } else {
            s.load_partial(ptr.add(c * S::LANES), n)
        }
    })
}

/// Writes `C` vectors, of the last only `n` lanes.
///
/// # Safety
/// So many numbers can be written at `ptr`.
#[inline(always)]
unsafe fn write<S: Simd, const C: usize>(s: S, ptr: *mut f32, values: [S::V; C], n: usize) {
    for (c, value) in values.into_iter().enumerate() {
        let lanes = if c + 1 < C { S::LANES } else { n };
        // SAFETY: as the caller says.
        unsafe { s.store_partial(ptr.add(c * S::LANES), value, lanes) };
    }
}

struct Forward<'a> {
    sizes: Distances,
    a: &'a [f32],
    b: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Distances { rows, columns, .. } = self.sizes;
        cover::<S, 4>(&mut self, s, rows, columns);
    }
}

impl Tiled for Forward<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        s: S,
        row: usize,
        column: usize,
        n: usize,
    ) {
        let Distances { inner, columns, .. } = self.sizes;
        let (a, b, y) = (self.a.as_ptr(), self.b.as_ptr(), self.y.as_mut_ptr());
        let mut sums = [[s.zero(); C]; R];
        // SAFETY: row `row + r` of `a` and `y`, row `k` of `b`, and the tile's columns exist.
        unsafe {
            for k in 0..inner {
                let x: [S::V; C] = vectors(s, b.add(k * columns + column), n);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let w = s.splat(*a.add((row + r) * inner + k));
                    for (sum, &x) in sums.iter_mut().zip(&x) {
                        *sum = s.sub(*sum, s.abs(s.sub(w, x)));
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                write(s, y.add((row + r) * columns + column), sums, n);
            }
        }
    }
}

struct Gradient<'a> {
    sizes: Distances,
    a: &'a [f32],
    b: &'a [f32],
    dy: &'a [f32],
    db: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Distances { inner, columns, .. } = self.sizes;
        cover::<S, 2>(&mut self, s, inner, columns);
    }
}

impl Tiled for Gradient<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        s: S,
        row: usize,
        column: usize,
        n: usize,
    ) {
        let Distances { rows, inner, columns } = self.sizes;
        let (a, b, dy, db) = (self.a.as_ptr(), self.b.as_ptr(), self.dy.as_ptr(), self.db.as_mut_ptr());
        let (least, most) = (s.splat(-1.0), s.splat(1.0));
        let mut sums = [[s.zero(); C]; R];
        // SAFETY: column `row + r` of `a`, that row of `b` and `db`, row `m` of `dy`, and the tile's columns exist.
        unsafe {
            let x: [[S::V; C]; R] =
                std::array::from_fn(|r| vectors(s, b.add((row + r) * columns + column), n));
            for m in 0..rows {
                let up: [S::V; C] = vectors(s, dy.add(m * columns + column), n);
                for (r, (sums, x)) in sums.iter_mut().zip(&x).enumerate() {
                    let w = s.splat(*a.add(m * inner + row + r));
                    for (sum, (&x, &up)) in sums.iter_mut().zip(x.iter().zip(&up)) {
                        *sum = s.fma(up, s.max(least, s.min(most, s.sub(w, x))), *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                write(s, db.add((row + r) * columns + column), sums, n);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_close, at_every_level, cases, numbers};

    proptest! {
        #![proptest_config(cases(64))]

        #[test]
        fn distances_and_their_gradient_are_what_their_formulas_say(
            rows in 0usize..11,
            inner in 0usize..9,
            columns in 0usize..70,
            seed in 0u32..1000,
        ) {
            // One number in front, so that nothing is aligned.
            let values = |seed, len: usize| numbers(seed, len + 1).iter().map(|x| 2.0 * x).collect::<Vec<_>>();
            let (a, b, g) = (values(seed, rows * inner), values(seed + 1, inner * columns), values(seed + 2, rows * columns));
            let (a, b, g) = (&a[1..], &b[1..], &g[1..]);
            let difference = |m: usize, k: usize, n: usize| f64::from(a[m * inner + k] - b[k * columns + n]);
            let mut y = Vec::new();
            for (m, n) in (0..rows).flat_map(|m| (0..columns).map(move |n| (m, n))) {
                y.push(-(0..inner).map(|k| difference(m, k, n).abs()).sum::<f64>());
            }
            let mut db = Vec::new();
            for (k, n) in (0..inner).flat_map(|k| (0..columns).map(move |n| (k, n))) {
                let slope = |m: usize| f64::from(g[m * columns + n]) * difference(m, k, n).clamp(-1.0, 1.0);
                db.push((0..rows).map(slope).sum::<f64>());
            }
            let sizes = Distances { rows, inner, columns };
            at_every_level(|| {
                let mut got = vec![f32::NAN; y.len()];
                sizes.forward(a, b, &mut got).unwrap();
                assert_close("y", &got, &y, 1e-6);
                let mut got = vec![f32::NAN; db.len()];
                sizes.clamped_gradient(a, b, g, &mut got).unwrap();
                assert_close("db", &got, &db, 1e-6);
            });
        }
    }

    #[test]
    fn a_slice_of_another_length_is_refused() {
        let sizes = Distances { rows: 2, inner: 3, columns: 4 };
        let error = sizes.forward(&[0.0; 6], &[0.0; 11], &mut [0.0; 8]).unwrap_err();
        assert_eq!(error, KernelError::Length { name: "b", got: 11, wanted: 12 });
        assert!(sizes.clamped_gradient(&[0.0; 6], &[0.0; 12], &[0.0; 8], &mut [0.0; 11]).is_err());
    }
}
