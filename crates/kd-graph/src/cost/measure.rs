//! Measured time of every node.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::{DType, TensorData};

use crate::{Graph, GraphModule, Kind, NodeId, RunError, Value};

impl GraphModule {
    /// Times every node on the module's device, in evaluation: the median of some passes, after one that warms up. Enter them into a
    /// [`Cost`](crate::Cost) by [`with_times`](crate::Cost::with_times).
    ///
    /// Inputs are made up: waves for floats, zeros for integers, false for truth values. The device is waited for after every node, so that on a
    /// device that works by itself the sum is more than the time of a pass.
    ///
    /// Nothing else should be running meanwhile: other work stretches nodes that take longer than a scheduler's time slice and leaves short ones
    /// alone, so that on a busy machine not only the times are wrong but also their proportions.
    ///
    /// ```
    /// # use burn::tensor::{Device, TensorData};
    /// # use kd_graph::{Graph, GraphModule, Op, Role, Shape, TensorType};
    /// # let mut graph = Graph::new();
    /// # let x = graph.input("x", TensorType::float(Shape::batched([4])))?;
    /// # let weight = graph.parameter("fc.weight", Role::Weight, TensorData::zeros::<f32, _>([4, 2]))?;
    /// # let fc = graph.add("fc", Op::Linear, &[x, weight])?;
    /// # graph.set_outputs(&[fc])?;
    /// let times = GraphModule::new(graph.clone(), &Device::flex())?.time_nodes(8, 5)?;
    /// let cost = graph.cost(8)?.with_times(&times);
    /// assert!(cost.nodes[0].milliseconds.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`GraphModule::run`], and [`RunError::Op`] when the device fails.
    pub fn time_nodes(&self, batch: usize, passes: usize) -> Result<BTreeMap<NodeId, Duration>, RunError> {
        let module = self.valid();
        let device = module.device().clone();
        let inputs: Vec<_> =
            made_up(module.graph(), batch).into_iter().map(|data| Value::from_data(data, &device)).collect();
        let mut times: BTreeMap<NodeId, Vec<Duration>> = BTreeMap::new();
        for pass in 0..=passes.max(1) {
            let mut failure = None;
            let mut last = Instant::now();
            module.run_observed(inputs.clone(), |id, _| {
                failure = device.sync().err().map(|error| error.to_string()).or(failure.take());
                if pass > 0 {
                    times.entry(id).or_default().push(last.elapsed());
                }
                last = Instant::now();
            })?;
            if let Some(reason) = failure {
                return Err(RunError::Op { node: "timing".to_owned(), reason });
            }
        }
        // Inputs take no time: they are there.
        Ok(times
            .into_iter()
            .filter(|(id, _)| !module.graph().inputs().contains(id))
            .filter_map(|(id, mut times)| {
                times.sort_unstable();
                Some((id, *times.get(times.len() / 2)?))
            })
            .collect())
    }
}

impl GraphModule {
    /// Times a whole pass in evaluation, as it runs when nobody looks inside: the median of some passes, after one that warms up. Inputs are made up
    /// and the machine should be at rest, as in [`time_nodes`](Self::time_nodes).
    ///
    /// # Errors
    /// As [`time_nodes`](Self::time_nodes).
    pub fn time_pass(&self, batch: usize, passes: usize) -> Result<Duration, RunError> {
        let module = self.valid();
        let device = module.device().clone();
        let inputs: Vec<_> =
            made_up(module.graph(), batch).into_iter().map(|data| Value::from_data(data, &device)).collect();
        let mut times = Vec::with_capacity(passes);
        for pass in 0..=passes.max(1) {
            let started = Instant::now();
            module.run(inputs.clone())?;
            device
                .sync()
                .map_err(|error| RunError::Op { node: "timing".to_owned(), reason: error.to_string() })?;
            if pass > 0 {
                times.push(started.elapsed());
            }
        }
        times.sort_unstable();
        Ok(times.get(times.len() / 2).copied().unwrap_or_default())
    }
}

fn made_up(graph: &Graph, batch: usize) -> Vec<TensorData> {
    let inputs = graph.inputs().iter().filter_map(|&id| graph.node(id).ok());
    let data = inputs.map(|node| {
        let shape = node.output().shape.at(batch);
        match node.output().kind {
            // Neither constant nor denormal: both can be faster or slower than what networks see.
            Kind::Float => {
                let wave = (0..shape.iter().product()).map(|i: usize| (i as f32 * 0.618).sin());
                TensorData::new(wave.collect(), shape)
            }
            Kind::Int => TensorData::zeros::<i64, _>(shape),
            Kind::Bool => TensorData::full_dtype(shape, false, DType::Bool(burn::tensor::BoolStore::Native)),
        }
    });
    data.collect()
}
