//! Looks at every weight of a module by its path.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::Tensor;

/// Does something with a tensor of any rank.
pub(crate) trait See {
    fn see<const D: usize>(&mut self, path: &str, tensor: Tensor<D>);
}

/// Shows a module's float tensors, off the autodiff tape.
pub(crate) struct Weights<'a, S> {
    see: &'a mut S,
    path: Vec<String>,
}

impl<'a, S: See> Weights<'a, S> {
    pub(crate) fn new(see: &'a mut S) -> Self {
        Self { see, path: Vec::new() }
    }
}

impl<S: See> ModuleVisitor for Weights<'_, S> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
        self.see.see(&self.path.join("."), tensor);
    }
}
