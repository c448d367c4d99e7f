//! Weights back into the user's struct.

use std::collections::HashSet;
use std::fmt;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Bool, Int, Tensor};

use super::{GraphModule, Value};

/// Not everything could be written back: what fits has been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} of the graph's weights do not fit the model ({written} were written): {}", unwritten.len(), list(unwritten))]
pub struct WriteBackError {
    /// How many were written.
    pub written: usize,
    /// What was not, in the graph's order.
    pub unwritten: Vec<Unwritten>,
}

/// A weight that was not written back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// Its path.
    pub path: String,
    /// Shape in the graph.
    pub graph: Vec<usize>,
    /// Shape in the model; `None` when the model has no such parameter, or one of another kind.
    pub model: Option<Vec<usize>>,
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            Some(model) => {
                write!(f, "`{}` is {:?} in the graph and {model:?} in the model", self.path, self.graph)
            }
            None => write!(f, "the model has no `{}`", self.path),
        }
    }
}

fn list(unwritten: &[Unwritten]) -> String {
    unwritten.iter().map(Unwritten::to_string).collect::<Vec<_>>().join("; ")
}

impl GraphModule {
    /// Writes weights and running statistics into a model by path. The model stays on its device, keeps the identities of its parameters
    /// and learns what it learned before.
    ///
    /// # Errors
    /// [`WriteBackError`] lists the weights that have another shape in the model (after pruning, say) or no place at all (after an edit);
    /// all others have been written.
    pub fn write_back<M: Module>(&self, model: &mut M) -> Result<(), WriteBackError> {
        let mut writer = Writer { module: self, path: Vec::new(), done: HashSet::new(), misfits: Vec::new() };
        *model = model.clone().map(&mut writer);
        let Writer { done, misfits, .. } = writer;
        let mut unwritten = Vec::new();
        for path in self.paths.iter().flatten().map(|path| path.joined()) {
            if done.contains(&path) {
                continue;
            }
            let model = misfits.iter().find(|(misfit, _)| *misfit == path).map(|(_, shape)| shape.clone());
            let graph = self.weight(&path).map_or_else(Vec::new, |value| value.shape());
            unwritten.push(Unwritten { path, graph, model });
        }
        if unwritten.is_empty() { Ok(()) } else { Err(WriteBackError { written: done.len(), unwritten }) }
    }
}

struct Writer<'a> {
    module: &'a GraphModule,
    path: Vec<String>,
    done: HashSet<String>,
    /// Paths whose shapes differ, with the model's.
    misfits: Vec<(String, Vec<usize>)>,
}

impl Writer<'_> {
    /// The graph's tensor of the current path, if it has the shape.
    fn take(&mut self, shape: Vec<usize>) -> Option<Value> {
        let path = self.path.join(".");
        let value = self.module.weight(&path)?;
        if value.shape() != shape {
            self.misfits.push((path, shape));
            return None;
        }
        self.done.insert(path);
        Some(value)
    }

    /// A tensor of another kind than the model's counts as missing.
    fn missing(&mut self) {
        self.done.remove(&self.path.join("."));
    }
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.take(param.lazy_shape().to_vec()) else { return param };
        let Ok(new) = value.float::<D>() else {
            self.missing();
            return param;
        };
        param.map(|old| {
            let new = new.without_autodiff().to_device(&old.device().without_autodiff());
            // A leaf again, or no gradient would reach it.
            if old.is_autodiff() { new.autodiff().set_require_grad(old.is_require_grad()) } else { new }
        })
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let Some(value) = self.take(param.lazy_shape().to_vec()) else { return param };
        let Ok(new) = value.int::<D>() else {
            self.missing();
            return param;
        };
        param.map(|old| new.to_device(&old.device()))
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        let Some(value) = self.take(param.lazy_shape().to_vec()) else { return param };
        let Ok(new) = value.bool::<D>() else {
            self.missing();
            return param;
        };
        param.map(|old| new.to_device(&old.device()))
    }
}
