#![allow(clippy::unwrap_used)]
//! All passes against sums written out in double precision, on every instruction set.

use super::*;
use crate::Conv2d;
use crate::simd::with_level;
use proptest::prelude::*;

/// Calls `visit(x index, w index, y index)` for every product of the convolution.
fn products(g: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
    let c = g.settings();
    let (cg, og) = (c.in_channels / c.groups, c.out_channels / c.groups);
    let [height, width] = g.output();
    for n in 0..c.batch {
        for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
            for (k, l) in (0..c.kernel[0]).flat_map(|k| (0..c.kernel[1]).map(move |l| (k, l))) {
                let row = (i * c.stride[0] + k * c.dilation[0]).wrapping_sub(c.padding[0]);
                let col = (j * c.stride[1] + l * c.dilation[1]).wrapping_sub(c.padding[1]);
                if row >= c.input[0] || col >= c.input[1] {
                    continue;
                }
                for o in 0..c.out_channels {
                    for ch in 0..cg {
                        let x =
                            ((n * c.input[0] + row) * c.input[1] + col) * c.in_channels + o / og * cg + ch;
                        let w = ((o * cg + ch) * c.kernel[0] + k) * c.kernel[1] + l;
                        let y = ((n * height + i) * width + j) * c.out_channels + o;
                        visit(x, w, y);
                    }
                }
            }
        }
    }
}

fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Fails unless `got` is within 1e-5 of the largest wanted number, or of what sums of `terms` such products have
/// for a deviation, should they all have cancelled.
#[track_caller]
fn assert_close(what: &str, got: &[f32], wanted: &[f64], terms: usize) {
    assert_eq!(got.len(), wanted.len());
    let scale = wanted.iter().fold((terms as f64).sqrt() / 3.0, |m, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
        let error = (f64::from(*g) - w).abs() / scale;
        assert!(error <= 1e-5, "{what}[{i}] is {g} instead of {w}");
    }
}

/// Runs everything on every level; the slices start one number behind an aligned address.
fn check(settings: Conv2d) {
    let g = Geometry::new(settings).unwrap();
    let outputs = settings.out_channels;
    let (x, w, dy) =
        (numbers(1, 1 + g.input_len()), numbers(2, 1 + g.weight_len()), numbers(3, 1 + g.output_len()));
    let (x, w, dy) = (&x[1..], &w[1..], &dy[1..]);
    let (gathered, positions) = (g.weight_len() / outputs, g.output_len() / outputs);
    let (bias, residual) = (numbers(4, outputs), numbers(5, g.output_len()));
    let (mut y0, mut dx0, mut dw0) = (vec![0f64; dy.len()], vec![0f64; x.len()], vec![0f64; w.len()]);
    products(&g, |i, k, o| {
        let (x, w, dy) = (f64::from(x[i]), f64::from(w[k]), f64::from(dy[o]));
        y0[o] += x * w;
        dx0[i] += w * dy;
        dw0[k] += x * dy;
    });
    let mut db0 = vec![0f64; outputs];
    let mut epilogue0 = y0.clone();
    let (mut sum0, mut square0) = (vec![0f64; outputs], vec![0f64; outputs]);
    for (i, y) in epilogue0.iter_mut().enumerate() {
        let o = i % outputs;
        *y = (*y + f64::from(bias[o]) + f64::from(residual[i])).max(0.0);
        sum0[o] += *y - f64::from(bias[o]);
        square0[o] += (*y - f64::from(bias[o])).powi(2);
        db0[o] += f64::from(dy[i]);
    }
    for level in Level::available() {
        with_level(level, || {
            let workspace = Workspace::new();
            // What a buffer held before must not matter.
            workspace.take(100_000).fill(f32::NAN);
            let name = |what: &str| format!("{level:?}, {settings:?}: {what}");
            let mut y = vec![f32::NAN; 1 + dy.len()];
            forward(&g, x, w, Epilogue::default(), &mut y[1..], &workspace).unwrap();
            assert_close(&name("y"), &y[1..], &y0, gathered);

            let (mut sum, mut square_sum) = (vec![f32::NAN; outputs], vec![f32::NAN; outputs]);
            let epilogue = Epilogue {
                bias: Some(&bias),
                residual: Some(&residual),
                relu: true,
                sums: Some(Sums { shift: &bias, sum: &mut sum, square_sum: &mut square_sum }),
            };
            let packed = PackedWeight::new(&g, w).unwrap();
            forward_packed(&g, x, &packed, epilogue, &mut y[1..], &workspace).unwrap();
            assert_close(&name("y with epilogue"), &y[1..], &epilogue0, gathered);
            assert_close(&name("sum"), &sum, &sum0, positions);
            assert_close(&name("square sum"), &square_sum, &square0, positions);

            let mut dx = vec![f32::NAN; 1 + x.len()];
            input_gradient(&g, dy, w, &mut dx[1..], &workspace).unwrap();
            assert_close(&name("dx"), &dx[1..], &dx0, 1);

            let (mut dw, mut db) = (vec![f32::NAN; 1 + w.len()], vec![f32::NAN; outputs]);
            weight_gradient(&g, x, dy, &mut dw[1..], Some(&mut db), &workspace).unwrap();
            assert_close(&name("dw"), &dw[1..], &dw0, positions);
            assert_close(&name("db"), &db, &db0, positions);
        });
    }
}

const SQUARE: Conv2d = Conv2d {
    batch: 2,
    input: [8, 8],
    in_channels: 16,
    out_channels: 16,
    kernel: [3, 3],
    stride: [1, 1],
    padding: [1, 1],
    dilation: [1, 1],
    groups: 1,
};

#[test]
#[cfg_attr(miri, ignore = "large")]
fn the_shapes_of_common_networks() {
    check(SQUARE);
    check(Conv2d { batch: 9, in_channels: 3, input: [32, 32], ..SQUARE });
    check(Conv2d { in_channels: 32, out_channels: 64, stride: [2, 2], ..SQUARE });
    check(Conv2d { out_channels: 32, kernel: [1, 1], padding: [0, 0], stride: [2, 2], ..SQUARE });
    check(Conv2d {
        in_channels: 1,
        out_channels: 20,
        input: [28, 28],
        kernel: [5, 5],
        padding: [0, 0],
        ..SQUARE
    });
    check(Conv2d {
        in_channels: 20,
        out_channels: 50,
        input: [12, 12],
        kernel: [5, 5],
        padding: [0, 0],
        ..SQUARE
    });
    check(Conv2d { in_channels: 24, out_channels: 144, kernel: [1, 1], padding: [0, 0], ..SQUARE });
    for stride in [1, 2] {
        check(Conv2d { in_channels: 72, out_channels: 72, groups: 72, stride: [stride, stride], ..SQUARE });
    }
    check(Conv2d { in_channels: 8, out_channels: 24, groups: 4, ..SQUARE });
}

#[test]
fn a_small_shape_of_every_kind() {
    let small = Conv2d { batch: 1, input: [3, 4], in_channels: 17, out_channels: 3, ..SQUARE };
    check(small);
    check(Conv2d { in_channels: 2, stride: [2, 1], ..small });
    check(Conv2d { in_channels: 18, out_channels: 18, groups: 18, stride: [1, 2], ..small });
    check(Conv2d { in_channels: 4, out_channels: 6, groups: 2, stride: [2, 2], dilation: [1, 2], ..small });
    check(Conv2d { input: [4, 5], out_channels: 16, ..small });
}

#[test]
#[cfg_attr(miri, ignore = "large")]
fn shapes_at_the_edge_of_the_formulas() {
    // A sequence, a kernel as large as its input, padding beyond the kernel, a stride beyond it.
    check(Conv2d { input: [1, 50], kernel: [1, 7], padding: [0, 3], ..SQUARE });
    check(Conv2d { kernel: [8, 8], padding: [0, 0], ..SQUARE });
    check(Conv2d { input: [3, 2], padding: [5, 4], stride: [2, 3], ..SQUARE });
    check(Conv2d { kernel: [1, 1], padding: [1, 2], stride: [3, 2], ..SQUARE });
    check(Conv2d { input: [1, 1], kernel: [1, 1], padding: [1, 1], stride: [2, 2], ..SQUARE });
    check(Conv2d { batch: 1, input: [1, 1], in_channels: 1, out_channels: 1, ..SQUARE });
    check(Conv2d { in_channels: 6, out_channels: 12, groups: 6, ..SQUARE });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    #[cfg_attr(miri, ignore = "large")]
    fn random_shapes(
        batch in 1usize..5,
        input in [1usize..20, 1usize..40],
        channels in [1usize..40, 1usize..40],
        kernel in [1usize..6, 1usize..6],
        stride in [1usize..4, 1usize..4],
        padding in [0usize..4, 0usize..4],
        dilation in [1usize..4, 1usize..4],
        groups in prop_oneof![3 => Just(1usize), 1 => 2usize..5],
        depthwise in prop::bool::weighted(0.2),
    ) {
        let settings = if depthwise {
            let c = channels[0] + 1;
            Conv2d { batch, input, in_channels: c, out_channels: c, kernel, stride, padding, dilation, groups: c }
        } else {
            let [i, o] = channels.map(|c| c.div_ceil(groups) * groups);
            Conv2d { batch, input, in_channels: i, out_channels: o, kernel, stride, padding, dilation, groups }
        };
        if Geometry::new(settings).is_ok() {
            check(settings);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    #[cfg_attr(miri, ignore = "large")]
    fn random_shapes_of_the_minimal_filter(
        batch in 1usize..4,
        input in [3usize..20, 3usize..36],
        channels in [16usize..70, 16usize..70],
        padding in [0usize..4, 0usize..4],
    ) {
        let [in_channels, out_channels] = channels;
        let settings = Conv2d { batch, input, in_channels, out_channels, padding, ..SQUARE };
        check(settings);
    }
}

#[test]
#[cfg_attr(miri, ignore = "large")]
fn the_same_threads_give_the_same_bits() {
    let g = Geometry::new(Conv2d { batch: 13, ..SQUARE }).unwrap();
    let (x, dy) = (numbers(1, g.input_len()), numbers(2, g.output_len()));
    let run = || {
        let mut dw = vec![0.0; g.weight_len()];
        weight_gradient(&g, &x, &dy, &mut dw, None, &Workspace::new()).unwrap();
        dw
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let first = pool.install(run);
    for _ in 0..5 {
        assert_eq!(pool.install(run), first);
    }
}

#[test]
fn wrong_lengths_are_errors_and_write_nothing() {
    let g = Geometry::new(SQUARE).unwrap();
    let (x, w, workspace) = (vec![1.0; g.input_len()], vec![1.0; g.weight_len()], Workspace::new());
    let mut y = vec![7.0; g.output_len()];
    let short = |error: KernelError| error.to_string();
    let error = forward(&g, &x[1..], &w, Epilogue::default(), &mut y, &workspace).unwrap_err();
    assert!(short(error).contains("`x`"));
    let bias = Epilogue { bias: Some(&x[..15]), ..Epilogue::default() };
    assert!(short(forward(&g, &x, &w, bias, &mut y, &workspace).unwrap_err()).contains("`bias`"));
    let other = Geometry::new(Conv2d { out_channels: 64, ..SQUARE }).unwrap();
    let packed = PackedWeight::new(&other, &vec![1.0; other.weight_len()]).unwrap();
    let error = forward_packed(&g, &x, &packed, Epilogue::default(), &mut y, &workspace).unwrap_err();
    assert!(short(error).contains("packed weight"));
    assert!(y.iter().all(|&y| y == 7.0));
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    assert!(input_gradient(&g, &y[1..], &w, &mut dx, &workspace).is_err());
    assert!(weight_gradient(&g, &x, &y, &mut dw, Some(&mut [0.0; 3]), &workspace).is_err());
}
