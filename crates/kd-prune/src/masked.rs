//! Masks in a graph: a node between a parameter and everything that reads it.

use std::sync::Arc;

use kd_graph::{Binary, Graph, GraphError, Kernel, Kernels, NodeId, Op, Role, Scalar, Value};

use crate::subject::{by_rank, value};
use crate::{Mask, Masks, PruneError};

/// What is added to a parameter's path for its mask.
pub(crate) const SUFFIX: &str = "_mask";

/// Puts a mask between every named parameter and its readers: the parameter stays as it is, `fc.weight_mask` is a buffer beside it, and
/// readers see the product. A parameter that has a mask already gets the new one in its place. Gradients of pruned weights are zero; what
/// momentum and decay do to them is not seen. [`KeepMasks`](crate::KeepMasks) keeps the weights themselves at zero as well.
///
/// ```
/// use burn::tensor::TensorData;
/// use kd_graph::{Graph, Op, Role, Shape, TensorType};
/// use kd_prune::{Mask, Masks, fold_masks, insert_masks, masks_of};
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// let weight = graph.parameter("weight", Role::Weight, TensorData::from([[1.0f32], [2.0]]))?;
/// let y = graph.add("y", Op::Linear, &[x, weight])?;
/// graph.set_outputs(&[y])?;
///
/// let masks = Masks::from([("weight".to_owned(), Mask::new([2, 1], vec![false, true])?)]);
/// insert_masks(&mut graph, &masks)?;
/// assert_eq!(masks_of(&graph)?, masks);
/// fold_masks(&mut graph)?;
/// assert_eq!(graph.value(weight).unwrap().as_slice::<f32>()?, [0.0, 2.0]);
/// assert_eq!(graph.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`GraphError::UnknownName`] with the nearest names, [`PruneError::Shape`] for a mask of another shape. The graph is then as it was.
pub fn insert_masks(graph: &mut Graph, masks: &Masks) -> Result<(), PruneError> {
    insert(graph, masks, &Op::Binary(Binary::Mul))
}

/// As [`insert_masks`], with masks that the gradient does not see: readers get zeros where a mask prunes, and the parameter the gradient as if there
/// were no mask. A pruned weight goes on learning and may come back. The graph then needs [`mask_kernels`].
///
/// # Errors
/// As [`insert_masks`].
pub fn insert_straight_through_masks(graph: &mut Graph, masks: &Masks) -> Result<(), PruneError> {
    insert(graph, masks, &Op::Custom { name: STRAIGHT_THROUGH.to_owned(), attributes: Vec::new() })
}

/// The name of the operation that masks forward only.
const STRAIGHT_THROUGH: &str = "straight-through-mask";

/// What [`GraphModule::with_kernels`](kd_graph::GraphModule::with_kernels) needs for a graph with straight-through masks.
pub fn mask_kernels() -> Kernels {
    [(STRAIGHT_THROUGH.to_owned(), Arc::new(StraightThrough) as Arc<dyn Kernel>)].into()
}

/// $$y = \bar w \odot m + (w - \bar w)$$ with $\bar w$ cut off from the tape: the masked weight forward, the identity backward.
#[derive(Debug)]
struct StraightThrough;

impl Kernel for StraightThrough {
    fn run(&self, inputs: Vec<Value>, _attributes: &[Scalar]) -> Result<Value, String> {
        let [weight, mask] = inputs.as_slice() else {
            return Err(format!("a weight and a mask, not {} inputs", inputs.len()));
        };
        masked_forward(weight, mask).map_err(|error| error.to_string())
    }
}

fn masked_forward(weight: &Value, mask: &Value) -> Result<Value, PruneError> {
    Ok(by_rank!(weight, weight => {
        let fixed = weight.clone().detach();
        fixed.clone() * mask.float()?.detach() + (weight - fixed)
    }))
}

fn insert(graph: &mut Graph, masks: &Masks, op: &Op) -> Result<(), PruneError> {
    for (path, mask) in masks {
        let weight = value(graph, path)?;
        mask.apply(&weight)?;
    }
    graph.edit(|edit| {
        for (path, mask) in masks {
            let weight = edit.graph().find(path)?;
            let data = mask.to_array().to_data();
            match mask_of(edit.graph(), weight) {
                Some((_, buffer)) => edit.set_value(buffer, data)?,
                None => {
                    let buffer = edit.add_parameter(&format!("{path}{SUFFIX}"), Role::Buffer, data)?;
                    let product = format!("{path}_masked");
                    let ty = edit.graph().node(weight)?.output().clone();
                    let product = edit.insert_after(weight, &product, op.clone(), &[weight, buffer])?;
                    if matches!(op, Op::Custom { .. }) {
                        edit.set_type(product, ty)?;
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// The masks in a graph, by the path of their parameter.
///
/// # Errors
/// [`PruneError::Shape`] for a mask that can't be read.
pub fn masks_of(graph: &Graph) -> Result<Masks, PruneError> {
    let mut masks = Masks::new();
    for (id, node) in graph.parameters() {
        if let Some((_, buffer)) = mask_of(graph, id) {
            let mask = Mask::of_nonzeros(&value(graph, graph.node(buffer)?.name())?);
            masks.insert(node.name().to_owned(), mask);
        }
    }
    Ok(masks)
}

/// Multiplies masks into their parameters and removes them from the graph.
///
/// # Errors
/// As [`masks_of`].
pub fn fold_masks(graph: &mut Graph) -> Result<(), PruneError> {
    let masks = masks_of(graph)?;
    let folded: Vec<_> = masks
        .iter()
        .map(|(path, mask)| Ok((path, mask.apply(&value(graph, path)?)?)))
        .collect::<Result<_, PruneError>>()?;
    graph.edit(|edit| {
        for (path, weight) in &folded {
            let id = edit.graph().find(path)?;
            let missing =
                || GraphError::Edit { name: (*path).clone(), reason: "its mask is gone".to_owned() };
            let (product, buffer) = mask_of(edit.graph(), id).ok_or_else(missing)?;
            edit.set_value(id, weight.to_data())?;
            edit.remove(product)?;
            edit.remove(buffer)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Whether this operation masks a parameter, if its second input is that parameter's mask.
pub(crate) fn is_mask(op: &Op) -> bool {
    match op {
        Op::Binary(Binary::Mul) => true,
        Op::Custom { name, .. } => name == STRAIGHT_THROUGH,
        _ => false,
    }
}

/// The product of a parameter with its mask, and the mask.
fn mask_of(graph: &Graph, weight: NodeId) -> Option<(NodeId, NodeId)> {
    let name = format!("{}{SUFFIX}", graph.node(weight).ok()?.name());
    let buffer = graph.find(&name).ok()?;
    let product = graph
        .users(buffer)
        .find(|(_, user)| is_mask(user.op()) && user.inputs() == [weight, buffer].as_slice());
    Some((product?.0, buffer))
}
