//! How work is split over the threads of the current rayon pool.

/// Below this many numbers a task costs more to hand over than to do.
const LEAST: usize = 1 << 14;

/// Several tasks per thread, so that a thread that was interrupted delays the others less.
const TASKS_PER_THREAD: usize = 4;

/// Rows (of `width` numbers) per task: the same for every run with as many threads, therefore sums are too.
pub(crate) fn rows_per_task(rows: usize, width: usize) -> usize {
    let tasks = TASKS_PER_THREAD * rayon::current_num_threads();
    rows.div_ceil(tasks).max(LEAST.div_ceil(width.max(1))).max(1)
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
    use super::*;

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
