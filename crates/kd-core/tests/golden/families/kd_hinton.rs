use burn::tensor::Tensor;
use kd_core::losses::{
    CrossEntropySettings, Divergence, LogitMseSettings, SoftTargetsSettings, TemperatureScale,
};

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    let squared = TemperatureScale::Squared;
    if case.is("KD.py", "mdistiller_kd")
        || case.is("KD.py", "repdistiller")
        || case.is("st.py", "zoo_soft_target")
    {
        return case.check(soft(case, squared, Divergence::Kl)?.mean());
    }
    if case.is("mid_level.py", "torchdistill_kdloss") {
        return torchdistill(case);
    }
    if case.is("utils.py", "attention_transfer") {
        let alpha = case.number("alpha")?;
        let soft = soft(case, squared, Divergence::Kl)?.mean() * alpha;
        return case.check(soft + hard(case)?.mean() * (1.0 - alpha));
    }
    if case.is("logits.py", "zoo_logits_mse") {
        return case.check(mse(case, 1.0)?.mean());
    }
    if case.is("losses.py", "textbrewer_kd_ce") {
        return case.check(soft(case, TemperatureScale::None, Divergence::CrossEntropy)?.mean());
    }
    if case.is("losses.py", "textbrewer_kd_mse") {
        return case.check(mse(case, case.number("T")?)?.mean());
    }
    case.unknown()
}

/// The logits of both sides, the last axis being the classes.
fn logits(case: &Case) -> Result<(Tensor<2>, Tensor<2>), Failure> {
    let values = [case.leaf_value("student")?, case.constant_value("teacher")?];
    let [student, teacher] = values.map(|value| value.rows(-1).map_err(|e| e.to_string()));
    Ok((student?, teacher?))
}

fn soft(case: &Case, scale: TemperatureScale, divergence: Divergence) -> Result<Tensor<1>, Failure> {
    let settings =
        SoftTargetsSettings { temperature: case.number("T")?, scale, divergence, ..Default::default() };
    let (student, teacher) = logits(case)?;
    Ok(settings.build().map_err(|e| e.to_string())?.per_example(student, &[teacher]))
}

fn hard(case: &Case) -> Result<Tensor<1>, Failure> {
    let loss = CrossEntropySettings::default().build().map_err(|e| e.to_string())?;
    Ok(loss.per_example(logits(case)?.0, case.labels()?))
}

fn mse(case: &Case, temperature: f64) -> Result<Tensor<1>, Failure> {
    let (student, teacher) = logits(case)?;
    let loss = LogitMseSettings { temperature, ..Default::default() }.build().map_err(|e| e.to_string())?;
    Ok(loss.per_example(student, teacher))
}

/// `alpha * CE + beta * T^2 * KL`, `beta` being `1 - alpha` by default; without `alpha`, or with 0, the bare KL without `T^2`.
fn torchdistill(case: &Case) -> Result<(), Failure> {
    let alpha = case.optional_number("alpha")?.filter(|&alpha| alpha != 0.0);
    let scale = if alpha.is_some() { TemperatureScale::Squared } else { TemperatureScale::None };
    let soft = soft(case, scale, Divergence::Kl)?;
    let reduction = case.optional_text("reduction")?.unwrap_or("batchmean");
    let [_, classes] = logits(case)?.0.dims();
    let soft = match reduction {
        "batchmean" => soft.mean(),
        // Over the classes too, as torch's divergence means it.
        "mean" => soft.mean() / classes as f64,
        "sum" => soft.sum(),
        other => return Err(format!("reduction `{other}` is not known")),
    };
    let Some(alpha) = alpha else { return case.check(soft) };
    let hard = hard(case)?;
    let hard = if reduction == "sum" { hard.sum() } else { hard.mean() };
    let beta = case.optional_number("beta")?.unwrap_or(1.0 - alpha);
    case.check(hard * alpha + soft * beta)
}
