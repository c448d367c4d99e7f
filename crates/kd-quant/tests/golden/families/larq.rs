use burn::tensor::Tensor;
use kd_quant::binary::{AbcNet, Heaviside, SignActivation, SignGradient, Zero, sign};
use kd_quant::ternary::{Edge, Ttq, Twn};
use kd_quant::{Bound, DorefaActivation, DorefaGradient, DorefaWeight, Granularity, Normaliser, with_slope};

use super::unknown;
use crate::case::{Case, Failure, close, ok, read};

/// Forward value and gradient of a function of `x`, or of a kernel `w`.
fn check(case: &Case, of: impl Fn(Tensor<4>) -> Result<Tensor<4>, Failure>) -> Result<(), Failure> {
    let (input, gradient) = if case.has("x") { ("x", "grad_x") } else { ("w", "grad_w") };
    let x = case.leaf(input)?;
    let y = of(x.clone())?;
    case.value("y", &y)?;
    case.gradient(gradient, &x, &case.backward(&y, "upstream_grad")?)
}

fn signs(case: &Case, gradient: SignGradient) -> Result<(), Failure> {
    check(case, |x| Ok(SignActivation { zero: Zero::Plus, gradient }.quantize(x)))
}

/// larq's ternary activation by a fixed threshold: two signs, zero counting as positive.
fn ternary(case: &Case, threshold: f64) -> Result<(), Failure> {
    check(case, |x| {
        let value = x.clone().detach();
        let (a, b) = (value.clone() + threshold, value.clone() - threshold);
        let y = (sign(a, Zero::Plus) + sign(b, Zero::Plus)).sign();
        Ok(with_slope(x, y, Bound::Inclusive.inside(value, -1.0, 1.0).float()))
    })
}

pub fn run(case: &Case) -> Result<(), Failure> {
    let clipped = |clip| SignGradient::Clipped { clip, bound: Bound::Inclusive };
    let twn = Twn { scaled: false, clip: Some(1.0), ..Twn::default() };
    match case.name.as_str() {
        "larq_ste_sign" => signs(case, clipped(1.0)),
        "larq_ste_sign_clip_1.25" => signs(case, clipped(1.25)),
        "larq_ste_sign_noclip" => signs(case, SignGradient::Identity),
        "larq_approx_sign" => signs(case, SignGradient::Quadratic),
        "larq_swish_sign_beta5" => signs(case, SignGradient::Swish { beta: 5.0 }),
        "larq_swish_sign_beta_2.0" => signs(case, SignGradient::Swish { beta: 2.0 }),
        "larq_ste_heaviside" => check(case, |x| Ok(Heaviside.quantize(x))),
        "larq_ste_tern_default" => ternary(case, 0.05),
        "larq_ste_tern_threshold_0.4" => ternary(case, 0.4),
        "larq_ste_tern_twn" | "larq_ste_tern_twn_kernel" => check(case, |x| ok(twn.quantize(x))),
        "larq_magnitude_aware_sign" => check(case, |w| {
            // The output channel is the last axis here.
            let rows = ok(Granularity::Channel { axis: 3 }.split(w.clone().detach()))?;
            let scale = rows.abs().mean_dim(1).reshape([1, 1, 1, w.dims()[3]]);
            let inside = Bound::Inclusive.inside(w.clone().detach(), -1.0, 1.0).float();
            Ok(with_slope(w.clone(), sign(w.detach(), Zero::Plus) * scale.clone(), inside * scale))
        }),
        "larq_dorefa_act_2b" | "larq_dorefa_act_4b" => {
            let rule = DorefaActivation { bits: case.bits("bit")?, clip: Some(Bound::Inclusive) };
            check(case, |x| ok(rule.quantize(x)))
        }
        "larq_dorefa_weight_2b" | "larq_dorefa_weight_4b" => {
            let rule = DorefaWeight { bits: case.bits("bit")?, normaliser: Normaliser::Constant };
            check(case, |w| ok(rule.quantize(w)))
        }
        "tensorpack_dorefa_weight_2b" | "tensorpack_dorefa_weight_4b" => {
            let rule = ok(DorefaWeight::new(case.bits("bit")?))?;
            check(case, |w| ok(rule.quantize(w)))
        }
        "tensorpack_dorefa_act_2b" | "tensorpack_dorefa_act_4b" => {
            let rule = DorefaActivation { bits: case.bits("bit")?, clip: None };
            check(case, |x| ok(rule.quantize(x)))
        }
        "tensorpack_dorefa_grad_4b" => {
            let rule = ok(DorefaGradient::new(case.bits("bit")?))?;
            let y = ok(rule.quantize(case.tensor("grad_in")?, case.tensor("noise")?))?;
            case.value("grad_out", &y)
        }
        "tensorpack_ternarize" => {
            let rule = Ttq { threshold: case.number("thresh")? as f32, edge: Edge::Sign };
            let scale = |key| case.number(key).map(|value| case.row_leaf(&[value]));
            let (w, wp, wn) = (case.leaf("w")?, scale("Wp")?, scale("Wn")?);
            let q = ok(rule.quantize(w.clone(), wp.clone(), wn.clone()))?;
            case.value("q", &q)?;
            let gradients = case.backward(&q, "grad_q")?;
            case.gradient("grad_w", &w, &gradients)?;
            case.gradient("grad_Wp", &wp, &gradients)?;
            case.gradient("grad_Wn", &wn, &gradients)
        }
        "abcnet_weight_bases_M3" | "abcnet_weight_bases_M5" => abc_net(case),
        _ => unknown(case),
    }
}

fn abc_net(case: &Case) -> Result<(), Failure> {
    let rule = ok(AbcNet::new(case.number("M")? as usize, Zero::Zero))?;
    let w = case.tensor("w")?;
    let bases: Vec<f64> = rule.bases(w.clone()).iter().flat_map(read).collect();
    case.near("binary_filters", &bases, 0.0)?;
    let scales = ok(rule.scales(&w))?;
    case.near("alphas_lstsq", &scales, 1e-6)?;
    case.near("alphas_adam", &scales, 2e-3)?;
    let loss = |y: Tensor<4>| read(&(w.clone() - y).square().mean());
    case.near("loss_adam", &loss(ok(rule.quantize(w.clone()))?), 1e-6)?;
    let sum = rule.bases(w.clone()).into_iter().fold(w.zeros_like(), |sum, base| sum + base);
    close("loss_at_ones", &loss(sum), &case.wanted("loss_at_ones")?, 1e-6, 1.0)
}
