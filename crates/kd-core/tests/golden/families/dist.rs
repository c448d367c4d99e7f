use kd_core::losses::DistSettings;

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if !case.is("mid_level.py", "torchdistill_dist") {
        return case.unknown();
    }
    let settings = DistSettings {
        beta: case.number("beta")?,
        gamma: case.number("gamma")?,
        temperature: case.number("tau")?,
        epsilon: case.number("eps")?,
        ..Default::default()
    };
    let loss = settings.build().map_err(|e| e.to_string())?;
    case.check(loss.per_example(case.leaf("student")?, case.constant("teacher")?).mean())
}
