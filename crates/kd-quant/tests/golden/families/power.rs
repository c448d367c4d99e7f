use burn::tensor::Tensor;
use kd_quant::adder::AdderConv;
use kd_quant::power::{Apot, FixedPoint, PowerOfTwo, ShiftWeight, apot_levels, power_levels};

use super::unknown;
use crate::case::{Case, Failure, ok, read, wide};

/// A leaf of two axes.
fn matrix(case: &Case, name: &str) -> Result<Tensor<2>, Failure> {
    let shape = case.shape(name)?;
    Ok(case.flat(name)?.reshape([shape[0], shape[1]]).detach().require_grad())
}

pub fn run(case: &Case) -> Result<(), Failure> {
    match case.name.as_str() {
        name if name.starts_with("deepshift_round_power_of_2") => {
            let rule = ok(PowerOfTwo::new(8))?;
            let x = case.tensor("x")?;
            case.near("shift", &read(&rule.exponents(x.clone())), 1e-5)?;
            case.near("sign", &read(&x.clone().sign()), 0.0)?;
            case.near("y", &read(&rule.quantize(x)), 0.0)
        }
        name if name.starts_with("deepshift_round_to_fixed") => {
            let rule =
                FixedPoint { integer: case.bits("integer_bits")?, fraction: case.bits("fraction_bits")? };
            case.near("y", &read(&ok(rule.quantize(case.tensor("x")?))?), 1e-6)
        }
        name if name.starts_with("deepshift_ps_linear") => {
            let rule = ok(ShiftWeight::new(case.bits("weight_bits")?))?;
            let shift = rule.project(matrix(case, "shift")?).detach().require_grad();
            case.near("shift_clamped", &read(&shift), 1e-6)?;
            let (x, sign, bias) =
                (matrix(case, "x")?, matrix(case, "sign")?, case.row_leaf(&case.values("bias")?));
            let weight = ok(rule.weight(shift.clone(), sign.clone()))?;
            case.near("weight", &read(&weight), 1e-6)?;
            let y = x.clone().matmul(weight.transpose()) + bias.clone().unsqueeze();
            case.near("y", &read(&y), 1e-5)?;
            let gradients = (y * matrix(case, "upstream_grad")?).sum().backward();
            case.gradient("grad_x", &x, &gradients)?;
            case.gradient("grad_shift", &shift, &gradients)?;
            case.gradient("grad_sign", &sign, &gradients)?;
            case.gradient("grad_bias", &bias, &gradients)
        }
        name if name.starts_with("deepshift_q_linear") => {
            let rule = ok(PowerOfTwo::new(case.bits("weight_bits")?))?;
            let weight = rule.project(matrix(case, "weight")?).detach().require_grad();
            case.near("weight_clamped", &read(&weight), 1e-6)?;
            let (x, bias) = (matrix(case, "x")?, case.row_leaf(&case.values("bias")?));
            let fixed = ok(FixedPoint { integer: 16, fraction: 16 }.quantize(x.clone()))?;
            let y = fixed.matmul(rule.quantize(weight.clone()).transpose()) + bias.clone().unsqueeze();
            case.near("y", &read(&y), 1e-5)?;
            let gradients = (y * matrix(case, "upstream_grad")?).sum().backward();
            case.gradient("grad_x", &x, &gradients)?;
            case.gradient("grad_weight", &weight, &gradients)?;
            case.gradient("grad_bias", &bias, &gradients)
        }
        name if name.starts_with("apot_levels") => {
            let bits = case.bits("B")?;
            let levels = if case.flag("additive")? { apot_levels(bits) } else { power_levels(bits) };
            case.near("levels", &wide(&ok(levels)?), 1e-6)
        }
        name if name.starts_with("apot_quant") => {
            let bits = case.bits("B")?;
            let is_weight = case.flag("is_weight")?;
            let named = if is_weight { Apot::weight(bits) } else { Apot::activation(bits) };
            let levels: Vec<f32> = case.values("levels")?.into_iter().map(|v| v as f32).collect();
            let rule = if ok(named.clone())?.levels().len() == levels.len() {
                ok(named)?
            } else {
                ok(Apot::with_levels(levels, is_weight))?
            };
            let rule = rule.with_gradient_scale(case.number("grad_scale").unwrap_or(1.0) as f32);
            let (x, alpha) = (case.leaf("x")?, case.row_leaf(&[case.number("alpha")?]));
            let y = ok(rule.quantize(x.clone(), alpha.clone()))?;
            case.near("y", &read(&y), 1e-5)?;
            let gradients = case.backward(&y, "upstream_grad")?;
            case.gradient("grad_x", &x, &gradients)?;
            case.gradient("grad_alpha", &alpha, &gradients)
        }
        name if name.starts_with("adder2d") => {
            let layer = AdderConv {
                stride: case.number("stride")? as usize,
                padding: case.number("padding")? as usize,
                ..AdderConv::default()
            };
            let (x, w) = (case.leaf("x")?, case.leaf("w")?);
            let y = ok(layer.forward(x.clone(), w.clone()))?;
            case.near("y", &read(&y), 1e-5)?;
            let gradients = case.backward(&y, "upstream_grad")?;
            case.gradient("grad_x", &x, &gradients)?;
            case.gradient("grad_w", &w, &gradients)
        }
        _ => unknown(case),
    }
}
