use kd_core::losses::{DarkRankSettings, Transfer};

use super::rkd::vectors;
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if !case.is("loss.py", "lenscloth_harddarkrank") {
        return case.unknown();
    }
    let taps = vec!["embedding".to_owned()];
    let settings = DarkRankSettings {
        student: taps.clone(),
        teacher: taps,
        transfer: Transfer::Hard,
        alpha: case.number("alpha")?,
        beta: case.number("beta")?,
        candidates: case.number("permute_len")? as usize,
        normalize: false,
    };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let (student, teacher) = vectors(case)?;
    case.check(loss.per_example(student, teacher).mean())
}
