//! What computes the layers, and the plan that goes with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::Plan;
use super::{GraphModule, Value, chain};
use crate::NodeId;

/// What computes a graph's layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Our own kernels where the device has them (flex, in single precision), a whole chain of layers in one call; burn's operations elsewhere. Results
    /// agree with burn's to about 1e-5.
    #[default]
    Kernels,
    /// burn's operations everywhere: the results of the traced model, bit for bit.
    Burn,
}

/// Plans with chains, by the nodes that had to stay visible in them.
pub(super) type Fused = Arc<Mutex<HashMap<Vec<NodeId>, Arc<Plan>>>>;

impl GraphModule {
    /// The same module with another engine.
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// # use kd_graph::{Activation, Graph, GraphModule, Op, Shape, TensorType};
    /// use kd_graph::Engine;
    /// # let mut graph = Graph::new();
    /// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
    /// # let relu = graph.add("relu", Op::Activation(Activation::Relu), &[x])?;
    /// # graph.set_outputs(&[relu])?;
    /// # let device = Device::flex();
    /// let module = GraphModule::new(graph, &device)?.with_engine(Engine::Burn);
    /// assert_eq!(module.engine(), Engine::Burn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// What computes the layers.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Gradient checkpointing on our kernels: with `true`, the result of a convolution in front of a batch norm is not kept for the backward pass but
    /// computed again, which saves about half of the activations' memory for one more forward pass of those convolutions. Off by default.
    #[must_use]
    pub fn with_recompute(mut self, recompute: bool) -> Self {
        self.recompute = recompute;
        self
    }

    /// The plan to run when the results of `kept` have to be seen, or of all nodes.
    pub(super) fn plan_for(&self, kept: Option<&[NodeId]>, inputs: &[Value]) -> Arc<Plan> {
        let Some(kept) = kept else { return self.plan.clone() };
        let supported = chain::supported(&self.device) && chain::single(inputs);
        if self.engine == Engine::Burn || !supported {
            return self.plan.clone();
        }
        let mut fused = self.fused.lock().unwrap_or_else(PoisonError::into_inner);
        let build = || match chain::leaves_single(&self.graph) {
            true => self.plan.clone(),
            false => Arc::new(self.plan.fused(&self.graph, &kept.iter().copied().collect())),
        };
        match fused.get(kept) {
            Some(plan) => plan.clone(),
            None => fused.entry(kept.to_vec()).or_insert_with(build).clone(),
        }
    }
}
