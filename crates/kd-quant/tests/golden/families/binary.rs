use kd_quant::Bound;
use kd_quant::binary::{
    SibnnActivation, SignActivation, SignGradient, SttnActivation, SttnWeight, Xnor, XnorGradient, Zero, sign,
};

use super::unknown;
use crate::case::{Case, Failure, ok, read};

/// Forward value and gradient of a function of `x`.
fn activation(
    case: &Case,
    of: impl Fn(burn::tensor::Tensor<4>) -> burn::tensor::Tensor<4>,
) -> Result<(), Failure> {
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

pub fn run(case: &Case) -> Result<(), Failure> {
    let zero = Zero::Zero;
    let port = |factor| Xnor { zero, gradient: XnorGradient::Port { factor }, ..Xnor::default() };
    match case.name.as_str() {
        "binarynet_pytorch_det" => {
            activation(case, |x| SignActivation { zero, gradient: SignGradient::Identity }.quantize(x))
        }
        "binarynet_pytorch_det_allow_scale" => {
            let x = case.tensor("x")?;
            case.value("y", &(sign(x.clone(), zero) * x.abs().max().reshape([1, 1, 1, 1])))
        }
        "hardtanh_grad" => activation(case, |x| {
            let inside = Bound::Exclusive.inside(x.clone().detach(), -1.0, 1.0).float();
            kd_quant::with_slope(x.clone(), x.clamp(-1.0, 1.0), inside)
        }),
        "binarynet_pytorch_quantize_2b" | "binarynet_pytorch_quantize_4b" => {
            let half = 2.0_f64.powi(case.bits("bits")? as i32 - 1);
            let x = case.tensor("x")?;
            let range = x.clone().max() - x.clone().min();
            let scale = (range.recip() * (2.0 * half - 1.0)).reshape([1, 1, 1, 1]);
            let y = (x * scale.clone()).clamp(1.0 - half, half).round() / scale;
            case.value("y", &y)
        }
        "xnor_binop_a" | "xnor_binop_b" | "xnor_binop_mnist_variant" => weight(case, port(1.0)),
        "xnor_binop_imagenet_variant" => weight(case, port(1e9)),
        "xnor_bin_active" => {
            case.value("mean_abs_channel", &case.tensor("x")?.abs().mean_dim(1))?;
            let gradient = SignGradient::Clipped { clip: 1.0, bound: Bound::Exclusive };
            activation(case, |x| SignActivation { zero, gradient }.quantize(x))
        }
        "sibnn_activation" => {
            let rule = SibnnActivation {
                zero,
                low: case.number("grad_lo")? as f32,
                high: case.number("grad_hi")? as f32,
                ..SibnnActivation::default()
            };
            activation(case, |x| rule.quantize(x))
        }
        "sibnn_scale_then_activation" => {
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
        "sibnn_binop_updateBinaryGradWeight" => weight(case, Xnor { centre: false, ..port(1e9) }),
        "sibnn_binop_updateBinaryGradWeight_new" => {
            weight(case, Xnor { centre: false, zero, gradient: XnorGradient::WithoutScale })
        }
        "sttn_activation_python" => {
            activation(case, |x| SttnActivation { zero, bound: Bound::Exclusive }.quantize(x))
        }
        "sttn_activation_naive_test" => {
            activation(case, |x| SttnActivation { zero, bound: Bound::Inclusive }.quantize(x))
        }
        "sttn_weight_pair" => {
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
