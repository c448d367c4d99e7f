//! Lottery tickets: weights go back to where they were early in training, and masks stay.

use kd_graph::{Graph, Kind, Op};

use crate::subject::{value, with_values};
use crate::{Arrays, Masks, PruneError};

/// The network with the weights that it had at an earlier point, zeros where masks prune. Everything is rewound: biases, normalisation and running
/// statistics too.
///
/// Frankle and Carbin, *The Lottery Ticket Hypothesis* (2019); rewinding to an iteration after the first: Frankle et al., *Linear Mode
/// Connectivity and the Lottery Ticket Hypothesis* (2020).
///
/// # Errors
/// [`PruneError::Architecture`] when the networks' parameters differ, [`PruneError::Shape`] for a mask of another shape.
pub fn rewound(network: &Graph, earlier: &Graph, masks: &Masks) -> Result<Graph, PruneError> {
    let mut weights = floats(earlier)?;
    same(&floats(network)?, &weights)?;
    for (path, mask) in masks {
        let known = || weights.keys().cloned().collect();
        let weight = weights.get(path).ok_or_else(|| {
            PruneError::Missing { what: "weight", parameter: path.clone(), known: known() }
        })?;
        let masked = mask.apply(weight)?;
        weights.insert(path.clone(), masked);
    }
    with_values(network, &weights)
}

/// The network between two: $$(1 - \alpha) W_1 + \alpha W_2$$ for every float parameter and running statistic.
///
/// # Errors
/// [`PruneError::Architecture`] when the networks' parameters differ.
pub fn between(first: &Graph, second: &Graph, alpha: f64) -> Result<Graph, PruneError> {
    let (a, b) = (floats(first)?, floats(second)?);
    same(&a, &b)?;
    let mix = |a: f32, b: f32| ((1.0 - alpha) * f64::from(a) + alpha * f64::from(b)) as f32;
    let mut mixed = Arrays::new();
    for (path, a) in &a {
        if let Some(b) = b.get(path) {
            mixed.insert(path.clone(), a.zip(b, mix)?);
        }
    }
    with_values(first, &mixed)
}

/// How much worse networks on the straight line between two are than its ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Instability {
    /// Error at equal steps from the first network to the second, both included.
    pub curve: Vec<f64>,
    /// $$\max_\alpha \text{err}(\alpha) - \tfrac12 (\text{err}(0) + \text{err}(1))$$; below 0.02 the two count as connected.
    pub height: f64,
}

/// Measures the error along the line between two networks that were trained from the same point with different noise, at `steps` + 1 points.
///
/// # Errors
/// [`PruneError::Setting`] for fewer than 2 steps, [`PruneError::Architecture`] when the networks' parameters differ, whatever `error` returns.
pub fn instability(
    first: &Graph,
    second: &Graph,
    steps: usize,
    mut error: impl FnMut(&Graph) -> Result<f64, PruneError>,
) -> Result<Instability, PruneError> {
    if steps < 2 {
        return Err(PruneError::setting("steps", steps, "2 or more"));
    }
    let at = |step: usize| error(&between(first, second, step as f64 / steps as f64)?);
    let curve: Vec<f64> = (0..=steps).map(at).collect::<Result<_, _>>()?;
    let ends = curve.first().copied().unwrap_or(0.0) + curve.last().copied().unwrap_or(0.0);
    let height = curve.iter().fold(f64::NEG_INFINITY, |most, error| most.max(*error)) - ends / 2.0;
    Ok(Instability { curve, height })
}

fn floats(graph: &Graph) -> Result<Arrays, PruneError> {
    let float = graph.parameters().filter(|(_, node)| {
        matches!(node.op(), Op::Parameter { .. }) && node.output().kind == Kind::Float
    });
    float.map(|(_, node)| Ok((node.name().to_owned(), value(graph, node.name())?))).collect()
}

fn same(a: &Arrays, b: &Arrays) -> Result<(), PruneError> {
    let differs = |(path, array): (&String, &crate::Array)| match b.get(path) {
        None => Some(format!("`{path}` is in one of the networks only")),
        Some(other) if other.shape() != array.shape() => {
            Some(format!("`{path}` has the shapes {:?} and {:?}", array.shape(), other.shape()))
        }
        Some(_) => None,
    };
    let missing = || b.keys().find(|path| !a.contains_key(*path)).map(|path| format!("`{path}` is in one of the networks only"));
    let difference = a.iter().find_map(differs).or_else(missing);
    difference.map_or(Ok(()), |difference| Err(PruneError::Architecture { difference }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Mask;
    use burn::tensor::TensorData;
    use kd_graph::{Role, Shape, TensorType};

    fn network(weights: [f32; 2]) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
        let data = TensorData::new(weights.to_vec(), [2, 1]);
        let weight = graph.parameter("weight", Role::Weight, data).unwrap();
        let y = graph.add("y", Op::Linear, &[x, weight]).unwrap();
        graph.set_outputs(&[y]).unwrap();
        graph
    }

    fn weights(graph: &Graph) -> Vec<f32> {
        value(graph, "weight").unwrap().values().to_vec()
    }

    #[test]
    fn a_ticket_has_the_earlier_weights_where_the_mask_keeps_them() {
        let mask = Masks::from([("weight".to_owned(), Mask::new([2, 1], vec![true, false]).unwrap())]);
        let ticket = rewound(&network([5.0, 6.0]), &network([1.0, 2.0]), &mask).unwrap();
        assert_eq!(weights(&ticket), [1.0, 0.0]);
        let other = Masks::from([("bias".to_owned(), Mask::dense(&[2]))]);
        assert!(rewound(&network([5.0, 6.0]), &network([1.0, 2.0]), &other).is_err());
    }

    #[test]
    fn a_bump_between_two_networks_is_its_height_over_the_mean_of_the_ends() {
        let (a, b) = (network([0.0, 0.0]), network([1.0, 4.0]));
        assert_eq!(weights(&between(&a, &b, 0.25).unwrap()), [0.25, 1.0]);
        let error = |graph: &Graph| {
            let x = f64::from(weights(graph)[0]);
            Ok(0.1 + 0.2 * x + x * (1.0 - x))
        };
        let found = instability(&a, &b, 4, error).unwrap();
        assert_eq!(found.curve.len(), 5);
        assert!((found.height - 0.25).abs() < 1e-6, "{found:?}");
        assert!(instability(&a, &b, 1, error).is_err());
    }
}
