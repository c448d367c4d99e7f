//! Feature maps of one or several layers: inputs `student` and `teacher`, or `student0`, `student1`, ... and likewise for the teacher.

use burn::tensor::Tensor;

use crate::case::{Case, Failure};

/// Student and teacher maps in the layers' order; the student's take part in the gradient check.
pub fn layers(case: &Case) -> Result<Vec<(Tensor<4>, Tensor<4>)>, Failure> {
    let (students, teachers) = (names(case, "student"), names(case, "teacher"));
    if students.is_empty() || students.len() != teachers.len() {
        return Err(format!("inputs {:?} are not pairs of student and teacher maps", case.inputs()));
    }
    let pairs = students.into_iter().zip(teachers);
    pairs.map(|(student, teacher)| Ok((case.leaf(&student)?, case.constant(&teacher)?))).collect()
}

/// The numbers of `params.weights`, one for each of `count` layers; ones if there are none.
pub fn weights(case: &Case, count: usize) -> Result<Vec<f64>, Failure> {
    let Some(weights) = case.optional_numbers("weights")? else { return Ok(vec![1.0; count]) };
    if weights.len() == count { Ok(weights) } else { Err(format!("{weights:?} are not {count} weights")) }
}

/// The weighted sum of the layers' terms.
pub fn weighted_sum(terms: Vec<Tensor<1>>, weights: Vec<f64>) -> Result<Tensor<1>, Failure> {
    let weighted = terms.into_iter().zip(weights).map(|(term, weight)| term * weight);
    weighted.reduce(|sum, term| sum + term).ok_or_else(|| "there are no layers".to_owned())
}

/// Inputs called `prefix`, with or without a number, in the order of the numbers.
fn names(case: &Case, prefix: &str) -> Vec<String> {
    let number = |name: &str| {
        let rest = name.strip_prefix(prefix)?.trim_start_matches('_');
        if rest.is_empty() { Some(0) } else { rest.parse::<usize>().ok() }
    };
    let mut names: Vec<_> =
        case.inputs().into_iter().filter_map(|name| Some((number(name)?, name.to_owned()))).collect();
    names.sort();
    names.into_iter().map(|(_, name)| name).collect()
}
