//! Quantisers as operations of a graph.

use kd_graph::{Graph, GraphError, NodeId, Op, Role, Scalar};

use super::Quantizer;
use crate::QuantError;

/// What the names of these operations begin with.
const PREFIX: &str = "quantize.";

impl Quantizer {
    /// The operation. Its name is `quantize.`, the method and the settings as JSON: attributes of an operation are numbers, settings are not. `turned` says
    /// that the tensor's output channels are in axis 1, as a linear layer's are; `point` numbers the places whose ranges are observed.
    pub(crate) fn op(&self, turned: bool, point: usize) -> Result<Op, QuantError> {
        let settings = serde_json::to_string(self);
        let settings = settings.map_err(|error| QuantError::Run { why: error.to_string() })?;
        Ok(Op::Custom {
            name: format!("{PREFIX}{}{settings}", self.method()),
            attributes: vec![Scalar::Bool(turned), Scalar::Int(point as i64)],
        })
    }

    /// The quantiser of an operation, or none for another operation.
    ///
    /// # Errors
    /// [`QuantError::Plan`] for settings that can't be read.
    pub fn of(op: &Op) -> Result<Option<Self>, QuantError> {
        let Op::Custom { name, .. } = op else { return Ok(None) };
        Self::of_name(name)
    }

    pub(crate) fn of_name(name: &str) -> Result<Option<Self>, QuantError> {
        let Some((_, settings)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('{')) else {
            return Ok(None);
        };
        let wrong = |why: String| QuantError::Plan { name: name.to_owned(), why };
        let quantizer: Self = serde_json::from_str(&format!("{{{settings}"))
            .map_err(|error| wrong(format!("names no quantiser: {error}")))?;
        quantizer.validate()?;
        Ok(Some(quantizer))
    }
}

/// A quantiser in a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its node.
    pub node: NodeId,
    /// The method.
    pub quantizer: Quantizer,
    /// What it quantises.
    pub source: NodeId,
    /// The parameter behind the source, through masks, if it quantises a weight.
    pub weight: Option<NodeId>,
    /// Whether the weight's output channels are in axis 1.
    pub turned: bool,
    /// Number of the place; places of one number share their parameters.
    pub point: usize,
    /// The parameters' nodes, in the order of [`Quantizer::parameters`].
    pub parameters: Vec<NodeId>,
}

/// All quantisers of a graph, in execution order.
///
/// # Errors
/// [`QuantError::Plan`] for a node whose settings can't be read.
pub fn sites(graph: &Graph) -> Result<Vec<Site>, QuantError> {
    let mut sites = Vec::new();
    for (node, of) in graph.nodes() {
        let (Some(quantizer), Op::Custom { attributes, .. }) = (Quantizer::of(of.op())?, of.op()) else {
            continue;
        };
        let [source, parameters @ ..] = of.inputs() else { continue };
        sites.push(Site {
            node,
            quantizer,
            source: *source,
            weight: parameter_behind(graph, *source)?,
            turned: turned(attributes),
            point: point(attributes),
            parameters: parameters.to_vec(),
        });
    }
    Ok(sites)
}

pub(super) fn turned(attributes: &[Scalar]) -> bool {
    attributes.first() == Some(&Scalar::Bool(true))
}

pub(super) fn point(attributes: &[Scalar]) -> usize {
    match attributes.get(1) {
        Some(Scalar::Int(point)) => usize::try_from(*point).unwrap_or_default(),
        _ => 0,
    }
}

/// The learned parameter that a node passes on, through masks and the like: none as soon as an activation takes part.
pub(super) fn parameter_behind(graph: &Graph, id: NodeId) -> Result<Option<NodeId>, GraphError> {
    let node = graph.node(id)?;
    match node.op() {
        Op::Parameter { role: Role::Weight, .. } => return Ok(Some(id)),
        Op::Parameter { .. } | Op::Constant | Op::Input => return Ok(None),
        _ => {}
    }
    let mut found = None;
    for &input in node.inputs() {
        match graph.node(input)?.op() {
            Op::Parameter { role: Role::Buffer, .. } | Op::Constant => {}
            _ => match parameter_behind(graph, input)? {
                Some(parameter) => found = found.or(Some(parameter)),
                None => return Ok(None),
            },
        }
    }
    Ok(found)
}
