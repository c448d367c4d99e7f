//! Weights rounded so that the layer gives what it gave.

use burn::module::{Module, Param};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::patches::Patches;
use super::reproduce::Target;
use super::{AdaRound, BitSplit, Regulariser};
use crate::data::{numbers, tensor};
use crate::error::in_range;
use crate::{Granularity, Grid, QuantError};

/// How a weight becomes codes.
///
/// | In a file | Codes |
/// |---|---|
/// | `{ method = "nearest" }` | the nearest, at the scale that the plan's quantiser has (default) |
/// | `{ method = "ada-round", ... }` | up or down as [`AdaRoundFit`] learns, at the same scale |
/// | `{ method = "bit-split", epochs = 4 }` | [`BitSplit`]'s, at its own scale, refined on the layer's output |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rounding {
    // Braces, so that serde refuses keys that it doesn't have.
    /// To the nearest code.
    Nearest {},
    /// Learned.
    AdaRound(AdaRoundFit),
    /// By ternary planes.
    BitSplit {
        /// Sweeps of the reconstruction; 0 leaves it out. Default 4.
        #[serde(default = "epochs")]
        epochs: usize,
    },
}

fn epochs() -> usize {
    4
}

impl Default for Rounding {
    fn default() -> Self {
        Self::Nearest {}
    }
}

impl Rounding {
    /// The name, as in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nearest {} => "nearest",
            Self::AdaRound(_) => "ada-round",
            Self::BitSplit { .. } => "bit-split",
        }
    }
}

/// How AdaRound's $V$ is learned: Adam on
///
/// $$ \tfrac1n \lVert Y - \hat X \tilde W^\top \rVert^2 + \lambda \sum 1 - |2h(V) - 1|^\beta $$
///
/// with $\hat X$ the inputs of the layer as the network that is quantised so far gives them (asymmetric reconstruction), and $Y$ the outputs of the float
/// layer. The first term is a quadratic form in $\tilde W$, so that a step costs the same however many places $n$ were sampled.
///
/// With `activation` the first term is the paper's final one, $\tfrac1n \lVert f(Y + b) - f(\hat X \tilde W^\top + b) \rVert^2$, where a rectifier or clamp
/// $f$ follows the layer alone: what it cuts need not be reproduced. A step then costs as much as there are places. Other layers are reproduced as without.
///
/// | Setting | Default | Range |
/// |---|---|---|
/// | `steps` | 1000 | 1 or more |
/// | `learning-rate` | 0.01 | above 0 |
/// | `weight` ($\lambda$) | 0.01 | at least 0 |
/// | `activation` | no | |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AdaRoundFit {
    /// Steps of Adam.
    pub steps: usize,
    /// Its learning rate.
    pub learning_rate: f64,
    /// $\lambda$, the weight of the [`Regulariser`].
    pub weight: f64,
    /// Whether the error is that behind a rectifier or clamp.
    pub activation: bool,
}

impl Default for AdaRoundFit {
    fn default() -> Self {
        Self { steps: 1000, learning_rate: 0.01, weight: 0.01, activation: false }
    }
}

#[derive(Module, Debug)]
struct Directions {
    v: Param<Tensor<2>>,
}

impl AdaRoundFit {
    /// Checks every value.
    ///
    /// # Errors
    /// [`QuantError::Setting`].
    pub fn validate(&self) -> Result<(), QuantError> {
        in_range("steps", self.steps, self.steps > 0, "1 or more")?;
        let positive = self.learning_rate > 0.0 && self.learning_rate.is_finite();
        in_range("learning-rate", self.learning_rate, positive, "above 0")?;
        in_range("weight", self.weight, self.weight >= 0.0 && self.weight.is_finite(), "at least 0")
    }

    /// Rounded rows of weights `[channels, width]`, on the grid of the scales; zeros stay zero.
    pub(super) fn fit(&self, rows: Rows, patches: &Patches, device: &Device) -> Result<Vec<f32>, QuantError> {
        let device = device.clone().autodiff();
        let rule = AdaRound { granularity: rows.granularity, ..AdaRound::new(rows.grid) };
        let shape = [patches.channels, patches.width];
        let w: Tensor<2> = tensor(rows.weights.to_vec(), shape, &device);
        let scale: Tensor<1> = tensor(rows.scale.to_vec(), [rows.scale.len()], &device);
        let zero: Tensor<1> = tensor(rows.zero_point.to_vec(), [rows.zero_point.len()], &device);
        let target = Target::new(patches, &device);
        let pull = Regulariser { weight: self.weight, steps: self.steps, ..Regulariser::default() };

        let start = rule.initial(w.clone(), scale.clone())?;
        let mut learned = Directions { v: Param::from_tensor(start.inner().autodiff()) };
        let mut adam = AdamConfig::new().init();
        for step in 0..self.steps {
            let v = learned.v.val();
            let soft = rule.soften(w.clone(), v.clone(), scale.clone(), zero.clone())?;
            let mut loss = target.loss(soft);
            if let Some(regulariser) = pull.loss(&rule, v, step)? {
                loss = loss + regulariser;
            }
            let gradients = GradientsParams::from_grads(loss.backward(), &learned);
            learned = adam.step(self.learning_rate, learned, gradients);
        }
        let v = learned.v.val().inner();
        let hard = rule.harden(w.clone().inner(), v, scale.inner(), zero.inner())?;
        let pruned = w.inner().equal_scalar(0.0);
        numbers("the rounded weight", hard.mask_fill(pruned, 0.0))
    }
}

/// Rows of weights, one per output channel of a group, with the quantiser's scales for them.
pub(super) struct Rows<'a> {
    pub grid: Grid,
    pub granularity: Granularity,
    pub weights: &'a [f32],
    pub scale: &'a [f32],
    pub zero_point: &'a [f32],
}

/// Bit-Split's rows and scales, one per row.
pub(super) fn bit_split(
    bits: u32,
    epochs: usize,
    weights: &[f32],
    patches: &Patches,
) -> Result<(Vec<f32>, Vec<f32>), QuantError> {
    let wide = |values: &[f32], len: usize| -> Vec<Vec<f64>> {
        values.chunks(len.max(1)).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect()
    };
    let method = BitSplit::new(bits)?;
    let mut split = method.quantize(&wide(weights, patches.width))?;
    if epochs > 0 {
        let (inputs, outputs) =
            (wide(&patches.inputs, patches.width), wide(&patches.outputs, patches.channels));
        split = method.reconstruct(split, &inputs, &outputs, epochs)?;
    }
    // The least significant plane's weight is the step of the codes.
    let stretch = 2.0_f64.powi(bits as i32 - 2);
    let mut values = Vec::with_capacity(weights.len());
    let mut scales = Vec::with_capacity(split.scale.len());
    for (sum, scale) in split.sums().into_iter().zip(&split.scale) {
        // A scale below zero, which least squares may give, is the opposite codes' scale above zero.
        let (sign, step) = (scale.signum(), ((scale.abs() / stretch) as f32).max(crate::LEAST_STEP));
        values.extend(sum.into_iter().map(|s| (s * stretch * sign).round() as f32 * step));
        scales.push(step);
    }
    Ok((values, scales))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::reproduce::Behind;
    use super::*;
    use burn::tensor::Distribution;

    /// Inputs that go together, so that errors of neighbouring weights can cancel, and a layer's outputs; one weight is zero.
    fn layer(channels: usize, width: usize, rows: usize) -> (Vec<f32>, Patches) {
        let device = Device::flex();
        device.seed(5);
        let draw = |a, b| Tensor::<2>::random([a, b], Distribution::Normal(0.0, 1.0), &device);
        let x = draw(rows, 3).matmul(draw(3, width)) + draw(rows, width) * 0.1;
        let vec = |t: Tensor<2>| t.into_data().try_to_vec::<f32>().unwrap();
        let mut w = vec(draw(channels, width) * 0.3);
        w[7] = 0.0;
        let weight: Tensor<2> = tensor(w.clone(), [channels, width], &device);
        let y = x.clone().matmul(weight.transpose());
        (w, Patches { inputs: vec(x), outputs: vec(y), width, channels, behind: None })
    }

    fn error(weights: &[f32], patches: &Patches) -> f64 {
        let rows = patches.inputs.chunks(patches.width).zip(patches.outputs.chunks(patches.channels));
        rows.flat_map(|(x, y)| {
            weights.chunks(patches.width).zip(y).map(move |(w, y)| {
                let sum: f32 = w.iter().zip(x).map(|(w, x)| w * x).sum();
                f64::from(sum - y).powi(2)
            })
        })
        .sum()
    }

    fn nearest(weights: &[f32], scale: &[f32], width: usize, grid: Grid) -> Vec<f32> {
        let (low, high) = (grid.min() as f32, grid.max() as f32);
        let rows = weights.chunks(width).zip(scale);
        rows.flat_map(|(row, s)| row.iter().map(move |w| (w / s).round_ties_even().clamp(low, high) * s))
            .collect()
    }

    fn scales(weights: &[f32], width: usize, grid: Grid) -> Vec<f32> {
        let largest = |row: &[f32]| row.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
        weights.chunks(width).map(|row| largest(row) / grid.max() as f32).collect()
    }

    #[test]
    fn learned_rounding_reproduces_the_output_better_than_the_nearest_codes_and_stays_next_to_them() {
        let grid = Grid::narrow(3).unwrap();
        let (weights, patches) = layer(16, 12, 300);
        let scale = scales(&weights, 12, grid);
        let rows = Rows {
            grid,
            granularity: Granularity::Channel { axis: 0 },
            weights: &weights,
            scale: &scale,
            zero_point: &[0.0; 16],
        };
        let fit = AdaRoundFit { steps: 400, ..AdaRoundFit::default() };
        let rounded = fit.fit(rows, &patches, &Device::flex()).unwrap();
        let (before, after) =
            (error(&nearest(&weights, &scale, 12, grid), &patches), error(&rounded, &patches));
        assert!(after < 0.7 * before, "{after} against {before}");
        assert_eq!(rounded[7], 0.0);
        for (i, (w, r)) in weights.iter().zip(&rounded).enumerate() {
            let code = r / scale[i / 12];
            assert!((code - code.round()).abs() < 1e-4 && (w - r).abs() < scale[i / 12] * 1.001, "{w} {r}");
        }
    }

    #[test]
    fn behind_a_rectifier_what_it_cuts_need_not_be_reproduced() {
        let grid = Grid::narrow(2).unwrap();
        let (mut weights, mut patches) = layer(16, 12, 300);
        // The last input drives every other place far below zero, where inputs are large besides.
        weights.iter_mut().skip(11).step_by(12).for_each(|w| *w = -0.6);
        for (place, x) in patches.inputs.chunks_mut(12).enumerate() {
            let far = place % 2 == 0;
            x.iter_mut().for_each(|x| *x *= if far { 3.0 } else { 1.0 });
            x[11] = if far { 30.0 } else { 0.0 };
        }
        let product = |weights: &[f32], x: &[f32]| -> Vec<f32> {
            weights.chunks(12).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
        };
        patches.outputs = patches.inputs.chunks(12).flat_map(|x| product(&weights, x)).collect();
        let scale = scales(&weights, 12, grid);
        let error = |patches: &Patches| {
            let (granularity, zero_point) = (Granularity::Channel { axis: 0 }, &[0.0; 16]);
            let rows = Rows { grid, granularity, weights: &weights, scale: &scale, zero_point };
            let fit = AdaRoundFit { steps: 600, ..AdaRoundFit::default() };
            let rounded = fit.fit(rows, patches, &Device::flex()).unwrap();
            let ours = patches.inputs.chunks(12).flat_map(|x| product(&rounded, x));
            let both = ours.zip(&patches.outputs);
            both.map(|(ours, y)| f64::from(ours.max(0.0) - y.max(0.0)).powi(2)).sum::<f64>()
        };
        let products = error(&patches);
        let behind = Behind { low: 0.0, high: f32::INFINITY, bias: vec![0.0; 16] };
        let behind = error(&Patches { behind: Some(behind), ..patches.clone() });
        assert!(behind < 0.8 * products, "{behind} {products}");
    }

    #[test]
    fn bit_split_reproduces_the_output_better_than_the_nearest_codes_and_is_on_its_grid() {
        let grid = Grid::narrow(3).unwrap();
        let (weights, patches) = layer(4, 12, 300);
        let (split, scale) = bit_split(3, 4, &weights, &patches).unwrap();
        let plain = nearest(&weights, &scales(&weights, 12, grid), 12, grid);
        let (before, after) = (error(&plain, &patches), error(&split, &patches));
        assert!(after < 0.5 * before, "{after} against {before}");
        assert_eq!(nearest(&split, &scale, 12, grid), split);
    }

    #[test]
    fn settings_are_read_and_refused_by_name() {
        let text = r#"{"method": "ada-round", "steps": 10}"#;
        let rounding: Rounding = serde_json::from_str(text).unwrap();
        assert_eq!(rounding, Rounding::AdaRound(AdaRoundFit { steps: 10, ..Default::default() }));
        assert!(serde_json::from_str::<Rounding>(r#"{"method": "nearest", "steps": 10}"#).is_err());
        assert!(serde_json::from_str::<Rounding>(r#"{"method": "ada-round", "step": 10}"#).is_err());
        let error = AdaRoundFit { steps: 0, ..Default::default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "`steps` is 0, but it must be 1 or more");
    }
}
