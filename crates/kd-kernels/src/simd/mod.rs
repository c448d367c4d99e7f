//! Vectors of `f32`, one generic source for every instruction set.
//!
//! A kernel is written once against [`Simd`] and compiled for every level:
//!
//! ```
//! use kd_kernels::simd::{Kernel, Level, Simd, dispatch};
//!
//! struct Scale<'a>(&'a mut [f32], f32);
//!
//! impl Kernel for Scale<'_> {
//!     type Output = ();
//!     #[inline(always)]
//!     fn run<S: Simd>(self, s: S) {
//!         let factor = s.splat(self.1);
//!         let (ptr, len) = (self.0.as_mut_ptr(), self.0.len());
//!         let whole = len - len % S::LANES;
//!         // SAFETY: every access stays below `len`.
//!         unsafe {
//!             for i in (0..whole).step_by(S::LANES) {
//!                 s.store(ptr.add(i), s.mul(s.load(ptr.add(i)), factor));
//!             }
//!             let tail = s.load_partial(ptr.add(whole), len - whole);
//!             s.store_partial(ptr.add(whole), s.mul(tail, factor), len - whole);
//!         }
//!     }
//! }
//!
//! let mut x = [1.0; 19];
//! dispatch(Level::current(), Scale(&mut x, 2.0));
//! assert_eq!(x, [2.0; 19]);
//! ```
//!
//! `run` and all that it calls must be `#[inline(always)]`: the instructions are enabled on the one
//! function that [`dispatch`] enters, and only what is inlined there is compiled with them.
//! A public operation reads [`Level::current`] once, on the caller's thread, and passes it to its tasks.

mod level;
mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(test)]
mod tests;

pub use level::{Kernel, Level, dispatch, with_level};

mod sealed {
    pub trait Sealed {}
}

/// One instruction set. A value is the proof that the processor has it: only [`dispatch`] makes one,
/// therefore arithmetic is safe and just the memory accesses are not.
///
/// Sealed: implemented for the levels of [`Level`].
#[allow(clippy::missing_safety_doc)] // one contract for all accesses, stated on `load`
pub trait Simd: Copy + Send + Sync + sealed::Sealed + 'static {
    /// Numbers in a vector.
    const LANES: usize;
    /// Vector registers of the instruction set: what a micro-kernel can keep without spilling.
    const REGISTERS: usize;
    /// A vector of [`LANES`](Simd::LANES) numbers.
    type V: Copy;

    /// The same number in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Zero in every lane.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
    /// Reads a whole vector.
    ///
    /// # Safety
    /// `LANES` numbers (for the partial forms `n <= LANES`) can be accessed at `ptr`, unaligned.
    unsafe fn load(self, ptr: *const f32) -> Self::V;
    /// Writes a whole vector; safety as for [`load`](Simd::load).
    unsafe fn store(self, ptr: *mut f32, v: Self::V);
    /// Reads the first `n <= LANES` lanes, zero in the others; memory behind them isn't touched.
    unsafe fn load_partial(self, ptr: *const f32, n: usize) -> Self::V;
    /// Writes the first `n <= LANES` lanes; memory behind them isn't touched.
    unsafe fn store_partial(self, ptr: *mut f32, v: Self::V, n: usize);

    /// Asks for the cache line at `ptr`, soon to be used; any address is allowed.
    #[inline(always)]
    fn prefetch(self, _ptr: *const f32) {}

    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set has it and twice on the portable level.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: `b` when one of them is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: `b` when one of them is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The magnitude.
    fn abs(self, a: Self::V) -> Self::V;
    /// Correctly rounded square root.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// The nearest whole number, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^n` for whole `n` in -126..=127.
    fn exp2_whole(self, n: Self::V) -> Self::V;
    /// `if gate > bound { v } else { 0 }`, lane by lane: the gradient of a rectifier.
    fn keep_if_greater(self, gate: Self::V, bound: Self::V, v: Self::V) -> Self::V;
    /// Sum over the lanes, pairwise.
    fn reduce_sum(self, a: Self::V) -> f32;
    /// Largest lane.
    fn reduce_max(self, a: Self::V) -> f32;

    /// `e^x` to 2 units in the last place; the argument is limited to -87.3..=88.7, so that the result
    /// is neither denormal nor infinite. NaN stays NaN.
    ///
    /// Range reduction `x = n ln 2 + r`, then the Taylor polynomial of degree 7 on `|r| <= ln 2 / 2`.
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let x = self.max(self.splat(-87.3), self.min(self.splat(88.7), x));
        let n = self.round(self.mul(x, self.splat(std::f32::consts::LOG2_E)));
        let r = self.fma(n, self.splat(-LN2_HIGH), x);
        let r = self.fma(n, self.splat(-LN2_LOW), r);
        let mut p = self.splat(1.0 / 5040.0);
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = self.fma(p, r, self.splat(c));
        }
        // In two factors, for at the upper end n is 128, one more than an exponent holds.
        let half = self.round(self.mul(n, self.splat(0.5)));
        self.mul(self.mul(p, self.exp2_whole(half)), self.exp2_whole(self.sub(n, half)))
    }
}
