//! Memory of tensors, taken from a pool and given back.
//!
//! A training step makes the same tensors again and again. Fresh memory for each of them costs page faults and a pass of zeros; a buffer that
//! an earlier tensor of the step before has left costs nothing.

use std::mem::MaybeUninit;

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};
use kd_kernels::{Scratch, Workspace};

/// Where all tensors of the kernels live, and their scratch memory.
pub(super) static POOL: Workspace = Workspace::new();

/// Below this many numbers the system's allocator is as good.
const SMALL: usize = 16 * 1024;

/// Room for a tensor's numbers; arbitrary values until written.
pub(super) enum Buffer {
    Small(Vec<f32>),
    Pooled(Scratch<'static>),
}

impl Buffer {
    pub(super) fn new(len: usize) -> Self {
        if len < SMALL { Buffer::Small(vec![0.0; len]) } else { Buffer::Pooled(POOL.take(len)) }
    }

    pub(super) fn slice(&mut self) -> &mut [f32] {
        match self {
            Buffer::Small(numbers) => numbers,
            Buffer::Pooled(scratch) => scratch,
        }
    }

    /// The numbers as burn holds them; dropping the last tensor of them gives the buffer back.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Buffer::Small(numbers) => Bytes::from_elems(numbers),
            Buffer::Pooled(scratch) => {
                let len = size_of_val::<[f32]>(&scratch);
                // SAFETY: the pool's buffers are initialised when they are made, so all `len` bytes are.
                unsafe { Bytes::from_controller(Box::new(Pooled(scratch)), len) }
            }
        }
    }
}

/// A pool's buffer as burn's memory.
struct Pooled(Scratch<'static>);

impl AllocationController for Pooled {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Native
    }

    unsafe fn memory_mut(&mut self, _policy: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        // SAFETY: same address, length and lifetime; the caller promises to write initialised bytes only.
        Ok(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) })
    }

    fn memory(&self, _policy: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.0);
        // SAFETY: same address, length and lifetime; initialised bytes are also possibly initialised ones.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize, value: f32) -> Bytes {
        let mut buffer = Buffer::new(len);
        buffer.slice().fill(value);
        buffer.into_bytes()
    }

    #[test]
    fn both_kinds_hold_what_was_written_to_the_last_byte() {
        for len in [0, 1, 7, SMALL - 1, SMALL, SMALL + 1] {
            let bytes = bytes(len, 1.5);
            let numbers: &[f32] = bytemuck::cast_slice(&bytes);
            assert_eq!(numbers, vec![1.5; len]);
        }
    }

    #[test]
    fn a_clone_is_a_copy_and_writing_to_one_leaves_the_other() {
        let first = bytes(SMALL, 1.0);
        let mut second = first.clone();
        bytemuck::cast_slice_mut::<u8, f32>(&mut second)[SMALL - 1] = 2.0;
        assert_eq!(bytemuck::cast_slice::<u8, f32>(&first)[SMALL - 1], 1.0);
    }
}
