//! LASSO channel pruning of a network: layer by layer, from sampled responses.

use burn::tensor::Device;
use kd_graph::{Graph, GraphModule, Value};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::absorb::add_to_bias;
use crate::sampled_layer::{Layer, Samples};
use crate::{Array, PruneError, PrunePlan, lasso_channels, least_squares};

/// Responses that the choice of channels looks at, at most; the reconstruction takes all.
const RESPONSES: usize = 20_000;

/// Chooses channels by LASSO and then refits the layer that reads them by least squares, one layer after the other:
///
/// $$\min_{\beta, W} \frac{1}{2N} \Big\lVert Y - \sum_c \beta_c X_c W_c^T \Big\rVert_F^2 + \alpha \lVert \beta \rVert_1, \qquad \lVert \beta \rVert_0 \le \text{keep} \cdot C$$
///
/// first over $\beta$ ([`lasso_channels`]), then over $W$ with an intercept ([`least_squares`]). $Y$ are the responses of the network as it was, $X$ what the
/// layer reads in the network as it is by then, so that a layer makes up for what those before it lost. Nothing is trained. He et al., *Channel Pruning
/// for Accelerating Very Deep Neural Networks* (2017).
///
/// | key | default | range | meaning |
/// |---|---|---|---|
/// | `keep` | 0.5 | above 0, below 1 | share of the channels that stay; up to a tenth more do |
/// | `positions` | 10 | 1 or more | places per image where a convolution's response is sampled |
/// | `seed` | 0 | any | of the choice of places |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LassoPruning {
    /// Share of the channels that stay.
    pub keep: f64,
    /// Samples per image and convolution.
    pub positions: usize,
    /// Of the choice of samples.
    pub seed: u64,
}

impl Default for LassoPruning {
    fn default() -> Self {
        Self { keep: 0.5, positions: 10, seed: 0 }
    }
}

/// What became of a layer that reads fewer channels now.
#[derive(Clone, Debug, PartialEq)]
pub struct LassoLayer {
    /// Name of the layer.
    pub layer: String,
    /// Channels that it read.
    pub before: usize,
    /// Channels that it reads.
    pub after: usize,
    /// Mean square of the responses' error with its old weights, as a share of their variance.
    pub dropped: f64,
    /// The same with the refitted weights.
    pub refitted: f64,
}

/// What [`LassoPruning`] leaves.
#[derive(Clone, Debug)]
pub struct LassoPruned {
    /// The smaller network.
    pub graph: Graph,
    /// A line for every layer, in the order in which they were pruned.
    pub layers: Vec<LassoLayer>,
    /// What was removed, each for what the one before left.
    pub plans: Vec<PrunePlan>,
}

impl LassoPruning {
    /// Prunes what layers read in a network, in execution order, with the responses to some batches.
    ///
    /// Those layers are pruned that alone read a set of channels, as inside the blocks of residual networks; channels that several layers read, as those of
    /// a residual path, stay. `layers` names some of them; none stands for all.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for settings out of range; [`GraphError::UnknownName`](kd_graph::GraphError::UnknownName) with the nearest names, or
    /// [`PruneError::Missing`] for a layer that can't be pruned so; [`PruneError::Run`] for batches that the network can't take.
    pub fn run(
        &self,
        graph: &Graph,
        device: &Device,
        batches: &[Vec<Value>],
        layers: Option<&[String]>,
    ) -> Result<LassoPruned, PruneError> {
        if !(self.keep > 0.0 && self.keep < 1.0) {
            return Err(PruneError::setting("keep", self.keep, "above 0 and below 1"));
        }
        if self.positions == 0 || batches.is_empty() {
            let value = format!("{} of {} batches", self.positions, batches.len());
            return Err(PruneError::setting("positions", value, "1 or more, of 1 batch or more"));
        }
        let all: Vec<String> = graph
            .nodes()
            .filter(|(_, node)| Layer::of(graph, node.name()).is_ok_and(|layer| layer.is_some()))
            .map(|(_, node)| node.name().to_owned())
            .collect();
        for name in layers.into_iter().flatten() {
            graph.find(name)?;
            if !all.contains(name) {
                let (what, parameter) = ("set of channels of its own", name.clone());
                return Err(PruneError::Missing { what, parameter, known: all });
            }
        }
        let whole = GraphModule::new(graph.clone(), &device.clone().without_autodiff())?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut pruned = LassoPruned { graph: graph.clone(), layers: Vec::new(), plans: Vec::new() };
        for name in all.iter().filter(|name| layers.is_none_or(|layers| layers.contains(name))) {
            // What is left of its channels may have no choice any more.
            let Some(layer) = Layer::of(&pruned.graph, name)? else { continue };
            let samples = self.samples(&whole, &pruned.graph, &layer, batches, &mut rng)?;
            let (smaller, line, plan) = self.prune(&pruned.graph, &layer, &samples)?;
            tracing::info!("{}: {} of {} channels stay", line.layer, line.after, line.before);
            pruned.graph = smaller;
            pruned.layers.push(line);
            pruned.plans.push(plan);
        }
        Ok(pruned)
    }

    /// What the layer reads in the network as it is, and what it made of it in the network as it was.
    fn samples(
        &self,
        whole: &GraphModule,
        graph: &Graph,
        layer: &Layer,
        batches: &[Vec<Value>],
        rng: &mut ChaCha8Rng,
    ) -> Result<Samples, PruneError> {
        let module = GraphModule::new(graph.clone(), whole.device())?;
        let mut samples = Samples { columns: layer.features(), ..Samples::default() };
        for batch in batches {
            let (_, responses) = whole.run_tapped(batch.clone(), &[layer.id])?;
            let (_, inputs) = module.run_tapped(batch.clone(), &[layer.source])?;
            for (input, response) in inputs.iter().zip(&responses) {
                let (x, y) = (Array::from_data(&input.data()?)?, Array::from_data(&response.data()?)?);
                layer.sample(&x, &y, self.positions, rng, &mut samples);
            }
        }
        Ok(samples)
    }

    fn prune(
        &self,
        graph: &Graph,
        layer: &Layer,
        samples: &Samples,
    ) -> Result<(Graph, LassoLayer, PrunePlan), PruneError> {
        let weight = layer.rows(graph)?;
        let bias = layer.bias(graph)?;
        let channels = layer.channels.len();
        let rank = ((channels as f64 * self.keep).round() as usize).clamp(1, channels);
        // What every channel contributes to every response.
        let step = (samples.responses.len()).div_ceil(RESPONSES).max(1);
        let (mut z, mut y) = (Vec::new(), Vec::new());
        for index in (0..samples.responses.len()).step_by(step) {
            let (row, output) = (index / layer.outputs, index % layer.outputs);
            let (Some(x), Some(w)) = (samples.row(row), weight.get(output)) else { continue };
            z.extend(layer.channels.iter().map(|columns| columns.iter().map(|c| x[*c] * w[*c]).sum::<f64>()));
            y.push(samples.responses[index] - bias.get(output).copied().unwrap_or(0.0));
        }
        let kept = choose(&z, &y, channels, rank)?;
        let mut columns: Vec<usize> =
            kept.iter().filter_map(|channel| layer.channels.get(*channel)).flatten().copied().collect();
        columns.sort_unstable();
        let x: Vec<f64> = (0..samples.rows())
            .filter_map(|row| samples.row(row))
            .flat_map(|row| columns.iter().map(|c| row[*c]))
            .collect();
        let old: Vec<f64> = weight.iter().flat_map(|row| columns.iter().map(|c| row[*c])).collect();
        let (fitted, intercepts) = least_squares(&x, columns.len(), &samples.responses, layer.outputs)?;
        let variance = samples.variance(layer.outputs);
        let error = |weight: &[f64], bias: &[f64]| {
            let responses = samples.responses.chunks_exact(layer.outputs);
            let squares = x.chunks_exact(columns.len()).zip(responses).flat_map(|(row, responses)| {
                let outputs = weight.chunks_exact(columns.len()).zip(bias).zip(responses);
                outputs
                    .map(|((w, b), y)| (row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + b - y).powi(2))
            });
            squares.sum::<f64>() / variance
        };
        let (dropped, refitted) = (error(&old, &bias), error(&fitted, &intercepts));

        let gone =
            (0..channels).filter(|channel| !kept.contains(channel)).filter_map(|c| layer.positions.get(c));
        let plan = PrunePlan::new(graph, gone.copied())?;
        let mut smaller = plan.apply(graph)?;
        let weight = layer.weight_of(&fitted, columns.len(), &smaller)?;
        smaller.edit(|edit| edit.set_value(layer.weight, weight.to_data()))?;
        let shift: Vec<f32> = intercepts
            .iter()
            .enumerate()
            .map(|(output, new)| (new - bias.get(output).copied().unwrap_or(0.0)) as f32)
            .collect();
        if !add_to_bias(&mut smaller, layer.id, &shift)? {
            tracing::warn!("the bias of `{}` is shared: it stays as it was", layer.name);
        }
        let (before, after) = (channels, kept.len());
        Ok((smaller, LassoLayer { layer: layer.name.clone(), before, after, dropped, refitted }, plan))
    }
}

/// The channels that LASSO keeps. One that contributes the same to every response is not among them: it belongs in the intercept. Nor is there a choice
/// when no more than `rank` others are left.
fn choose(z: &[f64], y: &[f64], channels: usize, rank: usize) -> Result<Vec<usize>, PruneError> {
    let varies = |channel: &usize| {
        let mut values = z.iter().skip(*channel).step_by(channels);
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let alive: Vec<usize> = (0..channels).filter(varies).collect();
    if alive.is_empty() {
        return Ok(vec![0]);
    }
    if alive.len() <= rank {
        return Ok(alive);
    }
    let part: Vec<f64> = z
        .chunks_exact(channels)
        .flat_map(|row| alive.iter().filter_map(|channel| row.get(*channel).copied()))
        .collect();
    let kept = lasso_channels(&part, y, alive.len(), rank)?;
    Ok(kept.into_iter().filter_map(|index| alive.get(index).copied()).collect())
}
