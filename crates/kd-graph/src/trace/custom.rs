//! Operations that graphs do not know, by the user's registration.

use std::fmt::Debug;

use burn_ir::OperationIr;

use crate::Scalar;

/// Recognises an operation that graphs do not know: one of burn's, or one that the user's own backend extension records under an id.
///
/// It becomes a node [`Op::Custom`](crate::Op::Custom) with the operation's inputs in burn's order and its first result. The same name
/// must be known to whatever runs the graph.
///
/// ```
/// use burn::tensor::Tensor;
/// use kd_graph::ir::{NumericOperationIr, OperationIr};
/// use kd_graph::{CustomOp, Scalar};
///
/// #[derive(Debug)]
/// struct CumulativeSum;
///
/// impl CustomOp for CumulativeSum {
///     fn name(&self) -> &str {
///         "cumulative_sum"
///     }
///
///     fn read(&self, operation: &OperationIr) -> Option<Vec<Scalar>> {
///         match operation {
///             OperationIr::NumericFloat(_, NumericOperationIr::CumSum(op)) => Some(vec![Scalar::Int(op.axis as i64)]),
///             _ => None,
///         }
///     }
/// }
/// ```
pub trait CustomOp: Debug + Send + Sync {
    /// Name of the operation in the graph.
    fn name(&self) -> &str;

    /// The attributes of a recorded operation, if it is one of this kind. They must not depend on the batch size.
    fn read(&self, operation: &OperationIr) -> Option<Vec<Scalar>>;
}
