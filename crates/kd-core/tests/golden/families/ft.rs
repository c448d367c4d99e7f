use kd_core::losses::{Factor, FactorDistance, FactorTransferSettings};

use super::layers::{layers, weighted_sum, weights};
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    let paper = FactorTransferSettings {
        student: vec!["student".to_owned()],
        teacher: vec!["teacher".to_owned()],
        ..Default::default()
    };
    let mut sum = false;
    let settings = if case.is("FT.py", "repdistiller_ft") {
        let (channel_power, power) = (case.number("p1")?, case.number("p2")?);
        let distance = if power == 1.0 { FactorDistance::Mean } else { FactorDistance::SignedMean };
        FactorTransferSettings { factor: Factor::ChannelSum, channel_power, distance, power, ..paper }
    } else if case.is("ft.py", "zoo_ft") {
        paper
    } else if case.is("mid_level.py", "torchdistill_ft") {
        sum = case.optional_text("reduction")?.unwrap_or("mean") != "mean";
        let power = case.number("p")?;
        // With p = 1 that code averages over elements too, with another p over the batch only.
        let distance = if power == 1.0 && !sum { FactorDistance::Mean } else { FactorDistance::Norm };
        FactorTransferSettings { distance, power, ..paper }
    } else {
        return case.unknown();
    };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let layers = layers(case)?;
    let weights = weights(case, layers.len())?;
    let terms = layers.into_iter().map(|(student, teacher)| {
        let per_example = loss.per_example(student, teacher);
        if sum { per_example.sum() } else { per_example.mean() }
    });
    case.check(weighted_sum(terms.collect(), weights)?)
}
