//! Scratch memory that is kept from call to call.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers in a line of memory.
const LINE: usize = 16;

/// A cache line, which is also the widest vector: what every buffer is aligned to.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// A pool of scratch buffers.
///
/// A kernel that needs room for packed weights or partial sums takes it here and gives it back by dropping the guard. After a few calls with the
/// same sizes nothing is allocated any more. One workspace may serve several threads and models at a time.
///
/// ```
/// use kd_kernels::Workspace;
///
/// let workspace = Workspace::new();
/// let first = workspace.take(1000).as_ptr();
/// let second = workspace.take(900); // the first has been given back by now
/// assert_eq!((first, second.len()), (second.as_ptr(), 900));
/// ```
#[derive(Default)]
pub struct Workspace {
    free: Mutex<Vec<Vec<Line>>>,
}

impl Workspace {
    /// An empty pool.
    #[must_use]
    pub const fn new() -> Self {
        Self { free: Mutex::new(Vec::new()) }
    }

    /// A buffer of `len` numbers at a multiple of 64 bytes. They have arbitrary values, left by whoever used it before.
    ///
    /// The smallest free buffer that suffices is used; if none does, the largest is replaced, so that there are never more buffers than were in
    /// use at one time.
    #[must_use]
    pub fn take(&self, len: usize) -> Scratch<'_> {
        let lines = len.div_ceil(LINE);
        let buffer = self.pop(lines).unwrap_or_else(|| vec![Line([0.0; LINE]); lines]);
        Scratch { workspace: self, buffer, len }
    }

    /// As [`take`](Self::take), filled with zeros.
    #[must_use]
    pub fn take_zeroed(&self, len: usize) -> Scratch<'_> {
        let mut scratch = self.take(len);
        scratch.fill(0.0);
        scratch
    }

    /// Bytes that are waiting in the pool, not counting buffers in use.
    #[must_use]
    pub fn idle_bytes(&self) -> usize {
        self.lock().iter().map(|buffer| size_of_val(buffer.as_slice())).sum()
    }

    /// Gives the idle buffers back to the system.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn pop(&self, lines: usize) -> Option<Vec<Line>> {
        let mut free = self.lock();
        let fitting = free.iter().enumerate().filter(|(_, buffer)| buffer.len() >= lines);
        if let Some((index, _)) = fitting.min_by_key(|(_, buffer)| buffer.len()) {
            return Some(free.swap_remove(index));
        }
        let largest =
            free.iter().enumerate().max_by_key(|(_, buffer)| buffer.len()).map(|(index, _)| index)?;
        let too_small = free.swap_remove(largest);
        drop((free, too_small)); // before the larger one is allocated
        None
    }

    /// A pool is a list of plain numbers: it is whole even if a thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Line>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Workspace").field("idle_bytes", &self.idle_bytes()).finish()
    }
}

/// A buffer on loan from a [`Workspace`]: a slice of numbers. Dropping it gives it back.
pub struct Scratch<'a> {
    workspace: &'a Workspace,
    buffer: Vec<Line>,
    len: usize,
}

impl Deref for Scratch<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is an array of 16 numbers without padding, `buffer` owns at least `len` of them, all initialised.
        unsafe { std::slice::from_raw_parts(self.buffer.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Scratch<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the borrow of `self` is unique.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.as_mut_ptr().cast(), self.len) }
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        self.workspace.lock().push(std::mem::take(&mut self.buffer));
    }
}

impl std::fmt::Debug for Scratch<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scratch").field("len", &self.len).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_starts_at_a_cache_line_and_can_be_written_to_its_end() {
        let workspace = Workspace::new();
        for len in [0, 1, 15, 16, 17, 1000] {
            let mut scratch = workspace.take(len);
            assert_eq!((scratch.len(), scratch.as_ptr() as usize % 64), (len, 0));
            scratch.fill(1.0);
            assert_eq!(scratch.iter().sum::<f32>(), len as f32);
        }
    }

    #[test]
    fn two_buffers_in_use_do_not_overlap() {
        let workspace = Workspace::new();
        let (mut first, mut second) = (workspace.take(100), workspace.take(100));
        first.fill(1.0);
        second.fill(2.0);
        assert!(first.iter().all(|&x| x == 1.0) && second.iter().all(|&x| x == 2.0));
    }

    #[test]
    fn the_pool_stops_growing_once_the_sizes_repeat() {
        let workspace = Workspace::new();
        let step = || {
            let _long = workspace.take(3200);
            let _short = workspace.take(160);
            drop(workspace.take(320));
        };
        step();
        step();
        let bytes = workspace.idle_bytes();
        step();
        assert_eq!(workspace.idle_bytes(), bytes);
        assert!(bytes <= 4 * (3200 + 320 + 320), "{bytes}");
        workspace.clear();
        assert_eq!(workspace.idle_bytes(), 0);
    }

    #[test]
    fn a_recycled_buffer_is_zeroed_on_request_only() {
        let workspace = Workspace::new();
        workspace.take(32).fill(3.0);
        assert!(workspace.take(32).iter().all(|&x| x == 3.0));
        assert!(workspace.take_zeroed(20).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn threads_share_a_pool() {
        let workspace = Workspace::new();
        std::thread::scope(|scope| {
            for value in [1.0, 2.0, 3.0] {
                let workspace = &workspace;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let mut scratch = workspace.take(64);
                        scratch.fill(value);
                        assert!(scratch.iter().all(|&x| x == value));
                    }
                });
            }
        });
        assert!(workspace.idle_bytes() <= 3 * 256);
    }
}
