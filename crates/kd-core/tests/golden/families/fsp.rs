use burn::tensor::Tensor;
use kd_core::losses::{FspDistance, FspPooling, FspSettings};

use super::layers::{layers, weighted_sum, weights};
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    let (pooling, distance) = if case.is("FSP.py", "repdistiller") || case.is("fsp.py", "zoo") {
        (FspPooling::Average, FspDistance::Mean)
    } else if case.is("mid_level.py", "torchdistill") {
        (FspPooling::Max, FspDistance::ColumnNorms)
    } else {
        return case.unknown();
    };
    let section = || vec![["first".to_owned(), "last".to_owned()]];
    let settings = FspSettings { student: section(), teacher: section(), pooling, distance };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let (students, teachers): (Vec<_>, Vec<_>) = layers(case)?.into_iter().unzip();
    let matrices = |maps: Vec<Tensor<4>>| {
        let sections = maps.iter().cloned().zip(maps.iter().skip(1).cloned());
        sections.map(|(first, last)| loss.matrix(first, last)).collect::<Vec<_>>()
    };
    let pairs = matrices(students).into_iter().zip(matrices(teachers));
    let terms: Vec<_> = pairs.map(|(student, teacher)| loss.per_example(student, teacher).mean()).collect();
    let weights = weights(case, terms.len())?;
    case.check(weighted_sum(terms, weights)?)
}
