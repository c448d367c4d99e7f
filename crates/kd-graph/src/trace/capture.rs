//! Records forward passes with burn's capture device, which writes operations down instead of executing them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_capture::{CaptureBackend, TensorId};
use burn_ir::OperationIr;

use super::parameters::{Held, held};
use super::quiet::{Panicked, quietly};
use super::{TensorMap, Tensors, TraceError};

/// Forward passes of one model, recorded one after the other.
pub(super) struct Recording {
    /// As many as there were samples, or up to the first that panicked.
    pub(super) passes: Vec<Pass>,
    /// Every tensor that was given and not computed: inputs, parameters, constants.
    pub(super) values: BTreeMap<TensorId, TensorData>,
    pub(super) held: Vec<Held>,
}

/// One forward pass.
pub(super) struct Pass {
    /// In order of execution.
    pub(super) operations: Vec<OperationIr>,
    pub(super) inputs: Vec<TensorId>,
    /// `None` for a tensor that does not come from the recorded pass.
    pub(super) outputs: Vec<Option<TensorId>>,
    /// How the pass ended before its end, if it did.
    pub(super) panicked: Option<Panicked>,
}

/// Records `forward` of a copy of the model with each of the samples. The model must be one that nobody else holds parts of: burn moves running
/// statistics in place.
pub(super) fn record<M, I, O>(
    model: &M,
    samples: impl IntoIterator<Item = I>,
    forward: impl Fn(&M, I) -> O,
) -> Result<Recording, TraceError>
where
    M: Module,
    I: Tensors,
    O: Tensors,
{
    let lent = Lent::new();
    let device = &lent.0;
    let mut moved = Err(Panicked::default());
    let mut passes = Vec::new();
    let captured = device.capture_scope(|scope| {
        moved = quietly(|| {
            let model = model.valid().to_device(device);
            (held(&model), model)
        });
        if let Ok((_, model)) = &moved {
            for sample in samples {
                let pass = record_pass(device, sample, |sample| forward(model, sample));
                let panicked = pass.panicked.is_some();
                passes.push(pass);
                if panicked {
                    break;
                }
            }
        }
        // Boundaries are our own business: burn would refuse an output that is named twice.
        scope.complete([], [])
    });
    let captured = captured.map_err(|error| TraceError::Capture { reason: error.to_string() })?;
    let (held, _) = moved.map_err(|panicked| TraceError::Capture { reason: panicked.message })?;
    divide(captured.graph.operations, &mut passes);
    Ok(Recording { passes, values: captured.values, held })
}

fn record_pass<I: Tensors, O: Tensors>(device: &Device, sample: I, forward: impl FnOnce(I) -> O) -> Pass {
    let mut moved = Move { device: device.clone(), ids: Vec::new() };
    let mut collect = Collect(Vec::new());
    let result = quietly(|| {
        let sample = sample.map(&mut moved);
        drop(forward(sample).map(&mut collect));
    });
    Pass { operations: Vec::new(), inputs: moved.ids, outputs: collect.0, panicked: result.err() }
}

/// Gives every pass its operations: it begins where its first input is recorded.
fn divide(operations: Vec<OperationIr>, passes: &mut [Pass]) {
    let mut number = 0;
    for operation in operations {
        if let OperationIr::Init(init) = &operation {
            let begins = passes.iter().position(|pass| pass.inputs.first() == Some(&init.out.id));
            number = begins.unwrap_or(number);
        }
        if let Some(pass) = passes.get_mut(number) {
            pass.operations.push(operation);
        }
    }
}

/// A capture device of one's own for a while. There can be 65,536 of them in a process, and each records any number of passes, though one at a
/// time: they are given back.
struct Lent(Device);

static FREE: Mutex<Vec<Device>> = Mutex::new(Vec::new());

impl Lent {
    fn new() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(free.unwrap_or_else(Device::capture))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0.clone());
    }
}

/// Moves the sample to the capture device and notes the tensors' ids.
struct Move {
    device: Device,
    ids: Vec<TensorId>,
}

/// Notes the ids of what came out.
struct Collect(Vec<Option<TensorId>>);

macro_rules! moving {
    ($name:ident, $kind:ty) => {
        fn $name<const D: usize>(&mut self, tensor: Tensor<D, $kind>) -> Tensor<D, $kind> {
            let tensor = tensor.without_autodiff().to_device(&self.device);
            if let Ok(primitive) = tensor.clone().try_into_primitive::<CaptureBackend>() {
                self.ids.push(primitive.id());
            }
            tensor
        }
    };
}

macro_rules! collecting {
    ($name:ident, $kind:ty) => {
        fn $name<const D: usize>(&mut self, tensor: Tensor<D, $kind>) -> Tensor<D, $kind> {
            let primitive = tensor.clone().try_into_primitive::<CaptureBackend>();
            self.0.push(primitive.ok().map(|primitive| primitive.id()));
            tensor
        }
    };
}

impl TensorMap for Move {
    moving!(float, burn::tensor::Float);
    moving!(int, Int);
    moving!(bool, Bool);
}

impl TensorMap for Collect {
    collecting!(float, burn::tensor::Float);
    collecting!(int, Int);
    collecting!(bool, Bool);
}
