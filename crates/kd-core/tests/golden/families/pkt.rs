use kd_core::losses::{Neighbours, PktSettings};

use super::rkd::vectors;
use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if !case.is("PKT.py", "repdistiller_pkt") && !case.is("pkt.py", "zoo_pkt") {
        return case.unknown();
    }
    let taps = vec!["features".to_owned()];
    let (neighbours, epsilon) = (Neighbours::WithSelf, case.number("eps")?);
    let settings = PktSettings { student: taps.clone(), teacher: taps, neighbours, epsilon };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let (student, teacher) = vectors(case)?;
    case.check(loss.per_example(student, teacher).mean())
}
