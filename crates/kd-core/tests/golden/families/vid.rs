use burn::tensor::Tensor;
use kd_core::losses::{Vid, VidSettings};

use crate::case::{Case, Failure};

pub fn run(case: &Case) -> Result<(), Failure> {
    if !case.is("VID.py", "repdistiller_vid") {
        return case.unknown();
    }
    let (initial_variance, epsilon) = (case.number("init_pred_var")?, case.number("eps")?);
    if case.param("initial_log_scale").is_some() {
        let (ours, recorded) =
            (Vid::initial_log_scale(initial_variance, epsilon), case.number("initial_log_scale")?);
        if (ours - recorded).abs() > 1e-6 * recorded.abs() {
            return Err(format!("the initial log-scale is {ours}, recorded is {recorded}"));
        }
    }
    let settings = VidSettings {
        student: vec!["student".into()],
        teacher: vec!["teacher".into()],
        initial_variance,
        epsilon,
        ..Default::default()
    };
    let loss = settings.build().map_err(|e| e.to_string())?;
    let weight = |layer: usize| -> Result<Tensor<2>, Failure> {
        let weight = case.leaf::<4>(&format!("regressor.{layer}.weight"))?;
        let [to, from, ..] = weight.dims();
        Ok(weight.reshape([to, from]))
    };
    let (student, teacher) = Vid::pool(case.leaf("student")?, case.constant("teacher")?);
    let prediction = Vid::regress(student, [weight(0)?, weight(2)?, weight(4)?]);
    case.check(loss.per_example(prediction, teacher, case.leaf("log_scale")?).mean())
}
