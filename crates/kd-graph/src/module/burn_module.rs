//! burn's `Module` trait: the original paths come out, so records are those of the traced struct.

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

use super::GraphModule;
use super::graph_module::WeightPath;
use super::weight::Weight;

impl WeightPath {
    /// Every segment with the container it lies in, from outside to inside.
    fn levels(&self) -> impl DoubleEndedIterator<Item = (&str, &'static str)> {
        let last = self.segments.len().saturating_sub(1);
        self.segments.iter().enumerate().map(move |(index, segment)| {
            let container = match segment.parse::<usize>() {
                _ if index == last => self.container,
                Ok(_) => "Vec",
                Err(_) => "Struct",
            };
            (segment.as_str(), container)
        })
    }

    fn enter(&self, mut enter: impl FnMut(&str, &str)) {
        self.levels().for_each(|(segment, container)| enter(segment, container));
    }

    fn exit(&self, mut exit: impl FnMut(&str, &str)) {
        self.levels().rev().for_each(|(segment, container)| exit(segment, container));
    }
}

impl GraphModule {
    fn map_weights(mut self, f: impl FnMut(Weight) -> Weight) -> Self {
        self.weights = self.weights.into_iter().map(f).collect();
        self
    }

    /// The module's own device follows its weights; a module without any stays where it was put.
    fn on(mut self, device: &Device) -> Self {
        let inner = device.clone().without_autodiff();
        self.constants = self.constants.iter().map(|value| value.to_device(&inner)).collect();
        self.device = device.clone().with_autodiff_context_from(&self.device);
        self
    }
}

impl Module for GraphModule {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.weights.iter().fold(devices, |devices, weight| weight.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.map_weights(|weight| weight.fork(device)).on(device)
    }

    fn to_device(self, device: &Device) -> Self {
        self.map_weights(|weight| weight.moved_to(device)).on(device)
    }

    fn train(mut self) -> Self {
        self.flags = self.flags.into_iter().map(Module::train).collect();
        self.device = if self.device.is_autodiff() { self.device } else { self.device.autodiff() };
        self.map_weights(Weight::train)
    }

    fn valid(&self) -> Self {
        Self {
            weights: self.weights.iter().map(Weight::valid).collect(),
            flags: self.flags.iter().map(Module::valid).collect(),
            device: self.device.clone().without_autodiff(),
            ..self.clone()
        }
    }

    fn materialize(self) -> Self {
        self.map_weights(Weight::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (weight, paths) in self.weights.iter().zip(self.paths.iter()) {
            for path in paths {
                path.enter(|segment, container| visitor.enter_module(segment, container));
                weight.visit(visitor);
                path.exit(|segment, container| visitor.exit_module(segment, container));
            }
        }
        for (flag, path) in self.flags.iter().zip(self.flag_paths.iter()) {
            path.enter(|segment, container| visitor.enter_module(segment, container));
            flag.visit(visitor);
            path.exit(|segment, container| visitor.exit_module(segment, container));
        }
    }

    /// A tied parameter is mapped under its first path; under the others a mapper sees a copy and its result is dropped, so that the
    /// tie holds.
    fn map<M: ModuleMapper>(mut self, mapper: &mut M) -> Self {
        let mut map = |weight: Weight, path: &WeightPath| {
            path.enter(|segment, container| mapper.enter_module(segment, container));
            let weight = weight.map(mapper);
            path.exit(|segment, container| mapper.exit_module(segment, container));
            weight
        };
        let weights = std::mem::take(&mut self.weights).into_iter().zip(self.paths.iter());
        self.weights = weights
            .map(|(weight, paths)| match paths.as_slice() {
                [] => weight,
                [first, aliases @ ..] => {
                    let mapped = map(weight, first);
                    for alias in aliases {
                        map(mapped.clone(), alias);
                    }
                    mapped
                }
            })
            .collect();
        let flags = std::mem::take(&mut self.flags).into_iter().zip(self.flag_paths.iter());
        self.flags = flags
            .map(|(flag, path)| {
                path.enter(|segment, container| mapper.enter_module(segment, container));
                let flag = Module::map(flag, mapper);
                path.exit(|segment, container| mapper.exit_module(segment, container));
                flag
            })
            .collect();
        self
    }
}

impl ModuleDisplayDefault for GraphModule {
    fn content(&self, content: Content) -> Option<Content> {
        let content = content.set_top_level_type("GraphModule");
        content.add("nodes", &self.graph.len()).add("parameters", &self.weights.len()).optional()
    }
}

impl ModuleDisplay for GraphModule {}
