use kd_core::losses::{Elements, ReviewKdSettings};

use super::layers::{layers, weighted_sum, weights};
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if !case.is("ReviewKD.py", "mdistiller_hcl") && !case.is("mid_level.py", "torchdistill_hcl") {
        return case.unknown();
    }
    let taps = |name: &str| vec![name.to_owned()];
    let mut settings =
        ReviewKdSettings { student: taps("student"), teacher: taps("teacher"), ..Default::default() };
    if let Some(sizes) = case.optional_numbers("output_sizes")? {
        settings.grids = sizes.into_iter().map(|size| size as usize).collect();
    }
    let sum = match case.optional_text("reduction")?.unwrap_or("mean") {
        "mean" => false,
        "sum" => true,
        other => return Err(format!("reduction `{other}` is not known")),
    };
    settings.elements = if sum { Elements::Sum } else { Elements::Mean };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let layers = layers(case)?;
    let weights = weights(case, layers.len())?;
    let terms = layers.into_iter().map(|(student, teacher)| {
        let per_example = loss.per_example(student, teacher);
        if sum { per_example.sum() } else { per_example.mean() }
    });
    case.check(weighted_sum(terms.collect(), weights)?)
}
