use kd_core::losses::FitNets;

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    let (student, teacher) = (case.leaf::<4>("student")?, case.constant::<4>("teacher")?);
    let student = if case.is("FitNet.py", "repdistiller_hint") {
        student
    } else if case.is("loss.py", "lenscloth_fitnet") {
        let weight = case.leaf::<4>("regressor_weight")?;
        let [to, from, ..] = weight.dims();
        FitNets::regress(student, weight.reshape([to, from]))
    } else {
        return case.unknown();
    };
    case.check(FitNets::per_example(student, teacher).mean())
}
