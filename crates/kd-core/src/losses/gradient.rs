//! A check of gradients for the tests of losses.

use burn::tensor::{Device, Tensor};

/// Asserts that the gradient of the sum of `loss`, by autodiff, is its central difference at `x`, within `tolerance` of its largest entry.
#[allow(clippy::unwrap_used, clippy::panic)]
pub(super) fn assert_gradient<const D: usize>(
    shape: [usize; D],
    x: &[f32],
    tolerance: f32,
    loss: impl Fn(Tensor<D>) -> Tensor<1>,
) {
    const STEP: f32 = 3e-3;
    let device = Device::flex().autodiff();
    let tensor = |numbers: &[f32]| Tensor::<1>::from_floats(numbers, &device).reshape(shape);
    let leaf = tensor(x).require_grad();
    let grads = loss(leaf.clone()).sum().backward();
    let gradient = leaf.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap();
    let largest = gradient.iter().fold(0f32, |largest, g| largest.max(g.abs()));
    assert!(largest > 0.0, "the gradient is zero everywhere");
    for (i, g) in gradient.iter().enumerate() {
        let moved = |by: f32| {
            let mut numbers = x.to_vec();
            numbers[i] += by;
            loss(tensor(&numbers)).sum().into_scalar::<f32>()
        };
        let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        assert!((g - difference).abs() <= tolerance * largest, "entry {i}: {g}, by difference {difference}");
    }
}

/// `n` numbers between -1 and 1 without pattern, the same in every run; `seed` chooses the sequence.
pub(super) fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729 + i * i * 31) as f32 * 0.618_034).sin()).collect()
}
