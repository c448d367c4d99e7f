use burn::tensor::Tensor;
use kd_core::losses::{RkdSettings, Tuples};

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    let (distance_weight, angle_weight) = if case.is("RKD.py", "repdistiller_rkd") {
        (case.number("w_d")?, case.number("w_a")?)
    } else if case.is("loss.py", "lenscloth_rkd_distance") {
        (1.0, 0.0)
    } else if case.is("loss.py", "lenscloth_rkd_angle") {
        (0.0, 1.0)
    } else {
        return case.unknown();
    };
    let taps = vec!["features".to_owned()];
    let settings = RkdSettings { student: taps.clone(), teacher: taps, ..Default::default() };
    let settings = RkdSettings { distance_weight, angle_weight, tuples: Tuples::All, chunk: 4, ..settings };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let (student, teacher) = vectors(case)?;
    case.check(loss.per_example(student, teacher).mean())
}

/// Features of both sides, maps flattened.
pub fn vectors(case: &Case) -> Result<(Tensor<2>, Tensor<2>), Failure> {
    let [student, teacher] = [case.leaf_value("student")?, case.constant_value("teacher")?];
    let [student, teacher] = [student, teacher].map(|value| value.per_sample().map_err(|e| e.to_string()));
    Ok((student?, teacher?))
}
