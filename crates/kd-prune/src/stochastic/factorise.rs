//! A linear layer as the product of two.

use burn::tensor::TensorData;
use kd_graph::{Graph, GraphError, Op, Role};

use super::svd::svd;
use crate::subject::value;
use crate::{Array, PruneError};

/// Replaces the weight of a linear layer by the product of two, $W = P Q$, with as many terms as its smaller axis has indices, split by singular values:
/// $P = U \sqrt S$ and $Q = \sqrt S V^T$. The network computes what it did.
///
/// The parameters are `fc.weight_left` `[in, rank]` and `fc.weight_right` `[rank, out]`; the layer keeps its name and its bias. Terms are then removed as
/// channels between the two, by gates on axis 1 of the left one (FLOP; Wang et al., *Structured Pruning of Large Language Models*, 2020) or any other
/// method.
///
/// # Errors
/// [`GraphError::UnknownName`] with the nearest names; [`GraphError::Edit`] for a parameter that is not the weight of exactly one linear layer.
pub fn factorise(graph: &mut Graph, weight: &str) -> Result<(), PruneError> {
    let id = graph.find(weight)?;
    let users: Vec<_> = graph.users(id).collect();
    let (layer, name, source) = match users.as_slice() {
        [(layer, node)] if *node.op() == Op::Linear && node.inputs().get(1) == Some(&id) => {
            (*layer, node.name().to_owned(), node.inputs().first().copied().unwrap_or(id))
        }
        _ => {
            let reason = "only the weight of one linear layer is split in two".to_owned();
            return Err(GraphError::Edit { name: weight.to_owned(), reason }.into());
        }
    };
    let (left, right) = split(&value(graph, weight)?);
    graph.edit(|edit| {
        let left = edit.add_parameter(&format!("{weight}_left"), Role::Weight, left)?;
        let right = edit.add_parameter(&format!("{weight}_right"), Role::Weight, right)?;
        let reduced = edit.add(&format!("{name}_reduced"), Op::Linear, &[source, left])?;
        edit.rewire(layer, 0, reduced)?;
        edit.rewire(layer, 1, right)?;
        edit.remove(id)
    })?;
    Ok(())
}

fn split(weight: &Array) -> (TensorData, TensorData) {
    let (rows, columns) = match *weight.shape() {
        [rows, columns] => (rows, columns),
        _ => (0, 0),
    };
    let rank = rows.min(columns);
    // Rotations work on the side with fewer indices.
    let tall = rows >= columns;
    let at = |i: usize, j: usize| weight.values().get(i * columns + j).copied().map_or(0.0, f64::from);
    let matrix: Vec<f64> = match tall {
        true => (0..rows * columns).map(|k| at(k / columns, k % columns)).collect(),
        false => (0..rows * columns).map(|k| at(k % rows, k / rows)).collect(),
    };
    let (scaled, unit, values) = svd(&matrix, rows.max(columns), rank);
    // Half of every singular value on either side.
    let root = |k: usize| values.get(k).copied().unwrap_or(0.0).sqrt();
    let long = |k: usize, i: usize| {
        let entry = scaled.get(k).and_then(|column| column.get(i)).copied().unwrap_or(0.0);
        if root(k) > 0.0 { entry / root(k) } else { 0.0 }
    };
    let short =
        |k: usize, i: usize| unit.get(k).and_then(|column| column.get(i)).copied().unwrap_or(0.0) * root(k);
    let input = |k, i| if tall { long(k, i) } else { short(k, i) };
    let output = |k, i| if tall { short(k, i) } else { long(k, i) };
    let left = (0..rows * rank).map(|flat| input(flat % rank, flat / rank) as f32);
    let right = (0..rank * columns).map(|flat| output(flat / columns, flat % columns) as f32);
    (
        TensorData::new(left.collect::<Vec<_>>(), [rows, rank]),
        TensorData::new(right.collect::<Vec<_>>(), [rank, columns]),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_two_factors_multiply_to_the_weight_whichever_side_is_longer() {
        for (rows, columns) in [(6, 4), (4, 6), (5, 5)] {
            let numbers: Vec<f32> = (0..rows * columns).map(|i| ((i * 5 + 1) as f32 * 0.43).cos()).collect();
            let weight = Array::new([rows, columns], numbers).unwrap();
            let (left, right) = split(&weight);
            let rank = rows.min(columns);
            assert_eq!(
                (left.shape().to_vec(), right.shape().to_vec()),
                (vec![rows, rank], vec![rank, columns])
            );
            let (left, right) = (left.try_to_vec::<f32>().unwrap(), right.try_to_vec::<f32>().unwrap());
            for i in 0..rows {
                for j in 0..columns {
                    let sum: f32 = (0..rank).map(|k| left[i * rank + k] * right[k * columns + j]).sum();
                    assert!((sum - weight.values()[i * columns + j]).abs() < 1e-5);
                }
            }
        }
    }
}
