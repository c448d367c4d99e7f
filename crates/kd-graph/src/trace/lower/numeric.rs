//! Arithmetic, functions of single elements, reductions.

use burn_ir::{
    BoolOperationIr, FloatOperationIr, IntOperationIr, NumericOperationIr, PadModeIr,
    ReduceDimWithIndicesOpIr, UnaryOpIr,
};

use super::base::{binary, cast, literal, reduce, reduce_axis, shape};
use super::{one, scalar, step};
use crate::trace::draft::Lowered;
use crate::{Activation, Binary, Op, PadMode, Reduction, Unary};

pub(super) fn lower(operation: &NumericOperationIr) -> Option<Vec<Lowered>> {
    use NumericOperationIr as N;
    match operation {
        N::Add(op) => binary(Binary::Add, op),
        N::Sub(op) => binary(Binary::Sub, op),
        N::Mul(op) => binary(Binary::Mul, op),
        N::Div(op) => binary(Binary::Div, op),
        N::Rem(op) => binary(Binary::Rem, op),
        N::Powi(op) => binary(Binary::Pow, op),
        N::Greater(op) => binary(Binary::Greater, op),
        N::GreaterEqual(op) => binary(Binary::GreaterEqual, op),
        N::Lower(op) => binary(Binary::Lower, op),
        N::LowerEqual(op) => binary(Binary::LowerEqual, op),
        N::AddScalar(op) => literal(Binary::Add, op),
        N::SubScalar(op) => literal(Binary::Sub, op),
        N::MulScalar(op) => literal(Binary::Mul, op),
        N::DivScalar(op) => literal(Binary::Div, op),
        N::RemScalar(op) => literal(Binary::Rem, op),
        N::PowiScalar(op) => literal(Binary::Pow, op),
        N::GreaterElem(op) => literal(Binary::Greater, op),
        N::GreaterEqualElem(op) => literal(Binary::GreaterEqual, op),
        N::LowerElem(op) => literal(Binary::Lower, op),
        N::LowerEqualElem(op) => literal(Binary::LowerEqual, op),
        N::ClampMin(op) => literal(Binary::Max, op),
        N::ClampMax(op) => literal(Binary::Min, op),
        N::Clamp(op) => {
            let (min, max) = (scalar(op.min).as_f64(), scalar(op.max).as_f64());
            one(Op::Clamp { min, max }, [&op.tensor], &op.out)
        }
        N::Abs(op) => unary(Unary::Abs, op),
        N::Neg(op) => unary(Unary::Neg, op),
        N::Sign(op) => unary(Unary::Sign, op),
        N::Full(op) => one(Op::Full { shape: shape(&op.out), value: scalar(op.value) }, [], &op.out),
        N::Sum(op) => reduce(Reduction::Sum, op),
        N::Mean(op) => reduce(Reduction::Mean, op),
        N::Prod(op) => reduce(Reduction::Prod, op),
        N::Max(op) => reduce(Reduction::Max, op),
        N::Min(op) => reduce(Reduction::Min, op),
        N::MaxAbs(op) => reduce(Reduction::MaxAbs, op),
        N::SumDim(op) => reduce_axis(Reduction::Sum, op),
        N::MeanDim(op) => reduce_axis(Reduction::Mean, op),
        N::ProdDim(op) => reduce_axis(Reduction::Prod, op),
        N::MaxDim(op) => reduce_axis(Reduction::Max, op),
        N::MinDim(op) => reduce_axis(Reduction::Min, op),
        N::MaxAbsDim(op) => reduce_axis(Reduction::MaxAbs, op),
        N::ArgMax(op) => reduce_axis(Reduction::ArgMax, op),
        N::ArgMin(op) => reduce_axis(Reduction::ArgMin, op),
        N::SumDims(op) => {
            one(Op::Reduce { kind: Reduction::Sum, axes: Some(op.axes.clone()) }, [&op.input], &op.out)
        }
        N::MaxDimWithIndices(op) => both(Reduction::Max, Reduction::ArgMax, op),
        N::MinDimWithIndices(op) => both(Reduction::Min, Reduction::ArgMin, op),
        N::Pad(op) => {
            let mode = match op.mode {
                PadModeIr::Constant(value) => PadMode::Constant(scalar(value)),
                PadModeIr::Reflect => PadMode::Reflect,
                PadModeIr::Edge => PadMode::Edge,
            };
            one(Op::Pad { padding: op.padding.clone(), mode }, [&op.input], &op.out)
        }
        N::ArgTopK(_)
        | N::TopK(_)
        | N::TopKWithIndices(_)
        | N::IntRandom(_)
        | N::CumSum(_)
        | N::CumProd(_)
        | N::CumMin(_)
        | N::CumMax(_)
        | N::Sort(_)
        | N::SortWithIndices(_)
        | N::ArgSort(_) => None,
    }
}

pub(super) fn lower_float(operation: &FloatOperationIr) -> Option<Vec<Lowered>> {
    use FloatOperationIr as F;
    match operation {
        F::Exp(op) => unary(Unary::Exp, op),
        F::Log(op) => unary(Unary::Log, op),
        F::Log1p(op) => unary(Unary::Log1p, op),
        F::Erf(op) => unary(Unary::Erf, op),
        F::Sqrt(op) => unary(Unary::Sqrt, op),
        F::Recip(op) => unary(Unary::Recip, op),
        F::Sin(op) => unary(Unary::Sin, op),
        F::Cos(op) => unary(Unary::Cos, op),
        F::Tan(op) => unary(Unary::Tan, op),
        F::Sinh(op) => unary(Unary::Sinh, op),
        F::Cosh(op) => unary(Unary::Cosh, op),
        F::Tanh(op) => one(Op::Activation(Activation::Tanh), [&op.input], &op.out),
        F::ArcSin(op) => unary(Unary::Asin, op),
        F::ArcCos(op) => unary(Unary::Acos, op),
        F::ArcTan(op) => unary(Unary::Atan, op),
        F::ArcSinh(op) => unary(Unary::Asinh, op),
        F::ArcCosh(op) => unary(Unary::Acosh, op),
        F::ArcTanh(op) => unary(Unary::Atanh, op),
        F::ArcTan2(op) => binary(Binary::Atan2, op),
        F::Round(op) => unary(Unary::Round, op),
        F::Floor(op) => unary(Unary::Floor, op),
        F::Ceil(op) => unary(Unary::Ceil, op),
        F::Trunc(op) => unary(Unary::Trunc, op),
        F::IsNan(op) => unary(Unary::IsNan, op),
        F::IsInf(op) => unary(Unary::IsInf, op),
        F::Powf(op) => binary(Binary::Pow, op),
        F::PowfScalar(op) => literal(Binary::Pow, op),
        F::IntoInt(op) => cast(op),
        F::Matmul(op) => one(Op::Matmul, [&op.lhs, &op.rhs], &op.out),
        F::Cross(_) | F::Random(_) | F::Quantize(_) | F::Dequantize(_) | F::GridSample2d(_) | F::Hypot(_) => {
            None
        }
    }
}

pub(super) fn lower_int(operation: &IntOperationIr) -> Option<Vec<Lowered>> {
    match operation {
        IntOperationIr::IntoFloat(op) => cast(op),
        IntOperationIr::Matmul(op) => one(Op::Matmul, [&op.lhs, &op.rhs], &op.out),
        _ => None,
    }
}

pub(super) fn lower_bool(operation: &BoolOperationIr) -> Option<Vec<Lowered>> {
    match operation {
        BoolOperationIr::IntoFloat(op) | BoolOperationIr::IntoInt(op) => cast(op),
        BoolOperationIr::Not(op) => unary(Unary::Not, op),
        BoolOperationIr::And(op) => binary(Binary::And, op),
        BoolOperationIr::Or(op) => binary(Binary::Or, op),
        BoolOperationIr::Xor(op) => binary(Binary::Xor, op),
    }
}

fn unary(op: Unary, ir: &UnaryOpIr) -> Option<Vec<Lowered>> {
    one(Op::Unary(op), [&ir.input], &ir.out)
}

/// Nodes have one result: the value and its place are two nodes.
fn both(value: Reduction, place: Reduction, ir: &ReduceDimWithIndicesOpIr) -> Option<Vec<Lowered>> {
    let reduce = |kind, out| step(Op::Reduce { kind, axes: Some(vec![ir.dim]) }, [&ir.tensor], out);
    Some(vec![reduce(value, &ir.out), reduce(place, &ir.out_indices)])
}
