//! What every uniform quantiser promises, over random tensors, grids and scales.

#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Tensor};
use kd_quant::binary::{SignActivation, Xnor};
use kd_quant::integer::{LinearCodes, dequantize, quantize};
use kd_quant::observer::{MinMax, Observer, Symmetry};
use kd_quant::power::{Apot, PowerOfTwo};
use kd_quant::ternary::Twn;
use kd_quant::{Affine, Bound, DorefaActivation, DorefaWeight, Granularity, Grid, Lsq, Pact};
use proptest::prelude::*;

fn row(values: &[f32]) -> Tensor<1> {
    Tensor::from_floats(values, &Device::flex())
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec::<f32>().unwrap()
}

fn grids() -> impl Strategy<Value = Grid> {
    (1..=8_u32, 0..3).prop_map(|(bits, kind)| match kind {
        0 => Grid::signed(bits).unwrap(),
        1 => Grid::unsigned(bits).unwrap(),
        _ => Grid::narrow(bits.max(2)).unwrap(),
    })
}

fn values() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-10.0_f32..10.0, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn affine_values_lie_on_the_grid_and_equal_the_integer_form(
        x in values(), grid in grids(), scale in 0.01_f32..2.0, part in 0.0_f32..1.0,
    ) {
        let zero = grid.min() + (grid.steps() as f32 * part) as i32;
        let rule = Affine::new(grid);
        let parameters = || (row(&[scale]), row(&[zero as f32]));
        let (s, z) = parameters();
        let codes = read(rule.codes(row(&x), s, z).unwrap());
        let (s, z) = parameters();
        let y = read(rule.quantize(row(&x), s, z).unwrap());
        let linear = LinearCodes { scale, zero_point: zero };
        for ((x, code), y) in x.iter().zip(&codes).zip(&y) {
            let wanted = quantize(*x, linear, grid);
            prop_assert_eq!(*code, wanted as f32);
            prop_assert_eq!(*y, dequantize(wanted, linear));
        }
    }

    #[test]
    fn affine_is_idempotent_monotone_and_off_by_half_a_step_at_most(
        mut x in values(), grid in grids(), scale in 0.01_f32..2.0,
    ) {
        x.sort_by(f32::total_cmp);
        let rule = Affine::new(grid);
        let apply = |x: &[f32]| read(rule.quantize(row(x), row(&[scale]), row(&[0.0])).unwrap());
        let y = apply(&x);
        prop_assert_eq!(&apply(&y), &y);
        prop_assert!(y.windows(2).all(|pair| pair[0] <= pair[1]));
        let (low, high) = (grid.min() as f32 * scale, grid.max() as f32 * scale);
        for (x, y) in x.iter().zip(&y) {
            if (low..=high).contains(x) {
                // A unit in the last place for the product.
                prop_assert!((x - y).abs() <= scale / 2.0 * (1.0 + 1e-5) + x.abs() * 1e-6, "{} {} {}", x, y, scale);
            } else {
                prop_assert!(*y == low || *y == high);
            }
        }
    }

    #[test]
    fn an_observed_range_is_covered_by_its_grid(x in values(), grid in grids()) {
        let mut observer = MinMax::new(Granularity::Tensor);
        observer.observe(row(&x)).unwrap();
        let p = observer.ranges().unwrap().parameters(grid, Symmetry::Affine).unwrap();
        let linear = LinearCodes { scale: p.scale[0], zero_point: p.zero_point[0] };
        for x in &x {
            let y = dequantize(quantize(*x, linear, grid), linear);
            // The zero point's rounding shifts the grid by half a step at most.
            prop_assert!((x - y).abs() <= linear.scale * (1.0 + 1e-4), "{} {} {:?}", x, y, linear);
        }
        prop_assert_eq!(dequantize(quantize(0.0, linear, grid), linear), 0.0);
    }

    #[test]
    fn equal_channels_make_every_granularity_the_same(
        x in prop::collection::vec(-3.0_f32..3.0, 6), bits in 2..=8_u32, scale in 0.05_f32..1.0,
    ) {
        let tripled = row(&[x.clone(), x.clone(), x].concat()).reshape([3, 6]);
        let affine = |granularity, scales: &[f32]| {
            let rule = Affine { granularity, ..Affine::new(Grid::signed(bits).unwrap()) };
            read(rule.quantize(tripled.clone(), row(scales), row(&vec![0.0; scales.len()])).unwrap())
        };
        let whole = affine(Granularity::Tensor, &[scale]);
        prop_assert_eq!(&whole, &affine(Granularity::Channel { axis: 0 }, &[scale; 3]));
        prop_assert_eq!(&whole, &affine(Granularity::Channel { axis: 1 }, &[scale; 6]));
        prop_assert_eq!(&whole, &affine(Granularity::Group { axis: 0, size: 2 }, &[scale; 9]));

        let lsq = |granularity| {
            let rule = Lsq { granularity, ..Lsq::new(Grid::signed(bits).unwrap()).unwrap() };
            let step = rule.initial_step(tripled.clone()).unwrap();
            (read(step.clone()), read(rule.quantize(tripled.clone(), step).unwrap()))
        };
        let ((steps, y), (step, whole)) = (lsq(Granularity::Channel { axis: 0 }), lsq(Granularity::Tensor));
        for s in &steps {
            prop_assert!((s - step[0]).abs() <= step[0] * 1e-6);
        }
        // Steps that differ in the last place may take a tie to different codes; elsewhere the values agree.
        let off = y.iter().zip(&whole).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
        prop_assert!(off <= 3, "{:?} {:?}", y, whole);

        let twn = |granularity| read(Twn { granularity, ..Twn::default() }.quantize(tripled.clone()).unwrap());
        let (rows, whole) = (twn(Granularity::Channel { axis: 0 }), twn(Granularity::Tensor));
        prop_assert!(rows.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-4), "{:?} {:?}", rows, whole);
    }

    #[test]
    fn the_gradient_of_affine_is_the_documented_one(
        x in values(), grid in grids(), scale in 0.05_f32..2.0, exclusive: bool,
    ) {
        let device = Device::flex().autodiff();
        let bound = if exclusive { Bound::Exclusive } else { Bound::Inclusive };
        let rule = Affine { bound, ..Affine::new(grid) };
        let leaf = |values: &[f32]| Tensor::<1>::from_floats(values, &device).require_grad();
        let (t, s, z) = (leaf(&x), leaf(&[scale]), leaf(&[grid.min() as f32]));
        let y = rule.quantize(t.clone(), s.clone(), z.clone()).unwrap();
        let gradients = y.sum().backward();
        let (mut of_scale, mut of_zero) = (0.0_f64, 0.0_f64);
        for (x, g) in x.iter().zip(read(t.grad(&gradients).unwrap())) {
            let code = (x / scale).round_ties_even() + grid.min() as f32;
            let (low, high) = (grid.min() as f32, grid.max() as f32);
            let inside = if exclusive { low < code && code < high } else { low <= code && code <= high };
            let offset = code.clamp(low, high) - grid.min() as f32;
            prop_assert_eq!(g, if inside { 1.0 } else { 0.0 });
            of_scale += f64::from(if inside { offset - x / scale } else { offset });
            of_zero -= f64::from(if inside { 0.0 } else { scale });
        }
        let near = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-3 * b.abs().max(1.0);
        prop_assert!(near(read(s.grad(&gradients).unwrap())[0], of_scale));
        prop_assert!(near(read(z.grad(&gradients).unwrap())[0], of_zero));
    }

    #[test]
    fn few_bits_give_few_values(x in values(), bits in 1..=8_u32) {
        let distinct = |mut y: Vec<f32>| {
            y.sort_by(f32::total_cmp);
            y.dedup_by(|a, b| (*a - *b).abs() < 1e-6);
            y.len()
        };
        let x = row(&x);
        let most = 1 << bits;
        prop_assert!(distinct(read(DorefaWeight::new(bits).unwrap().quantize(x.clone()).unwrap())) <= most);
        prop_assert!(distinct(read(DorefaActivation::new(bits).unwrap().quantize(x.clone()).unwrap())) <= most);
        prop_assert!(distinct(read(Pact::new(bits).unwrap().quantize(x.clone(), row(&[6.0])).unwrap())) <= most);
        prop_assert!(distinct(read(Twn::default().quantize(x.clone()).unwrap())) <= 3);
        prop_assert!(distinct(read(SignActivation::default().quantize(x.clone()))) <= 2);
        prop_assert!(distinct(read(Xnor::default().quantize(x.unsqueeze::<2>()))) <= 2);
    }

    #[test]
    fn powers_of_two_are_exact_and_stay(x in values()) {
        let rule = PowerOfTwo::new(8).unwrap();
        let y = read(rule.quantize(row(&x)));
        for y in &y {
            prop_assert!(*y == 0.0 || y.abs().to_bits() & 0x007f_ffff == 0, "{}", y);
        }
        prop_assert_eq!(&read(rule.quantize(row(&y))), &y);
    }

    #[test]
    fn additive_powers_take_the_nearest_level(x in values(), bits in 3..=8_u32) {
        let rule = Apot::weight(bits).unwrap();
        let alpha = 4.0;
        let y = read(rule.quantize(row(&x), row(&[alpha])).unwrap());
        for (x, y) in x.iter().zip(&y) {
            let d = (x / alpha).clamp(-1.0, 1.0);
            let least = rule.levels().iter().map(|l| (d.abs() - l).abs()).fold(f32::INFINITY, f32::min);
            prop_assert!(((y / alpha - d).abs() - least).abs() < 1e-6, "{} {}", x, y);
        }
    }
}
