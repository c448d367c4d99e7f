//! Against a two-layer network whose second derivative is worked out by hand.
#![allow(clippy::unwrap_used)]

use super::super::gradient::{assert_gradient, numbers};
use super::*;
use crate::{Params, Time};
use burn::tensor::activation::tanh;
use burn::tensor::{Device, Int};

const BATCH: usize = 2;
const INPUTS: usize = 4;
const HIDDEN: usize = 3;
const CLASSES: usize = 3;
const LABELS: [i32; BATCH] = [2, 0];

/// `w2 tanh(w1 x)`, as student and as teacher.
struct Models {
    input: Value,
    student: [Tensor<2>; 2],
    teacher: [Tensor<2>; 2],
}

fn run(weights: &[Tensor<2>; 2], input: &Value) -> Result<Taps, TermError> {
    let [w1, w2] = weights.clone().map(Tensor::transpose);
    let mut taps = Taps::none();
    taps.insert(OUTPUT, tanh(input.per_sample()?.matmul(w1)).matmul(w2));
    Ok(taps)
}

impl Replay for Models {
    fn input(&self) -> Value {
        self.input.clone()
    }
    fn student(&self, input: &Value) -> Result<Taps, TermError> {
        run(&self.student, input)
    }
    fn teacher(&self, _index: usize, input: &Value) -> Result<Taps, TermError> {
        run(&self.teacher, input)
    }
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn matrix(shape: [usize; 2], seed: usize) -> Tensor<2> {
    Tensor::<1>::from_floats(numbers(shape[0] * shape[1], seed).as_slice(), &device()).reshape(shape)
}

fn models(student: [Tensor<2>; 2]) -> Models {
    let teacher = [matrix([HIDDEN, INPUTS], 5), matrix([CLASSES, HIDDEN], 6)];
    Models { input: matrix([BATCH, INPUTS], 1).into(), student, teacher }
}

fn student() -> [Tensor<2>; 2] {
    [matrix([HIDDEN, INPUTS], 2), matrix([CLASSES, HIDDEN], 3)]
}

fn value(compare: GradientComparison, models: &Models) -> Tensor<1> {
    let loss = GradientAttentionSettings { compare, ..Default::default() }.build().unwrap();
    let taps = models.student(&models.input()).unwrap();
    let target = Value::from(Tensor::<1, Int>::from_ints(LABELS, &device()));
    let mut params = Params::default();
    let mut step = Step {
        student: &taps,
        teachers: &[],
        target: &target,
        ids: &[0, 1],
        time: Time::default(),
        params: TermParams::new(&mut params, "gradients"),
        replay: Some(models),
    };
    loss.forward(&mut step).unwrap()
}

const BOTH: [GradientComparison; 2] = [GradientComparison::Teacher, GradientComparison::Mirrored];

#[test]
fn the_gradient_is_the_central_difference_of_the_value_in_every_weight() {
    for compare in BOTH {
        let [w1, w2] = student();
        assert_gradient([HIDDEN, INPUTS], &numbers(HIDDEN * INPUTS, 2), 5e-3, |w1| {
            value(compare, &models([w1, w2.clone()]))
        });
        assert_gradient([CLASSES, HIDDEN], &numbers(CLASSES * HIDDEN, 3), 5e-3, |w2| {
            value(compare, &models([w1.clone(), w2]))
        });
    }
}

/// One example through `w2 tanh(w1 x)` by hand, in double precision.
struct ByHand {
    x: Vec<f64>,
    w1: Vec<Vec<f64>>,
    w2: Vec<Vec<f64>>,
    hidden: Vec<f64>,
    probabilities: Vec<f64>,
    /// Probabilities minus the label.
    delta: Vec<f64>,
    /// `w2' delta`.
    back: Vec<f64>,
}

fn rows(numbers: &[f32], columns: usize) -> Vec<Vec<f64>> {
    numbers.chunks(columns).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `m' y`.
fn transposed(m: &[Vec<f64>], y: &[f64]) -> Vec<f64> {
    (0..m[0].len()).map(|j| m.iter().zip(y).map(|(row, y)| row[j] * y).sum()).collect()
}

impl ByHand {
    fn new(example: usize, seeds: [usize; 2]) -> Self {
        let x = rows(&numbers(BATCH * INPUTS, 1), INPUTS)[example].clone();
        let w1 = rows(&numbers(HIDDEN * INPUTS, seeds[0]), INPUTS);
        let w2 = rows(&numbers(CLASSES * HIDDEN, seeds[1]), HIDDEN);
        let hidden: Vec<f64> = w1.iter().map(|row| dot(row, &x).tanh()).collect();
        let exp: Vec<f64> = w2.iter().map(|row| dot(row, &hidden).exp()).collect();
        let probabilities: Vec<f64> = exp.iter().map(|e| e / exp.iter().sum::<f64>()).collect();
        let mut delta = probabilities.clone();
        delta[LABELS[example] as usize] -= 1.0;
        let back = transposed(&w2, &delta);
        Self { x, w1, w2, hidden, probabilities, delta, back }
    }

    /// The derivative of tanh at every hidden unit.
    fn slopes(&self) -> Vec<f64> {
        self.hidden.iter().map(|h| 1.0 - h * h).collect()
    }

    /// `J = w1' (slope * w2' delta)`.
    fn input_gradient(&self) -> Vec<f64> {
        let slopes = self.slopes();
        let inner: Vec<f64> = slopes.iter().zip(&self.back).map(|(s, g)| s * g).collect();
        transposed(&self.w1, &inner)
    }

    /// Gradients of `<v, J> = sum_h a slope back`, with `a = w1 v`, for `v` constant.
    fn second_derivative(&self, v: &[f64]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let slopes = self.slopes();
        let a: Vec<f64> = self.w1.iter().map(|row| dot(row, v)).collect();
        let through: Vec<f64> = a.iter().zip(&slopes).map(|(a, s)| a * s).collect();
        // Via delta to the logits: (diag(p) - p p') w2 (a * slope).
        let c: Vec<f64> = self.w2.iter().map(|row| dot(row, &through)).collect();
        let mean = dot(&self.probabilities, &c);
        let q: Vec<f64> = self.probabilities.iter().zip(&c).map(|(p, c)| p * (c - mean)).collect();
        let from_logits = transposed(&self.w2, &q);
        let w1 = (0..HIDDEN).map(|h| {
            let (s, g) = (slopes[h], self.back[h]);
            let before = a[h] * g * (-2.0 * self.hidden[h] * s) + s * from_logits[h];
            (0..INPUTS).map(|i| s * g * v[i] + before * self.x[i]).collect()
        });
        let w2 = (0..CLASSES)
            .map(|k| (0..HIDDEN).map(|h| self.delta[k] * through[h] + q[k] * self.hidden[h]).collect());
        (w1.collect(), w2.collect())
    }
}

fn assert_close(ours: Tensor<2>, exact: &[f64]) {
    let ours = ours.into_data().try_to_vec::<f32>().unwrap();
    let largest = exact.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    assert!(largest > 1e-3);
    for (ours, exact) in ours.iter().zip(exact) {
        assert!((f64::from(*ours) - exact).abs() < 1e-3 * largest, "{ours} {exact}, largest {largest}");
    }
}

#[test]
fn value_and_gradient_are_those_of_a_two_layer_network_worked_out_by_hand() {
    let mut expected = (Vec::new(), vec![0.0; HIDDEN * INPUTS], vec![0.0; CLASSES * HIDDEN]);
    for example in 0..BATCH {
        let (ours, theirs) = (ByHand::new(example, [2, 3]), ByHand::new(example, [5, 6]));
        let (js, jt) = (ours.input_gradient(), theirs.input_gradient());
        let difference: Vec<f64> = js.iter().zip(jt).map(|(s, t)| s - t).collect();
        let norm = dot(&difference, &difference).sqrt();
        let v: Vec<f64> = difference.iter().map(|d| d / norm / 2.0).collect();
        let (w1, w2) = ours.second_derivative(&v);
        expected.0.push(norm / 2.0);
        expected.1.iter_mut().zip(w1.concat()).for_each(|(sum, g)| *sum += g);
        expected.2.iter_mut().zip(w2.concat()).for_each(|(sum, g)| *sum += g);
    }
    let [w1, w2] = student().map(Tensor::require_grad);
    let value = value(GradientComparison::Teacher, &models([w1.clone(), w2.clone()]));
    let values = value.clone().into_data().try_to_vec::<f32>().unwrap();
    for (ours, exact) in values.iter().zip(expected.0) {
        assert!((f64::from(*ours) - exact).abs() < 1e-5 * exact, "{ours} {exact}");
    }
    let grads = value.sum().backward();
    assert_close(w1.grad(&grads).unwrap(), &expected.1);
    assert_close(w2.grad(&grads).unwrap(), &expected.2);
}

#[test]
fn it_adds_up_with_the_loss_of_the_step_itself_in_one_backward_pass() {
    let gradient = |task: f64, attention: f64| {
        let [w1, w2] = student().map(Tensor::require_grad);
        let models = models([w1.clone(), w2]);
        let output = run(&models.student, &models.input()).unwrap().get::<2>(OUTPUT).unwrap();
        let total =
            output.square().sum() * task + value(GradientComparison::Teacher, &models).sum() * attention;
        w1.grad(&total.backward()).unwrap()
    };
    let sum = gradient(1.0, 0.0) + gradient(0.0, 1.0);
    let exact: Vec<f64> = sum.into_data().try_to_vec::<f32>().unwrap().into_iter().map(f64::from).collect();
    assert_close(gradient(1.0, 1.0), &exact);
}

#[test]
fn a_student_equal_to_its_teacher_has_neither_loss_nor_gradient() {
    let weights = || [matrix([HIDDEN, INPUTS], 5), matrix([CLASSES, HIDDEN], 6)];
    let [w1, w2] = weights().map(Tensor::require_grad);
    let value = value(GradientComparison::Teacher, &models([w1.clone(), w2]));
    assert_eq!(value.clone().into_data().try_to_vec::<f32>().unwrap(), [0.0; BATCH]);
    let gradient = w1.grad(&value.sum().backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
    assert!(gradient.iter().all(|&g| g == 0.0), "{gradient:?}");
}

#[test]
fn the_mirrored_form_is_zero_for_a_student_that_does_not_tell_left_from_right() {
    let pixels = matrix([BATCH, INPUTS], 1).reshape([BATCH, 1, 2, 2]);
    let columns = [7, 8].map(|seed| matrix([HIDDEN, 1], seed));
    // Weights of the pixels of a 2 by 2 image, row by row.
    for (order, blind) in [([0, 0, 1, 1], true), ([0, 1, 1, 0], false)] {
        let w1 = Tensor::cat(order.map(|i: usize| columns[i].clone()).to_vec(), 1);
        let [_, w2] = student();
        let models = Models { input: pixels.clone().into(), ..models([w1, w2]) };
        let largest = value(GradientComparison::Mirrored, &models).max().into_scalar::<f32>();
        assert_eq!(largest < 1e-6, blind, "{order:?}: {largest}");
    }
}

#[test]
fn a_model_without_float_input_or_replay_is_refused() {
    let models = models(student());
    let taps = models.student(&models.input()).unwrap();
    let target = Value::from(Tensor::<1, Int>::from_ints(LABELS, &device()));
    let mut params = Params::default();
    let mut step = Step {
        student: &taps,
        teachers: &[],
        target: &target,
        ids: &[],
        time: Time::default(),
        params: TermParams::new(&mut params, "gradients"),
        replay: None,
    };
    let loss = GradientAttentionSettings::default().build().unwrap();
    assert_eq!(loss.forward(&mut step).unwrap_err(), TermError::NoReplay);
}

#[test]
fn the_batch_cannot_be_mirrored() {
    let error = GradientAttentionSettings { flip_axis: 0, ..Default::default() }.build().unwrap_err();
    assert_eq!(error.to_string(), "`flip-axis` is 0, but it must be another axis than 0, the batch");
    assert!(flip_axis(-2, 2).is_err() && flip_axis(1, 2) == Ok(1));
}
