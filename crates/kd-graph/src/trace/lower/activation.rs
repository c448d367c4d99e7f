//! Non-linearities that burn records as one operation.

use burn_ir::{ActivationOperationIr, TensorId, TensorIr};

use super::{one, scalar, step};
use crate::trace::draft::Lowered;
use crate::{Activation, Op, Unary};

pub(super) fn lower(operation: &ActivationOperationIr) -> Option<Vec<Lowered>> {
    use ActivationOperationIr as A;
    match operation {
        A::Relu(op) => activation(Activation::Relu, &op.input, &op.out),
        A::Gelu(op) => activation(Activation::Gelu, &op.input, &op.out),
        A::Sigmoid(op) => activation(Activation::Sigmoid, &op.input, &op.out),
        A::LogSigmoid(op) => activation(Activation::LogSigmoid, &op.input, &op.out),
        A::LeakyRelu(op) => {
            activation(Activation::LeakyRelu { slope: scalar(op.rhs).as_f64() }, &op.lhs, &op.out)
        }
        A::HardSigmoid(op) => {
            let (alpha, beta) = (scalar(op.alpha).as_f64(), scalar(op.beta).as_f64());
            activation(Activation::HardSigmoid { alpha, beta }, &op.tensor, &op.out)
        }
        A::PRelu(op) => one(Op::Activation(Activation::Prelu), [&op.lhs, &op.rhs], &op.out),
        A::Softmax(op) => one(Op::Softmax { axis: op.axis }, [&op.input], &op.out),
        A::LogSoftmax(op) => one(Op::LogSoftmax { axis: op.axis }, [&op.input], &op.out),
        A::Softmin(op) => {
            // burn's definition: the softmax of the negated tensor, which gets an id that no recorded tensor has.
            let mut negated = op.out.clone();
            negated.id = TensorId::new(u64::MAX - op.out.id.value());
            let softmax = step(Op::Softmax { axis: op.axis }, [&negated], &op.out);
            Some(vec![step(Op::Unary(Unary::Neg), [&op.input], &negated), softmax])
        }
        A::ReluBackward(_) | A::GeluBackward(_) | A::SigmoidBackward(_) | A::LogSigmoidBackward(_) => None,
    }
}

fn activation(activation: Activation, input: &TensorIr, output: &TensorIr) -> Option<Vec<Lowered>> {
    one(Op::Activation(activation), [input], output)
}
