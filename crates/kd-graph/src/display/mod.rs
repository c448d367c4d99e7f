//! Graphs for people: a table, DOT, a picture.

mod describe;
mod dot;
mod grid;
mod picture;
mod svg;
#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use grid::{Align, Column, table};

use crate::{Graph, Node, NodeId};

impl fmt::Display for Graph {
    /// One line a node that computes or is given, in execution order; parameters stand in the lines of the nodes that read them. Below, the
    /// outputs, and the layers that training with the graph would miss.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns =
            ["node", "operation", "reads", "output", "parameters"].map(|title| Column(title, Align::Left));
        let rows = self.shown().map(|(_, node)| {
            let reads = node.inputs().iter().filter(|&&id| !self.hidden(id)).map(|&id| self.label(id));
            let parameters =
                node.inputs().iter().filter(|&&id| self.hidden(id)).map(|&id| self.tensor(node, id));
            vec![
                node.name().to_owned(),
                self.describe(node),
                reads.collect::<Vec<_>>().join(", "),
                node.output().to_string(),
                parameters.collect::<Vec<_>>().join(", "),
            ]
        });
        writeln!(f, "{}", table(&columns, rows))?;
        let outputs: Vec<_> = self.outputs().iter().map(|&id| self.label(id)).collect();
        write!(f, "outputs: {}", outputs.join(", "))?;
        if self.unseen().is_empty() {
            return Ok(());
        }
        let layers: Vec<_> = self.unseen().iter().map(ToString::to_string).collect();
        write!(f, "\nnot here, for they act in training only: {}", layers.join(", "))
    }
}

impl Graph {
    /// The nodes that get a line or box of their own.
    fn shown(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes().filter(|(id, _)| !self.hidden(*id))
    }

    /// Parameters and constants are shown with the nodes that read them, unless they are results.
    fn hidden(&self, id: NodeId) -> bool {
        let held = self.node(id).is_ok_and(|node| node.op().holds_tensor());
        held && !self.outputs().contains(&id)
    }

    fn label(&self, id: NodeId) -> String {
        self.node(id).map_or_else(|_| "?".to_owned(), |node| node.name().to_owned())
    }

    /// A parameter in the line of a node that reads it: without the path that both share, with its shape.
    fn tensor(&self, reader: &Node, id: NodeId) -> String {
        let Ok(node) = self.node(id) else { return "?".to_owned() };
        let scope = reader.name().split('@').next().unwrap_or_default();
        let name = node.name().strip_prefix(scope).and_then(|rest| rest.strip_prefix('.'));
        format!("{} {}", name.unwrap_or(node.name()), node.output())
    }
}
