use burn::tensor::Tensor;
use kd_core::losses::{ActivationBoundaries, ActivationBoundariesSettings, Elements, Ofd};

use super::layers::{layers, weighted_sum, weights};
use crate::case::{Case, Failure};

/// What RepDistiller multiplies the sum over elements by.
const REPDISTILLER_SCALE: f64 = 3e-3;

pub fn run(case: &Case) -> Result<(), Failure> {
    if case.is("AB.py", "repdistiller_ab_criterion") {
        return case.check(pair(case, Elements::Sum)?.sum());
    }
    if case.is("AB.py", "repdistiller_ab") {
        let loss = loss(case, Elements::Sum)?;
        let mut terms = Vec::new();
        for (i, weight) in Ofd::weights(case.number("feat_num")? as usize).into_iter().enumerate() {
            let student = case.leaf(&format!("student{i}"))?;
            let value = loss.per_example(student, case.constant(&format!("teacher{i}"))?).mean();
            terms.push(value * weight * REPDISTILLER_SCALE);
        }
        let terms: Tensor<1> = Tensor::cat(terms, 0);
        if case.records("terms") {
            case.check_output("terms", &terms)?;
        }
        return case.check(terms.sum());
    }
    if case.is("ab.py", "zoo_ab") {
        return case.check(pair(case, Elements::Mean)?.mean());
    }
    if case.is("mid_level.py", "torchdistill_ab") {
        let loss = loss(case, Elements::Sum)?;
        let layers = layers(case)?;
        let weights = match case.optional_number("weight")? {
            Some(weight) => vec![weight; layers.len()],
            None => weights(case, layers.len())?,
        };
        // torchdistill sums for every other word.
        let mean = case.optional_text("reduction")?.unwrap_or("mean") == "mean";
        let terms = layers.into_iter().map(|(student, teacher)| {
            let per_example = loss.per_example(student, teacher);
            if mean { per_example.mean() } else { per_example.sum() }
        });
        return case.check(weighted_sum(terms.collect(), weights)?);
    }
    case.unknown()
}

fn loss(case: &Case, elements: Elements) -> Result<ActivationBoundaries, Failure> {
    let settings = ActivationBoundariesSettings {
        student: vec!["student".into()],
        teacher: vec!["teacher".into()],
        margin: case.number("margin")?,
        elements,
    };
    settings.build().map_err(|e| e.to_string())
}

fn pair(case: &Case, elements: Elements) -> Result<Tensor<1>, Failure> {
    Ok(loss(case, elements)?.per_example(case.leaf("student")?, case.constant("teacher")?))
}
