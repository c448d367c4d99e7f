//! Looks at every weight of a module by its path.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use kd_train::TensorMap;

use crate::{Array, Arrays, PruneError};

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

/// The tensors of these paths, on the host.
///
/// # Errors
/// [`PruneError::Missing`] for one that the module doesn't have.
pub(crate) fn weights_of<'a, M: Module>(
    module: &M,
    paths: impl IntoIterator<Item = &'a String>,
) -> Result<Arrays, PruneError> {
    let wanted: Vec<&String> = paths.into_iter().collect();
    let mut collect = Collect::new("", |path| wanted.iter().any(|wanted| *wanted == path));
    module.visit(&mut Weights::new(&mut collect));
    let found = collect.found?;
    if let Some(path) = wanted.iter().find(|path| !found.contains_key(**path)) {
        let mut names = Names(Vec::new());
        module.visit(&mut Weights::new(&mut names));
        return Err(PruneError::Missing { what: "weight", parameter: (*path).clone(), known: names.0 });
    }
    Ok(found)
}

struct Names(Vec<String>);

impl See for Names {
    fn see<const D: usize>(&mut self, path: &str, _tensor: Tensor<D>) {
        self.0.push(path.to_owned());
    }
}

/// Copies tensors to the host: of weights as [`See`], of gradients as [`TensorMap`].
pub(crate) struct Collect<W> {
    prefix: &'static str,
    wanted: W,
    /// By path, without the prefix.
    pub(crate) found: Result<Arrays, PruneError>,
}

impl<W: Fn(&str) -> bool> Collect<W> {
    /// Of the paths that begin with `prefix` and are wanted without it.
    pub(crate) fn new(prefix: &'static str, wanted: W) -> Self {
        Self { prefix, wanted, found: Ok(Arrays::new()) }
    }
}

impl<W: Fn(&str) -> bool> See for Collect<W> {
    fn see<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) {
        let Some(path) = path.strip_prefix(self.prefix).filter(|path| (self.wanted)(path)) else { return };
        match (Array::from_data(&tensor.into_data()), &mut self.found) {
            (Ok(array), Ok(found)) => {
                found.insert(path.to_owned(), array);
            }
            (Err(error), Ok(_)) => self.found = Err(error),
            _ => {}
        }
    }
}

impl<W: Fn(&str) -> bool> TensorMap for Collect<W> {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        self.see(path, tensor.clone());
        tensor
    }
}
