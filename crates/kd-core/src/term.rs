//! One loss at work: which taps it reads, which parameters it owns, and its value on a batch.

use std::fmt;

use burn::tensor::{Device, Int, Tensor};

use crate::params::{ParamError, Params};
use crate::schedule::Time;
use crate::taps::{OUTPUT, TapError, Taps};
use crate::value::{Value, ValueError};

/// A loss over the taps of a student and its teachers.
///
/// A term returns one value per example (or per position, where outputs have positions; or per pair of a batch) and leaves the reduction to
/// the [`Objective`](crate::Objective). Learnable parts are made in [`init`](Term::init), from the shapes that a dry run showed, and live in [`Params`].
///
/// ```
/// use burn::tensor::Tensor;
/// use kd_core::{Step, Term, TermError, Wants};
///
/// /// Pulls the student's logits towards the teacher's.
/// #[derive(Debug)]
/// struct LogitDistance;
///
/// impl Term for LogitDistance {
///     fn wants(&self) -> Wants {
///         Wants::outputs()
///     }
///     fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError> {
///         let difference = step.student::<2>("output")? - step.teacher::<2>("output")?;
///         Ok(difference.square().mean_dim(1).squeeze_dim::<1>(1))
///     }
/// }
/// ```
pub trait Term: fmt::Debug + Send {
    /// The taps it reads.
    fn wants(&self) -> Wants;

    /// Checks the shapes a dry run showed and makes the learnable parts. By default there are none.
    ///
    /// # Errors
    /// [`TermError`] when the shapes do not fit; reported before the first step.
    fn init(&self, probe: &Probe, params: &mut TermParams<'_>) -> Result<(), TermError> {
        let _ = (probe, params);
        Ok(())
    }

    /// The loss of every example, `[examples]`.
    ///
    /// # Errors
    /// [`TermError`] when a tap is missing or shapes do not fit.
    fn forward(&self, step: &mut Step<'_>) -> Result<Tensor<1>, TermError>;
}

/// The taps a term reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Of the student; its output is always there as [`OUTPUT`].
    pub student: Vec<String>,
    /// Of every teacher, likewise.
    pub teacher: Vec<String>,
    /// Whether a teacher is needed at all.
    pub needs_teacher: bool,
    /// Whether the term runs the models again ([`Step::replay`]).
    pub replays: bool,
}

impl Wants {
    /// The student's output and the target only.
    pub fn student_output() -> Self {
        Self::default()
    }

    /// Both outputs.
    pub fn outputs() -> Self {
        Self { needs_teacher: true, ..Self::default() }
    }

    /// The named taps of student and teacher, besides the outputs.
    pub fn taps(student: &[String], teacher: &[String]) -> Self {
        Self { student: student.to_vec(), teacher: teacher.to_vec(), needs_teacher: true, replays: false }
    }

    /// Both outputs, and the models themselves.
    pub fn replay() -> Self {
        Self { needs_teacher: true, replays: true, ..Self::default() }
    }
}

/// What a dry run over one batch showed: real taps of real models, for their names and shapes.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The student's taps and output.
    pub student: Taps,
    /// The teachers' taps and outputs.
    pub teachers: Vec<Taps>,
    /// The batch's target.
    pub target: Value,
    /// Number of training samples, for memory banks.
    pub samples: usize,
    /// Where parameters are to be made.
    pub device: Device,
}

impl Probe {
    /// Shape of a student tap.
    ///
    /// # Errors
    /// [`TapError::Missing`].
    pub fn student_shape(&self, tap: &str) -> Result<Vec<usize>, TermError> {
        Ok(self.student.value(tap)?.shape())
    }

    /// Shape of a tap of the first teacher.
    ///
    /// # Errors
    /// [`TermError::NoTeacher`] or [`TapError::Missing`].
    pub fn teacher_shape(&self, tap: &str) -> Result<Vec<usize>, TermError> {
        let teacher = self.teachers.first().ok_or(TermError::NoTeacher)?;
        Ok(teacher.value(tap)?.shape())
    }
}

/// One batch, as a term sees it. Teacher values are constants on the student's device.
pub struct Step<'a> {
    /// The student's taps; its output under [`OUTPUT`].
    pub student: &'a Taps,
    /// The teachers' taps.
    pub teachers: &'a [Taps],
    /// Labels (int) or regression targets and class probabilities (float).
    pub target: &'a Value,
    /// Ids of the samples, constant over epochs.
    pub ids: &'a [usize],
    /// Where the run is.
    pub time: Time,
    /// The term's own parameters.
    pub params: TermParams<'a>,
    /// Runs the models on other inputs, where the caller can.
    pub replay: Option<&'a dyn Replay>,
}

impl Step<'_> {
    /// A student tap of rank `D`.
    ///
    /// # Errors
    /// [`TapError`], as a [`TermError`].
    pub fn student<const D: usize>(&self, tap: &str) -> Result<Tensor<D>, TermError> {
        Ok(self.student.get(tap)?)
    }

    /// A tap of rank `D` of the first teacher.
    ///
    /// # Errors
    /// [`TermError::NoTeacher`], or [`TapError`].
    pub fn teacher<const D: usize>(&self, tap: &str) -> Result<Tensor<D>, TermError> {
        Ok(self.first_teacher()?.get(tap)?)
    }

    /// The taps of the first teacher.
    ///
    /// # Errors
    /// [`TermError::NoTeacher`].
    pub fn first_teacher(&self) -> Result<&Taps, TermError> {
        self.teachers.first().ok_or(TermError::NoTeacher)
    }

    /// The student's scores as `[rows, classes]`.
    ///
    /// # Errors
    /// When there is no such axis.
    pub fn student_rows(&self, class_axis: isize) -> Result<Tensor<2>, TermError> {
        Ok(self.student.value(OUTPUT)?.rows(class_axis)?)
    }

    /// The first teacher's scores as `[rows, classes]`.
    ///
    /// # Errors
    /// When there is no teacher or no such axis.
    pub fn teacher_rows(&self, class_axis: isize) -> Result<Tensor<2>, TermError> {
        Ok(self.first_teacher()?.value(OUTPUT)?.rows(class_axis)?)
    }

    /// The labels in one row, in the order of [`student_rows`](Self::student_rows).
    ///
    /// # Errors
    /// When the target is not integers.
    pub fn labels(&self) -> Result<Tensor<1, Int>, TermError> {
        Ok(self.target.flat_int()?)
    }
}

/// The parameters of one term: a view into [`Params`] under the term's name.
pub struct TermParams<'a> {
    params: &'a mut Params,
    scope: &'a str,
}

impl<'a> TermParams<'a> {
    /// The parameters of the term called `scope`.
    pub fn new(params: &'a mut Params, scope: &'a str) -> Self {
        Self { params, scope }
    }

    /// Adds a learnable parameter.
    ///
    /// # Errors
    /// [`ParamError::Unsupported`].
    pub fn insert<const D: usize>(&mut self, path: &str, value: Tensor<D>) -> Result<(), TermError> {
        Ok(self.params.insert(&format!("{}.{path}", self.scope), value)?)
    }

    /// Adds a buffer without gradient.
    ///
    /// # Errors
    /// [`ParamError::Unsupported`].
    pub fn insert_buffer<const D: usize>(&mut self, path: &str, value: Tensor<D>) -> Result<(), TermError> {
        Ok(self.params.insert_buffer(&format!("{}.{path}", self.scope), value)?)
    }

    /// A parameter or buffer.
    ///
    /// # Errors
    /// [`ParamError`].
    pub fn get<const D: usize>(&self, path: &str) -> Result<Tensor<D>, TermError> {
        Ok(self.params.get(&format!("{}.{path}", self.scope))?)
    }

    /// Overwrites a buffer.
    ///
    /// # Errors
    /// [`ParamError`].
    pub fn set_buffer<const D: usize>(&mut self, path: &str, value: Tensor<D>) -> Result<(), TermError> {
        Ok(self.params.set_buffer(&format!("{}.{path}", self.scope), value)?)
    }
}

/// Runs the models again on another input, for losses on input gradients.
pub trait Replay {
    /// The batch's input, when the models take one tensor.
    fn input(&self) -> Value;

    /// The student's taps for `input`, with the same dropout masks as in the step and without touching running statistics.
    ///
    /// # Errors
    /// When the student does not take a single tensor of this kind.
    fn student(&self, input: &Value) -> Result<Taps, TermError>;

    /// The taps of teacher `index`, differentiable with respect to the input.
    ///
    /// # Errors
    /// As [`student`](Self::student).
    fn teacher(&self, index: usize, input: &Value) -> Result<Taps, TermError>;
}

/// Why a term has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermError {
    /// A tap is missing or has another rank.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A value has another rank, kind or class axis.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A parameter is missing.
    #[error(transparent)]
    Param(#[from] ParamError),
    /// The term compares with a teacher, and there is none.
    #[error("this loss needs a teacher, but the run has none")]
    NoTeacher,
    /// Student and teacher, or output and target, do not fit.
    #[error("{what}: {left:?} does not fit {right:?}; {advice}")]
    Shape {
        /// What is compared.
        what: String,
        /// Shape on the student's side.
        left: Vec<usize>,
        /// Shape on the other side.
        right: Vec<usize>,
        /// What to do.
        advice: &'static str,
    },
    /// A label of the first batch is no class.
    #[error(
        "label {label} is no class of the {classes} classes, 0 to {}, that the scores have: check the data's labels, the number of outputs and `ignore-index`",
        classes.saturating_sub(1)
    )]
    Label {
        /// The label.
        label: i64,
        /// Number of classes.
        classes: usize,
    },
    /// The term has to run the models again, and the caller cannot.
    #[error(
        "this loss differentiates with respect to the input: it needs a network with one float tensor as input"
    )]
    NoReplay,
    /// Anything else a term of a user's own has to say.
    #[error("{0}")]
    Other(String),
}

impl TermError {
    /// A [`TermError::Shape`] if the shapes differ.
    ///
    /// # Errors
    /// When `left != right`.
    pub fn same_shape(what: &str, left: &[usize], right: &[usize], advice: &'static str) -> Result<(), Self> {
        if left == right {
            return Ok(());
        }
        Err(Self::Shape { what: what.to_owned(), left: left.to_vec(), right: right.to_vec(), advice })
    }
}
