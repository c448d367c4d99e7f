//! What every method promises of its values and gradients, over random tensors and settings.

#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Distribution, Tensor};
use kd_quant::binary::{BinaryConnect, SibnnActivation, SignActivation, SttnActivation, SttnWeight, Xnor};
use kd_quant::observer::{Entropy, Observer};
use kd_quant::ternary::{Ttq, Twn};
use kd_quant::{DorefaActivation, DorefaWeight, Grid, Lsq, Pact};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

fn row(values: &[f32]) -> Tensor<1> {
    Tensor::from_floats(values, &Device::flex())
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec::<f32>().unwrap()
}

fn values() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-10.0_f32..10.0, 1..60)
}

/// Values `step · q` with `q` from `low` to `high`: on the grid, idempotent, rising, and off by half a step at most inside.
fn rounds(
    mut x: Vec<f32>,
    step: f32,
    (low, high): (i32, i32),
    quantise: impl Fn(&[f32]) -> Vec<f32>,
) -> Result<(), TestCaseError> {
    x.sort_by(f32::total_cmp);
    let y = quantise(&x);
    prop_assert_eq!(&quantise(&y), &y);
    prop_assert!(y.windows(2).all(|pair| pair[0] <= pair[1]), "{:?}", y);
    let (least, most) = (low as f32 * step, high as f32 * step);
    for (x, y) in x.iter().zip(&y) {
        let code = (y / step).round();
        prop_assert!((y / step - code).abs() < 1e-3, "{} is off the grid of {}", y, step);
        prop_assert!((low as f32..=high as f32).contains(&code), "{}", code);
        if (least..=most).contains(x) {
            prop_assert!((x - y).abs() <= step / 2.0 * (1.0 + 1e-4) + x.abs() * 1e-5, "{} {}", x, y);
        } else {
            prop_assert!((y - x.clamp(least, most)).abs() <= step * 1e-3, "{} {}", x, y);
        }
    }
    Ok(())
}

/// The gradient of the sum of `y` for `x`.
fn gradient(x: &[f32], y: impl Fn(Tensor<1>) -> Tensor<1>) -> Vec<f32> {
    let x = Tensor::<1>::from_floats(x, &Device::flex().autodiff()).require_grad();
    let gradients = y(x.clone()).sum().backward();
    read(x.grad(&gradients).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lsq_rounds_to_its_steps(x in values(), bits in 2..=8_u32, signed: bool, step in 0.01_f32..2.0) {
        let grid = if signed { Grid::signed(bits).unwrap() } else { Grid::unsigned(bits).unwrap() };
        let lsq = Lsq::new(grid).unwrap();
        rounds(x.clone(), step, (grid.min(), grid.max()), |x| read(lsq.quantize(row(x), row(&[step])).unwrap()))?;
        let found = gradient(&x, |x| lsq.quantize(x, Tensor::from_floats([step], &Device::flex().autodiff())).unwrap());
        for (x, g) in x.iter().zip(found) {
            let v = x / step;
            let inside = (grid.min() as f32) < v && v < grid.max() as f32;
            prop_assert_eq!(g, f32::from(u8::from(inside)), "{}", x);
        }
    }

    #[test]
    fn the_gradient_of_a_learned_step_is_the_papers(x in values(), bits in 2..=8_u32, step in 0.05_f32..2.0) {
        let grid = Grid::signed(bits).unwrap();
        let lsq = Lsq::new(grid).unwrap();
        let device = Device::flex().autodiff();
        let s = Tensor::<1>::from_floats([step], &device).require_grad();
        let y = lsq.quantize(Tensor::<1>::from_floats(x.as_slice(), &device), s.clone()).unwrap();
        let found = f64::from(read(s.grad(&y.sum().backward()).unwrap())[0]);
        let (low, high) = (f64::from(grid.min()), f64::from(grid.max()));
        let one = |x: &f32| {
            let v = f64::from(x / step);
            if v <= low { low } else if v >= high { high } else { v.round_ties_even() - v }
        };
        let wanted = x.iter().map(one).sum::<f64>() / (x.len() as f64 * high).sqrt();
        // A quotient next to a tie may round to either side.
        prop_assert!((found - wanted).abs() <= 1e-3 * wanted.abs().max(1.0), "{} {}", found, wanted);
    }

    #[test]
    fn pact_rounds_between_zero_and_its_clip(x in values(), bits in 1..=8_u32, clip in 0.5_f32..9.0) {
        let pact = Pact::new(bits).unwrap();
        let n = Grid::unsigned(bits).unwrap().max();
        rounds(x.clone(), clip / n as f32, (0, n), |x| read(pact.quantize(row(x), row(&[clip])).unwrap()))?;
        let device = Device::flex().autodiff();
        let alpha = Tensor::<1>::from_floats([clip], &device).require_grad();
        let y = pact.quantize(Tensor::<1>::from_floats(x.as_slice(), &device), alpha.clone()).unwrap();
        let found = read(alpha.grad(&y.sum().backward()).unwrap())[0];
        prop_assert_eq!(found, x.iter().filter(|x| **x >= clip).count() as f32);
    }

    #[test]
    fn dorefa_rounds_between_zero_and_one(x in values(), bits in 1..=8_u32) {
        let rule = DorefaActivation::new(bits).unwrap();
        let n = Grid::unsigned(bits).unwrap().max();
        rounds(x.clone(), 1.0 / n as f32, (0, n), |x| read(rule.quantize(row(x)).unwrap()))?;
        let inside = |x: &f32| f32::from(u8::from(0.0 < *x && *x < 1.0));
        let wanted: Vec<f32> = x.iter().map(inside).collect();
        prop_assert_eq!(gradient(&x, |x| rule.quantize(x).unwrap()), wanted);
    }

    #[test]
    fn dorefa_weights_are_odd_multiples_that_rise_with_the_weight(mut x in values(), bits in 2..=8_u32) {
        x.sort_by(f32::total_cmp);
        let n = Grid::unsigned(bits).unwrap().max();
        let y = read(DorefaWeight::new(bits).unwrap().quantize(row(&x)).unwrap());
        prop_assert!(y.windows(2).all(|pair| pair[0] <= pair[1]));
        for y in &y {
            let code = (y * n as f32).round() as i32;
            prop_assert!((y * n as f32 - code as f32).abs() < 1e-3 && code.abs() <= n && (code - n) % 2 == 0, "{}", y);
        }
    }

    #[test]
    fn binary_values_are_signs_and_stay(x in values()) {
        let signs = |x: &f32| if *x >= 0.0 { 1.0 } else { -1.0 };
        let wanted: Vec<f32> = x.iter().map(signs).collect();
        prop_assert_eq!(&read(SignActivation::default().quantize(row(&x))), &wanted);
        prop_assert_eq!(&read(BinaryConnect::default().quantize(row(&x))), &wanted);
        prop_assert_eq!(&read(SignActivation::default().quantize(row(&wanted))), &wanted);
        let clipped: Vec<f32> = x.iter().map(|x| f32::from(u8::from(x.abs() <= 1.0))).collect();
        prop_assert_eq!(gradient(&x, |x| SignActivation::default().quantize(x)), clipped);
        prop_assert_eq!(gradient(&x, |x| BinaryConnect::default().quantize(x)), vec![1.0; x.len()]);
        let ones: Vec<f32> = wanted.iter().map(|sign| (sign + 1.0) / 2.0).collect();
        prop_assert_eq!(&read(SibnnActivation::default().quantize(row(&x))), &ones);
        let inside: Vec<f32> = x.iter().map(|x| f32::from(u8::from(-0.3 < *x && *x < 1.0))).collect();
        prop_assert_eq!(gradient(&x, |x| SibnnActivation::default().quantize(x)), inside);
    }

    #[test]
    fn a_filter_of_xnor_is_two_values_of_its_mean_magnitude(x in prop::collection::vec(-2.0_f32..2.0, 12)) {
        let w = row(&x).reshape([3, 4]);
        for (filter, y) in x.chunks(4).zip(read(Xnor::default().quantize(w)).chunks(4)) {
            let alpha = filter.iter().map(|w| w.abs()).sum::<f32>() / 4.0;
            for (w, y) in filter.iter().zip(y) {
                prop_assert!((y - if *w >= 0.0 { alpha } else { -alpha }).abs() <= alpha * 1e-6, "{} {}", w, y);
            }
        }
    }

    #[test]
    fn ternary_values_are_three_and_rise(mut x in values(), positive in 0.1_f32..2.0, negative in 0.1_f32..2.0) {
        x.sort_by(f32::total_cmp);
        let ternary = |y: Vec<f32>, low: f32, high: f32| {
            y.windows(2).all(|pair| pair[0] <= pair[1]) && y.iter().all(|y| [low, 0.0, high].contains(y))
        };
        let (_, alpha) = Twn::default().threshold_and_scale(row(&x)).unwrap();
        let alpha = read(alpha)[0];
        prop_assert!(ternary(read(Twn::default().quantize(row(&x)).unwrap()), -alpha, alpha));
        let ttq = Ttq::default().quantize(row(&x), row(&[positive]), row(&[negative])).unwrap();
        prop_assert!(ternary(read(ttq), -negative, positive));
        let sttn = read(SttnActivation::default().quantize(row(&x)));
        prop_assert!(ternary(sttn.clone(), -1.0, 1.0));
        prop_assert_eq!(read(SttnActivation::default().quantize(row(&sttn))), sttn);
    }

    #[test]
    fn two_binaries_make_a_ternary(
        a in prop::collection::vec(-1.0_f32..1.0, 8), b in prop::collection::vec(-1.0_f32..1.0, 8),
    ) {
        let (one, two) = (row(&a).reshape([2, 4]), row(&b).reshape([2, 4]));
        let (first, second) = SttnWeight::default().quantize_pair(one, two).unwrap();
        let sum = read(first + second);
        for ((a, b), y) in a.chunks(4).zip(b.chunks(4)).zip(sum.chunks(4)) {
            let alpha = a.iter().chain(b).map(|w| w.abs()).sum::<f32>() / 8.0;
            for ((a, b), y) in a.iter().zip(b).zip(y) {
                let sign = |w: f32| if w >= 0.0 { 1.0 } else { -1.0 };
                prop_assert!((y - alpha * (sign(*a) + sign(*b))).abs() < 1e-6, "{} {} {}", a, b, y);
            }
        }
    }
}

/// The range that KL divergence chooses for these values at 8 bits.
fn cut(values: Tensor<1>) -> f32 {
    let mut observer = Entropy::new(Grid::signed(8).unwrap(), 2048).unwrap();
    observer.observe(values).unwrap();
    observer.ranges().unwrap().max[0]
}

#[test]
fn the_least_divergence_cuts_outliers_off_and_nothing_else() {
    let device = Device::flex();
    device.seed(5);
    let even: Vec<f32> = (0..20_000).map(|i| i as f32 / 10_000.0 - 1.0).collect();
    assert!(cut(row(&even)) > 0.9, "{}", cut(row(&even)));
    let bell = Tensor::<1>::random([20_000], Distribution::Normal(0.0, 1.0), &device);
    let alone = cut(bell.clone());
    assert!((2.0..6.0).contains(&alone), "{alone}");
    let outliers = Tensor::cat(vec![bell, row(&[60.0, -60.0])], 0);
    let limit = cut(outliers.clone());
    assert!(limit < 30.0 && limit > 2.0, "{limit}");
    // A range that is never negative stays so.
    let mut observer = Entropy::new(Grid::unsigned(8).unwrap(), 2048).unwrap();
    observer.observe(outliers.abs()).unwrap();
    assert_eq!(observer.ranges().unwrap().min, [0.0]);
}
