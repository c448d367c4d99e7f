//! Holistic distillation: a critic scores predictions, high for the teacher's, and the student learns to score high.
//!
//! The third loss of Liu, Chen, Liu et al.: *Structured Knowledge Distillation for Semantic Segmentation*, 2019,
//! [arXiv:1903.04197](https://arxiv.org/abs/1903.04197). These are functions of a critic's scores, for a loop that trains critic and student in turn;
//! they are no [`Term`](crate::Term).

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use serde::{Deserialize, Serialize};

/// What the critic minimises. Every method keeps the shape of the scores, for an explicit reduction.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::losses::Adversarial;
///
/// let scores = |score: f32| Tensor::<2>::full([4, 1], score, &Device::flex());
/// let (student, teacher) = (scores(-0.5), scores(2.0));
/// let critic = Adversarial::Hinge.critic_teacher(teacher).mean() + Adversarial::Hinge.critic_student(student.clone()).mean();
/// assert_eq!(critic.into_scalar::<f32>(), 0.5);
/// assert_eq!(Adversarial::Hinge.student(student).mean().into_scalar::<f32>(), 0.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adversarial {
    /// `$-D(t) + D(s)$`. Its gradient penalty, weighted 10, is not part of these functions.
    #[default]
    WganGp,
    /// `$\max(0, 1 - D(t)) + \max(0, 1 + D(s))$`.
    Hinge,
}

impl Adversarial {
    /// The critic's loss of the teacher's scores `$D(t)$`.
    pub fn critic_teacher<const D: usize>(self, scores: Tensor<D>) -> Tensor<D> {
        match self {
            Adversarial::WganGp => -scores,
            Adversarial::Hinge => relu(-scores + 1.0),
        }
    }

    /// The critic's loss of the student's scores `$D(s)$`; detach the student's prediction before scoring it.
    pub fn critic_student<const D: usize>(self, scores: Tensor<D>) -> Tensor<D> {
        match self {
            Adversarial::WganGp => scores,
            Adversarial::Hinge => relu(scores + 1.0),
        }
    }

    /// The student's loss of its scores, `$-D(s)$` either way.
    pub fn student<const D: usize>(self, scores: Tensor<D>) -> Tensor<D> {
        -scores
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_hinge_has_no_gradient_beyond_its_margin() {
        let device = Device::flex().autodiff();
        let scores = Tensor::<1>::from_floats([-2.0, 0.0, 2.0], &device).require_grad();
        let gradient = |value: Tensor<1>| {
            scores.grad(&value.sum().backward()).unwrap().into_data().try_to_vec::<f32>().unwrap()
        };
        assert_eq!(gradient(Adversarial::Hinge.critic_teacher(scores.clone())), [-1.0, -1.0, 0.0]);
        assert_eq!(gradient(Adversarial::Hinge.critic_student(scores.clone())), [0.0, 1.0, 1.0]);
        assert_eq!(gradient(Adversarial::Hinge.student(scores.clone())), [-1.0; 3]);
    }

    #[test]
    fn student_and_critic_pull_the_students_score_in_opposite_directions() {
        let scores = Tensor::<1>::from_floats([0.3, -4.0], &Device::flex());
        let (critic, student) =
            (Adversarial::WganGp.critic_student(scores.clone()), Adversarial::WganGp.student(scores));
        assert_eq!((critic + student).into_data().try_to_vec::<f32>().unwrap(), [0.0, 0.0]);
    }
}
