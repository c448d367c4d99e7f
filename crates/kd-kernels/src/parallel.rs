//! How work is split over the threads of the current rayon pool.

use std::ops::Range;

use rayon::prelude::*;

/// Below this many numbers a task costs more to hand over than to do.
const LEAST: usize = 1 << 14;

/// Several tasks per thread, so that a thread that was interrupted delays the others less.
const TASKS_PER_THREAD: usize = 4;

/// Runs `work` on a thread of the current rayon pool: a kernel called there splits its work at once. Called from elsewhere, every kernel has to wake a
/// thread of the pool and to be woken by it, which takes longer than a layer of one image.
///
/// ```
/// let sum: u64 = kd_kernels::on_pool(|| (1..=4).sum());
/// assert_eq!(sum, 10);
/// ```
pub fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Rows (of `width` numbers) per task: the same for every run with as many threads, therefore sums are too.
pub(crate) fn rows_per_task(rows: usize, width: usize) -> usize {
    let tasks = TASKS_PER_THREAD * rayon::current_num_threads();
    rows.div_ceil(tasks).max(LEAST.div_ceil(width.max(1))).max(1)
}

/// Calls `f(task, part)` for every `step` elements. A single part doesn't leave the thread: waking another takes longer than a small layer.
pub(crate) fn for_each_chunk<T: Send>(slice: &mut [T], step: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    if slice.len() > step {
        slice.par_chunks_mut(step).enumerate().for_each(|(task, part)| f(task, part));
    } else if !slice.is_empty() {
        f(0, slice);
    }
}

/// As [`for_each_chunk`], over two slices that are split into equally many parts, each by a step of its own.
pub(crate) fn for_each_pair<T: Send, U: Send>(
    (first, first_step): (&mut [T], usize),
    (second, second_step): (&mut [U], usize),
    f: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    if first.len() > first_step {
        let parts = first.par_chunks_mut(first_step).zip(second.par_chunks_mut(second_step));
        parts.enumerate().for_each(|(task, (first, second))| f(task, first, second));
    } else if !first.is_empty() {
        f(0, first, second);
    }
}

/// As [`for_each_chunk`], over numbers below `len`.
pub(crate) fn for_each_range(len: usize, step: usize, f: impl Fn(Range<usize>) + Sync) {
    if len > step {
        let start = (0..len.div_ceil(step)).into_par_iter().map(|task| task * step);
        start.for_each(|start| f(start..len.min(start + step)));
    } else if len > 0 {
        f(0..len);
    }
}

/// A pointer that several tasks write through, each in a range of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: a plain address; whoever writes through it promises that no two tasks touch the same element.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Takes the slice for as long as the tasks run.
    pub fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// The address of an element.
    ///
    /// # Safety
    /// `index` is at most the length of the slice.
    #[inline(always)]
    pub unsafe fn at(self, index: usize) -> *mut f32 {
        // SAFETY: the caller's.
        unsafe { self.0.add(index) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_part_is_visited_once_with_its_number() {
        for (len, step) in [(0, 3), (2, 3), (3, 3), (4, 3), (10, 3)] {
            let (mut parts, mut pairs, mut halves) = (vec![0; len], vec![0; 2 * len], vec![0; len]);
            let number = |task: usize, part: &mut [usize]| part.iter_mut().for_each(|x| *x += task + 1);
            for_each_chunk(&mut parts, step, number);
            for_each_pair((&mut pairs, 2 * step), (&mut halves, step), |task, pairs, halves| {
                number(task, pairs);
                number(task, halves);
            });
            let wanted: Vec<usize> = (0..len).map(|i| i / step + 1).collect();
            assert_eq!((&parts, &halves), (&wanted, &wanted));
            let ranges = std::sync::Mutex::new(Vec::new());
            for_each_range(len, step, |range| ranges.lock().unwrap().extend(range));
            let mut covered = ranges.into_inner().unwrap();
            covered.sort_unstable();
            assert_eq!(covered, (0..len).collect::<Vec<_>>());
            assert_eq!(pairs, (0..2 * len).map(|i| i / (2 * step) + 1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn tasks_cover_all_rows_and_are_never_tiny() {
        for (rows, width) in [(0, 4), (1, 1), (1000, 3), (1 << 20, 64), (7, 1 << 20), (5, 0)] {
            let step = rows_per_task(rows, width);
            let tasks = rows.div_ceil(step);
            assert!(step * tasks >= rows && tasks <= TASKS_PER_THREAD * rayon::current_num_threads());
            assert!(tasks <= 1 || step * width >= LEAST, "{rows}x{width}: {step}");
        }
    }
}
