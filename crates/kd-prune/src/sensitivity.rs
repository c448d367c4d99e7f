//! How much every layer bears.

use std::collections::BTreeMap;

use kd_graph::{Dependencies, Graph};
use serde::{Deserialize, Serialize};

use crate::allocation::{LayerScores, LayerShape};
use crate::channels::layer_name;
use crate::subject::{value, with_values};
use crate::{
    Allocation, Array, ChannelImportance, ChannelLimits, Limits, Mask, PruneError, Structure, Subject,
    channel_positions,
};

/// What a network is worth when one layer alone is pruned, at several sparsities, without training in between.
///
/// Han et al., *Learning both Weights and Connections for Efficient Neural Networks* (2015), of weights; Li et al., *Pruning Filters for Efficient
/// ConvNets* (2017), of channels.
///
/// ```
/// use kd_prune::{Allocation, LayerSensitivity, Sensitivity};
///
/// let layer = |name: &str, values: [f64; 3]| LayerSensitivity { layer: name.into(), values: values.into() };
/// let sensitivity = Sensitivity {
///     baseline: 0.99,
///     higher_is_better: true,
///     sparsities: vec![0.25, 0.5, 0.75],
///     layers: vec![layer("conv1.weight", [0.985, 0.9, 0.3]), layer("fc.weight", [0.99, 0.99, 0.982])],
/// };
/// let Allocation::PerLayer(table) = sensitivity.allocation(0.01) else { unreachable!() };
/// assert_eq!((table["conv1.weight"], table["fc.weight"]), (0.25, 0.75));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sensitivity {
    /// The value of the network as it is.
    pub baseline: f64,
    /// Whether a large value is good, as of an accuracy, or bad, as of a loss.
    pub higher_is_better: bool,
    /// The sparsities that were tried, ascending.
    pub sparsities: Vec<f64>,
    /// A row for every layer, in execution order.
    pub layers: Vec<LayerSensitivity>,
}

/// A row of [`Sensitivity`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LayerSensitivity {
    /// The weight; of channels, the one that makes them.
    pub layer: String,
    /// The value at every sparsity.
    pub values: Vec<f64>,
}

impl Sensitivity {
    /// Removes a share of the channels of one group at a time, the least important first.
    ///
    /// `measure` gives the value of a network: an accuracy or a loss on data of its own.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for sparsities that are not ascending within `(0, 1)`; whatever `measure` returns.
    pub fn of_channels<E: From<PruneError>>(
        graph: &Graph,
        importance: &ChannelImportance,
        sparsities: &[f64],
        higher_is_better: bool,
        mut measure: impl FnMut(&Graph) -> Result<f64, E>,
    ) -> Result<Self, E> {
        checked(sparsities)?;
        let baseline = measure(graph)?;
        let dependencies = graph.dependencies();
        let scores = importance.score(graph, &dependencies)?;
        let mut layers = Vec::new();
        for group in dependencies.groups().iter().filter(|group| scores.contains_key(&group.index)) {
            let layer = layer_name(group);
            let alone = scores.iter().filter(|(index, _)| **index == group.index);
            let alone = alone.map(|(index, scores)| (*index, scores.clone())).collect();
            let values = sparsities.iter().map(|&sparsity| {
                let smaller = without(graph, &dependencies, &alone, sparsity)?;
                measure(&smaller)
            });
            let values = values.collect::<Result<_, E>>()?;
            layers.push(LayerSensitivity { layer: layer.to_owned(), values });
        }
        Ok(Self { baseline, higher_is_better, sparsities: sparsities.to_vec(), layers })
    }

    /// Masks a share of one weight of a subject at a time, by a score; single weights or larger units.
    ///
    /// # Errors
    /// As [`of_channels`](Self::of_channels), and as [`Structure::units`].
    pub fn of_weights<E: From<PruneError>>(
        subject: &Subject<'_>,
        scores: &BTreeMap<String, Array>,
        structure: &Structure,
        sparsities: &[f64],
        higher_is_better: bool,
        mut measure: impl FnMut(&Graph) -> Result<f64, E>,
    ) -> Result<Self, E> {
        checked(sparsities)?;
        let graph = subject.graph();
        let baseline = measure(graph)?;
        let mut layers = Vec::new();
        for path in subject.parameters() {
            let Some(scores) = scores.get(path) else { continue };
            let values = sparsities.iter().map(|&sparsity| {
                let masked = mask(scores, structure, sparsity)?.apply(&value(graph, path)?)?;
                measure(&with_values(graph, &[(path.to_owned(), masked)].into())?)
            });
            let values = values.collect::<Result<_, E>>()?;
            layers.push(LayerSensitivity { layer: path.to_owned(), values });
        }
        Ok(Self { baseline, higher_is_better, sparsities: sparsities.to_vec(), layers })
    }

    /// For every layer the largest sparsity up to which the value is nowhere worse than the network's by more than `loss`; 0 if there is none.
    pub fn allocation(&self, loss: f64) -> Allocation {
        let worse =
            |value: f64| if self.higher_is_better { self.baseline - value } else { value - self.baseline };
        let most = |row: &LayerSensitivity| {
            let tried = self.sparsities.iter().zip(&row.values);
            let borne = tried.take_while(|(_, value)| worse(**value) <= loss).map(|(sparsity, _)| *sparsity);
            (row.layer.clone(), borne.last().unwrap_or(0.0))
        };
        Allocation::PerLayer(self.layers.iter().map(most).collect())
    }
}

fn checked(sparsities: &[f64]) -> Result<(), PruneError> {
    let inside = sparsities.iter().all(|sparsity| *sparsity > 0.0 && *sparsity < 1.0);
    if !sparsities.is_empty() && inside && sparsities.is_sorted() {
        return Ok(());
    }
    let text = format!("{sparsities:?}");
    Err(PruneError::setting("sparsities", text, "at least one, ascending, each above 0 and below 1"))
}

/// The graph without a share of the channels that have scores.
fn without(
    graph: &Graph,
    dependencies: &Dependencies,
    scores: &crate::GroupScores,
    sparsity: f64,
) -> Result<Graph, PruneError> {
    let limits = ChannelLimits::default();
    let gone = channel_positions(dependencies, scores, &Allocation::Uniform, sparsity, &limits)?;
    Ok(dependencies.remove(graph, gone)?)
}

/// The mask of one weight at a sparsity.
fn mask(scores: &Array, structure: &Structure, sparsity: f64) -> Result<Mask, PruneError> {
    let units = structure.units(scores.shape())?;
    let pooled = units.pool(scores);
    let shape = LayerShape { sizes: vec![pooled.len()], inputs: pooled.len(), outputs: 1 };
    let layer = BTreeMap::from([(String::new(), LayerScores { scores: pooled, shape })]);
    let keep = Allocation::Uniform.keep(&layer, sparsity, &Limits::default())?;
    units.mask(keep.get("").map_or(&[][..], Vec::as_slice))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::{Magnitude, Score};
    use burn::tensor::{Device, TensorData};
    use kd_graph::{Op, Role, Shape, TensorType};

    /// Hidden units 0 to 3 of which unit `i` has weights of size `i + 1`, and then 2 outputs.
    fn graph() -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
        let first = TensorData::from([[1.0f32, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]);
        let first = graph.parameter("first", Role::Weight, first).unwrap();
        let second = TensorData::ones::<f32, _>([4, 2]);
        let second = graph.parameter("second", Role::Weight, second).unwrap();
        let hidden = graph.add("hidden", Op::Linear, &[x, first]).unwrap();
        let logits = graph.add("logits", Op::Linear, &[hidden, second]).unwrap();
        graph.set_outputs(&[logits]).unwrap();
        graph
    }

    /// What is left of the first weight.
    fn total(graph: &Graph) -> Result<f64, PruneError> {
        Ok(value(graph, "first")?.values().iter().map(|value| f64::from(*value)).sum())
    }

    #[test]
    fn channels_go_one_group_at_a_time_and_the_least_important_first() {
        let graph = graph();
        let importance = ChannelImportance::default();
        let found = Sensitivity::of_channels(&graph, &importance, &[0.25, 0.5], true, total).unwrap();
        assert_eq!((found.baseline, found.layers.len()), (20.0, 1));
        assert_eq!(found.layers[0], LayerSensitivity { layer: "first".to_owned(), values: vec![18.0, 14.0] });
        let Allocation::PerLayer(table) = found.allocation(2.0) else { panic!() };
        assert_eq!(table["first"], 0.25);
        let Allocation::PerLayer(table) = found.allocation(1.0) else { panic!() };
        assert_eq!(table["first"], 0.0);
    }

    #[test]
    fn weights_are_masked_one_tensor_at_a_time() {
        let graph = graph();
        let subject = Subject::new(&graph, &Device::flex());
        let scores = Magnitude::L1.score(&subject, &subject.dense().unwrap()).unwrap();
        let found =
            Sensitivity::of_weights(&subject, &scores, &Structure::Element, &[0.25, 0.5], true, total)
                .unwrap();
        let rows: Vec<_> = found.layers.iter().map(|row| (row.layer.as_str(), row.values.clone())).collect();
        assert_eq!(rows, [("first", vec![18.0, 14.0]), ("second", vec![20.0, 20.0])]);
    }

    #[test]
    fn sparsities_out_of_range_or_order_are_refused() {
        for wrong in [&[][..], &[0.0], &[1.0], &[0.5, 0.25]] {
            let importance = ChannelImportance::default();
            let result = Sensitivity::of_channels(&graph(), &importance, wrong, true, total);
            assert!(result.unwrap_err().to_string().contains("ascending"), "{wrong:?}");
        }
    }
}
