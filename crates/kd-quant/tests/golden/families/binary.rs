use burn::tensor::Tensor;
use kd_quant::binary::{
    ScaleMap, SibnnActivation, SignActivation, SignGradient, SttnActivation, SttnWeight, Xnor, XnorGradient,
    Zero, hard_tanh,
};
use kd_quant::observer::{MinMax, Observer, Symmetry};
use kd_quant::{Affine, Bound, Granularity, Grid};

use super::unknown;
use crate::case::{Case, Failure, ok, read};

/// Forward value and gradient of a function of `x`.
fn activation(case: &Case, of: impl Fn(Tensor<4>) -> Tensor<4>) -> Result<(), Failure> {
    let x = case.leaf("x")?;
    let y = of(x.clone());
    case.value("y", &y)?;
    case.gradient("grad_x", &x, &case.backward(&y, "upstream_grad")?)
}

fn weight(case: &Case, rule: Xnor) -> Result<(), Failure> {
    let saved = rule.project(case.tensor("w")?).detach().require_grad();
    case.value("w_saved", &saved)?;
    let y = rule.quantize(saved.clone());
    case.value("w_binary", &y)?;
    case.gradient("grad_w", &saved, &case.backward(&y, "grad_wb")?)
}

/// Codes from $1 - 2^{b-1}$ to $2^{b-1}$ over the range that is observed, zero being the code of zero wherever it lies in the range.
fn few_bits(case: &Case) -> Result<(), Failure> {
    let half = 1 << (case.bits("bits")? - 1);
    let grid = ok(Grid::new(1 - half, half))?;
    let x = case.tensor("x")?;
    let mut observer = MinMax::new(Granularity::Tensor);
    ok(observer.observe(x.clone()))?;
    let (step, _) = ok(ok(observer.ranges())?.parameters(grid, Symmetry::Affine))?.tensors(&case.device());
    case.value("y", &ok(Affine::new(grid).quantize(x, step.clone(), step.zeros_like()))?)
}

pub fn run(case: &Case) -> Result<(), Failure> {
    let zero = Zero::Zero;
    let straight = SignActivation { zero, gradient: SignGradient::Identity };
    let port = |factor| Xnor { zero, gradient: XnorGradient::Port { factor }, ..Xnor::default() };
    match case.name.as_str() {
        name if name.starts_with("binarynet_pytorch_det_allow_scale") => {
            case.value("y", &straight.quantize_scaled(case.tensor("x")?))
        }
        name if name.starts_with("binarynet_pytorch_det") => activation(case, |x| straight.quantize(x)),
        name if name.starts_with("binarynet_pytorch_quantize") => few_bits(case),
        name if name.starts_with("hardtanh") => activation(case, |x| hard_tanh(x, Bound::Exclusive)),
        // The one copy of the port that multiplies the gradient.
        name if name.starts_with("xnor_binop_imagenet") => weight(case, port(1e9)),
        name if name.starts_with("xnor_binop") => weight(case, port(1.0)),
        name if name.starts_with("xnor_bin_active") => {
            // Under a window of one element.
            let map = ok(ScaleMap::new([1, 1], [1, 1]).of(case.tensor("x")?))?;
            case.value("mean_abs_channel", &map)?;
            let gradient = SignGradient::Clipped { clip: 1.0, bound: Bound::Exclusive };
            activation(case, |x| SignActivation { zero, gradient }.quantize(x))
        }
        name if name.starts_with("sibnn_activation") => {
            let rule = SibnnActivation {
                zero,
                low: case.number("grad_lo")? as f32,
                high: case.number("grad_hi")? as f32,
                ..SibnnActivation::default()
            };
            activation(case, |x| rule.quantize(x))
        }
        name if name.starts_with("sibnn_scale_then_activation") => {
            let leaf = |name| case.values(name).map(|values| case.row_leaf(&values));
            let (x, scale, bias) = (case.leaf("x")?, leaf("scale")?, leaf("bias")?);
            let rule = SibnnActivation { zero, ..SibnnActivation::default() };
            let y = ok(rule.quantize_above(x.clone(), bias.clone(), scale.clone()))?;
            case.value("y", &y)?;
            let gradients = case.backward(&y, "upstream_grad")?;
            case.gradient("grad_x", &x, &gradients)?;
            case.gradient("grad_scale", &scale, &gradients)?;
            case.gradient("grad_bias", &bias, &gradients)
        }
        name if name.starts_with("sibnn_binop_updateBinaryGradWeight_new") => {
            weight(case, Xnor { centre: false, zero, gradient: XnorGradient::WithoutScale })
        }
        name if name.starts_with("sibnn_binop_updateBinaryGradWeight") => {
            weight(case, Xnor { centre: false, ..port(1e9) })
        }
        name if name.starts_with("sttn_activation") => {
            // The Python function and the CUDA kernel differ at exactly 1. Levels and thresholds go with delta, the bounds of the gradient do not.
            let bound = if name.contains("python") { Bound::Exclusive } else { Bound::Inclusive };
            let delta = case.number("delta").unwrap_or(1.0) as f32;
            let rule = SttnActivation { zero, bound, threshold: delta / 2.0 };
            activation(case, |x| {
                let y = rule.quantize(x);
                y.clone() + y.detach() * (delta - 1.0)
            })
        }
        name if name.starts_with("sttn_weight_pair") => {
            let rule = SttnWeight { zero };
            let saved = |name| Ok::<_, Failure>(rule.project(case.tensor(name)?).detach().require_grad());
            let (w1, w2) = (saved("w1")?, saved("w2")?);
            case.value("w1_saved", &w1)?;
            case.value("w2_saved", &w2)?;
            let (b1, b2) = ok(rule.quantize_pair(w1.clone(), w2.clone()))?;
            case.value("w1_binary", &b1)?;
            case.value("w2_binary", &b2)?;
            case.near("w_ternary", &read(&(b1.clone() + b2.clone())), 1e-6)?;
            let loss = (b1 * case.tensor("grad_w1b")? + b2 * case.tensor("grad_w2b")?).sum();
            let gradients = loss.backward();
            case.gradient("grad_w1", &w1, &gradients)?;
            case.gradient("grad_w2", &w2, &gradients)
        }
        _ => unknown(case),
    }
}
