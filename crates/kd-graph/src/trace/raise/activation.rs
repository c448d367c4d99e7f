//! Non-linearities that burn computes in several operations.

use super::{Raised, View};
use crate::{Activation, Binary, Op, Scalar, Unary};

/// burn's softplus is the identity where `beta x` exceeds this.
const SOFTPLUS_THRESHOLD: f64 = 20.0;

/// `x * sigmoid(x)`.
pub(super) fn silu(view: &View<'_>, root: usize) -> Option<Raised> {
    let (x, gate) = view.binary(root, Binary::Mul)?;
    (view.activation(gate, Activation::Sigmoid)? == x).then(|| raised(Activation::Silu, x))?
}

/// `x * hard_sigmoid(x)` with slope 1/6 and value 1/2 at zero.
pub(super) fn hard_swish(view: &View<'_>, root: usize) -> Option<Raised> {
    let (x, gate) = view.binary(root, Binary::Mul)?;
    let Op::Activation(Activation::HardSigmoid { alpha, beta }) = *view.op(gate) else { return None };
    let usual = (alpha - 1.0 / 6.0).abs() < 1e-7 && beta == 0.5;
    (usual && view.only_input(gate)? == x).then(|| raised(Activation::HardSwish, x))?
}

/// `log1p(exp(beta x)) / beta`, and `x` itself where `beta x` is above the threshold.
pub(super) fn softplus(view: &View<'_>, root: usize) -> Option<Raised> {
    let (Op::Where, &[curve, mask, x]) = (view.op(root), view.inputs(root)) else { return None };
    let (logarithm, beta) = view.literal(curve, Binary::Div)?;
    let filled = view.unary(view.unary(logarithm, Unary::Log1p)?, Unary::Exp)?;
    let (Op::MaskFill { value: Scalar::Float(value) }, &[scaled, same_mask]) =
        (view.op(filled), view.inputs(filled))
    else {
        return None;
    };
    let same = *value == SOFTPLUS_THRESHOLD
        && mask == same_mask
        && view.with_literal(mask, Binary::Greater, SOFTPLUS_THRESHOLD)? == scaled
        && view.with_literal(scaled, Binary::Mul, beta)? == x;
    same.then(|| raised(Activation::Softplus { beta }, x))?
}

/// `x * tanh(softplus(x))`.
pub(super) fn mish(view: &View<'_>, root: usize) -> Option<Raised> {
    let (x, gate) = view.binary(root, Binary::Mul)?;
    let softplus = view.activation(gate, Activation::Tanh)?;
    (view.activation(softplus, Activation::Softplus { beta: 1.0 })? == x)
        .then(|| raised(Activation::Mish, x))?
}

/// `x` where positive, `alpha * (exp(x) - 1)` elsewhere.
pub(super) fn elu(view: &View<'_>, root: usize) -> Option<Raised> {
    let (Op::Where, &[x, mask, curve]) = (view.op(root), view.inputs(root)) else { return None };
    let (shifted, alpha) = view.literal(curve, Binary::Mul)?;
    let exponential = view.with_literal(shifted, Binary::Sub, 1.0)?;
    let same =
        view.unary(exponential, Unary::Exp)? == x && view.with_literal(mask, Binary::LowerEqual, 0.0)? == x;
    same.then(|| raised(Activation::Elu { alpha }, x))?
}

/// `x` where positive, `alpha * (exp(x / alpha) - 1)` elsewhere.
pub(super) fn celu(view: &View<'_>, root: usize) -> Option<Raised> {
    let (Op::Where, &[x, mask, curve]) = (view.op(root), view.inputs(root)) else { return None };
    let (shifted, alpha) = view.literal(curve, Binary::Mul)?;
    let exponential = view.unary(view.with_literal(shifted, Binary::Sub, 1.0)?, Unary::Exp)?;
    let same = view.with_literal(exponential, Binary::Div, alpha)? == x
        && view.with_literal(mask, Binary::LowerEqual, 0.0)? == x;
    same.then(|| raised(Activation::Celu { alpha }, x))?
}

/// `gamma x` where `x` is not negative, `alpha gamma (exp(x) - 1)` elsewhere, with the two constants of self-normalising networks.
pub(super) fn selu(view: &View<'_>, root: usize) -> Option<Raised> {
    const ALPHA: f64 = 1.673_263_242_354_377_2;
    const GAMMA: f64 = 1.050_700_987_355_480_5;
    let (Op::Where, &[curve, mask, line]) = (view.op(root), view.inputs(root)) else { return None };
    let x = view.with_literal(line, Binary::Mul, GAMMA)?;
    let shifted = view.with_literal(curve, Binary::Mul, ALPHA * GAMMA)?;
    let same = view.unary(view.with_literal(shifted, Binary::Sub, 1.0)?, Unary::Exp)? == x
        && view.with_literal(mask, Binary::GreaterEqual, 0.0)? == x;
    same.then(|| raised(Activation::Selu, x))?
}

/// `x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2`.
pub(super) fn gelu_tanh(view: &View<'_>, root: usize) -> Option<Raised> {
    let scale = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let (x, gate) = view.binary(view.with_literal(root, Binary::Mul, 0.5)?, Binary::Mul)?;
    let tanh = view.with_literal(gate, Binary::Add, 1.0)?;
    let inner = view.with_literal(view.activation(tanh, Activation::Tanh)?, Binary::Mul, scale)?;
    let (same_x, cubic) = view.binary(inner, Binary::Add)?;
    let cube = view.with_literal(cubic, Binary::Mul, 0.044_715)?;
    (same_x == x && view.with_literal(cube, Binary::Pow, 3.0)? == x)
        .then(|| raised(Activation::GeluTanh, x))?
}

/// `x / (1 + |x|)`.
pub(super) fn softsign(view: &View<'_>, root: usize) -> Option<Raised> {
    let (x, divisor) = view.binary(root, Binary::Div)?;
    let magnitude = view.with_literal(divisor, Binary::Add, 1.0)?;
    (view.unary(magnitude, Unary::Abs)? == x).then(|| raised(Activation::Softsign, x))?
}

fn raised(activation: Activation, x: usize) -> Option<Raised> {
    Raised::new(Op::Activation(activation), [x])
}
