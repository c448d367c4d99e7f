//! Parameters and buffers behind burn's types.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId, RunningState};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::{ModuleError, Value};
use crate::{Kind, Role};

/// A parameter or buffer. burn's `Module` visits parameters by rank and kind, so these have to be spelt out.
#[derive(Clone, Debug)]
pub(super) enum Weight {
    Float1(Param<Tensor<1>>),
    Float2(Param<Tensor<2>>),
    Float3(Param<Tensor<3>>),
    Float4(Param<Tensor<4>>),
    Float5(Param<Tensor<5>>),
    Float6(Param<Tensor<6>>),
    Int1(Param<Tensor<1, Int>>),
    Int2(Param<Tensor<2, Int>>),
    Int3(Param<Tensor<3, Int>>),
    Int4(Param<Tensor<4, Int>>),
    Int5(Param<Tensor<5, Int>>),
    Int6(Param<Tensor<6, Int>>),
    Bool1(Param<Tensor<1, Bool>>),
    Bool2(Param<Tensor<2, Bool>>),
    Bool3(Param<Tensor<3, Bool>>),
    Bool4(Param<Tensor<4, Bool>>),
    Bool5(Param<Tensor<5, Bool>>),
    Bool6(Param<Tensor<6, Bool>>),
    /// A running statistic of a batch norm: burn's own type, so that cloning, recording and leaving training behave as in burn's layer.
    Running(RunningState<Tensor<1>>),
}

/// Runs `$body` with `$param` bound to what the weight holds; after `wrap`, the result becomes a weight of the same variant again.
macro_rules! each {
    ($weight:expr, $param:ident => wrap $body:expr) => {
        each!(@wrap $weight, $param, $body, Float1 Float2 Float3 Float4 Float5 Float6 Int1 Int2 Int3 Int4 Int5 Int6
            Bool1 Bool2 Bool3 Bool4 Bool5 Bool6 Running)
    };
    ($weight:expr, $param:ident => $body:expr) => {
        each!(@plain $weight, $param, $body, Float1 Float2 Float3 Float4 Float5 Float6 Int1 Int2 Int3 Int4 Int5 Int6
            Bool1 Bool2 Bool3 Bool4 Bool5 Bool6 Running)
    };
    (@wrap $weight:expr, $param:ident, $body:expr, $($variant:ident)*) => {
        match $weight { $(Weight::$variant($param) => Weight::$variant($body),)* }
    };
    (@plain $weight:expr, $param:ident, $body:expr, $($variant:ident)*) => {
        match $weight { $(Weight::$variant($param) => $body,)* }
    };
}

/// The variant of the value's rank, its tensor made a parameter by `$param`.
macro_rules! by_rank {
    ($value:expr, $param:expr, $one:ident $two:ident $three:ident $four:ident $five:ident $six:ident) => {{
        let primitive = $value.primitive().clone();
        match $value.rank() {
            1 => Some(Weight::$one($param(Tensor::from_dispatch(primitive)))),
            2 => Some(Weight::$two($param(Tensor::from_dispatch(primitive)))),
            3 => Some(Weight::$three($param(Tensor::from_dispatch(primitive)))),
            4 => Some(Weight::$four($param(Tensor::from_dispatch(primitive)))),
            5 => Some(Weight::$five($param(Tensor::from_dispatch(primitive)))),
            6 => Some(Weight::$six($param(Tensor::from_dispatch(primitive)))),
            _ => None,
        }
    }};
}

/// What can be read as a value.
trait Held {
    fn held(&self) -> Value;
}

impl<const D: usize> Held for Param<Tensor<D>> {
    fn held(&self) -> Value {
        self.val().into()
    }
}

impl<const D: usize> Held for Param<Tensor<D, Int>> {
    fn held(&self) -> Value {
        self.val().into()
    }
}

impl<const D: usize> Held for Param<Tensor<D, Bool>> {
    fn held(&self) -> Value {
        self.val().into()
    }
}

impl Held for RunningState<Tensor<1>> {
    fn held(&self) -> Value {
        self.value().into()
    }
}

fn learned<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(tensor)
}

fn buffer<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(ParamId::new(), tensor).set_require_grad(false)
}

fn ints<const D: usize>(tensor: Tensor<D, Int>) -> Param<Tensor<D, Int>> {
    Param::initialized(ParamId::new(), tensor)
}

fn bools<const D: usize>(tensor: Tensor<D, Bool>) -> Param<Tensor<D, Bool>> {
    Param::initialized(ParamId::new(), tensor)
}

impl Weight {
    /// A parameter on a device.
    pub(super) fn new(
        path: &str,
        role: Role,
        data: TensorData,
        device: &Device,
    ) -> Result<Self, ModuleError> {
        let value = Value::from_data(data, device);
        let weight = match (value.kind(), role) {
            (Kind::Float, Role::Weight) => {
                by_rank!(value, learned, Float1 Float2 Float3 Float4 Float5 Float6)
            }
            (Kind::Float, Role::Buffer) => by_rank!(value, buffer, Float1 Float2 Float3 Float4 Float5 Float6),
            (kind, Role::Weight) => return Err(ModuleError::Role { path: path.to_owned(), kind }),
            (Kind::Int, Role::Buffer) => by_rank!(value, ints, Int1 Int2 Int3 Int4 Int5 Int6),
            (Kind::Bool, Role::Buffer) => by_rank!(value, bools, Bool1 Bool2 Bool3 Bool4 Bool5 Bool6),
        };
        weight.ok_or_else(|| ModuleError::Rank { path: path.to_owned(), rank: value.rank() })
    }

    /// A running statistic, if it is a vector of floats without gradient.
    pub(super) fn into_running(self) -> Self {
        match self {
            Weight::Float1(param) if !param.is_require_grad() => {
                Weight::Running(RunningState::with_id(param.id, param.val()))
            }
            other => other,
        }
    }

    /// The running statistic, if it is one.
    pub(super) fn running(&self) -> Option<&RunningState<Tensor<1>>> {
        match self {
            Weight::Running(state) => Some(state),
            _ => None,
        }
    }

    /// The tensor: tracked by autodiff when it is learned and lives on an autodiff device.
    pub(super) fn value(&self) -> Value {
        each!(self, param => param.held())
    }

    /// The tensor with the last update of running statistics.
    pub(super) fn settled(&self) -> Value {
        match self {
            Weight::Running(state) => state.value_sync().into(),
            _ => self.value(),
        }
    }

    pub(super) fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        each!(self, param => param.visit(visitor));
    }

    pub(super) fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        each!(self, param => wrap Module::map(param, mapper))
    }

    pub(super) fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        each!(self, param => param.collect_devices(devices))
    }

    pub(super) fn moved_to(self, device: &Device) -> Self {
        each!(self, param => wrap Module::to_device(param, device))
    }

    pub(super) fn fork(self, device: &Device) -> Self {
        each!(self, param => wrap param.fork(device))
    }

    pub(super) fn train(self) -> Self {
        each!(self, param => wrap Module::train(param))
    }

    pub(super) fn valid(&self) -> Self {
        each!(self, param => wrap param.valid())
    }

    pub(super) fn materialize(self) -> Self {
        each!(self, param => wrap Module::materialize(param))
    }
}
