//! An integer network where a network is expected.

use std::fmt;
use std::marker::PhantomData;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;
use kd_core::{Network, Taps};
use kd_graph::{RunError, Tensors, Value};

use super::IntegerNetwork;

/// Taps are not offered: most results never exist. [`agreement`](IntegerNetwork::agreement) looks inside.
impl<I: Tensors + 'static> Network for IntegerNetwork<I> {
    type Input = I;
    type Output = Result<Vec<Value>, RunError>;

    fn forward(&self, input: I, _taps: &mut Taps) -> Self::Output {
        IntegerNetwork::run(self, Value::all(input))
    }

    fn macs(&self) -> Option<u64> {
        self.shared.macs
    }
}

impl<I> Clone for IntegerNetwork<I> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            steps: self.steps.clone(),
            constants: self.constants.clone(),
            device: self.device.clone(),
            input: PhantomData,
        }
    }
}

impl<I> fmt::Debug for IntegerNetwork<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
        f.debug_struct("IntegerNetwork").field("steps", &names).field("float", &self.shared.float).finish()
    }
}

// By hand: what it holds is no parameter.
impl<I> Module for IntegerNetwork<I> {
    fn collect_devices(&self, mut devices: Devices) -> Devices {
        if !devices.contains(&self.device) {
            devices.push(self.device.clone());
        }
        devices
    }

    fn fork(self, device: &Device) -> Self {
        Module::to_device(self, device)
    }

    fn to_device(self, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let moved = self.steps.into_iter().map(|mut step| {
            step.work = step.work.moved_to(&device);
            step
        });
        Self { steps: moved.collect(), device, ..self }
    }

    fn train(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn materialize(self) -> Self {
        self
    }

    fn visit<V: ModuleVisitor>(&self, _visitor: &mut V) {}

    fn map<M: ModuleMapper>(self, _mapper: &mut M) -> Self {
        self
    }
}

impl<I> ModuleDisplayDefault for IntegerNetwork<I> {
    fn content(&self, content: Content) -> Option<Content> {
        Some(content)
    }
}

impl<I> ModuleDisplay for IntegerNetwork<I> {}
