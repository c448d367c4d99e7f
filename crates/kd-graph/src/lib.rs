#![doc = include_str!("../README.md")]

mod cost;
mod depend;
mod display;
mod edit;
mod graph;
mod infer;
mod kernels;
mod module;
mod op;
mod rewrite;
mod save;
mod shape;
mod trace;

pub use cost::{Bottleneck, Cost, Machine, NodeCost, ProbeError, Roofline};
pub use depend::{
    Attribute, AttributeKind, Dependencies, Group, Inexact, Member, Mixing, Position, Reason, RemoveError,
    Side, Unprunable,
};
pub use edit::Edit;
pub use graph::{Graph, GraphError, Node, NodeId, Unseen};
pub use infer::{InferError, infer};
pub use module::{
    Engine, GraphModule, Kernel, Kernels, ModuleError, RunError, TrainingReport, Unwritten, Value,
    ValueError, WriteBackError, compare_training,
};
pub use op::{
    Activation, Attention, BatchNorm, Binary, Conv, ConvTranspose, InterpolateMode, LayeredAttention, Op,
    PadMode, Pool, PoolKind, Range, Reduction, Role, Scalar, Unary,
};
pub use rewrite::Rewritten;
pub use save::FileError;
pub use shape::{Dim, Kind, Shape, TensorType};
pub use trace::{CustomOp, TensorMap, Tensors, TraceError, Tracer, trace};

/// burn's recorded operations, as [`CustomOp`] sees them.
pub mod ir {
    pub use burn_ir::*;
}
