use kd_core::losses::{Congruence, CorrelationCongruenceSettings, Kernel};
use serde_json::Value;

use super::rkd::vectors;
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    let taps = vec!["embedding".to_owned()];
    let mut settings =
        CorrelationCongruenceSettings { student: taps.clone(), teacher: taps, ..Default::default() };
    let mut summed = false;
    if case.is("CC.py", "repdistiller_cc") {
        (settings.congruence, settings.normalize) = (Congruence::AdjacentPairs, false);
    } else if case.is("mid_level.py", "torchdistill_cckd") {
        (settings.congruence, settings.normalize) = (Congruence::Frobenius, false);
        kernel(case, &mut settings)?;
        summed = case.optional_text("reduction")?.unwrap_or("batchmean") != "batchmean";
    } else if case.is("cc.py", "zoo_cc") {
        settings.gamma = case.number("gamma")?;
        settings.order = case.number("P_order")? as usize;
    } else {
        return case.unknown();
    }
    let loss = settings.build().map_err(|e| e.to_string())?;
    let (student, teacher) = vectors(case)?;
    let [batch, _] = student.dims();
    let rows = loss.per_example(student, teacher);
    case.check(if summed { rows.sum() * batch as f64 } else { rows.mean() })
}

/// torchdistill's `kernel` table.
fn kernel(case: &Case, settings: &mut CorrelationCongruenceSettings) -> Result<(), Failure> {
    let kernel = case.param("kernel").ok_or("params.kernel is missing")?;
    let number = |key| {
        let number = kernel.get(key).and_then(Value::as_f64);
        number.ok_or_else(|| format!("params.kernel.{key} is missing"))
    };
    match kernel.get("type").and_then(Value::as_str) {
        Some("bilinear") => settings.kernel = Kernel::Bilinear,
        Some("gaussian") => {
            (settings.gamma, settings.order) = (number("gamma")?, number("max_p")? as usize);
        }
        other => return Err(format!("kernel {other:?} is not known")),
    }
    Ok(())
}
