//! Tracing: from a burn module and its forward pass to a [`Graph`].

mod assemble;
mod capture;
mod custom;
mod draft;
mod error;
mod lower;
mod momentum;
mod names;
mod pair;
mod parameters;
mod quiet;
mod raise;
mod resize;
mod tensors;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use burn::module::Module;

use crate::Graph;
use assemble::{Sources, assemble, running_mean};
use capture::{Recording, record};
use draft::Draft;
use momentum::momenta;
use pair::{BATCHES, pair};
use parameters::training;
use quiet::quietly;
use raise::raise;
use resize::resize;

pub use custom::CustomOp;
pub use error::TraceError;
pub use tensors::{TensorMap, Tensors};

/// Traces a model with the usual options: see [`Tracer`].
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::activation::relu;
/// use burn::tensor::{Device, Tensor};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     hidden: Linear,
///     output: Linear,
/// }
///
/// # let device = Device::flex();
/// let net = Net {
///     hidden: LinearConfig::new(4, 8).init(&device),
///     output: LinearConfig::new(8, 2).init(&device),
/// };
/// let graph = kd_graph::trace(&net, Tensor::<2>::zeros([1, 4], &device), |net, x| {
///     net.output.forward(relu(net.hidden.forward(x)))
/// })?;
/// let names: Vec<_> = graph.nodes().filter(|(_, node)| !node.op().is_leaf()).map(|(_, node)| node.name()).collect();
/// assert_eq!(names, ["hidden", "relu", "output"]);
/// # Ok::<(), kd_graph::TraceError>(())
/// ```
///
/// # Errors
/// [`TraceError`] says where the model does something that graphs cannot hold.
pub fn trace<M, I, O>(model: &M, sample: I, forward: impl Fn(&M, I) -> O) -> Result<Graph, TraceError>
where
    M: Module,
    I: Tensors,
    O: Tensors,
{
    Tracer::new().trace(model, sample, forward)
}

/// Records a model's forward pass at three batch sizes and puts the graph together that fits all of them.
///
/// burn's capture device writes operations down instead of computing them, as in evaluation. The momentum of batch normalisations does not show
/// there: a copy of a model that has any computes one training pass on its own device, of one example. The model stays as it is; parameters that burn has not initialised yet are, as by any first use, and pending
/// running statistics are merged, as by [`Module::valid`]. A reparameterised weight is traced with its present value.
///
/// | Name | Default | Purpose |
/// |---|---|---|
/// | [`batch_axis`](Self::batch_axis) | 0 of every input | which axis is the batch, or that an input has none |
/// | [`input_names`](Self::input_names) | `input`, `input_1`, ... | names of the inputs |
/// | [`custom`](Self::custom) | none | operations beyond the graph's own |
///
/// **Names.** A layer takes the path of its module (`layer2.0.conv1`), its second call `layer2.0.conv1@2`. Any other node takes the scope of the
/// last-executed layer that it depends on, and its operation (`layer2.0.add`, `layer2.0.relu_1`). Parameters take their paths.
///
/// **Limits.** A slice that burn has cut off at the end of the batch counts as the whole batch. Parameters that the pass does not use are not in the
/// graph. Layers that act in training only, as dropout, are listed by [`Graph::unseen`].
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    axes: BTreeMap<usize, Option<usize>>,
    names: Vec<String>,
    custom: Vec<Arc<dyn CustomOp>>,
}

impl Tracer {
    /// With the usual options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says which axis of an input is the batch; `None` for an input that all examples share. Inputs are counted from 0 in the order of [`Tensors`].
    #[must_use]
    pub fn batch_axis(mut self, input: usize, axis: impl Into<Option<usize>>) -> Self {
        self.axes.insert(input, axis.into());
        self
    }

    /// Names the inputs, in order; those left over keep their usual names.
    #[must_use]
    pub fn input_names<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Registers an operation that graphs do not know. It goes before the graph's own operations.
    #[must_use]
    pub fn custom(mut self, op: impl CustomOp + 'static) -> Self {
        self.custom.push(Arc::new(op));
        self
    }

    /// Traces a model. The sample may hold any number of examples from one on: rows are repeated or left out.
    ///
    /// # Errors
    /// [`TraceError`] says where the model does something that graphs cannot hold.
    pub fn trace<M, I, O>(
        &self,
        model: &M,
        sample: I,
        forward: impl Fn(&M, I) -> O,
    ) -> Result<Graph, TraceError>
    where
        M: Module,
        I: Tensors,
        O: Tensors,
    {
        let model = model.valid().materialize();
        let sample_at = |batch| resize(sample.clone(), batch, &self.axes);
        let samples = BATCHES.into_iter().map(sample_at).collect::<Result<Vec<_>, _>>()?;
        let recording = record(&model, samples, &forward)?;
        let read = |pass| -> Result<Draft, TraceError> {
            let mut draft = Draft::read(pass, &recording, &self.custom)?;
            raise(&mut draft);
            Ok(draft)
        };
        let drafts = recording.passes.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let [a, b, c] = &drafts[..] else {
            return Err(TraceError::Capture { reason: "a pass is missing".to_owned() });
        };
        let draft = pair([a, b, c], &recording)?;
        let training = quietly(|| training(&model))
            .map_err(|panicked| TraceError::Capture { reason: panicked.message })?;
        if !training.unseen.is_empty() {
            let layers: Vec<_> = training.unseen.iter().map(ToString::to_string).collect();
            tracing::info!(?layers, "these layers act in training only, so that a graph does not have them");
        }
        let momenta = self.momenta(&model, &sample, &forward, &draft, &recording)?;
        assemble(&draft, &Sources { recording: &recording, training, momenta, inputs: &self.names })
    }

    /// Momentum of the batch normalisations of a draft, by the path of the running mean.
    fn momenta<M: Module, I: Tensors, O>(
        &self,
        model: &M,
        sample: &I,
        forward: impl Fn(&M, I) -> O,
        draft: &Draft,
        recording: &Recording,
    ) -> Result<HashMap<String, f64>, TraceError> {
        let mut calls = HashMap::new();
        for mean in (0..draft.steps.len()).filter_map(|step| running_mean(draft, step, recording)) {
            *calls.entry(mean.to_owned()).or_insert(0) += 1;
        }
        if calls.is_empty() {
            return Ok(HashMap::new());
        }
        // One example is the cheapest; a model that cannot take a single one is asked again with two.
        let at = |batch| -> Result<_, TraceError> {
            Ok(momenta(model, resize(sample.clone(), batch, &self.axes)?, &forward, &calls))
        };
        let found = match at(1)? {
            Err(_) => at(BATCHES[0])?,
            found => found,
        };
        let reason = found.as_ref().err().cloned();
        let found = found.unwrap_or_default();
        let mut missing: Vec<_> = calls.keys().filter(|path| !found.contains_key(*path)).collect();
        if !missing.is_empty() {
            missing.sort();
            tracing::warn!(
                running_means = ?missing, ?reason,
                "the momentum of these batch normalisations is unknown; set it before the graph is trained"
            );
        }
        Ok(found)
    }
}
