//! The executor.

use std::sync::Arc;

use burn::backend::{DeviceSettings, Dispatch, DispatchDevice, TensorMetadata, get_or_init_device_settings};
use burn::tensor::Tensor;

use super::ops::Args;
use super::plan::{Arg, Plan, Step, Work};
use super::{GraphModule, RunError, Value, batch_norm, chain, dropout, ops};
use crate::kernels::on_pool;
use crate::{Dim, NodeId};

/// What holds for a whole run.
pub(super) struct Context {
    /// Where new tensors are made.
    pub device: DispatchDevice,
    /// The device's precisions.
    pub settings: DeviceSettings,
    /// The batch size.
    pub batch: usize,
}

/// Called with every result as it is made.
type Observer<'a> = Option<&'a mut dyn FnMut(NodeId, &Value)>;

impl GraphModule {
    /// Runs the graph: inputs in, results out, both in the graph's order.
    ///
    /// On an autodiff device it trains as burn's layers do: batch norm takes the batch's statistics and updates the running ones, dropout
    /// drops. On any other device, and after `valid()`, it evaluates.
    ///
    /// # Errors
    /// [`RunError`] for inputs of another number, kind, shape or device, and for a batch norm that can't be trained.
    pub fn run(&self, inputs: Vec<Value>) -> Result<Vec<Value>, RunError> {
        let plan = self.plan_for(Some(&[]), &inputs);
        // burn keeps the tape by thread, so that a training pass stays on the caller's.
        if Arc::ptr_eq(&plan, &self.plan) || inputs.iter().any(Value::is_autodiff) {
            return self.execute(inputs, &plan, None);
        }
        on_pool(|| self.execute(inputs, &plan, None))
    }

    /// As [`run`](Self::run), and calls `observe` with every node's result as soon as it is there: inputs, then operations in
    /// execution order. Parameters and constants are not shown.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_observed(
        &self,
        inputs: Vec<Value>,
        mut observe: impl FnMut(NodeId, &Value),
    ) -> Result<Vec<Value>, RunError> {
        let plan = self.plan_for(None, &inputs);
        self.execute(inputs, &plan, Some(&mut observe))
    }

    /// As [`run`](Self::run), and hands out the results of some nodes, in the order asked for. Any node can be tapped, also parameters
    /// and constants.
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// # use kd_graph::{Activation, Graph, GraphModule, Op, Shape, TensorType, Unary, Value};
    /// # let mut graph = Graph::new();
    /// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
    /// # let relu = graph.add("relu", Op::Activation(Activation::Relu), &[x])?;
    /// # let exp = graph.add("exp", Op::Unary(Unary::Exp), &[relu])?;
    /// # graph.set_outputs(&[exp])?;
    /// # let device = Device::flex();
    /// let module = GraphModule::new(graph, &device)?;
    /// let relu = module.graph().find("relu")?;
    /// let x = Value::from(Tensor::<2>::from_data([[-1.0, 2.0]], &device));
    /// let (results, taps) = module.run_tapped(vec![x], &[relu])?;
    /// assert_eq!(taps[0].float::<2>()?.into_data().try_to_vec::<f32>().unwrap(), [0.0, 2.0]);
    /// assert_eq!(results.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run), and [`RunError::Graph`] for a node of another graph.
    pub fn run_tapped(
        &self,
        inputs: Vec<Value>,
        taps: &[NodeId],
    ) -> Result<(Vec<Value>, Vec<Value>), RunError> {
        for &tap in taps {
            self.graph.node(tap)?;
        }
        let held = |node: &NodeId| match self.plan.places.get(node)? {
            Arg::Slot { .. } => None,
            Arg::Weight(index) => Some(self.weights.get(*index)?.value()),
            Arg::Constant(index) => self.constants.get(*index).cloned(),
        };
        let mut values: Vec<Option<Value>> = taps.iter().map(held).collect();
        let mut keep = |node, value: &Value| {
            for (slot, _) in values.iter_mut().zip(taps).filter(|(_, tap)| **tap == node) {
                *slot = Some(value.clone());
            }
        };
        let plan = self.plan_for(Some(taps), &inputs);
        let outputs = self.execute(inputs, &plan, Some(&mut keep))?;
        let named = values
            .into_iter()
            .zip(taps)
            .map(|(value, &id)| value.ok_or(RunError::Graph(crate::GraphError::UnknownNode { id })));
        Ok((outputs, named.collect::<Result<_, _>>()?))
    }

    /// Runs a graph of one float input and takes its first result.
    ///
    /// # Errors
    /// As [`run`](Self::run), and [`RunError::Output`] when the result has another rank.
    pub fn forward<const I: usize, const O: usize>(&self, input: Tensor<I>) -> Result<Tensor<O>, RunError> {
        let outputs = self.run(vec![input.into()])?;
        let first = outputs.first().ok_or_else(|| RunError::Op {
            node: "output".to_owned(),
            reason: "the graph has no results; name some with `Graph::set_outputs`".to_owned(),
        })?;
        first.float().map_err(|source| RunError::Output { index: 0, source })
    }

    fn execute(
        &self,
        inputs: Vec<Value>,
        plan: &Plan,
        mut observe: Observer,
    ) -> Result<Vec<Value>, RunError> {
        let context = self.context(&inputs)?;
        let mut slots: Vec<Option<Value>> = vec![None; plan.slots];
        for ((slot, value), input) in slots.iter_mut().zip(inputs).zip(&plan.inputs) {
            if let Some(observe) = &mut observe {
                observe(input.node, &value);
            }
            *slot = Some(value);
        }
        for step in &plan.steps {
            let value = self.call(step, &mut slots, &context)?;
            if let Some(observe) = &mut observe {
                observe(step.node, &value);
            }
            if let Some(slot) = step.result.and_then(|index| slots.get_mut(index)) {
                *slot = Some(value);
            }
        }
        let outputs = plan.outputs.iter().filter_map(|arg| self.fetch(*arg, &mut slots));
        Ok(outputs.collect())
    }

    fn call(&self, step: &Step, slots: &mut [Option<Value>], context: &Context) -> Result<Value, RunError> {
        let fetch = |arg: &Arg| match (&step.work, *arg) {
            // A batch norm's statistics with their last update: a kernel that reads them computes the same in a resumed run.
            (Work::Custom { .. }, Arg::Weight(index)) => {
                self.weights.get(index).map(|weight| weight.settled())
            }
            (_, arg) => self.fetch(arg, slots),
        };
        let args: Vec<Value> = step.args.iter().filter_map(fetch).collect();
        let wrong = |reason| RunError::Op { node: step.name.clone(), reason };
        match &step.work {
            Work::Op(op) => ops::run(op, Args::new(args), context).map_err(wrong),
            Work::BatchNorm(norm) => batch_norm::run(self, norm, Args::new(args), &step.name),
            Work::Dropout { rate, flag } => {
                dropout::run(*rate, self.is_training(*flag), Args::new(args)).map_err(wrong)
            }
            Work::Chain(chain) => chain::run(self, chain, Args::new(args), &step.name),
            Work::Custom { kernel, attributes, flag } => {
                let training =
                    flag.is_some_and(|flag| self.is_training(flag)) && args.iter().any(Value::is_autodiff);
                let result =
                    if training { kernel.train(args, attributes) } else { kernel.run(args, attributes) };
                result.map_err(wrong)
            }
        }
    }

    /// An argument; the last use of a slot empties it, so that activations are freed as early as in a hand-written forward pass.
    fn fetch(&self, arg: Arg, slots: &mut [Option<Value>]) -> Option<Value> {
        match arg {
            Arg::Slot { index, last: true } => slots.get_mut(index)?.take(),
            Arg::Slot { index, last: false } => slots.get(index)?.clone(),
            Arg::Weight(index) => self.weights.get(index).map(|weight| weight.value()),
            Arg::Constant(index) => self.constants.get(index).cloned(),
        }
    }

    /// Checks the inputs against their types and finds the batch size.
    fn context(&self, inputs: &[Value]) -> Result<Context, RunError> {
        if inputs.len() != self.plan.inputs.len() {
            return Err(RunError::Inputs {
                wanted: self.plan.inputs.len(),
                names: self.plan.inputs.iter().map(|input| input.name.clone()).collect(),
                got: inputs.len(),
            });
        }
        let mut batch: Option<(usize, &str)> = None;
        for (value, input) in inputs.iter().zip(&self.plan.inputs) {
            let shape = value.primitive().shape();
            let wrong = || RunError::Input {
                input: input.name.clone(),
                wanted: format!("{} {}", input.ty.kind, input.ty.shape),
                got_kind: value.kind(),
                got: value.shape(),
            };
            if value.kind() != input.ty.kind || shape.len() != input.ty.shape.rank() {
                return Err(wrong());
            }
            for (&size, &dim) in shape.iter().zip(input.ty.shape.dims()) {
                let got = match dim {
                    Dim::Fixed(fixed) if fixed == size => continue,
                    Dim::Batch(times) if size > 0 && size % times == 0 => size / times,
                    _ => return Err(wrong()),
                };
                match batch {
                    Some((expected, other)) if expected != got => {
                        let (input, other) = (input.name.clone(), other.to_owned());
                        return Err(RunError::Batch { input, got, other, expected });
                    }
                    _ => batch = Some((got, &input.name)),
                }
            }
            if value.device() != self.device {
                let (got, wanted) = (format!("{:?}", value.device()), format!("{:?}", self.device));
                return Err(RunError::Device { input: input.name.clone(), got, wanted });
            }
        }
        let tracked = inputs.iter().find(|value| value.is_autodiff()).or(inputs.first());
        let device = tracked.map_or_else(|| self.device.as_dispatch().clone(), |v| v.primitive().device());
        let settings = get_or_init_device_settings::<Dispatch>(&device);
        Ok(Context { device, settings, batch: batch.map_or(1, |(batch, _)| batch) })
    }
}
