use burn::tensor::{Device, Tensor};
use kd_quant::ternary::{InitialScales, Ttq, Twn};

use crate::case::{Case, Failure, close, ok, read};

pub fn ttq(case: &Case) -> Result<(), Failure> {
    if case.name.starts_with("ttq_initial_scales") {
        let rule = Ttq { initial: InitialScales::One, ..Ttq::default() };
        let scales = rule.initial_scales(Tensor::<1>::from_floats([0.3, -0.2], &Device::flex()));
        return case.near("scales", &scales.map(|scale| f64::from(scale.into_scalar::<f32>())), 0.0);
    }
    let rule = Ttq { threshold: case.number("t")? as f32, ..Ttq::default() };
    let scale = |key| case.number(key).map(|value| case.row_leaf(&[value]));
    let (w, wp, wn) = (case.leaf("w")?, scale("wp")?, scale("wn")?);
    let q = ok(rule.quantize(w.clone(), wp.clone(), wn.clone()))?;
    case.value("q", &q)?;
    let gradients = case.backward(&q, "grad_q")?;
    case.near("grad_w", &read(&w.grad(&gradients).ok_or("no gradient of w")?), 1e-6)?;
    case.gradient("grad_wp_true", &wp, &gradients)?;
    case.gradient("grad_wn_true", &wn, &gradients)
}

pub fn twn(case: &Case) -> Result<(), Failure> {
    let rule = Twn { threshold: case.number("D")? as f32 / 10.0, ..Twn::default() };
    let w = case.leaf("w")?;
    let (delta, alpha) = ok(rule.threshold_and_scale(w.clone()))?;
    case.relative("delta", &read(&delta), 1e-5)?;
    case.relative("alpha", &read(&alpha), 1e-5)?;
    let q = ok(rule.quantize(w.clone()))?;
    case.relative("q", &read(&q), 1e-5)?;
    // The weight's gradient is that of the ternary weight.
    let gradients = (q * case.tensor("w")?).sum().backward();
    let gradient = read(&w.grad(&gradients).ok_or("no gradient of w")?);
    close("grad_w", &gradient, &case.values("w")?, 1e-6, 1.0)
}
