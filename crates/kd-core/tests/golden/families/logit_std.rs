use burn::tensor::Tensor;
use kd_core::losses::{CrossEntropySettings, MultiLevel, SoftTargetsSettings, Standardize};

use super::dkd;
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if case.is("/KD.py", "logitstd_kd") {
        return case.check(soft(case, standardize(case)?, case.leaf("student")?, case.constant("teacher")?)?);
    }
    if case.is("DKD.py", "logitstd_dkd") {
        return dkd::check(case, standardize(case)?);
    }
    if case.is("mid_level.py", "torchdistill_logitstd") {
        let alpha = case.number("alpha")?;
        let loss = CrossEntropySettings::default().build().map_err(|e| e.to_string())?;
        let hard = loss.per_example(case.leaf("student")?, case.labels()?).mean();
        let epsilon = case.number("eps")?;
        let z = |logits| Standardize::Sample.apply_with(logits, epsilon);
        let soft = soft(case, Standardize::None, z(case.leaf("student")?), z(case.constant("teacher")?))?;
        return case.check(hard * alpha + soft * (1.0 - alpha));
    }
    let level: fn(Tensor<2>, Tensor<2>, f64) -> Tensor<1> = if case.is("MLKD.py", "mlkd_cc_loss") {
        MultiLevel::class_level
    } else if case.is("MLKD.py", "mlkd_bc_loss") {
        MultiLevel::batch_level
    } else {
        return case.unknown();
    };
    case.check(level(case.leaf("student")?, case.constant("teacher")?, case.number("T")?).mean())
}

fn standardize(case: &Case) -> Result<Standardize, Failure> {
    Ok(if case.flag("logit_stand")? { Standardize::Sample } else { Standardize::None })
}

fn soft(
    case: &Case,
    standardize: Standardize,
    student: Tensor<2>,
    teacher: Tensor<2>,
) -> Result<Tensor<1>, Failure> {
    let settings = SoftTargetsSettings { temperature: case.number("T")?, standardize, ..Default::default() };
    let loss = settings.build().map_err(|e| e.to_string())?;
    Ok(loss.per_example(student, &[teacher]).mean())
}
