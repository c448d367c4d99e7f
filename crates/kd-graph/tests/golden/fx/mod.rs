//! From a symbolic trace to a graph. Weights are zeros: groups don't depend on them.

mod functions;
mod modules;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use kd_graph::{Graph, NodeId, Op, Role, Shape, TensorType};

use crate::case::{Case, Failure};
use crate::compare::Network;
use crate::steps::{Module, Step};
use crate::value::Value;

pub fn import(case: &Case, folder: &Path) -> Result<Network, Failure> {
    let modules = case.modules()?.into_iter().map(|module| (module.name.clone(), module)).collect();
    let mut importer = Importer { graph: Graph::new(), modules, values: BTreeMap::new() };
    for step in case.graph()? {
        let value = importer.step(case, folder, &step).map_err(|why| format!("`{}`: {why}", step.name))?;
        importer.values.insert(step.name, value);
    }
    importer.graph.validate().map_err(|error| error.to_string())?;
    let layers = importer.modules.into_iter().map(|(name, module)| (name, module.kind)).collect();
    Ok(Network { graph: importer.graph, layers })
}

struct Importer {
    graph: Graph,
    modules: BTreeMap<String, Module>,
    values: BTreeMap<String, Value>,
}

/// The arguments of a function.
struct Arguments {
    positional: Vec<Value>,
    named: BTreeMap<String, Value>,
}

impl Arguments {
    /// An argument by place or name.
    fn get(&self, place: usize, name: &str) -> Result<&Value, Failure> {
        self.optional(place, name).ok_or_else(|| format!("argument {place} (`{name}`) is missing"))
    }

    fn optional(&self, place: usize, name: &str) -> Option<&Value> {
        self.positional.get(place).or_else(|| self.named.get(name)).filter(|value| **value != Value::None)
    }

    /// All from a place on, as separate arguments or one list.
    fn rest(&self, place: usize) -> Vec<Value> {
        match self.positional.get(place) {
            Some(Value::List(values)) => values.clone(),
            _ => self.positional.iter().skip(place).cloned().collect(),
        }
    }
}

impl Importer {
    fn step(&mut self, case: &Case, folder: &Path, step: &Step) -> Result<Value, Failure> {
        let positional: Result<_, _> = step.args.iter().map(|text| self.argument(text)).collect();
        let named = step.kwargs.iter().map(|(key, text)| Ok((key.clone(), self.argument(text)?)));
        let arguments = Arguments { positional: positional?, named: named.collect::<Result<_, Failure>>()? };
        match step.op.as_str() {
            "placeholder" => {
                let shape = case.input(&step.target)?;
                let input = TensorType::float(Shape::batched(shape.iter().skip(1).copied()));
                self.graph.input(&step.name, input).map(Value::Tensor).map_err(|error| error.to_string())
            }
            "get_attr" => {
                Ok(Value::Tensor(self.parameter(&step.target, &case.weight(folder, &step.target)?)?))
            }
            "call_module" => self.module(&step.name, &step.target, &arguments),
            "call_function" | "call_method" => self.function(&step.name, &step.target, &arguments),
            "output" => {
                let outputs: Result<Vec<_>, _> =
                    arguments.get(0, "output")?.list().iter().map(Value::tensor).collect();
                self.graph.set_outputs(&outputs?).map_err(|error| error.to_string())?;
                Ok(Value::None)
            }
            other => Err(format!("steps of kind `{other}` are not known")),
        }
    }

    /// An argument in which names of earlier steps stand for their results.
    fn argument(&self, text: &str) -> Result<Value, Failure> {
        Ok(self.resolve(Value::parse(text)?))
    }

    fn resolve(&self, value: Value) -> Value {
        match value {
            Value::Name(name) => self.values.get(&name).cloned().unwrap_or(Value::Name(name)),
            Value::List(values) => Value::List(values.into_iter().map(|value| self.resolve(value)).collect()),
            other => other,
        }
    }

    /// A parameter, one for all its uses.
    fn parameter(&mut self, path: &str, sizes: &[usize]) -> Result<NodeId, Failure> {
        if let Ok(id) = self.graph.find(path) {
            return Ok(id);
        }
        let zeros = TensorData::zeros::<f32, _>(sizes.to_vec());
        self.graph.parameter(path, Role::Weight, zeros).map_err(|error| error.to_string())
    }

    fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId, Failure> {
        let name = self.graph.free_name(name);
        self.graph.add(&name, op, inputs).map_err(|error| error.to_string())
    }

    fn shape(&self, id: NodeId) -> Result<Shape, Failure> {
        Ok(self.graph.node(id).map_err(|error| error.to_string())?.output().shape.clone())
    }
}
