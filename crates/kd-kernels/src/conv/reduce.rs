//! Sums over parts and over positions.

use crate::simd::{Kernel, Level, Simd, dispatch};

/// `sums += part`, of one length.
pub(super) struct AddTo<'a> {
    pub sums: &'a mut [f32],
    pub part: &'a [f32],
}

impl Kernel for AddTo<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.sums.len().min(self.part.len());
        let (to, from) = (self.sums.as_mut_ptr(), self.part.as_ptr());
        for i in (0..len).step_by(S::LANES) {
            let n = S::LANES.min(len - i);
            // SAFETY: `n` numbers are left in both.
            unsafe {
                if n == S::LANES {
                    s.store(to.add(i), s.add(s.load(to.add(i)), s.load(from.add(i))));
                } else {
                    let v = s.add(s.load_partial(to.add(i), n), s.load_partial(from.add(i), n));
                    s.store_partial(to.add(i), v, n);
                }
            }
        }
    }
}

/// Adds the rows of a matrix, `sums.len()` columns, to `sums`.
struct AddRows<'a> {
    rows: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for AddRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let cols = self.sums.len();
        let rows = self.rows.len() / cols;
        let (from, to) = (self.rows.as_ptr(), self.sums.as_mut_ptr());
        for c in (0..cols).step_by(S::LANES) {
            let n = S::LANES.min(cols - c);
            // SAFETY: `n` columns are left in every row and in the sums.
            unsafe {
                let read = |r: usize| {
                    let from = from.add(r * cols + c);
                    if n == S::LANES { s.load(from) } else { s.load_partial(from, n) }
                };
                let mut acc = [s.zero(); 4];
                for r in (0..rows - rows % 4).step_by(4) {
                    for (i, acc) in acc.iter_mut().enumerate() {
                        *acc = s.add(*acc, read(r + i));
                    }
                }
                for r in rows - rows % 4..rows {
                    acc[0] = s.add(acc[0], read(r));
                }
                let sum = s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3]));
                s.store_partial(to.add(c), s.add(s.load_partial(to.add(c), n), sum), n);
            }
        }
    }
}

/// Adds every column of `rows` to the sum in `sums`.
pub(super) fn add_rows(level: Level, rows: &[f32], sums: &mut [f32]) {
    dispatch(level, AddRows { rows, sums });
}
