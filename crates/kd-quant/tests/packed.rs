//! The packed integer product against its definition, bit for bit.

#![allow(clippy::unwrap_used)]

use kd_quant::integer::{ConvCodes, PackedWeights, Window, conv2d, matmul};
use proptest::prelude::*;

/// Codes from a seed: proptest chooses shapes, and shrinks them without the numbers.
fn codes(seed: u64, count: usize, range: std::ops::RangeInclusive<i32>) -> Vec<i32> {
    let (low, span) = (*range.start(), (range.end() - range.start() + 1) as u64);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        low + (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as i32 % span as i32
    };
    (0..count).map(|_| next()).collect()
}

fn windows() -> impl Strategy<Value = Window> {
    let pair = || (0..=2_usize, 0..=2_usize);
    (pair(), pair(), 1..=3_usize, 1..=3_usize, 1..=2_usize, 1..=2_usize).prop_map(
        |(rows, columns, a, b, c, d)| Window { stride: [a, b], padding: [rows, columns], dilation: [c, d] },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_packed_convolution_equals_the_definition(
        seed: u64,
        batch in 0..=3_usize,
        groups in 1..=3_usize,
        inputs in 1..=5_usize,
        outputs in 1..=6_usize,
        kernel in (1..=3_usize, 1..=3_usize),
        image in (5..=9_usize, 5..=9_usize),
        window in windows(),
        x_zero in 0..=255_i32,
        per_channel: bool,
        biased: bool,
    ) {
        let (out, channels) = (outputs * groups, inputs * groups);
        let x_shape = [batch, channels, image.0, image.1];
        let w_shape = [out, inputs, kernel.0, kernel.1];
        let x = codes(seed, x_shape.iter().product(), 0..=255);
        let w = codes(seed ^ 1, w_shape.iter().product(), -128..=127);
        let w_zero = codes(seed ^ 2, if per_channel { out } else { 1 }, -128..=127);
        let bias = codes(seed ^ 3, if biased { out } else { 0 }, -100_000..=100_000);
        let reference = conv2d(&ConvCodes {
            x: &x, x_shape, x_zero, w: &w, w_shape, w_zero: &w_zero, bias: &bias, window, groups,
        }).unwrap();
        let packed = PackedWeights::new(&w, w_shape, &w_zero, &bias, window, groups).unwrap();
        prop_assert_eq!(packed.conv2d(&x, x_shape, x_zero).unwrap(), reference);
    }

    #[test]
    fn a_packed_product_equals_the_definition(
        seed: u64,
        m in 0..=70_usize,
        k in 1..=40_usize,
        n in 1..=11_usize,
        x_zero in -128..=127_i32,
        w_zero in -8..=7_i32,
    ) {
        let (x, w) = (codes(seed, m * k, -128..=127), codes(seed ^ 1, k * n, -8..=7));
        let reference = matmul(&x, x_zero, &w, w_zero, [m, k, n]).unwrap();
        let packed = PackedWeights::linear(&w, [k, n], &[w_zero], &[]).unwrap();
        prop_assert_eq!(packed.product(&x, x_zero).unwrap(), reference);
    }
}

#[test]
fn sums_wrap_around_as_the_definition_does() {
    // 70000 products of the greatest differences: beyond i32.
    let (x, w) = (vec![255; 70_000], vec![-128; 70_000]);
    let reference = matmul(&x, -128, &w, 127, [1, 70_000, 1]).unwrap();
    let packed = PackedWeights::linear(&w, [70_000, 1], &[127], &[]).unwrap();
    assert_eq!(packed.product(&x, -128).unwrap(), reference);
    assert!(i64::from(reference[0]) != 383 * -255 * 70_000);
}

#[test]
fn what_does_not_fit_is_refused() {
    let packed = PackedWeights::new(&[1; 8], [2, 1, 2, 2], &[0], &[], Window::default(), 1).unwrap();
    let error = |shape, x: &[i32]| packed.conv2d(x, shape, 0).unwrap_err().to_string();
    assert!(error([1, 2, 2, 2], &[0; 8]).contains("[batch, 1, height, width]"));
    assert!(error([1, 1, 1, 2], &[0; 2]).contains("padded 1x2 image"));
    assert!(error([1, 1, 2, 2], &[40_000, 0, 0, 0]).contains("`code` is 40000"));
    assert!(PackedWeights::new(&[1; 8], [3, 1, 2, 2], &[0], &[], Window::default(), 1).is_err());
    assert!(PackedWeights::linear(&[1; 5], [2, 3], &[0], &[]).is_err());
}
