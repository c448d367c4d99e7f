//! Nodes that no output needs.

use std::collections::HashSet;

use super::Rewritten;
use crate::{Graph, GraphError, Op};

impl Graph {
    /// Removes the nodes from which no output can be reached. Inputs stay: they are the graph's signature.
    ///
    /// # Errors
    /// [`GraphError`] when the graph is inconsistent before.
    pub fn remove_dead(&mut self) -> Result<Rewritten, GraphError> {
        let mut alive: HashSet<_> = self.outputs.iter().copied().collect();
        for (id, node) in self.nodes().rev() {
            if alive.contains(&id) {
                alive.extend(node.inputs());
            }
        }
        let dead: Vec<_> = self
            .nodes()
            .filter(|(id, node)| !alive.contains(id) && *node.op() != Op::Input)
            .map(|(id, node)| (id, node.name().to_owned()))
            .collect();
        if !dead.is_empty() {
            // Readers first, so that nothing removed is still read.
            self.edit(|edit| dead.iter().rev().try_for_each(|(id, _)| edit.remove(*id)))?;
        }
        Ok(Rewritten { removed: dead.into_iter().map(|(_, name)| name).collect(), kept: Vec::new() })
    }
}
