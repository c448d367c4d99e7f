//! Rectifier and sum, alone and together, forward and backward.
//!
//! Slices of any shape and layout, all of the same length. A gradient passes a rectifier where its *output* is positive, so that the input need not be
//! kept. NaN stays NaN.

mod map;

pub(crate) use map::{Map, map, map_in_place};

use crate::error::{KernelError, length};
use crate::simd::Simd;

/// `y = max(x, 0)`.
///
/// ```
/// let mut y = [0.0; 3];
/// kd_kernels::elementwise::relu(&[-1.0, 0.0, 2.0], &mut y)?;
/// assert_eq!(y, [0.0, 0.0, 2.0]);
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Length`].
pub fn relu(x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
    length("x", x.len(), y.len())?;
    map(Relu, x, [], y);
    Ok(())
}

/// `x = max(x, 0)`.
pub fn relu_in_place(x: &mut [f32]) {
    map_in_place(Relu, x, []);
}

/// Gradient of [`relu`]: `dx = dy` where `y > 0`, else 0.
///
/// # Errors
/// [`KernelError::Length`].
pub fn relu_backward(y: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<(), KernelError> {
    length("y", y.len(), dx.len())?;
    length("dy", dy.len(), dx.len())?;
    map(ReluBackward, dy, [y], dx);
    Ok(())
}

/// As [`relu_backward`], over the gradient that comes in.
///
/// # Errors
/// [`KernelError::Length`].
pub fn relu_backward_in_place(y: &[f32], gradient: &mut [f32]) -> Result<(), KernelError> {
    length("y", y.len(), gradient.len())?;
    map_in_place(ReluBackward, gradient, [y]);
    Ok(())
}

/// `y = a + b`. Its gradient with respect to both is `dy`.
///
/// # Errors
/// [`KernelError::Length`].
pub fn add(a: &[f32], b: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
    length("a", a.len(), y.len())?;
    length("b", b.len(), y.len())?;
    map(Add, a, [b], y);
    Ok(())
}

/// `a = a + b`: also how two gradients of one value are summed.
///
/// # Errors
/// [`KernelError::Length`].
pub fn add_in_place(a: &mut [f32], b: &[f32]) -> Result<(), KernelError> {
    length("b", b.len(), a.len())?;
    map_in_place(Add, a, [b]);
    Ok(())
}

/// `y = max(a + b, 0)`: the end of a residual block. Its gradient with respect to both is [`relu_backward`].
///
/// # Errors
/// [`KernelError::Length`].
pub fn add_relu(a: &[f32], b: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
    length("a", a.len(), y.len())?;
    length("b", b.len(), y.len())?;
    map(AddRelu, a, [b], y);
    Ok(())
}

/// `a = max(a + b, 0)`.
///
/// # Errors
/// [`KernelError::Length`].
pub fn add_relu_in_place(a: &mut [f32], b: &[f32]) -> Result<(), KernelError> {
    length("b", b.len(), a.len())?;
    map_in_place(AddRelu, a, [b]);
    Ok(())
}

/// `out = (a + b)` where `y > 0`, else 0: two gradients that meet behind a rectifier with output `y`.
///
/// # Errors
/// [`KernelError::Length`].
pub fn add_relu_backward(y: &[f32], a: &[f32], b: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    for (name, slice) in [("y", y), ("a", a), ("b", b)] {
        length(name, slice.len(), out.len())?;
    }
    map(AddReluBackward, a, [b, y], out);
    Ok(())
}

#[derive(Clone, Copy)]
struct Relu;

impl Map<0> for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, []: [S::V; 0]) -> S::V {
        s.max(s.zero(), x) // in this order NaN passes
    }
}

#[derive(Clone, Copy)]
struct ReluBackward;

impl Map<1> for ReluBackward {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, dy: S::V, [y]: [S::V; 1]) -> S::V {
        s.keep_if_greater(y, s.zero(), dy)
    }
}

#[derive(Clone, Copy)]
struct Add;

impl Map<1> for Add {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, [b]: [S::V; 1]) -> S::V {
        s.add(a, b)
    }
}

#[derive(Clone, Copy)]
struct AddRelu;

impl Map<1> for AddRelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, [b]: [S::V; 1]) -> S::V {
        s.max(s.zero(), s.add(a, b))
    }
}

#[derive(Clone, Copy)]
struct AddReluBackward;

impl Map<2> for AddReluBackward {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, [b, y]: [S::V; 2]) -> S::V {
        s.keep_if_greater(y, s.zero(), s.add(a, b))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{at_every_level, cases, numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(48))]

        #[test]
        fn every_function_is_its_formula_bit_by_bit(len in 0usize..200, seed: u32, large: bool) {
            let len = if large && !cfg!(miri) { len + (1 << 16) } else { len };
            // Slices that start one element late are not aligned to vectors.
            let all: Vec<_> = (0..3).map(|i| numbers(seed.wrapping_add(i), len + 1)).collect();
            let [a, b, y] = [0, 1, 2].map(|i| &all[i][1..]);
            let each = |f: fn(f32, f32, f32) -> f32| -> Vec<f32> { (0..len).map(|i| f(a[i], b[i], y[i])).collect() };
            at_every_level(|| {
                let mut memory = vec![f32::NAN; len + 1];
                let out = &mut memory[1..];
                relu(a, out).unwrap();
                assert_eq!(out, each(|a, _, _| a.max(0.0)));
                relu_backward(y, a, out).unwrap();
                assert_eq!(out, each(|a, _, y| if y > 0.0 { a } else { 0.0 }));
                add(a, b, out).unwrap();
                assert_eq!(out, each(|a, b, _| a + b));
                add_relu(a, b, out).unwrap();
                assert_eq!(out, each(|a, b, _| (a + b).max(0.0)));
                add_relu_backward(y, a, b, out).unwrap();
                assert_eq!(out, each(|a, b, y| if y > 0.0 { a + b } else { 0.0 }));

                let in_place = |f: &dyn Fn(&mut [f32])| {
                    let mut x = a.to_vec();
                    f(&mut x);
                    x
                };
                assert_eq!(in_place(&relu_in_place), each(|a, _, _| a.max(0.0)));
                assert_eq!(in_place(&|x| add_in_place(x, b).unwrap()), each(|a, b, _| a + b));
                assert_eq!(in_place(&|x| add_relu_in_place(x, b).unwrap()), each(|a, b, _| (a + b).max(0.0)));
                let gated = in_place(&|x| relu_backward_in_place(y, x).unwrap());
                assert_eq!(gated, each(|a, _, y| if y > 0.0 { a } else { 0.0 }));
            });
        }
    }

    #[test]
    fn nan_is_not_hidden_by_a_rectifier() {
        at_every_level(|| {
            let mut y = [0.0; 17];
            relu(&[f32::NAN; 17], &mut y).unwrap();
            assert!(y.iter().all(|y| y.is_nan()));
        });
    }

    #[test]
    fn slices_of_different_lengths_are_refused() {
        let error = add(&[0.0; 3], &[0.0; 4], &mut [0.0; 3]).unwrap_err();
        assert_eq!(error, KernelError::Length { name: "b", got: 4, wanted: 3 });
        assert!(relu_backward_in_place(&[0.0; 2], &mut [0.0; 3]).is_err());
    }
}
