use burn::tensor::Tensor;
use kd_quant::binary::{
    AbcNet, Heaviside, SignActivation, SignGradient, SttnActivation, Xnor, XnorGradient, Zero,
};
use kd_quant::ternary::{Edge, Ttq, Twn};
use kd_quant::{Bound, DorefaActivation, DorefaGradient, DorefaWeight, Normaliser};

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

fn ternary(case: &Case, threshold: f64) -> Result<(), Failure> {
    let rule = SttnActivation { threshold: threshold as f32, ..SttnActivation::default() };
    check(case, |x| Ok(rule.quantize(x)))
}

pub fn run(case: &Case) -> Result<(), Failure> {
    let clipped = |clip: f64| SignGradient::Clipped { clip: clip as f32, bound: Bound::Inclusive };
    match case.name.as_str() {
        name if name.starts_with("larq_ste_sign_noclip") => signs(case, SignGradient::Identity),
        name if name.starts_with("larq_ste_sign_clip") => {
            signs(case, clipped(case.setting("clip_value", "larq_ste_sign_clip")?))
        }
        name if name.starts_with("larq_ste_sign") => signs(case, clipped(1.0)),
        name if name.starts_with("larq_approx_sign") => signs(case, SignGradient::Quadratic),
        name if name.starts_with("larq_swish_sign") => {
            let beta = case.setting("beta", "larq_swish_sign_beta")? as f32;
            signs(case, SignGradient::Swish { beta })
        }
        name if name.starts_with("larq_ste_heaviside") => check(case, |x| Ok(Heaviside.quantize(x))),
        name if name.starts_with("larq_ste_tern_twn") => {
            let rule = Twn { scaled: false, clip: Some(1.0), ..Twn::default() };
            check(case, |x| ok(rule.quantize(x)))
        }
        name if name.starts_with("larq_ste_tern_threshold") => {
            ternary(case, case.setting("threshold_value", "larq_ste_tern_threshold")?)
        }
        // larq's default.
        name if name.starts_with("larq_ste_tern") => ternary(case, 0.05),
        name if name.starts_with("larq_magnitude_aware_sign") => check(case, |w| {
            // Kernels have their output channels in the last axis there, in the first here.
            let rule = Xnor { gradient: XnorGradient::ConstantScale, ..Xnor::default() };
            Ok(rule.quantize(w.permute([3, 0, 1, 2])).permute([1, 2, 3, 0]))
        }),
        name if name.starts_with("larq_dorefa_act") => {
            let rule = DorefaActivation { bits: case.bits("bit")?, clip: Some(Bound::Inclusive) };
            check(case, |x| ok(rule.quantize(x)))
        }
        name if name.starts_with("larq_dorefa_weight") => {
            let rule = DorefaWeight { bits: case.bits("bit")?, normaliser: Normaliser::Constant };
            check(case, |w| ok(rule.quantize(w)))
        }
        name if name.starts_with("tensorpack_dorefa_weight") => {
            let rule = ok(DorefaWeight::new(case.bits("bit")?))?;
            check(case, |w| ok(rule.quantize(w)))
        }
        name if name.starts_with("tensorpack_dorefa_act") => {
            let rule = DorefaActivation { bits: case.bits("bit")?, clip: None };
            check(case, |x| ok(rule.quantize(x)))
        }
        name if name.starts_with("tensorpack_dorefa_grad") => {
            let rule = ok(DorefaGradient::new(case.bits("bit")?))?;
            let y = ok(rule.quantize(case.tensor("grad_in")?, case.tensor("noise")?))?;
            case.value("grad_out", &y)
        }
        name if name.starts_with("tensorpack_ternarize") => {
            let rule = Ttq { threshold: case.number("thresh")? as f32, edge: Edge::Sign, ..Ttq::default() };
            let scale = |key| case.number(key).map(|value| case.row_leaf(&[value]));
            let (w, wp, wn) = (case.leaf("w")?, scale("Wp")?, scale("Wn")?);
            let q = ok(rule.quantize(w.clone(), wp.clone(), wn.clone()))?;
            case.value("q", &q)?;
            let gradients = case.backward(&q, "grad_q")?;
            case.gradient("grad_w", &w, &gradients)?;
            case.gradient("grad_Wp", &wp, &gradients)?;
            case.gradient("grad_Wn", &wn, &gradients)
        }
        name if name.starts_with("abcnet_weight_bases") => abc_net(case),
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
