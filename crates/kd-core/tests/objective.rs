//! Objectives as a run uses them: built by name, checked against a dry run, summed, balanced.

#![allow(clippy::unwrap_used, clippy::panic)]

use burn::tensor::{Device, Int, Tensor};
use kd_core::losses::{
    CrossEntropySettings, FitNetsSettings, LogitMseSettings, METHODS, SoftTargetsSettings, by_name,
};
use kd_core::{
    Batch, Normalize, OUTPUT, Objective, ObjectiveError, Params, Probe, Reduction, Schedule, Taps, Term,
    Time, Value,
};

const BATCH: usize = 6;
const CLASSES: usize = 5;

fn device() -> Device {
    Device::flex().autodiff()
}

/// Numbers between -1 and 1 without pattern.
fn tensor<const D: usize>(shape: [usize; D], seed: usize) -> Tensor<D> {
    let count = shape.iter().product::<usize>();
    let number = |i| ((i * 7919 + seed * 104_729 + i * i * 31) as f32 * 0.618_034).sin();
    let numbers: Vec<f32> = (0..count).map(number).collect();
    Tensor::<1>::from_floats(numbers.as_slice(), &device()).reshape(shape)
}

fn labels() -> Value {
    Tensor::<1, Int>::from_ints([0, 0, 1, 1, 2, 2], &device()).into()
}

/// The student's side has leaves, the teacher's has constants.
struct World {
    student: Taps,
    leaves: Vec<Value>,
    teachers: Vec<Taps>,
    target: Value,
}

fn world() -> World {
    world_with(tensor([BATCH, CLASSES], 1), tensor([BATCH, CLASSES], 4))
}

/// As [`world`], with scores per pixel.
fn pixel_world() -> World {
    world_with(tensor([BATCH, CLASSES, 3, 2], 1), tensor([BATCH, CLASSES, 3, 2], 4))
}

/// As [`world`], with numbers to predict instead of classes.
fn number_world() -> World {
    World { target: tensor([BATCH, CLASSES], 8).into(), ..world() }
}

fn world_with<const D: usize>(logits: Tensor<D>, teacher_logits: Tensor<D>) -> World {
    let map = |seed| tensor([BATCH, 6, 4, 4], seed);
    let (logits, e) = (logits.require_grad(), tensor([BATCH, 7], 7).require_grad());
    let [a, b] = [map(2), map(3)].map(Tensor::require_grad);
    let leaves = vec![logits.clone().into(), e.clone().into(), a.clone().into(), b.clone().into()];
    let mut student = Taps::none();
    student.insert(OUTPUT, logits);
    student.insert("a", a);
    student.insert("b", b);
    student.insert("e", e);
    let mut teacher = Taps::none();
    teacher.insert(OUTPUT, teacher_logits);
    teacher.insert("a", map(5));
    teacher.insert("b", map(6));
    World { student, leaves, teachers: vec![teacher], target: labels() }
}

impl World {
    fn with_outputs(student: impl Into<Value>, teacher: impl Into<Value>, target: impl Into<Value>) -> Self {
        let (mut ours, mut theirs) = (Taps::none(), Taps::none());
        ours.insert(OUTPUT, student);
        theirs.insert(OUTPUT, teacher);
        Self { student: ours, leaves: vec![], teachers: vec![theirs], target: target.into() }
    }

    fn probe(&self) -> Probe {
        Probe {
            student: self.student.clone(),
            teachers: self.teachers.clone(),
            target: self.target.clone(),
            samples: 20,
            device: device(),
        }
    }

    fn batch(&self, time: Time) -> Batch<'_> {
        Batch {
            student: &self.student,
            teachers: &self.teachers,
            target: &self.target,
            ids: &[3, 1, 4, 15, 9, 2],
            time,
            replay: None,
        }
    }

    /// The objective's total after `init`.
    fn total(&self, objective: &Objective, time: Time) -> Tensor<1> {
        let mut params = objective.init(&self.probe()).unwrap();
        objective.forward(&self.batch(time), &mut params).unwrap().total
    }

    /// The value of `term` alone, by mean.
    fn value(&self, term: impl Term + 'static) -> f32 {
        self.total(&Objective::new().with("only", term, 1.0), Time::default()).into_scalar::<f32>()
    }

    fn error(&self, objective: &Objective) -> String {
        objective.init(&self.probe()).unwrap_err().to_string()
    }
}

fn soft() -> impl Term + 'static {
    SoftTargetsSettings::default().build().unwrap()
}

fn hard() -> impl Term + 'static {
    CrossEntropySettings::default().build().unwrap()
}

fn hint(student: &str, teacher: &str) -> impl Term + 'static {
    FitNetsSettings { student: vec![student.into()], teacher: vec![teacher.into()] }.build().unwrap()
}

/// The loss with no more settings than it needs.
fn minimal(name: &str) -> Box<dyn Term> {
    let candidates = [
        "",
        "student = ['a']\nteacher = ['a']",
        "student = ['a', 'b']\nteacher = ['a', 'b']",
        "student = [['a', 'b']]\nteacher = [['a', 'b']]",
        "embedding = 'e'",
        "embedding = 'e'\nclasses = 5",
    ];
    let mut built = candidates.iter().map(|settings| by_name(name, toml::from_str(settings).unwrap()));
    built.find_map(Result::ok).unwrap_or_else(|| panic!("no minimal settings build `{name}`"))
}

#[test]
fn the_total_is_the_sum_of_the_terms_by_their_weights_of_the_moment() {
    let world = world();
    let objective = Objective::new()
        .with("soft", soft(), Schedule::Linear { from: 2.0, to: 0.0 })
        .with("hard", hard(), Schedule::WarmUp { to: 1.0, share: 0.5 })
        .with("hint", hint("a", "b"), 3.0);
    let time = Time { epoch: 0, step: 25, total_steps: 100 };
    let mut params = objective.init(&world.probe()).unwrap();
    let losses = objective.forward(&world.batch(time), &mut params).unwrap();
    let values: Vec<f32> = losses.terms.iter().map(|term| term.value.clone().into_scalar::<f32>()).collect();
    let expected = 1.5 * values[0] + 0.5 * values[1] + 3.0 * values[2];
    assert!((losses.total.into_scalar::<f32>() - expected).abs() < 1e-5 * expected);
    assert!(values.iter().all(|&value| value > 0.0), "{values:?}");
    assert_eq!(losses.terms.iter().map(|term| term.weight).collect::<Vec<_>>(), [1.5, 0.5, 3.0]);
}

#[test]
fn every_listed_loss_builds_by_name_and_reaches_what_learns_with_finite_numbers() {
    for method in METHODS {
        let term = minimal(method.name);
        if term.wants().replays {
            continue;
        }
        let objective = Objective::new().with_boxed(method.name, term, method.weight, Reduction::Mean);
        let fits = |world: &World| objective.init(&world.probe()).is_ok();
        let world = [world(), pixel_world(), number_world()].into_iter().find(fits);
        let world = world.unwrap_or_else(|| panic!("{} fits no outputs", method.name));
        let total = world.total(&objective, Time::default());
        assert!(total.clone().into_scalar::<f32>().is_finite(), "{}", method.name);
        let grads = total.backward();
        let gradient = |leaf: &Value| match leaf.rank() {
            2 => leaf.float::<2>().unwrap().grad(&grads).map(Value::from),
            _ => leaf.float::<4>().unwrap().grad(&grads).map(Value::from),
        };
        let gradients: Vec<Value> = world.leaves.iter().filter_map(gradient).collect();
        let sizes = gradients.iter().map(|g| g.flat_float().unwrap().abs().sum().into_scalar::<f32>());
        let size: f32 = sizes.sum();
        assert!(size.is_finite() && size > 0.0, "{}: gradient of size {size}", method.name);
    }
}

#[test]
fn names_in_the_table_are_unique_and_documented() {
    let mut names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METHODS.len());
    assert!(METHODS.iter().all(|method| !method.summary.is_empty() && !method.paper.is_empty()));
}

#[test]
fn an_unknown_key_or_loss_is_an_error_that_names_it() {
    for method in METHODS {
        let error = by_name(method.name, toml::from_str("no-such-key = 1").unwrap()).unwrap_err().to_string();
        assert!(error.contains("no-such-key") && error.contains(method.name), "{error}");
    }
    let error = by_name("soft-target", toml::Table::new()).unwrap_err().to_string();
    assert!(error.contains("`soft-target`") && error.contains("soft-targets, "), "{error}");
}

#[test]
fn a_missing_tap_is_an_error_before_the_first_step_that_lists_the_taps_that_exist() {
    let error = |student, teacher| world().error(&Objective::new().with("hint", hint(student, teacher), 1.0));
    assert_eq!(error("typo", "a"), "term `hint`: there is no tap `typo`; the network has: a, b, e, output");
    assert_eq!(error("a", "typo"), "term `hint`: there is no tap `typo`; the network has: a, b, output");
}

#[test]
fn a_missing_teacher_is_an_error_before_the_first_step() {
    let lonely = World { teachers: vec![], ..world() };
    let error = lonely.error(&Objective::new().with("hard", hard(), 1.0).with("soft", soft(), 1.0));
    assert_eq!(error, "term `soft`: this loss needs a teacher, but the run has none");
    assert!(lonely.value(hard()) > 0.0);
}

#[test]
fn outputs_that_do_not_fit_are_errors_before_the_first_step() {
    let other_classes = World::with_outputs(tensor([6, 5], 1), tensor([6, 4], 2), labels());
    let error = other_classes.error(&Objective::new().with("soft", soft(), 1.0));
    assert!(error.starts_with("term `soft`") && error.contains("[6, 5] does not fit [6, 4]"), "{error}");

    let other_batch = World::with_outputs(tensor([6, 5], 1), tensor([3, 5], 2), labels());
    let error = other_batch.error(&Objective::new().with("hard", hard(), 1.0));
    assert!(error.contains("[6, 5]") && error.contains("[3, 5]"), "{error}");

    let few_labels = World::with_outputs(tensor([4, 5], 1), tensor([4, 5], 2), labels());
    let error = few_labels.error(&Objective::new().with("hard", hard(), 1.0));
    assert!(error.contains("[4] does not fit [6]"), "{error}");
}

#[test]
fn an_objective_without_terms_is_refused() {
    assert_eq!(Objective::new().init(&world().probe()).unwrap_err(), ObjectiveError::Empty);
}

#[test]
fn balanced_terms_have_gradients_of_equal_length() {
    let mse = || LogitMseSettings::default().build().unwrap();
    let mut objective = Objective::new()
        .with("soft", soft(), 1.0)
        .with("mse", mse(), 1.0)
        .with("hard", hard(), 1.0)
        .normalized(Normalize::Gradient);
    let norms = |objective: &Objective, weighted: bool| -> Vec<f64> {
        let norm = |index| {
            let world = world();
            let term =
                objective.forward_term(index, &world.batch(Time::default()), &mut Params::default()).unwrap();
            let grads = term.value.backward();
            let gradient = world.leaves[0].float::<2>().unwrap().grad(&grads).unwrap();
            let norm = f64::from(gradient.square().sum().sqrt().into_scalar::<f32>());
            if weighted { norm * term.weight } else { norm }
        };
        (0..objective.names().len()).map(norm).collect()
    };
    let before = norms(&objective, false);
    assert!((before[0] / before[1] - 1.0).abs() > 0.1, "nothing to balance: {before:?}");
    objective.balance(&before);
    let after = norms(&objective, true);
    assert!(after.iter().all(|norm| (norm / before[0] - 1.0).abs() < 1e-5), "{before:?} {after:?}");

    let scales = objective.scales();
    let mut resumed =
        Objective::new().with("soft", soft(), 1.0).with("mse", mse(), 1.0).with("hard", hard(), 1.0);
    resumed.set_scales(&scales);
    assert_eq!(norms(&resumed, true), after);
    resumed.balance(&[1.0, 2.0, 3.0]);
    assert_eq!(resumed.scales(), scales, "only `Normalize::Gradient` balances");
}

#[test]
fn a_sum_is_the_mean_times_the_number_of_examples() {
    let world = world();
    let total = |reduction| {
        let objective = Objective::new().with_boxed("soft", Box::new(soft()), 1.0, reduction);
        world.total(&objective, Time::default()).into_scalar::<f32>()
    };
    let (sum, mean) = (total(Reduction::Sum), total(Reduction::Mean));
    assert!(mean > 0.0 && (sum / mean - BATCH as f32).abs() < 1e-4, "{sum} {mean}");
}

#[test]
fn terms_of_one_name_are_numbered_and_keep_parameters_apart() {
    let mut world = world();
    world.teachers[0].insert("wide", tensor([BATCH, 9, 4, 4], 7));
    let objective = Objective::new()
        .with("hint", hint("a", "wide"), 1.0)
        .with("hint", hint("b", "wide"), 1.0)
        .with("hint", hint("a", "wide"), 1.0);
    assert_eq!(objective.names(), ["hint", "hint_2", "hint_3"]);
    let paths = objective.init(&world.probe()).unwrap().paths();
    assert_eq!(paths, ["hint.a.regressor", "hint_2.b.regressor", "hint_3.a.regressor"]);
    assert_eq!(
        (objective.wants().student, objective.wants().teacher),
        (vec!["a".to_owned(), "b".to_owned()], vec!["wide".to_owned()])
    );
}

#[test]
fn token_logits_count_every_token_and_leave_ignored_ones_out_of_the_mean() {
    let (student, teacher) = (tensor([2, 3, 5], 1), tensor([2, 3, 5], 2));
    let target = Tensor::<2, Int>::from_ints([[1, 0, 4], [2, 2, 3]], &device());
    let flat = World::with_outputs(
        student.clone().reshape([6, 5]),
        teacher.clone().reshape([6, 5]),
        target.clone().reshape([6]),
    );
    let tokens = World::with_outputs(student.clone(), teacher.clone(), target);
    assert!((tokens.value(soft()) - flat.value(soft())).abs() < 1e-6);
    assert!((tokens.value(hard()) - flat.value(hard())).abs() < 1e-6);

    let padded = Tensor::<2, Int>::from_ints([[1, 0, 4], [-100, -100, -100]], &device());
    let padded = World::with_outputs(student.clone(), teacher.clone(), padded);
    let first = World::with_outputs(
        student.narrow(0, 0, 1),
        teacher.narrow(0, 0, 1),
        Tensor::<2, Int>::from_ints([[1, 0, 4]], &device()),
    );
    assert!((padded.value(hard()) - first.value(hard())).abs() < 1e-6);
}

#[test]
fn pixel_logits_are_compared_along_their_class_axis() {
    let (student, teacher) = (tensor([2, 2, 3, 5], 1), tensor([2, 2, 3, 5], 2));
    let target = Tensor::<3, Int>::from_ints([[[1, 0, 4], [2, 2, 3]], [[0, 0, 1], [4, 3, 2]]], &device());
    let last = World::with_outputs(student.clone(), teacher.clone(), target.clone());
    let pixels = |map: Tensor<4>| map.permute([0, 3, 1, 2]);
    let pixels = World::with_outputs(pixels(student), pixels(teacher), target);
    let soft_pixels = SoftTargetsSettings { class_axis: 1, ..Default::default() }.build().unwrap();
    let hard_pixels = CrossEntropySettings { class_axis: 1, ..Default::default() }.build().unwrap();
    assert!((pixels.value(soft_pixels) - last.value(soft())).abs() < 1e-6);
    assert!((pixels.value(hard_pixels) - last.value(hard())).abs() < 1e-6);
    let error = pixels.error(&Objective::new().with("hard", hard(), 1.0));
    assert!(error.contains("rows of scores and labels"), "{error}");
}
