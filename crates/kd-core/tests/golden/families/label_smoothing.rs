use kd_core::Value;
use kd_core::losses::CrossEntropySettings;

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    let key = if case.is("cross_entropy", "torch_ce") {
        "label_smoothing"
    } else if case.is("loss.py", "reid_ce") {
        "epsilon"
    } else {
        return case.unknown();
    };
    let mut settings = CrossEntropySettings::default();
    settings.label_smoothing = case.optional_number(key)?.unwrap_or(settings.label_smoothing);
    if let Some(ignored) = case.optional_number("ignore_index")? {
        settings.ignore_index = ignored as i64;
    }
    if case.has("weight") {
        let weights = case.constant::<1>("weight")?.into_data().try_to_vec::<f32>();
        settings.class_weights = weights.map_err(|e| format!("{e:?}"))?.into_iter().map(f64::from).collect();
    }
    let loss = settings.build().map_err(|e| e.to_string())?;
    // torch has the classes on the second axis, whatever follows.
    let rows = |scores: Value| scores.rows(1).map_err(|e| e.to_string());
    let logits = rows(case.leaf_value("logits")?)?;
    let (sum, count) = if case.has("target") {
        let per_example = loss.per_example_soft(logits.clone(), rows(case.constant_value("target")?)?);
        (per_example.clone().sum(), per_example.ones_like().sum())
    } else {
        let labels = case.labels()?;
        (loss.per_example(logits.clone(), labels.clone()).sum(), loss.row_weights(&logits, labels).sum())
    };
    match case.optional_text("reduction")?.unwrap_or("mean") {
        "sum" => case.check(sum),
        "mean" => case.check(sum / count),
        other => Err(format!("reduction `{other}` is not known")),
    }
}
