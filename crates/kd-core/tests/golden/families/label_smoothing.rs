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
    if case.param(key).is_some() {
        settings.label_smoothing = case.number(key)?;
    }
    if case.param("ignore_index").is_some() {
        settings.ignore_index = case.number("ignore_index")? as i64;
    }
    if case.has("weight") {
        let weights = case.constant::<1>("weight")?.into_data().try_to_vec::<f32>();
        settings.class_weights = weights.map_err(|e| format!("{e:?}"))?.into_iter().map(f64::from).collect();
    }
    let loss = settings.build().map_err(|e| e.to_string())?;
    let logits = case.leaf::<2>("logits")?;
    if case.has("target") {
        return case.check(loss.per_example_soft(logits, case.constant("target")?).mean());
    }
    let labels = case.ints::<1>("labels")?;
    let sum = loss.per_example(logits.clone(), labels.clone()).sum();
    match case.param("reduction").map(|_| case.text("reduction")).transpose()? {
        Some("sum") => case.check(sum),
        None | Some("mean") => case.check(sum / loss.row_weights(&logits, labels).sum()),
        Some(other) => Err(format!("reduction `{other}` is not known")),
    }
}
