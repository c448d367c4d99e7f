//! Records one forward pass with burn's capture device, which writes operations down instead of executing them.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_capture::{CaptureBackend, TensorId};
use burn_ir::OperationIr;

use super::parameters::{Held, held};
use super::quiet::{Panicked, quietly};
use super::{TensorMap, Tensors, TraceError};

/// One recorded forward pass.
pub(super) struct Recording {
    /// In order of execution.
    pub(super) operations: Vec<OperationIr>,
    /// Every tensor that was given and not computed: inputs, parameters, constants.
    pub(super) values: BTreeMap<TensorId, TensorData>,
    pub(super) inputs: Vec<TensorId>,
    /// `None` for a tensor that does not come from the recorded pass.
    pub(super) outputs: Vec<Option<TensorId>>,
    pub(super) held: Vec<Held>,
    /// How the pass ended before its end, if it did.
    pub(super) panicked: Option<Panicked>,
}

/// Records `forward` of a copy of the model. The model must be one that nobody else holds parts of: burn moves running statistics in place.
pub(super) fn record<M, I, O>(
    model: &M,
    sample: I,
    forward: impl Fn(&M, I) -> O,
) -> Result<Recording, TraceError>
where
    M: Module,
    I: Tensors,
    O: Tensors,
{
    let device = capture_device();
    let mut found = (Vec::new(), Vec::new(), Vec::new());
    let mut panicked = None;
    let captured = device.capture_scope(|scope| {
        let (inputs, outputs, parameters) = &mut found;
        let result = quietly(|| {
            let model = model.valid().to_device(&device);
            *parameters = held(&model);
            let mut moved = Move { device: device.clone(), ids: Vec::new() };
            let sample = sample.map(&mut moved);
            *inputs = moved.ids;
            let mut collect = Collect(Vec::new());
            // Outputs are kept until their ids are known, and the model until its last operation is recorded.
            drop(forward(&model, sample).map(&mut collect));
            *outputs = collect.0;
        });
        panicked = result.err();
        // Boundaries are our own business: burn would refuse an output that is named twice.
        scope.complete([], [])
    });
    let captured = captured.map_err(|error| TraceError::Capture { reason: error.to_string() })?;
    let (inputs, outputs, held) = found;
    Ok(Recording {
        operations: captured.graph.operations,
        values: captured.values,
        inputs,
        outputs,
        held,
        panicked,
    })
}

/// One for each thread: a process can have 65,536 of them, and one records any number of passes, though one at a time.
fn capture_device() -> Device {
    thread_local! {
        static DEVICE: OnceCell<Device> = const { OnceCell::new() };
    }
    DEVICE.with(|device| device.get_or_init(Device::capture).clone())
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
