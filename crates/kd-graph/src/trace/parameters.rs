//! What a module holds: parameters with their paths, and the layers that behave otherwise in training.

use std::collections::HashSet;

use burn::module::{Flag, Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, Int, Tensor};
use burn_capture::{CaptureBackend, TensorId};

use crate::Unseen;

/// A tensor of a module on the capture device.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) path: String,
    pub(super) id: ParamId,
    pub(super) tensor: TensorId,
}

/// All tensors of a module on the capture device, in the module's order.
pub(super) fn held<M: Module>(model: &M) -> Vec<Held> {
    let mut visitor = HeldVisitor::default();
    model.visit(&mut visitor);
    visitor.held
}

#[derive(Default)]
struct HeldVisitor {
    path: Vec<String>,
    held: Vec<Held>,
}

macro_rules! visit {
    ($name:ident, $kind:ty) => {
        fn $name<const D: usize>(&mut self, param: &Param<Tensor<D, $kind>>) {
            if let Ok(primitive) = param.val().try_into_primitive::<CaptureBackend>() {
                self.held.push(Held { path: self.path.join("."), id: param.id, tensor: primitive.id() });
            }
        }
    };
}

impl ModuleVisitor for HeldVisitor {
    visit!(visit_float, burn::tensor::Float);
    visit!(visit_int, Int);
    visit!(visit_bool, Bool);

    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
}

/// Paths of the parameters that an optimizer changes, and layers that a trace cannot show.
#[derive(Default)]
pub(super) struct Training {
    pub(super) learned: HashSet<String>,
    /// Every layer with a switch for training that is not a batch normalisation, nor a dropout that drops nothing.
    pub(super) unseen: Vec<Unseen>,
    switches: Vec<ParamId>,
    path: Vec<(String, String)>,
}

/// What of a module is learned, and what else happens in training.
pub(super) fn training<M: Module>(model: &M) -> Training {
    let mut visitor = Training::default();
    // Only in training form do parameters and switches show what they are set to.
    let model = model.valid().train();
    model.visit(&mut visitor);
    if !visitor.unseen.is_empty() {
        // A rate is no parameter: burn shows it to nobody else.
        let shown = format!("{model:?}");
        let idle =
            |switch: &ParamId| shown.contains(&format!("Dropout {{ prob: 0.0, training: Param: {switch} "));
        let layers = visitor.unseen.into_iter().zip(&visitor.switches);
        visitor.unseen = layers.filter(|(_, switch)| !idle(switch)).map(|(layer, _)| layer).collect();
    }
    visitor
}

impl Training {
    fn joined(&self, parts: usize) -> String {
        let names: Vec<_> = self.path.iter().take(parts).map(|(name, _)| name.as_str()).collect();
        names.join(".")
    }
}

impl ModuleVisitor for Training {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.learned.insert(self.joined(self.path.len()));
        }
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        let Some((_, container)) = self.path.last() else { return };
        let kind = container.strip_prefix("Struct:").unwrap_or(container).to_owned();
        if flag.val().is_enabled() && kind != "BatchNorm" {
            self.switches.push(flag.id);
            self.unseen.push(Unseen { path: self.joined(self.path.len() - 1), kind });
        }
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
}
