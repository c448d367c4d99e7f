//! Post-training quantisation of a whole network.

use std::collections::BTreeMap;

use burn::tensor::{Device, TensorData};
use kd_graph::{Graph, Op};
use serde::{Deserialize, Serialize};

use super::beside::{Beside, add_to_bias, result, shift_without_data, up_to};
use super::calibration::{EMPTY, set_ranges, size};
use super::layer::{Layer, layers, sqnr};
use super::pairs::host;
use super::patches::{Geometry, Patches};
use super::reconstruct::{Rows, bit_split};
use super::reproduce::Behind;
use super::{
    AbsorbedBias, AdaRoundFit, Calibration, DataFree, EqualisedPair, LayerReport, Moments, PostReport,
    Rounding, absorb_biases, equalise_graph,
};
use crate::error::in_range;
use crate::plan::QuantPlan;
use crate::{Granularity, QuantError};

/// How a trained network is quantised without training.
///
/// In this order: batch normalisations are folded; channels equalised; biases absorbed; a plan's quantisers put in; the activations' ranges found; then layer by layer, each
/// fed by the quantised layers before it, weights are rounded and the bias is corrected. The result is a graph with the same nodes as training with quantisers
/// gives, so that it can be trained further, saved, and computed in integers.
///
/// | Setting | Default | Purpose |
/// |---|---|---|
/// | `equalise` | no | [`equalise_graph`]: worth it when a scale is shared by a whole weight |
/// | `absorb-bias` | no | [`absorb_biases`], where statistics are known without data: smaller ranges behind equalised layers |
/// | `rounding` | nearest | [`Rounding`] |
/// | `correct-bias` | yes | takes back the mean error of every channel ([`bias_correction`](super::bias_correction)) |
/// | `places` | 2048 | of a layer's output to reconstruct it at, at least one per example |
/// | `seed` | 0 | their choice |
/// | `data-free` | | [`DataFree`] |
///
/// ```
/// use burn::tensor::{Device, Tensor, TensorData};
/// use kd_graph::{Activation, Graph, GraphModule, Op, Role, Shape, TensorType, Value};
/// use kd_quant::plan::{PlanSettings, QuantPlan, kernels};
/// use kd_quant::post::{Calibration, PostTraining};
///
/// # let device = Device::flex();
/// # let mut graph = Graph::new();
/// # let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// # let w1 = graph.parameter("a.weight", Role::Weight, TensorData::from([[0.5f32, -1.0], [0.25, 0.75]]))?;
/// # let w2 = graph.parameter("b.weight", Role::Weight, TensorData::from([[0.5f32, -1.0], [0.25, 0.75]]))?;
/// # let a = graph.add("a", Op::Linear, &[x, w1])?;
/// # let relu = graph.add("relu", Op::Activation(Activation::Relu), &[a])?;
/// # let b = graph.add("b", Op::Linear, &[relu, w2])?;
/// # graph.set_outputs(&[b])?;
/// // `graph` is a traced network.
/// let settings = PostTraining::default();
/// let prepared = settings.prepare(&graph)?;
/// let plan = QuantPlan::new(prepared.graph(), &PlanSettings::int8()?)?; // to be read and edited
/// let batches = [Value::all(Tensor::<2>::from_data([[1.0, 2.0], [3.0, -1.0]], &device))];
/// let (quantised, report) = settings.run(&prepared, &plan, Calibration::Batches(&batches), &device)?;
/// assert!(report.layers[0].weight_sqnr > 40.0);
/// let module = GraphModule::with_kernels(quantised.clone(), &device, &kernels(&quantised)?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PostTraining {
    /// Whether channels are equalised from layer to layer.
    pub equalise: bool,
    /// Whether what rectifiers never cut goes into the next layers' biases.
    pub absorb_bias: bool,
    /// How weights become codes.
    pub rounding: Rounding,
    /// Whether the mean error of every channel is taken back.
    pub correct_bias: bool,
    /// How many rows a layer is reconstructed from.
    pub places: usize,
    /// Chooses them.
    pub seed: u64,
    /// How ranges and means are estimated without data.
    pub data_free: DataFree,
}

impl Default for PostTraining {
    fn default() -> Self {
        Self {
            equalise: false,
            absorb_bias: false,
            rounding: Rounding::default(),
            correct_bias: true,
            places: 2048,
            seed: 0,
            data_free: DataFree::default(),
        }
    }
}

/// A float network ready for a plan: batch normalisations folded, channels equalised, biases absorbed.
#[derive(Clone, Debug)]
pub struct Prepared {
    graph: Graph,
    moments: BTreeMap<String, Moments>,
    pairs: Vec<EqualisedPair>,
    absorbed: Vec<AbsorbedBias>,
    folded: Vec<String>,
    kept: Vec<(String, String)>,
}

impl Prepared {
    /// The network; what plans are made for.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What is known of its activations without data, by the name of the node.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Which layers were equalised.
    pub fn pairs(&self) -> &[EqualisedPair] {
        &self.pairs
    }

    /// Which biases were absorbed.
    pub fn absorbed(&self) -> &[AbsorbedBias] {
        &self.absorbed
    }
}

impl PostTraining {
    /// Checks every value.
    ///
    /// # Errors
    /// [`QuantError::Setting`].
    pub fn validate(&self) -> Result<(), QuantError> {
        in_range("places", self.places, self.places > 0, "1 or more")?;
        if let Rounding::AdaRound(fit) = &self.rounding {
            fit.validate()?;
        }
        self.data_free.validate()
    }

    /// Folds, equalises and absorbs.
    ///
    /// # Errors
    /// [`QuantError::Setting`]; [`QuantError::NonFinite`] for weights that are not finite.
    pub fn prepare(&self, graph: &Graph) -> Result<Prepared, QuantError> {
        self.validate()?;
        let mut moments = self.data_free.moments(graph)?;
        let mut behind: BTreeMap<String, String> = BTreeMap::new();
        for (_, node) in graph.nodes() {
            if let (Op::BatchNorm(_), Some(&layer)) = (node.op(), node.inputs().first()) {
                behind.insert(node.name().to_owned(), graph.node(layer)?.name().to_owned());
            }
        }
        let mut prepared = graph.clone();
        let rewritten = prepared.fold_batch_norm()?;
        // A layer gives now what the normalisation behind it gave.
        for norm in &rewritten.removed {
            if let (Some(of_norm), Some(layer)) = (moments.remove(norm), behind.get(norm)) {
                moments.insert(layer.clone(), of_norm);
            }
        }
        let pairs = if self.equalise { equalise_graph(&mut prepared)? } else { Vec::new() };
        for pair in &pairs {
            for name in &pair.between {
                if let Some(of) = moments.get_mut(name) {
                    *of = of.divided(&pair.scale);
                }
            }
        }
        let absorbed = if self.absorb_bias { absorb_biases(&mut prepared, &moments)? } else { Vec::new() };
        for AbsorbedBias { first, between, shift, .. } in &absorbed {
            for name in between {
                if let Some(of) = moments.get_mut(name) {
                    *of = of.less(shift, name != first);
                }
            }
        }
        let (folded, kept) = (rewritten.removed, rewritten.kept);
        Ok(Prepared { graph: prepared, moments, pairs, absorbed, folded, kept })
    }

    /// Quantises a prepared network by a plan for it.
    ///
    /// # Errors
    /// [`QuantError::Empty`] for an empty calibration set; [`QuantError::Plan`] for a plan of another network, a weight that is constant or not finite, an
    /// activation that is zero throughout or, without data, unknown; [`QuantError::Setting`] for a rounding that does not go with the plan's quantisers;
    /// [`QuantError::Run`] when the network does not take a batch.
    pub fn run(
        &self,
        prepared: &Prepared,
        plan: &QuantPlan,
        calibration: Calibration<'_>,
        device: &Device,
    ) -> Result<(Graph, PostReport), QuantError> {
        self.validate()?;
        let device = device.clone().without_autodiff();
        let mut quantised = plan.apply(&prepared.graph)?;
        let layers = layers(&quantised)?;
        // Before any time is spent.
        for layer in &layers {
            layer.rows(&quantised)?;
            self.check(layer, calibration)?;
        }
        set_ranges(&mut quantised, calibration, &prepared.moments, &device)?;
        let mut report = PostReport {
            folded: prepared.folded.clone(),
            kept: prepared.kept.clone(),
            absorbed: prepared.absorbed.iter().map(|of| (of.first.clone(), of.second.clone())).collect(),
            equalised: prepared.pairs.iter().map(|pair| (pair.first.clone(), pair.second.clone())).collect(),
            layers: Vec::with_capacity(layers.len()),
        };
        for layer in &layers {
            let done = match calibration {
                Calibration::Batches(batches) => {
                    let beside = Beside { float: &prepared.graph, batches, device: &device };
                    self.layer(&beside, &mut quantised, layer)?
                }
                Calibration::Statistics => self.layer_without_data(prepared, &mut quantised, layer)?,
            };
            tracing::info!("{}: {} ({:.1} dB)", done.layer, done.rounding, done.weight_sqnr);
            report.layers.push(done);
        }
        Ok((quantised, report))
    }

    /// Whether the rounding goes with a layer's quantiser.
    fn check(&self, layer: &Layer, calibration: Calibration<'_>) -> Result<(), QuantError> {
        let data = matches!(calibration, Calibration::Batches(_));
        let needs_data = match self.rounding {
            Rounding::Nearest {} => return Ok(()),
            Rounding::AdaRound(_) => true,
            Rounding::BitSplit { epochs } => epochs > 0,
        };
        in_range("rounding", self.rounding.name(), data || !needs_data, "`nearest` without data")?;
        let wrong = |why: String| QuantError::Plan { name: layer.path.clone(), why };
        let Some(uniform) = layer.uniform() else {
            let why = format!("gets {}; {} is for `uniform`", layer.site.quantizer, self.rounding.name());
            return Err(wrong(why));
        };
        let by_rows = matches!(
            uniform.granularity,
            Granularity::Tensor | Granularity::Channel { axis: 0 } | Granularity::Group { axis: 0, .. }
        );
        if !by_rows {
            let name = self.rounding.name();
            return Err(wrong(format!(
                "has scales by {}; {name} takes them by output channel",
                uniform.granularity
            )));
        }
        if let Rounding::BitSplit { .. } = self.rounding {
            let most = (1 << (uniform.grid.bits() - 1)) - 1;
            let holds = uniform.grid.min() <= -most && uniform.grid.max() >= most && uniform.grid.bits() >= 2;
            if !holds || uniform.granularity != (Granularity::Channel { axis: 0 }) {
                let why = "needs signed codes and a scale per output channel (axis 0) for bit-split";
                return Err(wrong(why.to_owned()));
            }
        }
        Ok(())
    }

    fn layer(
        &self,
        beside: &Beside<'_>,
        quantised: &mut Graph,
        layer: &Layer,
    ) -> Result<LayerReport, QuantError> {
        let rows = layer.rows(quantised)?;
        let mut note = None;
        let geometry = Geometry::of(&layer.op, &layer.shape);
        match (&self.rounding, geometry) {
            (Rounding::Nearest {}, _) => {}
            (_, None) => note = Some("no reconstruction for this kind of layer".to_owned()),
            (_, Some(geometry)) => {
                let mut patches = vec![Patches::default(); geometry.groups()];
                self.collect(beside, quantised, layer, &geometry, &mut patches)?;
                self.round(quantised, layer, &rows, &patches, beside.device)?;
            }
        }
        let errors = beside.errors(quantised, layer)?;
        let mut bias_shift = None;
        if self.correct_bias {
            match add_to_bias(quantised, layer, &errors.means())? {
                Ok(shift) => bias_shift = Some(shift),
                Err(why) => note = note.or(Some(why)),
            }
        }
        Ok(LayerReport {
            layer: layer.name.clone(),
            weight: layer.path.clone(),
            quantizer: layer.site.quantizer.to_string(),
            rounding: self.rounding.name(),
            weight_sqnr: sqnr(&rows, &layer.quantised(quantised, &layer.rows(quantised)?)?)?,
            output_sqnr: Some(errors.sqnr(bias_shift.is_some())),
            bias_shift,
            note,
        })
    }

    fn layer_without_data(
        &self,
        prepared: &Prepared,
        quantised: &mut Graph,
        layer: &Layer,
    ) -> Result<LayerReport, QuantError> {
        let rows = layer.rows(quantised)?;
        if let Rounding::BitSplit { .. } = self.rounding {
            let groups = Geometry::of(&layer.op, &layer.shape).map_or(1, |geometry| geometry.groups());
            let width = rows.len() / layer.channels.max(1);
            let channels = layer.channels / groups;
            let patches = vec![Patches { width, channels, ..Patches::default() }; groups];
            self.round(quantised, layer, &rows, &patches, &host())?;
        }
        let now = layer.quantised(quantised, &layer.rows(quantised)?)?;
        let (mut bias_shift, mut note) = (None, None);
        if self.correct_bias {
            let input = prepared.graph.node(layer.node)?.inputs().first().copied();
            let input = input.map(|id| prepared.graph.node(id)).transpose()?;
            match input.and_then(|node| prepared.moments.get(node.name())) {
                Some(moments) => {
                    let shift = shift_without_data(layer, &rows, &now, &moments.mean)?;
                    match add_to_bias(quantised, layer, &shift)? {
                        Ok(shift) => bias_shift = Some(shift),
                        Err(why) => note = Some(why),
                    }
                }
                None => note = Some("the mean of its input is not known without data".to_owned()),
            }
        }
        Ok(LayerReport {
            layer: layer.name.clone(),
            weight: layer.path.clone(),
            quantizer: layer.site.quantizer.to_string(),
            rounding: self.rounding.name(),
            weight_sqnr: sqnr(&rows, &now)?,
            output_sqnr: None,
            bias_shift,
            note,
        })
    }

    /// Inputs as the quantised network gives them, outputs of the float layer without its bias.
    fn collect(
        &self,
        beside: &Beside<'_>,
        quantised: &Graph,
        layer: &Layer,
        geometry: &Geometry<'_>,
        patches: &mut [Patches],
    ) -> Result<(), QuantError> {
        let examples: usize = beside.batches.iter().map(|batch| size(batch)).sum();
        let places = self.places.div_ceil(examples.max(1));
        let input = quantised.node(layer.node)?.inputs().first().copied().ok_or(EMPTY)?;
        let (float, now) =
            (up_to(beside.float, layer.node, beside.device)?, up_to(quantised, input, beside.device)?);
        for (index, batch) in beside.batches.iter().enumerate() {
            let (x, y) = (result(&now, batch)?, result(&float, batch)?);
            let seed = self.seed ^ ((layer.index as u64) << 32) ^ index as u64;
            geometry.collect((&x.0, &x.1), (&y.0, &y.1), places, seed, patches)?;
        }
        let bounds = match self.rounding {
            Rounding::AdaRound(AdaRoundFit { activation: true, .. }) => layer.rectifier(beside.float),
            _ => None,
        };
        let bias = layer.bias.and_then(|bias| beside.float.value(bias));
        let bias: Vec<f32> = bias.map(|bias| bias.iter::<f32>().collect()).unwrap_or_default();
        for (group, patch) in patches.iter_mut().enumerate() {
            let channels = patch.channels.max(1);
            let of_group = |c: usize| bias.get(group * channels + c).copied().unwrap_or(0.0);
            let bias: Vec<f32> = (0..channels).map(of_group).collect();
            for row in patch.outputs.chunks_mut(channels) {
                row.iter_mut().zip(&bias).for_each(|(y, b)| *y -= b);
            }
            patch.behind = bounds.map(|[low, high]| Behind { low, high, bias });
        }
        Ok(())
    }

    /// Puts rounded weights, and Bit-Split's scales, into the graph.
    fn round(
        &self,
        graph: &mut Graph,
        layer: &Layer,
        rows: &[f32],
        patches: &[Patches],
        device: &Device,
    ) -> Result<(), QuantError> {
        let Some(uniform) = layer.uniform() else { return Ok(()) };
        let parameters = layer.parameters(graph);
        let (Some(scale), Some(zero_point)) = (parameters.first(), parameters.get(1)) else { return Ok(()) };
        let groups = patches.len().max(1);
        let part = |values: &[f32], group: usize| -> Vec<f32> {
            if uniform.granularity == Granularity::Tensor {
                return values.to_vec();
            }
            values.chunks((values.len() / groups).max(1)).nth(group).unwrap_or_default().to_vec()
        };
        let (mut rounded, mut scales) = (Vec::with_capacity(rows.len()), Vec::new());
        for (group, (patch, rows)) in
            patches.iter().zip(rows.chunks((rows.len() / groups).max(1))).enumerate()
        {
            match self.rounding {
                Rounding::Nearest {} => rounded.extend(rows),
                Rounding::AdaRound(fit) => {
                    let (scale, zero_point) = (part(scale, group), part(zero_point, group));
                    let rows = Rows {
                        grid: uniform.grid,
                        granularity: uniform.granularity,
                        weights: rows,
                        scale: &scale,
                        zero_point: &zero_point,
                    };
                    rounded.extend(fit.fit(rows, patch, device)?);
                }
                Rounding::BitSplit { epochs } => {
                    let (rows, of_rows) = bit_split(uniform.grid.bits(), epochs, rows, patch)?;
                    rounded.extend(rows);
                    scales.extend(of_rows);
                }
            }
        }
        graph.edit(|edit| {
            layer.set_rows(edit, rounded)?;
            if let (false, Some(&scale)) = (scales.is_empty(), layer.site.parameters.first()) {
                let length = scales.len();
                edit.set_value(scale, TensorData::new(scales, [length]))?;
            }
            Ok(())
        })?;
        Ok(())
    }
}
