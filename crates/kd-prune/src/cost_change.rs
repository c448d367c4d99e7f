//! What a plan saves.

use std::fmt;

use kd_graph::{Cost, Graph};

use crate::{PruneError, PrunePlan};

/// What a network costs before and after.
///
/// ```
/// # use burn::tensor::TensorData;
/// # use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// # use kd_prune::PrunePlan;
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// # let first = graph.parameter("first", Role::Weight, TensorData::ones::<f32, _>([2, 4]))?;
/// # let second = graph.parameter("second", Role::Weight, TensorData::ones::<f32, _>([4, 3]))?;
/// # let hidden = graph.add("hidden", Op::Linear, &[x, first])?;
/// # let logits = graph.add("logits", Op::Linear, &[hidden, second])?;
/// # graph.set_outputs(&[logits])?;
/// # let group = graph.dependencies().groups_of("first", 1)?[0].clone();
/// let plan = PrunePlan::new(&graph, [group.position(1), group.position(3)])?;
/// let change = plan.cost(&graph)?;
/// assert_eq!(change.to_string(), "macs 20 -> 10 (-50.0 %), parameters 20 -> 10 (-50.0 %), bytes 80 -> 40 (-50.0 %)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CostChange {
    /// Of the network as it was, for one sample.
    pub before: Cost,
    /// Of what is left.
    pub after: Cost,
}

impl CostChange {
    /// From one network to another.
    ///
    /// # Errors
    /// [`PruneError::Graph`] when a network can't be counted.
    pub fn between(before: &Graph, after: &Graph) -> Result<Self, PruneError> {
        Ok(Self { before: before.cost(1)?, after: after.cost(1)? })
    }
}

impl PrunePlan {
    /// What applying the plan saves.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn cost(&self, graph: &Graph) -> Result<CostChange, PruneError> {
        CostChange::between(graph, &self.apply(graph)?)
    }
}

impl fmt::Display for CostChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after } = self;
        let quantities = [
            ("macs", before.macs, after.macs),
            ("parameters", before.parameters, after.parameters),
            ("bytes", before.weight_bytes, after.weight_bytes),
        ];
        for (index, (name, before, after)) in quantities.into_iter().enumerate() {
            let percent = 100.0 * (after as f64 / before.max(1) as f64 - 1.0);
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{name} {before} -> {after} ({percent:+.1} %)")?;
        }
        Ok(())
    }
}
