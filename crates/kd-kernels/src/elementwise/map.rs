//! One function of several slices, element by element.

use crate::parallel::{for_each_chunk, rows_per_task};
use crate::simd::{Kernel, Level, Simd, dispatch};

/// A function of one number of the first slice and one of each of `N` others.
pub(crate) trait Map<const N: usize>: Copy + Send + Sync {
    /// Lane by lane; `#[inline(always)]`.
    fn apply<S: Simd>(self, s: S, x: S::V, rest: [S::V; N]) -> S::V;
}

/// `out = f(x, rest)`. All slices are of the same length: the caller has checked.
pub(crate) fn map<const N: usize>(f: impl Map<N>, x: &[f32], rest: [&[f32]; N], out: &mut [f32]) {
    let (level, step) = (Level::current(), rows_per_task(out.len(), 1));
    for_each_chunk(out, step, |task, out| {
        let range = task * step..task * step + out.len();
        let rest = rest.map(|slice| slice[range.clone()].as_ptr());
        let (x, len) = (x[range].as_ptr(), out.len());
        dispatch(level, Run { f, x, rest, out: out.as_mut_ptr(), len });
    });
}

/// `x = f(x, rest)`. All slices are of the same length: the caller has checked.
pub(crate) fn map_in_place<const N: usize>(f: impl Map<N>, x: &mut [f32], rest: [&[f32]; N]) {
    let (level, step) = (Level::current(), rows_per_task(x.len(), 1));
    for_each_chunk(x, step, |task, x| {
        let range = task * step..task * step + x.len();
        let rest = rest.map(|slice| slice[range.clone()].as_ptr());
        let (out, len) = (x.as_mut_ptr(), x.len());
        dispatch(level, Run { f, x: out, rest, out, len });
    });
}

/// `len` numbers can be read from every pointer and written to `out`, which overlaps with no other but possibly all of `x`.
struct Run<M, const N: usize> {
    f: M,
    x: *const f32,
    rest: [*const f32; N],
    out: *mut f32,
    len: usize,
}

impl<const N: usize, M: Map<N>> Kernel for Run<M, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let whole = self.len - self.len % S::LANES;
        // SAFETY: indices stay below `len`, of which the two functions above vouch; each vector is read before it is written.
        unsafe {
            let mut i = 0;
            while i < whole {
                let rest = self.rest.map(|slice| s.load(slice.add(i)));
                s.store(self.out.add(i), self.f.apply(s, s.load(self.x.add(i)), rest));
                i += S::LANES;
            }
            let n = self.len - whole;
            let rest = self.rest.map(|slice| s.load_partial(slice.add(i), n));
            let x = s.load_partial(self.x.add(i), n);
            s.store_partial(self.out.add(i), self.f.apply(s, x, rest), n);
        }
    }
}
