//! Common subexpressions.

use std::collections::HashMap;

use super::Rewritten;
use crate::{Binary, Graph, GraphError, Node, NodeId, Op};

impl Graph {
    /// Computes once what is computed several times: nodes with the same operation on the same inputs become one, as do equal constants. The
    /// first in execution order stays.
    ///
    /// Dropout draws anew at every use, batch normalisation counts its uses in training and custom operations are unknown: they are left alone,
    /// and so are parameters.
    ///
    /// # Errors
    /// [`GraphError`] when the graph is inconsistent before.
    pub fn merge_common(&mut self) -> Result<Rewritten, GraphError> {
        let mut first: HashMap<String, NodeId> = HashMap::new();
        let mut stands_for: HashMap<NodeId, NodeId> = HashMap::new();
        let mut removed = Vec::new();
        for (id, node) in self.nodes() {
            let Some(key) = self.key(id, node, &stands_for) else { continue };
            match first.get(&key) {
                Some(&same) => {
                    stands_for.insert(id, same);
                    removed.push((id, same, node.name().to_owned()));
                }
                None => {
                    first.insert(key, id);
                }
            }
        }
        if !removed.is_empty() {
            self.edit(|edit| {
                removed.iter().try_for_each(|&(id, same, _)| edit.replace_uses(id, same))?;
                removed.iter().rev().try_for_each(|&(id, ..)| edit.remove(id))
            })?;
        }
        Ok(Rewritten { removed: removed.into_iter().map(|(.., name)| name).collect(), kept: Vec::new() })
    }

    /// Equal for nodes that compute the same.
    fn key(&self, id: NodeId, node: &Node, stands_for: &HashMap<NodeId, NodeId>) -> Option<String> {
        match node.op() {
            Op::Input | Op::Parameter { .. } | Op::Dropout { .. } | Op::BatchNorm(_) | Op::Custom { .. } => {
                None
            }
            Op::Constant => {
                let value = self.value(id)?;
                Some(format!("{:?} {} {:?}", value.dtype(), node.output(), value.as_bytes()))
            }
            op => {
                let mut inputs: Vec<_> =
                    node.inputs().iter().map(|input| stands_for.get(input).unwrap_or(input).0).collect();
                if commutes(op) {
                    inputs.sort_unstable();
                }
                Some(format!("{op:?} {inputs:?}"))
            }
        }
    }
}

fn commutes(op: &Op) -> bool {
    use Binary::*;
    matches!(op, Op::Binary(Add | Mul | Min | Max | Equal | NotEqual | And | Or | Xor))
}
