//! Several slices changed together, element by element.

use crate::parallel::{Shared, for_each_range, rows_per_task};
use crate::simd::{Kernel, Level, Simd, dispatch};

/// New values of `M` slices from the old ones and the gradient.
pub(super) trait Update<const M: usize>: Copy + Send + Sync {
    /// Lane by lane; `#[inline(always)]`.
    fn apply<S: Simd>(self, s: S, gradient: S::V, values: [S::V; M]) -> [S::V; M];
}

/// Applies `f` everywhere. All slices are of the same length: the caller has checked.
pub(super) fn update<const M: usize>(f: impl Update<M>, gradient: &[f32], values: [&mut [f32]; M]) {
    debug_assert!(values.iter().all(|slice| slice.len() == gradient.len()));
    let values = values.map(Shared::new);
    let (level, step) = (Level::current(), rows_per_task(gradient.len(), 1));
    for_each_range(gradient.len(), step, |range| {
        // SAFETY: the slices are as long as the gradient, and each task has a range of its own.
        let values = values.map(|slice| unsafe { slice.at(range.start) });
        let gradient = &gradient[range];
        dispatch(level, Run { f, gradient, values });
    });
}

/// As many numbers as `gradient` has can be read and written at each of `values`, which do not overlap.
struct Run<'a, U, const M: usize> {
    f: U,
    gradient: &'a [f32],
    values: [*mut f32; M],
}

impl<const M: usize, U: Update<M>> Kernel for Run<'_, U, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let whole = self.gradient.len() - self.gradient.len() % S::LANES;
        let gradient = self.gradient.as_ptr();
        // SAFETY: indices stay below the length of the gradient.
        unsafe {
            let mut i = 0;
            while i < whole {
                let old = self.values.map(|slice| s.load(slice.add(i)));
                let new = self.f.apply(s, s.load(gradient.add(i)), old);
                for (slice, v) in self.values.into_iter().zip(new) {
                    s.store(slice.add(i), v);
                }
                i += S::LANES;
            }
            let n = self.gradient.len() - whole;
            let old = self.values.map(|slice| s.load_partial(slice.add(i), n));
            let new = self.f.apply(s, s.load_partial(gradient.add(i), n), old);
            for (slice, v) in self.values.into_iter().zip(new) {
                s.store_partial(slice.add(i), v, n);
            }
        }
    }
}
