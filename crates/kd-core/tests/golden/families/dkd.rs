use kd_core::losses::{DkdSettings, Standardize};

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if case.is("DKD.py", "mdistiller_dkd") {
        return check(case, Standardize::None);
    }
    case.unknown()
}

/// The mean over the batch, of logits standardised or not.
pub fn check(case: &Case, standardize: Standardize) -> Result<(), Failure> {
    let settings = DkdSettings {
        alpha: case.number("alpha")?,
        beta: case.number("beta")?,
        temperature: case.number("T")?,
        standardize,
        ..Default::default()
    };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let (student, teacher) = (case.leaf("student")?, case.constant("teacher")?);
    case.check(loss.per_example(student, teacher, case.labels()?).mean())
}
