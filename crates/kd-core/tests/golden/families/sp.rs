use kd_core::losses::{RowNorm, SimilarityPreservingSettings};

use super::rkd::vectors;
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    let row_norm = if case.is("SP.py", "repdistiller_sp") || case.is("sp.py", "zoo_sp") {
        RowNorm::L2
    } else if case.is("mid_level.py", "torchdistill_spkd") {
        RowNorm::L1
    } else {
        return case.unknown();
    };
    let taps = vec!["map".to_owned()];
    let settings = SimilarityPreservingSettings { student: taps.clone(), teacher: taps, row_norm };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let (student, teacher) = vectors(case)?;
    let [batch, _] = student.dims();
    let rows = loss.per_example(student, teacher);
    // torchdistill sums for every other word.
    let mean = matches!(case.optional_text("reduction")?, None | Some("batchmean"));
    case.check(if mean { rows.mean() } else { rows.sum() * batch as f64 })
}
