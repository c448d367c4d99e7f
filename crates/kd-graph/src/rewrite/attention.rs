//! Attention in its parts.

use crate::{Binary, Graph, GraphError, NodeId, Op, Scalar};

impl Graph {
    /// Takes the attention of this name apart into the operations that it stands for: `NAME.key` (turned), `NAME.product`, `NAME.scores`,
    /// `NAME.masked` for every mask, and `NAME.weights`, the softmax, whose node is returned: a tap, or the place of a dropout. The node itself
    /// becomes the product with the values and keeps its name.
    ///
    /// # Errors
    /// [`GraphError::UnknownName`] with the nearest names, or [`GraphError::Edit`] for a node that is no
    /// [`Op::LayeredAttention`].
    pub fn lower_attention(&mut self, name: &str) -> Result<NodeId, GraphError> {
        let id = self.find(name)?;
        let node = self.node(id)?;
        let (Op::LayeredAttention(attention), [q, k, v, masks @ ..]) = (node.op().clone(), node.inputs())
        else {
            let reason = format!("it is {}, not an attention that can be taken apart", node.op().word());
            return Err(GraphError::Edit { name: name.to_owned(), reason });
        };
        let (q, k, v, masks) = (*q, *k, *v, masks.to_vec());
        self.edit(|edit| {
            let mut part = |what: &str, op, inputs: &[NodeId]| {
                let free = edit.graph().free_name(&format!("{name}.{what}"));
                edit.add(&free, op, inputs)
            };
            let turned = part("key", Op::Permute { axes: vec![0, 1, 3, 2] }, &[k])?;
            let product = part("product", Op::Matmul, &[q, turned])?;
            let divided = Op::Literal { op: Binary::Div, value: Scalar::Float(attention.divisor) };
            let mut scores = part("scores", divided, &[product])?;
            for mask in masks {
                let fill = Op::MaskFill { value: Scalar::Float(attention.fill) };
                scores = part("masked", fill, &[scores, mask])?;
            }
            let weights = part("weights", Op::Softmax { axis: 3 }, &[scores])?;
            edit.replace(id, Op::Matmul, &[weights, v])?;
            Ok(weights)
        })
    }
}
