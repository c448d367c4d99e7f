//! burn's recorded operations in terms of the graph's own.

mod activation;
mod base;
mod layer;
mod numeric;

use std::sync::Arc;

use burn_ir::{OperationIr, ScalarIr, TensorIr};

use super::custom::CustomOp;
use super::draft::Lowered;
use crate::{Op, Scalar};

/// Operations that the user has registered.
pub(super) type CustomOps = [Arc<dyn CustomOp>];

/// The steps that one recorded operation stands for; none for those that only manage tensors.
///
/// # Errors
/// burn's name of an operation that graphs do not know.
pub(super) fn lower(operation: &OperationIr, custom: &CustomOps) -> Result<Vec<Lowered>, String> {
    if let Some(step) = custom.iter().find_map(|op| registered(&**op, operation)) {
        return Ok(vec![step]);
    }
    let steps = match operation {
        OperationIr::Init(_) | OperationIr::Drop(_) => Some(Vec::new()),
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => base::lower(op),
        OperationIr::NumericFloat(_, op) | OperationIr::NumericInt(_, op) => numeric::lower(op),
        OperationIr::Float(_, op) => numeric::lower_float(op),
        OperationIr::Int(op) => numeric::lower_int(op),
        OperationIr::Bool(op) => numeric::lower_bool(op),
        OperationIr::Module(op) => layer::lower(op),
        OperationIr::Activation(op) => activation::lower(op),
        OperationIr::Custom(_) | OperationIr::Distributed(_) => None,
    };
    steps.ok_or_else(|| name_of(operation))
}

fn registered(custom: &dyn CustomOp, operation: &OperationIr) -> Option<Lowered> {
    let attributes = custom.read(operation)?;
    let output = operation.outputs().next()?.clone();
    let inputs = operation.inputs().map(|tensor| tensor.id).collect();
    Some(Lowered { op: Op::Custom { name: custom.name().to_owned(), attributes }, inputs, output })
}

/// The innermost variant's name: `CumSum` of `NumericFloat(F32, CumSum(DimOpIr { .. }))`, the id of a custom operation.
fn name_of(operation: &OperationIr) -> String {
    if let OperationIr::Custom(custom) = operation {
        return custom.id.clone();
    }
    let text = format!("{operation:?}");
    let words = text.split(['(', ' ', ',', '{']).filter(|word| !word.is_empty());
    words.take_while(|word| !word.ends_with("OpIr")).last().unwrap_or("operation").to_owned()
}

/// One step.
fn one<'a>(
    op: Op,
    inputs: impl IntoIterator<Item = &'a TensorIr>,
    output: &TensorIr,
) -> Option<Vec<Lowered>> {
    Some(vec![step(op, inputs, output)])
}

fn step<'a>(op: Op, inputs: impl IntoIterator<Item = &'a TensorIr>, output: &TensorIr) -> Lowered {
    Lowered { op, inputs: inputs.into_iter().map(|tensor| tensor.id).collect(), output: output.clone() }
}

fn scalar(value: ScalarIr) -> Scalar {
    match value {
        ScalarIr::Float(value) => Scalar::Float(value),
        ScalarIr::Int(value) => Scalar::Int(value),
        ScalarIr::UInt(value) => i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Int),
        ScalarIr::Bool(value) => Scalar::Bool(value),
    }
}
