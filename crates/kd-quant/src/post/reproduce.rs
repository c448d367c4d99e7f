//! What a layer's rounded weights are to reproduce.

use burn::tensor::{Device, Int, Tensor};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::patches::Patches;
use crate::data::tensor;

/// Places that a step looks at behind a rectifier.
const PLACES: usize = 256;

/// The function behind a layer, between two bounds the identity, and the layer's bias in front of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Behind {
    pub low: f32,
    pub high: f32,
    /// One for each output channel of the group.
    pub bias: Vec<f32>,
}

/// The squared error of a layer's output, as a function of its weights `[channels, width]`.
pub(super) enum Target {
    /// Of the products: a quadratic form, whatever the number of places.
    Products { gram: Tensor<2>, correlation: Tensor<2> },
    /// Behind a rectifier or clamp: of some places at each step, one after the other in a random order.
    Behind { inputs: Tensor<2>, outputs: Tensor<2>, bias: Tensor<2>, bounds: [f32; 2] },
}

impl Target {
    pub fn new(patches: &Patches, device: &Device) -> Self {
        let n = patches.rows();
        let x: Tensor<2> = tensor(patches.inputs.clone(), [n, patches.width], device);
        let y: Tensor<2> = tensor(patches.outputs.clone(), [n, patches.channels], device);
        let Some(Behind { low, high, bias }) = &patches.behind else {
            let gram = x.clone().transpose().matmul(x.clone()) / n as f64;
            return Self::Products { gram, correlation: y.transpose().matmul(x) / n as f64 };
        };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let order: Vec<i64> = index::sample(&mut rng, n, n).into_iter().map(|row| row as i64).collect();
        let order = Tensor::<1, Int>::from_ints(order.as_slice(), device);
        let bias: Tensor<2> = tensor(bias.clone(), [1, patches.channels], device);
        let outputs = (y.select(0, order.clone()) + bias.clone()).clamp(*low, *high);
        Self::Behind { inputs: x.select(0, order), outputs, bias, bounds: [*low, *high] }
    }

    /// The error of a step's places, but for a constant; `[1]`.
    pub fn loss(&self, weights: Tensor<2>, step: usize) -> Tensor<1> {
        match self {
            Self::Products { gram, correlation } => {
                let product = weights.clone().matmul(gram.clone());
                (weights * (product - correlation.clone() * 2.0)).sum()
            }
            Self::Behind { inputs, outputs, bias, bounds: [low, high] } => {
                let [n, _] = inputs.dims();
                let from = step * PLACES % n.max(1);
                let rows = from..(from + PLACES).min(n);
                let count = rows.len().max(1);
                let (x, y) = (inputs.clone().slice([rows.clone()]), outputs.clone().slice([rows]));
                let ours = (x.matmul(weights.transpose()) + bias.clone()).clamp(*low, *high);
                (ours - y).square().sum() / count as f64
            }
        }
    }
}
