//! Operations on tensors of every kind: shapes, indices, masks, comparison.

use burn::tensor::{DType, Slice};
use burn_ir::{
    BaseOperationIr, BinaryOpIr, CastOpIr, CreationOpIr, ReduceDimOpIr, ReduceOpIr, ScalarOpIr, TensorIr,
};

use super::{one, scalar};
use crate::trace::draft::Lowered;
use crate::{Binary, Dim, Kind, Op, Range, Reduction, Scalar, Shape};

pub(super) fn lower(operation: &BaseOperationIr) -> Option<Vec<Lowered>> {
    use BaseOperationIr as B;
    match operation {
        B::Reshape(op) => one(Op::Reshape { shape: shape(&op.out) }, [&op.input], &op.out),
        B::Expand(op) => one(Op::Expand { shape: shape(&op.out) }, [&op.input], &op.out),
        B::SwapDims(op) => {
            let mut axes: Vec<usize> = (0..op.input.shape.num_dims()).collect();
            axes.swap(op.dim1, op.dim2);
            one(Op::Permute { axes }, [&op.input], &op.out)
        }
        B::Permute(op) => one(Op::Permute { axes: op.axes.clone() }, [&op.input], &op.out),
        B::Flip(op) => one(Op::Flip { axes: op.axes.clone() }, [&op.input], &op.out),
        B::Slice(op) => one(Op::Slice { ranges: ranges(&op.ranges, &op.tensor) }, [&op.tensor], &op.out),
        B::SliceAssign(op) => {
            one(Op::SliceAssign { ranges: ranges(&op.ranges, &op.tensor) }, [&op.tensor, &op.value], &op.out)
        }
        B::Select(op) => one(Op::Select { axis: op.dim }, [&op.tensor, &op.indices], &op.out),
        B::Gather(op) => one(Op::Gather { axis: op.dim }, [&op.tensor, &op.indices], &op.out),
        B::MaskWhere(op) => one(Op::Where, [&op.tensor, &op.mask, &op.value], &op.out),
        B::MaskFill(op) => one(Op::MaskFill { value: scalar(op.value) }, [&op.tensor, &op.mask], &op.out),
        B::RepeatDim(op) => {
            one(Op::Repeat { axis: op.dim, times: Dim::Fixed(op.times) }, [&op.tensor], &op.out)
        }
        B::Cat(op) => one(Op::Cat { axis: op.dim }, &op.tensors, &op.out),
        B::Cast(op) => cast(op),
        B::Equal(op) => binary(Binary::Equal, op),
        B::NotEqual(op) => binary(Binary::NotEqual, op),
        B::EqualElem(op) => literal(Binary::Equal, op),
        B::NotEqualElem(op) => literal(Binary::NotEqual, op),
        B::Empty(op) | B::Zeros(op) => full(op, 0),
        B::Ones(op) => full(op, 1),
        B::All(op) => reduce(Reduction::All, op),
        B::Any(op) => reduce(Reduction::Any, op),
        B::AllDim(op) => reduce_axis(Reduction::All, op),
        B::AnyDim(op) => reduce_axis(Reduction::Any, op),
        B::Unfold(_) | B::SelectAssign(_) | B::Scatter(_) | B::ScatterNd(_) | B::GatherNd(_) => None,
    }
}

pub(super) fn binary(op: Binary, ir: &BinaryOpIr) -> Option<Vec<Lowered>> {
    one(Op::Binary(op), [&ir.lhs, &ir.rhs], &ir.out)
}

pub(super) fn literal(op: Binary, ir: &ScalarOpIr) -> Option<Vec<Lowered>> {
    one(Op::Literal { op, value: scalar(ir.rhs) }, [&ir.lhs], &ir.out)
}

pub(super) fn reduce(kind: Reduction, ir: &ReduceOpIr) -> Option<Vec<Lowered>> {
    one(Op::Reduce { kind, axes: None }, [&ir.input], &ir.out)
}

pub(super) fn reduce_axis(kind: Reduction, ir: &ReduceDimOpIr) -> Option<Vec<Lowered>> {
    one(Op::Reduce { kind, axes: Some(vec![ir.axis]) }, [&ir.input], &ir.out)
}

/// Another kind or precision; precisions other than the capture device's own defaults are named.
pub(super) fn cast(ir: &CastOpIr) -> Option<Vec<Lowered>> {
    let dtype = ir.out.dtype;
    let precision = match dtype {
        DType::F32 | DType::I64 | DType::Bool(_) => None,
        other => Some(other.name().to_owned()),
    };
    one(Op::Cast { kind: kind(dtype), precision }, [&ir.input], &ir.out)
}

fn kind(dtype: DType) -> Kind {
    match dtype {
        DType::Bool(_) => Kind::Bool,
        dtype if dtype.is_float() => Kind::Float,
        _ => Kind::Int,
    }
}

fn full(ir: &CreationOpIr, value: i64) -> Option<Vec<Lowered>> {
    let value = match kind(ir.out.dtype) {
        Kind::Float => Scalar::Float(value as f64),
        Kind::Int => Scalar::Int(value),
        Kind::Bool => Scalar::Bool(value != 0),
    };
    one(Op::Full { shape: shape(&ir.out), value }, [], &ir.out)
}

pub(super) fn shape(tensor: &TensorIr) -> Shape {
    Shape::fixed(tensor.shape.iter().copied())
}

/// One range for every axis; burn leaves out trailing axes that are taken whole.
fn ranges(slices: &[Slice], tensor: &TensorIr) -> Vec<Range> {
    let sizes = tensor.shape.iter().copied();
    let given = slices.iter().map(Some).chain(std::iter::repeat(None));
    sizes
        .zip(given)
        .map(|(size, slice)| match slice {
            None => Range::all(Dim::Fixed(size)),
            Some(slice) => {
                let range = slice.to_range(size);
                Range { start: Dim::Fixed(range.start), end: Dim::Fixed(range.end), step: slice.step }
            }
        })
        .collect()
}
