//! Operations that change nothing.

use std::collections::BTreeSet;

use super::Rewritten;
use crate::{Binary, Dim, Graph, GraphError, NodeId, Op, TensorType};

impl Graph {
    /// Removes operations whose result is their input: a reshape to the same shape, a slice of everything, a permutation that moves nothing,
    /// `x * 1`, `x + 0`, a border of no elements, a dropout of rate 0 and the like; of two reshapes in a row the first.
    ///
    /// # Errors
    /// [`GraphError`] when the graph is inconsistent before.
    pub fn remove_identities(&mut self) -> Result<Rewritten, GraphError> {
        let mut rewritten = self.merge_reshapes()?;
        rewritten.removed.extend(self.bypass(is_identity)?.removed);
        Ok(rewritten)
    }

    /// Removes every dropout, for a graph that is not trained any more: in evaluation it does nothing.
    ///
    /// # Errors
    /// [`GraphError`] when the graph is inconsistent before.
    pub fn remove_dropout(&mut self) -> Result<Rewritten, GraphError> {
        self.bypass(|op, _, _| matches!(op, Op::Dropout { .. }))
    }

    /// Removes the nodes for which the condition on operation, first input and result holds; their readers read their first inputs.
    fn bypass(&mut self, holds: fn(&Op, &TensorType, &TensorType) -> bool) -> Result<Rewritten, GraphError> {
        let found: Vec<(NodeId, String)> = self
            .nodes()
            .filter_map(|(id, node)| {
                let input = self.node(*node.inputs().first()?).ok()?;
                holds(node.op(), input.output(), node.output()).then(|| (id, node.name().to_owned()))
            })
            .collect();
        if !found.is_empty() {
            self.edit(|edit| found.iter().try_for_each(|(id, _)| edit.remove(*id)))?;
        }
        Ok(Rewritten { removed: found.into_iter().map(|(_, name)| name).collect(), kept: Vec::new() })
    }

    /// A reshape of reshapes reads what the first of them read; those that nothing reads any more are removed.
    fn merge_reshapes(&mut self) -> Result<Rewritten, GraphError> {
        let inner = |id| match self.nodes.get(&id) {
            Some(node) if matches!(node.op(), Op::Reshape { .. }) => node.inputs().first().copied(),
            _ => None,
        };
        let mut rewired = Vec::new();
        let mut passed = BTreeSet::new();
        for (id, _) in self.nodes() {
            let Some(mut source) = inner(id) else { continue };
            while let Some(further) = inner(source) {
                passed.insert(source);
                source = further;
            }
            rewired.push((id, source));
        }
        let mut removed = Vec::new();
        if !passed.is_empty() {
            self.edit(|edit| {
                rewired.iter().try_for_each(|&(id, source)| edit.rewire(id, 0, source))?;
                for id in passed {
                    let graph = edit.graph();
                    let unread = graph.users(id).next().is_none() && !graph.outputs().contains(&id);
                    if unread {
                        removed.push(graph.node(id)?.name().to_owned());
                        edit.remove(id)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(Rewritten { removed, kept: Vec::new() })
    }
}

fn is_identity(op: &Op, input: &TensorType, output: &TensorType) -> bool {
    if input != output {
        return false;
    }
    match op {
        Op::Reshape { .. } | Op::Expand { .. } | Op::Repeat { .. } | Op::Pad { .. } | Op::Cat { .. } => true,
        Op::Slice { ranges } => {
            ranges.iter().zip(input.shape.dims()).all(|(range, &size)| range.is_all(size))
        }
        Op::Permute { axes } => axes.iter().copied().eq(0..axes.len()),
        Op::Flip { axes } => axes.iter().all(|&axis| input.shape.dim(axis) == Some(Dim::Fixed(1))),
        Op::Dropout { rate } => *rate == 0.0,
        Op::Literal { op: Binary::Mul | Binary::Div | Binary::Pow, value } => value.as_f64() == 1.0,
        Op::Literal { op: Binary::Add | Binary::Sub, value } => value.as_f64() == 0.0,
        _ => false,
    }
}
