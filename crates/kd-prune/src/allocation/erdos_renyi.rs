//! Erdős–Rényi densities: large layers become sparser than small ones.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::PruneError;

/// The shape of a layer's weight as the rules see it, whatever the order of its axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// All axes.
    pub sizes: Vec<usize>,
    /// Size of the input axis.
    pub inputs: usize,
    /// Size of the output axis.
    pub outputs: usize,
}

impl LayerShape {
    fn elements(&self) -> usize {
        self.sizes.iter().product()
    }
}

/// Density of layer $l$ as $\epsilon p_l$ with
/// $$p_l = \left(\frac{n_{in} + n_{out} + \text{kernel}}{n_{in} \, n_{out} \cdot \text{kernel}}\right)^{\text{power}}$$
/// and $\epsilon$ such that the whole has the sparsity asked for; a layer whose density would exceed 1 is dense, and the others make up for it.
///
/// Mocanu et al., *Scalable training of artificial neural networks with adaptive sparse connectivity* (2018); with kernels: Evci et al., *Rigging
/// the Lottery* (2020).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ErdosRenyi {
    /// Whether the kernel's sizes count; otherwise $p_l$ looks at channels alone. true.
    pub kernel: bool,
    /// How strongly shapes count; 1. 0 is uniform.
    pub power: f64,
}

impl Default for ErdosRenyi {
    fn default() -> Self {
        Self { kernel: true, power: 1.0 }
    }
}

impl ErdosRenyi {
    fn raw(self, layer: &LayerShape) -> f64 {
        let (sum, product) = if self.kernel {
            (layer.sizes.iter().sum::<usize>(), layer.elements())
        } else {
            (layer.inputs + layer.outputs, layer.inputs * layer.outputs)
        };
        (sum as f64 / product.max(1) as f64).powf(self.power)
    }

    /// The sparsity of every layer. Those in `given` keep what they have there and are left out of the budget.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a sparsity outside `[0, 1]` or a power that is not finite.
    pub fn sparsities(
        self,
        layers: &BTreeMap<String, LayerShape>,
        sparsity: f64,
        given: &BTreeMap<String, f64>,
    ) -> Result<BTreeMap<String, f64>, PruneError> {
        if !(0.0..=1.0).contains(&sparsity) {
            return Err(PruneError::setting("sparsity", sparsity, "0 to 1"));
        }
        if !self.power.is_finite() {
            return Err(PruneError::setting("power", self.power, "a finite number"));
        }
        let free: Vec<_> = layers.iter().filter(|(path, _)| !given.contains_key(*path)).collect();
        let mut dense = BTreeSet::new();
        let epsilon = loop {
            let (mut budget, mut divisor, mut largest) = (0.0, 0.0, 0.0f64);
            for (path, layer) in &free {
                let elements = layer.elements() as f64;
                let zeros = (elements * sparsity).floor();
                if dense.contains(*path) {
                    budget -= zeros;
                } else {
                    budget += elements - zeros;
                    divisor += self.raw(layer) * elements;
                    largest = largest.max(self.raw(layer));
                }
            }
            let epsilon = if divisor > 0.0 { budget / divisor } else { 0.0 };
            if largest * epsilon <= 1.0 {
                break epsilon;
            }
            let fullest =
                free.iter().filter(|(path, layer)| !dense.contains(*path) && self.raw(layer) >= largest);
            let fullest: Vec<_> = fullest.map(|(path, _)| (*path).clone()).collect();
            dense.extend(fullest);
        };
        let of = |(path, layer): (&String, &LayerShape)| {
            let sparsity = match given.get(path) {
                Some(given) => *given,
                None if dense.contains(path) => 0.0,
                None => (1.0 - epsilon * self.raw(layer)).clamp(0.0, 1.0),
            };
            (path.clone(), sparsity)
        };
        Ok(layers.iter().map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn matrix(inputs: usize, outputs: usize) -> LayerShape {
        LayerShape { sizes: vec![inputs, outputs], inputs, outputs }
    }

    #[test]
    fn the_whole_has_the_sparsity_asked_for_also_when_a_layer_must_be_dense() {
        let layers: BTreeMap<_, _> =
            [("a", matrix(784, 300)), ("b", matrix(300, 100)), ("c", matrix(100, 10))]
                .into_iter()
                .map(|(path, shape)| (path.to_owned(), shape))
                .collect();
        for sparsity in [0.5, 0.8, 0.9, 0.99] {
            let each = ErdosRenyi::default().sparsities(&layers, sparsity, &BTreeMap::new()).unwrap();
            let zeros: f64 = each.iter().map(|(path, s)| s * layers[path].elements() as f64).sum();
            let all: usize = layers.values().map(LayerShape::elements).sum();
            assert!((zeros / all as f64 - sparsity).abs() < 1e-4, "{each:?}");
            assert!(each["c"] <= each["b"] && each["b"] <= each["a"]);
        }
    }
}
