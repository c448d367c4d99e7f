//! Which student tap is compared with which teacher tap.

use burn::tensor::Tensor;

use crate::settings::{SettingsError, in_range};
use crate::term::{Probe, TermError, Wants};

/// Student taps and the teacher taps they are compared with, in order.
#[derive(Clone, Debug)]
pub(super) struct TapPairs {
    student: Vec<String>,
    teacher: Vec<String>,
}

impl TapPairs {
    /// At least `at_least` pairs; the lists are equally long.
    pub(super) fn new(
        student: Vec<String>,
        teacher: Vec<String>,
        at_least: usize,
    ) -> Result<Self, SettingsError> {
        let enough = student.len() >= at_least;
        in_range(
            "student",
            format!("{student:?}"),
            enough,
            format!("a list of at least {at_least} tap names"),
        )?;
        let equal = student.len() == teacher.len();
        in_range(
            "teacher",
            format!("{teacher:?}"),
            equal,
            format!("as many tap names as `student`: {}", student.len()),
        )?;
        Ok(Self { student, teacher })
    }

    pub(super) fn wants(&self) -> Wants {
        Wants::taps(&self.student, &self.teacher)
    }

    /// Student and teacher tap of every pair.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.student.iter().map(String::as_str).zip(self.teacher.iter().map(String::as_str))
    }

    /// The student tap and the channels `[student, teacher]` of every pair of maps; refuses pairs that differ in height or width.
    pub(super) fn equal_maps(
        &self,
        probe: &Probe,
        advice: &'static str,
    ) -> Result<Vec<(&str, [usize; 2])>, TermError> {
        let theirs = probe.teachers.first().ok_or(TermError::NoTeacher)?;
        let channels = |(student, teacher)| {
            let [_, from, height, width] = probe.student.value(student)?.as_map()?.dims();
            let [_, to, their_height, their_width] = theirs.value(teacher)?.as_map()?.dims();
            let what = format!("height and width of taps `{student}` and `{teacher}`");
            TermError::same_shape(&what, &[height, width], &[their_height, their_width], advice)?;
            Ok((student, [from, to]))
        };
        self.iter().map(channels).collect()
    }

    /// The sum over all pairs of a per-example value, `[examples]`.
    pub(super) fn sum(
        &self,
        mut value: impl FnMut(&str, &str) -> Result<Tensor<1>, TermError>,
    ) -> Result<Tensor<1>, TermError> {
        let mut sum: Option<Tensor<1>> = None;
        for (student, teacher) in self.iter() {
            let value = value(student, teacher)?;
            sum = Some(match sum {
                Some(sum) => sum + value,
                None => value,
            });
        }
        sum.ok_or_else(|| TermError::Other("there is no pair of taps to compare".to_owned()))
    }
}
