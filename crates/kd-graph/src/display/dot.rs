//! The DOT language of Graphviz.

use std::fmt::Write;

use crate::Graph;

impl Graph {
    /// The graph for `dot`: a box for every node that computes or is given, an edge for every activation with its shape.
    ///
    /// ```
    /// # use kd_graph::{Activation, Graph, Op, Shape, TensorType};
    /// # let mut graph = Graph::new();
    /// # let x = graph.input("x", TensorType::float(Shape::batched([4])))?;
    /// # let relu = graph.add("relu", Op::Activation(Activation::Relu), &[x])?;
    /// # graph.set_outputs(&[relu])?;
    /// assert!(graph.to_dot().contains(r#"n0 -> n1 [label="[B, 4]"]"#));
    /// # Ok::<(), kd_graph::GraphError>(())
    /// ```
    pub fn to_dot(&self) -> String {
        let mut dot =
            String::from("digraph {\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
        for (id, node) in self.shown() {
            let [name, op] = [node.name(), &self.describe(node)].map(escaped);
            let bold = if self.outputs().contains(&id) { ", penwidth=2" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(dot, "  n{} [label=\"{name}\\n{op}\"{bold}];", id.0);
        }
        for (id, node) in self.shown() {
            for input in node.inputs().iter().filter(|&&input| !self.hidden(input)) {
                let Ok(source) = self.node(*input) else { continue };
                let _ = writeln!(dot, "  n{} -> n{} [label=\"{}\"];", input.0, id.0, source.output());
            }
        }
        dot + "}\n"
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
