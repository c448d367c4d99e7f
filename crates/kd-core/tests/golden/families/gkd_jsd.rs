use burn::tensor::Tensor;
use kd_core::Value;
use kd_core::losses::GeneralisedJsdSettings;

use crate::case::{Case, Failure};

/// The reference's own defaults hold for absent parameters.
pub fn run(case: &Case) -> Result<(), Failure> {
    if !case.is("gkd_trainer.py", "gkd_") {
        return case.unknown();
    }
    let mut settings = GeneralisedJsdSettings::default();
    settings.beta = case.optional_number("beta")?.unwrap_or(settings.beta);
    settings.temperature = case.optional_number("temperature")?.unwrap_or(settings.temperature);
    let ignore = settings.ignore_index;
    let loss = settings.build().map_err(|e| e.to_string())?;

    let student = case.leaf::<3>("student")?;
    let [batch, length, classes] = student.dims();
    let rows = |scores: Tensor<3>| Value::from(scores).rows(-1).map_err(|e| e.to_string());
    let mut per_token = loss.per_example(rows(student)?, rows(case.constant("teacher")?)?);
    let mut tokens = None;
    if case.has("labels") {
        let labels = case.labels()?;
        let counted = labels.not_equal_elem(ignore).float();
        tokens = Some(f64::from(counted.clone().sum().into_scalar::<f32>()));
        per_token = per_token * counted;
    }
    let sum = per_token.sum();
    if let Some(items) = case.optional_number("num_items_in_batch")? {
        return case.check(sum / items);
    }
    match case.optional_text("reduction")?.unwrap_or("batchmean") {
        "batchmean" => case.check(sum / tokens.map_or(batch as f64, |tokens| tokens.max(1.0))),
        "mean" => case.check(sum / (tokens.unwrap_or((batch * length) as f64) * classes as f64)),
        "sum" => case.check(sum),
        other => Err(format!("reduction `{other}` is not known")),
    }
}
