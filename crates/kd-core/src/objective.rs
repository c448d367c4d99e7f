//! A weighted, scheduled sum of terms.

mod error;

use std::collections::BTreeSet;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::params::Params;
use crate::reduction::Reduction;
use crate::schedule::{Schedule, Time};
use crate::taps::{OUTPUT, Taps};
use crate::term::{Probe, Replay, Step, Term, TermError, TermParams, Wants};
use crate::value::Value;

pub use error::ObjectiveError;

/// Whether the terms are balanced against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Weights are taken as they are.
    #[default]
    None,
    /// Every term is scaled so that the norm of its gradient equals the first term's; measured on the first batch of every epoch.
    Gradient,
}

/// A term with its weight.
#[derive(Debug)]
pub struct WeightedTerm {
    name: String,
    term: Box<dyn Term>,
    weight: Schedule,
    reduction: Reduction,
    scale: f64,
}

impl WeightedTerm {
    /// The term's name, unique in its objective.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The weight at `time`, gradient balancing included.
    pub fn weight(&self, time: Time) -> f64 {
        self.weight.at(time) * self.scale
    }
}

/// `$$ L = \sum_i w_i(t) \, s_i \, \mathrm{reduce}(L_i) $$`
///
/// with scheduled weights `$w_i$` and, with [`Normalize::Gradient`], scales `$s_i$` that make gradients equally long.
///
/// ```
/// use kd_core::{Objective, Schedule, losses::{CrossEntropySettings, SoftTargetsSettings}};
///
/// let objective = Objective::new()
///     .with("soft", SoftTargetsSettings { temperature: 4.0, ..Default::default() }.build()?, 0.9)
///     .with("hard", CrossEntropySettings::default().build()?, Schedule::Linear { from: 1.0, to: 0.1 });
/// assert_eq!(objective.names(), ["soft", "hard"]);
/// # Ok::<(), kd_core::SettingsError>(())
/// ```
#[derive(Debug, Default)]
pub struct Objective {
    terms: Vec<WeightedTerm>,
    normalize: Normalize,
}

/// The value of an objective on one batch.
#[derive(Clone, Debug)]
pub struct Losses {
    /// The weighted sum, `[1]`, to call `backward` on.
    pub total: Tensor<1>,
    /// Every term on its own, in the objective's order.
    pub terms: Vec<TermValue>,
}

/// One term's share of [`Losses`].
#[derive(Clone, Debug)]
pub struct TermValue {
    /// The term's name.
    pub name: String,
    /// Its weight in the total.
    pub weight: f64,
    /// Its reduced, unweighted value, `[1]`.
    pub value: Tensor<1>,
}

/// One batch, as an [`Objective`] sees it.
pub struct Batch<'a> {
    /// The student's taps, its output among them.
    pub student: &'a Taps,
    /// The teachers' taps, as constants on the student's device ([`Taps::autodiff`]).
    pub teachers: &'a [Taps],
    /// Labels or regression targets.
    pub target: &'a Value,
    /// Sample ids.
    pub ids: &'a [usize],
    /// Where the run is.
    pub time: Time,
    /// Runs the models again, if the caller can.
    pub replay: Option<&'a dyn Replay>,
}

impl Objective {
    /// An objective without terms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a term; a name already taken gets a number. The reduction is the mean.
    #[must_use]
    pub fn with(self, name: &str, term: impl Term + 'static, weight: impl Into<Schedule>) -> Self {
        self.with_boxed(name, Box::new(term), weight, Reduction::Mean)
    }

    /// As [`with`](Self::with), for a term chosen at run time and any reduction.
    #[must_use]
    pub fn with_boxed(
        mut self,
        name: &str,
        term: Box<dyn Term>,
        weight: impl Into<Schedule>,
        reduction: Reduction,
    ) -> Self {
        let taken = |name: &str| self.terms.iter().any(|term| term.name == name);
        let numbered = (2..).map(|i| format!("{name}_{i}"));
        let name = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name));
        let name = name.unwrap_or_default();
        self.terms.push(WeightedTerm { name, term, weight: weight.into(), reduction, scale: 1.0 });
        self
    }

    /// Chooses how terms are balanced.
    #[must_use]
    pub fn normalized(mut self, normalize: Normalize) -> Self {
        self.normalize = normalize;
        self
    }

    /// How terms are balanced.
    pub fn normalize(&self) -> Normalize {
        self.normalize
    }

    /// The terms.
    pub fn terms(&self) -> &[WeightedTerm] {
        &self.terms
    }

    /// The terms' names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.terms.iter().map(WeightedTerm::name).collect()
    }

    /// The scales of gradient balancing, for a checkpoint.
    pub fn scales(&self) -> Vec<f64> {
        self.terms.iter().map(|term| term.scale).collect()
    }

    /// Sets the scales, in the objective's order; missing ones stay.
    pub fn set_scales(&mut self, scales: &[f64]) {
        self.terms.iter_mut().zip(scales).for_each(|(term, &scale)| term.scale = scale);
    }

    /// With [`Normalize::Gradient`]: sets the scales from the norms of the terms' gradients, so that all equal the first.
    /// A term with no gradient keeps its scale.
    pub fn balance(&mut self, gradient_norms: &[f64]) {
        let Some(&reference) = gradient_norms.first() else { return };
        if self.normalize == Normalize::Gradient && reference > 0.0 {
            for (term, &norm) in self.terms.iter_mut().zip(gradient_norms) {
                if norm > 0.0 && norm.is_finite() {
                    term.scale = reference / norm;
                }
            }
        }
    }

    /// Everything the terms read, together.
    pub fn wants(&self) -> Wants {
        let mut student = BTreeSet::new();
        let mut teacher = BTreeSet::new();
        let mut all = Wants::default();
        for wants in self.terms.iter().map(|term| term.term.wants()) {
            student.extend(wants.student);
            teacher.extend(wants.teacher);
            all.needs_teacher |= wants.needs_teacher;
            all.replays |= wants.replays;
        }
        Wants { student: student.into_iter().collect(), teacher: teacher.into_iter().collect(), ..all }
    }

    /// Checks taps and shapes against a dry run and makes the terms' parameters.
    ///
    /// # Errors
    /// [`ObjectiveError`] for the first term that does not fit: a missing tap, a wrong rank, batch or class count.
    pub fn init(&self, probe: &Probe) -> Result<Params, ObjectiveError> {
        if self.terms.is_empty() {
            return Err(ObjectiveError::Empty);
        }
        let shape = |taps: &Taps| taps.value(OUTPUT).map(Value::shape).unwrap_or_default();
        let student = shape(&probe.student);
        for (teacher, taps) in probe.teachers.iter().enumerate() {
            let theirs = shape(taps);
            if theirs.first() != student.first() {
                return Err(ObjectiveError::Batch { student, teacher, theirs });
            }
        }
        let mut params = Params::default();
        for WeightedTerm { name, term, .. } in &self.terms {
            let failed = |source| ObjectiveError::Term { term: name.clone(), source };
            check_taps(&term.wants(), probe).map_err(failed)?;
            term.init(probe, &mut TermParams::new(&mut params, name)).map_err(failed)?;
        }
        Ok(params)
    }

    /// The loss of one batch.
    ///
    /// # Errors
    /// [`ObjectiveError::Term`].
    pub fn forward(&self, batch: &Batch<'_>, params: &mut Params) -> Result<Losses, ObjectiveError> {
        let mut terms = Vec::with_capacity(self.terms.len());
        let mut total: Option<Tensor<1>> = None;
        for index in 0..self.terms.len() {
            let value = self.forward_term(index, batch, params)?;
            let weighted = value.value.clone().mul_scalar(value.weight);
            total = Some(match total {
                Some(sum) => sum + weighted,
                None => weighted,
            });
            terms.push(value);
        }
        Ok(Losses { total: total.ok_or(ObjectiveError::Empty)?, terms })
    }

    /// The value of one term alone, for diagnostics.
    ///
    /// # Errors
    /// [`ObjectiveError::Term`]; [`ObjectiveError::Empty`] when there is no term `index`.
    pub fn forward_term(
        &self,
        index: usize,
        batch: &Batch<'_>,
        params: &mut Params,
    ) -> Result<TermValue, ObjectiveError> {
        let term = self.terms.get(index).ok_or(ObjectiveError::Empty)?;
        let mut step = Step {
            student: batch.student,
            teachers: batch.teachers,
            target: batch.target,
            ids: batch.ids,
            time: batch.time,
            params: TermParams::new(params, &term.name),
            replay: batch.replay,
        };
        let per_example = term.term.forward(&mut step);
        let per_example =
            per_example.map_err(|source| ObjectiveError::Term { term: term.name.clone(), source })?;
        let value = term.reduction.apply(per_example);
        Ok(TermValue { name: term.name.clone(), weight: term.weight(batch.time), value })
    }
}

fn check_taps(wants: &Wants, probe: &Probe) -> Result<(), TermError> {
    wants.student.iter().try_for_each(|tap| probe.student.value(tap).map(drop))?;
    if wants.needs_teacher && probe.teachers.is_empty() {
        return Err(TermError::NoTeacher);
    }
    for teacher in &probe.teachers {
        wants.teacher.iter().try_for_each(|tap| teacher.value(tap).map(drop))?;
    }
    Ok(())
}
