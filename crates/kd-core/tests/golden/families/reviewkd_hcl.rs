use kd_core::losses::ReviewKdSettings;

use super::layers::{layers, weighted_sum, weights};
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if !case.is("ReviewKD.py", "mdistiller_hcl") && !case.is("mid_level.py", "torchdistill_hcl") {
        return case.unknown();
    }
    let taps = |name: &str| vec![name.to_owned()];
    let settings =
        ReviewKdSettings { student: taps("student"), teacher: taps("teacher"), ..Default::default() };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let layers = layers(case)?;
    let weights = weights(case, layers.len())?;
    let terms = layers.into_iter().map(|(student, teacher)| loss.per_example(student, teacher).mean());
    case.check(weighted_sum(terms.collect(), weights)?)
}
