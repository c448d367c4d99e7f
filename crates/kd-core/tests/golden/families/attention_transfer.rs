use kd_core::losses::{
    AttentionConvention, AttentionMapping, AttentionNormalizer, AttentionPooling, AttentionTransferSettings,
};

use super::layers::{layers, weighted_sum, weights};
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    let code = AttentionTransferSettings {
        student: vec!["student".to_owned()],
        teacher: vec!["teacher".to_owned()],
        mapping: AttentionMapping::SignedPowerSum,
        convention: AttentionConvention::Code,
        pooled_map: AttentionPooling::Features,
        ..Default::default()
    };
    let settings = if case.is("AT.py", "repdistiller") || case.is("utils.py", "attention_transfer") {
        AttentionTransferSettings { power: case.number("p")?, ..code }
    } else if case.is("mid_level.py", "torchdistill_at") {
        let convention = match case.text("mode")? {
            "paper" => AttentionConvention::Norm,
            "code" => AttentionConvention::Code,
            other => return Err(format!("mode `{other}` is not known")),
        };
        AttentionTransferSettings { convention, ..code }
    } else if case.is("at.py", "zoo_at") {
        let (power, epsilon) = (case.number("p")?, case.number("eps")?);
        let (mapping, normalizer) = (AttentionMapping::PowerSum, AttentionNormalizer::Sum);
        AttentionTransferSettings { mapping, power, normalizer, epsilon, ..code }
    } else {
        return case.unknown();
    };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let layers = layers(case)?;
    let weights = weights(case, layers.len())?;
    let terms = layers.into_iter().map(|(student, teacher)| loss.per_example(student, teacher).mean());
    case.check(weighted_sum(terms.collect(), weights)?)
}
