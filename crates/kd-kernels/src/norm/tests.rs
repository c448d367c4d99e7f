#![allow(clippy::unwrap_used)]
use super::*;
use crate::error::KernelError;
use crate::testing::{assert_close, at_every_level, cases, numbers};
use crate::workspace::Workspace;
use proptest::prelude::*;

/// Everything in f64, one element after the other.
struct Reference {
    mean: Vec<f64>,
    variance: Vec<f64>,
    y: Vec<f64>,
    dx: Vec<f64>,
    residual: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
}

struct Case<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    residual: Option<&'a [f32]>,
    relu: bool,
    /// Mean and variance from elsewhere.
    constant: Option<(&'a [f32], &'a [f32])>,
}

const EPSILON: f32 = 1e-3;

fn reference(case: &Case<'_>) -> Reference {
    let channels = case.gamma.len();
    let rows = case.x.len() / channels;
    let at = |slice: &[f32], r: usize, c: usize| f64::from(slice[r * channels + c]);
    let per_channel = |f: &dyn Fn(usize) -> f64| (0..channels).map(f).collect::<Vec<_>>();
    let mean_over = |f: &dyn Fn(usize) -> f64| (0..rows).map(f).sum::<f64>() / rows as f64;
    let (mean, variance) = match case.constant {
        Some((mean, variance)) => (per_channel(&|c| mean[c].into()), per_channel(&|c| variance[c].into())),
        None => {
            let mean = per_channel(&|c| mean_over(&|r| at(case.x, r, c)));
            let variance = per_channel(&|c| mean_over(&|r| (at(case.x, r, c) - mean[c]).powi(2)));
            (mean, variance)
        }
    };
    let rstd = per_channel(&|c| (variance[c] + f64::from(EPSILON)).sqrt().recip());
    let normal = |r: usize, c: usize| (at(case.x, r, c) - mean[c]) * rstd[c];
    let each = |f: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..rows).flat_map(|r| (0..channels).map(move |c| (r, c))).map(|(r, c)| f(r, c)).collect()
    };
    let sum = |r, c| {
        normal(r, c) * f64::from(case.gamma[c])
            + f64::from(case.beta[c])
            + case.residual.map_or(0.0, |x| at(x, r, c))
    };
    let passed = |r, c| if case.relu && sum(r, c) <= 0.0 { 0.0 } else { at(case.dy, r, c) };
    let flow = if case.constant.is_some() { 0.0 } else { 1.0 };
    let mut dx = vec![0.0; rows * channels];
    for c in 0..channels {
        let (first, second) = (mean_over(&|r| passed(r, c)), mean_over(&|r| passed(r, c) * normal(r, c)));
        for r in 0..rows {
            let through_statistics = flow * (first + normal(r, c) * second);
            dx[r * channels + c] = f64::from(case.gamma[c]) * rstd[c] * (passed(r, c) - through_statistics);
        }
    }
    Reference {
        y: each(&|r, c| if case.relu { sum(r, c).max(0.0) } else { sum(r, c) }),
        dx,
        residual: each(&passed),
        gamma: per_channel(&|c| (0..rows).map(|r| passed(r, c) * normal(r, c)).sum()),
        beta: per_channel(&|c| (0..rows).map(|r| passed(r, c)).sum()),
        mean,
        variance,
    }
}

/// Forward and backward against the reference, at the present level.
fn check(case: &Case<'_>, recompute: bool, workspace: &Workspace) {
    let wanted = reference(case);
    let (len, channels) = (case.x.len(), case.gamma.len());
    let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
    match case.constant {
        Some((m, v)) => (mean, variance) = (m.to_vec(), v.to_vec()),
        None => statistics(case.x, &mut mean, &mut variance, workspace).unwrap(),
    }
    assert_close("mean", &mean, &wanted.mean, 1e-5);
    assert_close("variance", &variance, &wanted.variance, 1e-5);

    let norm =
        BatchNorm { gamma: case.gamma, beta: case.beta, mean: &mean, variance: &variance, epsilon: EPSILON };
    let mut memory = vec![f32::NAN; len + 1];
    let y = &mut memory[1..];
    norm.forward(case.x, case.residual, case.relu, y, workspace).unwrap();
    assert_close("y", y, &wanted.y, 1e-5);

    let gate = match (case.relu, recompute && case.residual.is_none()) {
        (false, _) => Gate::Open,
        (true, true) => Gate::Recomputed,
        (true, false) => Gate::Output(y),
    };
    let from = if case.constant.is_some() { Statistics::Constant } else { Statistics::Batch };
    for with_residual in [false, true] {
        let mut dx = vec![f32::NAN; len + 1];
        let (mut dr, mut dgamma, mut dbeta) =
            (vec![f32::NAN; len], vec![f32::NAN; channels], vec![f32::NAN; channels]);
        let gradients = Gradients {
            x: &mut dx[1..],
            residual: with_residual.then_some(&mut dr[..]),
            gamma: &mut dgamma,
            beta: &mut dbeta,
        };
        norm.backward(case.x, case.dy, gate, from, gradients, workspace).unwrap();
        assert_close("dx", &dx[1..], &wanted.dx, 1e-5);
        assert_close("dgamma", &dgamma, &wanted.gamma, 1e-5);
        assert_close("dbeta", &dbeta, &wanted.beta, 1e-5);
        if with_residual {
            assert_close("residual", &dr, &wanted.residual, 1e-5);
        }
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn forward_and_backward_are_the_formulas(
        channels in prop_oneof![1usize..70, Just(96), Just(160), Just(257)],
        rows in prop_oneof![6usize..40, 500usize..700], // with fewer, dx is nothing but rounding
        seed: u32,
        [relu, add, eval, recompute]: [bool; 4],
    ) {
        let (len, offset) = (rows * channels, 3.0);
        let [x, dy, residual] = [0, 1, 2].map(|i| numbers(seed.wrapping_add(i), len + 1));
        // A mean that is not 0, and a gate that is never near: its sign must be the same in f32 and f64.
        let x: Vec<f32> = x.iter().map(|x| x + offset).collect();
        let residual: Vec<f32> = residual.iter().map(|r| 100.0 * r.signum() + r).collect();
        let [gamma, beta, mean, variance] = [3, 4, 5, 6].map(|i| numbers(seed.wrapping_add(i), channels));
        let far = |b: &f32| if relu && !add { b + 20.0 * b.signum() } else { *b };
        let beta: Vec<f32> = beta.iter().map(far).collect();
        let mean: Vec<f32> = mean.iter().map(|m| m + offset).collect();
        let variance: Vec<f32> = variance.iter().map(|v| v + 1.2).collect();
        let workspace = Workspace::new();
        let case = Case {
            x: &x[1..],
            dy: &dy[1..],
            gamma: &gamma,
            beta: &beta,
            residual: add.then_some(&residual[1..]),
            relu,
            constant: eval.then_some((&mean, &variance)),
        };
        at_every_level(|| check(&case, recompute, &workspace));
    }
}

#[test]
fn a_gate_computed_again_is_the_output_s_own_bit_by_bit() {
    let (rows, channels) = (333, 20);
    let [x, dy] = [7, 8].map(|seed| numbers(seed, rows * channels));
    let [gamma, beta] = [9, 10].map(|seed| numbers(seed, channels));
    let workspace = Workspace::new();
    at_every_level(|| {
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        statistics(&x, &mut mean, &mut variance, &workspace).unwrap();
        let norm = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance, epsilon: 1e-5 };
        let mut y = vec![0.0; x.len()];
        norm.forward(&x, None, true, &mut y, &workspace).unwrap();
        let dx = |gate| {
            let (mut dx, mut dgamma, mut dbeta) =
                (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]);
            let gradients = Gradients { x: &mut dx, residual: None, gamma: &mut dgamma, beta: &mut dbeta };
            norm.backward(&x, &dy, gate, Statistics::Batch, gradients, &workspace).unwrap();
            (dx, dgamma, dbeta)
        };
        assert_eq!(dx(Gate::Recomputed), dx(Gate::Output(&y)));
    });
}

#[test]
fn a_single_row_is_its_own_mean_and_gets_no_gradient() {
    let (channels, workspace) = (19, Workspace::new());
    let [x, dy] = [1, 2].map(|seed| numbers(seed, channels));
    at_every_level(|| {
        let (mut mean, mut variance) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
        statistics(&x, &mut mean, &mut variance, &workspace).unwrap();
        assert_eq!((&mean, &variance), (&x, &vec![0.0; channels]));
        let ones = vec![1.0; channels];
        let norm =
            BatchNorm { gamma: &ones, beta: &ones, mean: &mean, variance: &variance, epsilon: EPSILON };
        let (mut y, mut dx) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
        norm.forward(&x, None, false, &mut y, &workspace).unwrap();
        assert_eq!(y, ones);
        let (mut dgamma, mut dbeta) = (ones.clone(), ones.clone());
        let gradients = Gradients { x: &mut dx, residual: None, gamma: &mut dgamma, beta: &mut dbeta };
        norm.backward(&x, &dy, Gate::Open, Statistics::Batch, gradients, &workspace).unwrap();
        assert!(dx.iter().chain(&dgamma).all(|d| d.abs() < 1e-4) && dbeta == dy);
    });
}

#[test]
#[cfg_attr(miri, ignore = "millions of numbers")]
fn a_variance_survives_a_mean_that_is_thousands_of_deviations_away() {
    let (rows, channels) = (100_000, 5);
    let x: Vec<f32> = numbers(1, rows * channels).iter().map(|x| 1000.0 + 0.125 * x).collect();
    let exact: Vec<f64> = (0..channels)
        .map(|c| {
            let column: Vec<f64> = x.iter().skip(c).step_by(channels).map(|&x| x.into()).collect();
            let mean = column.iter().sum::<f64>() / rows as f64;
            column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64
        })
        .collect();
    at_every_level(|| {
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        statistics(&x, &mut mean, &mut variance, &Workspace::new()).unwrap();
        for (got, wanted) in variance.iter().zip(&exact) {
            assert!((f64::from(*got) / wanted - 1.0).abs() < 1e-5, "{got} for {wanted}");
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "millions of numbers")]
fn results_are_the_same_bit_by_bit_from_run_to_run() {
    let (rows, channels) = (40_000, 24);
    let x = numbers(3, rows * channels);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let run = || {
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        pool.install(|| statistics(&x, &mut mean, &mut variance, &Workspace::new()).unwrap());
        (mean, variance)
    };
    let first = run();
    assert!((0..20).all(|_| run() == first));
}

#[test]
fn sums_gathered_elsewhere_give_the_same_statistics() {
    let (rows, channels) = (200, 3);
    let x = numbers(4, rows * channels);
    let shift = [0.25, -0.5, 0.0];
    let sum = |f: fn(f32) -> f32| -> Vec<f32> {
        let column = |c: usize| x.iter().skip(c).step_by(channels).map(move |x| f(x - shift[c])).sum();
        (0..channels).map(column).collect()
    };
    let (mut wanted, mut got) = (([0.0; 3], [0.0; 3]), ([0.0; 3], [0.0; 3]));
    statistics(&x, &mut wanted.0, &mut wanted.1, &Workspace::new()).unwrap();
    statistics_from_sums(rows, &shift, &sum(|d| d), &sum(|d| d * d), &mut got.0, &mut got.1).unwrap();
    assert_close("mean", &got.0, &wanted.0.map(f64::from), 1e-5);
    assert_close("variance", &got.1, &wanted.1.map(f64::from), 1e-5);
}

#[test]
fn a_running_statistic_moves_by_the_momentum() {
    let mut running = [1.0, 2.0];
    update_running(&mut running, &[3.0, 2.0], 0.25).unwrap();
    assert_eq!(running, [1.5, 2.0]);
    let error = update_running(&mut running, &[3.0, 2.0], 1.5).unwrap_err().to_string();
    assert_eq!(error, "momentum is 1.5, but it must be from 0 to 1");
}

#[test]
fn nan_in_a_batch_is_nan_in_its_statistics() {
    at_every_level(|| {
        let (mut mean, mut variance) = ([0.0], [0.0]);
        statistics(&[1.0, f32::NAN, 2.0], &mut mean, &mut variance, &Workspace::new()).unwrap();
        assert!(mean[0].is_nan() && variance[0].is_nan());
    });
}

#[test]
fn impossible_shapes_and_settings_are_refused() {
    let workspace = Workspace::new();
    let norm =
        BatchNorm { gamma: &[1.0; 2], beta: &[0.0; 2], mean: &[0.0; 2], variance: &[1.0; 2], epsilon: 1e-5 };
    let error = norm.forward(&[0.0; 3], None, false, &mut [0.0; 3], &workspace).unwrap_err();
    assert_eq!(error, KernelError::Length { name: "x", got: 3, wanted: 2 });
    let short = BatchNorm { beta: &[0.0], ..norm };
    let error = short.forward(&[0.0; 4], None, false, &mut [0.0; 4], &workspace).unwrap_err();
    assert_eq!(error, KernelError::Length { name: "beta", got: 1, wanted: 2 });
    let negative = BatchNorm { epsilon: -1.0, ..norm };
    assert!(matches!(
        negative.forward(&[0.0; 4], None, false, &mut [0.0; 4], &workspace),
        Err(KernelError::Setting { name: "epsilon", .. })
    ));
    let none = BatchNorm { gamma: &[], beta: &[], mean: &[], variance: &[], epsilon: 0.0 };
    assert!(matches!(none.forward(&[], None, false, &mut [], &workspace), Err(KernelError::Geometry { .. })));
    assert!(statistics(&[], &mut [0.0; 2], &mut [0.0; 2], &workspace).is_err());
}
