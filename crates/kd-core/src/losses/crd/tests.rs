#![allow(clippy::unwrap_used)]
use super::*;
use crate::losses::gradient::{assert_gradient, numbers};
use crate::{Params, Taps, Time, Value};
use burn::tensor::{Device, Tolerance};

fn settings() -> CrdSettings {
    CrdSettings {
        student: vec!["features".into()],
        teacher: vec!["features".into()],
        dimension: 3,
        negatives: 5,
        ..Default::default()
    }
}

fn taps(features: usize, seed: usize, device: &Device) -> Taps {
    let mut taps = Taps::none();
    let tensor = Tensor::<1>::from_floats(numbers(2 * features, seed).as_slice(), device);
    taps.insert("features", tensor.reshape([2, features]));
    taps
}

/// The loss of one step and the parameters after it.
fn step(params: &mut Params, ids: &[usize], step: usize) -> Result<f32, TermError> {
    let device = Device::flex().autodiff();
    let teachers = [taps(6, 2, &device)];
    let mut step = Step {
        student: &taps(4, 1, &device),
        teachers: &teachers,
        target: &Value::from(Tensor::<1>::zeros([2], &device)),
        ids,
        time: Time { epoch: 0, step, total_steps: 10 },
        params: TermParams::new(params, "crd"),
        replay: None,
    };
    Ok(settings().build().unwrap().forward(&mut step)?.mean().into_scalar::<f32>())
}

fn params() -> Params {
    let device = Device::flex().autodiff();
    let probe = Probe {
        student: taps(4, 1, &device),
        teachers: vec![taps(6, 2, &device)],
        target: Tensor::<1>::zeros([2], &device).into(),
        samples: 9,
        device,
    };
    let mut params = Params::default();
    settings().build().unwrap().init(&probe, &mut TermParams::new(&mut params, "crd")).unwrap();
    params
}

#[test]
fn negatives_are_never_the_own_sample_and_depend_on_seed_step_and_ids_alone() {
    let loss = CrdSettings { negatives: 200, ..settings() }.build().unwrap();
    let rows = loss.contrast(&[3, 0, 8], 9, 7);
    for (row, id) in rows.chunks(201).zip([3, 0, 8]) {
        assert_eq!(row[0], id);
        let mut others: Vec<_> = row[1..].to_vec();
        others.sort_unstable();
        others.dedup();
        assert_eq!(others, (0..9).filter(|&other| other != id).collect::<Vec<_>>());
    }
    assert_eq!(rows, loss.contrast(&[3, 0, 8], 9, 7));
    assert_ne!(rows, loss.contrast(&[3, 0, 8], 9, 8));
    let other_seed = CrdSettings { negatives: 200, seed: 1, ..settings() }.build().unwrap();
    assert_ne!(rows, other_seed.contrast(&[3, 0, 8], 9, 7));
}

#[test]
fn the_normalizer_is_set_once_and_only_the_batch_moves_in_memory() {
    let mut params = params();
    let read =
        |params: &Params, path: &str| params.get::<2>(path).unwrap().into_data().try_to_vec::<f32>().unwrap();
    let normalizer = |params: &Params| {
        params.get::<1>("crd.features.student.log_normalizer").unwrap().into_scalar::<f32>()
    };
    let before = read(&params, "crd.features.student.memory");
    assert_eq!(normalizer(&params), f32::NEG_INFINITY);
    step(&mut params, &[4, 1], 0).unwrap();
    let (after, first) = (read(&params, "crd.features.student.memory"), normalizer(&params));
    let moved: Vec<_> = (0..9).filter(|row| before[row * 3..][..3] != after[row * 3..][..3]).collect();
    assert_eq!(moved, [1, 4]);
    let length: f32 = after[3..6].iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    step(&mut params, &[5, 6], 1).unwrap();
    assert_eq!(normalizer(&params), first);
}

#[test]
fn the_gradient_is_the_finite_difference() {
    let device = Device::flex().autodiff();
    let loss = CrdSettings { temperature: 0.5, ..settings() }.build().unwrap();
    let tensor = |n, seed| Tensor::<1>::from_floats(numbers(n, seed).as_slice(), &device);
    assert_gradient([2, 4], &numbers(8, 1), 0.02, |features| {
        let anchors = Crd::embed(features, tensor(12, 2).reshape([3, 4]), tensor(3, 3));
        let contrast = Tensor::<2, Int>::from_ints([[0, 3, 4], [1, 2, 2]], &device);
        let scores = loss.scores(anchors, tensor(27, 4).reshape([9, 3]), contrast);
        Crd::per_example(scores, Tensor::from_floats([1.5], &device), 9)
    });
}

#[test]
fn extreme_scores_keep_value_and_gradient_finite() {
    let device = Device::flex().autodiff();
    let scores = Tensor::<2>::from_floats([[-500.0, 500.0], [500.0, -500.0]], &device).require_grad();
    let value = Crd::per_example(scores.clone(), Tensor::from_floats([0.0], &device), 9);
    let gradient = scores.grad(&value.sum().backward()).unwrap();
    let expected = Tensor::<2>::from_floats([[-1.0, 1.0], [0.0, 0.0]], &device.inner());
    gradient.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-6));
}

#[test]
fn a_sample_without_a_row_is_an_error_and_so_is_a_momentum_of_one() {
    let error = step(&mut params(), &[3, 9], 0).unwrap_err().to_string();
    assert!(error.contains("sample id 9") && error.contains("9 samples"), "{error}");
    let error = CrdSettings { momentum: 1.0, ..settings() }.build().unwrap_err().to_string();
    assert_eq!(error, "`momentum` is 1, but it must be 0 or more, below 1");
}
