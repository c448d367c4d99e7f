//! What the tests of several kernels share.

use proptest::test_runner::Config;

use crate::simd::{Level, with_level};

/// As many cases of a property; a few under Miri, which is a thousand times slower.
pub(crate) fn cases(count: u32) -> Config {
    let cases = if cfg!(miri) { 4 } else { count };
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Numbers between -1 and 1 that look random, the same for the same seed.
pub(crate) fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Runs a test with every instruction set of this processor.
pub(crate) fn at_every_level(mut test: impl FnMut()) {
    for level in Level::available() {
        with_level(level, &mut test);
    }
}

/// Requires two results to agree to `tolerance` of the largest magnitude of what is wanted.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], wanted: &[f64], tolerance: f64) {
    assert_eq!(got.len(), wanted.len(), "{what}: lengths");
    let largest = wanted.iter().fold(1e-3_f64, |largest, x| largest.max(x.abs()));
    for (i, (&got, &wanted)) in got.iter().zip(wanted).enumerate() {
        let error = (f64::from(got) - wanted).abs();
        assert!(
            error <= tolerance * largest,
            "{what}[{i}] is {got}, wanted {wanted} ({:?})",
            Level::current()
        );
    }
}
