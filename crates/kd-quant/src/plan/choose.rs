//! Which tensor of a network gets which quantiser.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use comfy_table::{LineStyle, Table, presets};
use kd_graph::{Binary, Graph, NodeId, Op, PoolKind};
use serde::{Deserialize, Serialize};

use super::walk::{Layer, can_be_negative, depends_on_input, layers, matches, network, source};
use super::{PlanSettings, Quantizer, fold, scale};
use crate::{DorefaGradient, QuantError};

/// A quantiser of an activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The method.
    pub quantizer: Quantizer,
    /// Activations of one group share their parameters: what is added or concatenated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether only quantised layers read the codes: sums, shortcuts and results then go on reading the tensor as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub layers_only: bool,
}

/// Which tensor gets which quantiser: made by [`new`](Self::new), to be read (as a table), edited and saved (serde), then applied.
///
/// ```text
/// let mut plan = QuantPlan::new(&graph, &PlanSettings::lsq(4)?)?;
/// println!("{plan}");
/// plan.weights.insert("layer3.0.conv1.weight".into(), Quantizer::lsq_weight(2)?);
/// let quantised = plan.apply(&graph)?;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantPlan {
    /// Learned parameters of the network and their shapes, by path: a plan is for one network.
    pub network: BTreeMap<String, Vec<usize>>,
    /// By the path of the parameter.
    pub weights: BTreeMap<String, Quantizer>,
    /// By the name of the node that makes the activation.
    pub activations: BTreeMap<String, Point>,
    /// By the name of the layer whose result's gradient is quantised.
    #[serde(default)]
    pub gradients: BTreeMap<String, DorefaGradient>,
    /// Names of batch normalisations that are folded into the convolution or linear layer in front while it trains.
    #[serde(default)]
    pub folded: BTreeSet<String>,
    /// Names of binary layers whose results are multiplied with the map of their activations' scales ([`ScaleMap`](crate::binary::ScaleMap)).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scaled: BTreeSet<String>,
}

impl QuantPlan {
    /// Spreads settings over a network.
    ///
    /// # Errors
    /// [`QuantError::Setting`]; [`QuantError::Plan`] for a network without layers, and a pattern that no layer matches.
    pub fn new(graph: &Graph, settings: &PlanSettings) -> Result<Self, QuantError> {
        settings.validate()?;
        let layers = layers(graph)?;
        for pattern in &settings.exclude {
            if !layers.iter().any(|layer| matches(pattern, &layer.name)) {
                let why =
                    format!("excludes no layer; the nearest are {}", nearest(pattern, &layers).join(", "));
                return Err(QuantError::Plan { name: pattern.clone(), why });
            }
        }
        let (Some(first), Some(last)) = (layers.first(), layers.last()) else {
            let why = "has no convolution and no linear layer".to_owned();
            return Err(QuantError::Plan { name: "the network".to_owned(), why });
        };
        let mut plan = Self { network: network(graph)?, ..Self::default() };
        let mut sources: BTreeMap<NodeId, Quantizer> = BTreeMap::new();
        for layer in &layers {
            if settings.exclude.iter().any(|pattern| matches(pattern, &layer.name)) {
                continue;
            }
            let end = layer.node == first.node || layer.node == last.node;
            let Some((weight, activation)) = settings.of_layer(end)? else { continue };
            plan.weights.insert(layer.weight.clone(), weight);
            let input = matches!(graph.node(layer.source)?.op(), Op::Input);
            // The image is no feature: binary networks take it as it is.
            if let Some(activation) =
                activation.filter(|activation| !(input && activation.wants_norm_in_front()))
            {
                // An activation read by several layers gets the finest of their quantisers.
                let finest = match sources.remove(&layer.source) {
                    Some(other) if other.bits() > activation.bits() => other,
                    _ => activation,
                };
                sources.insert(layer.source, finest);
            }
            if let Some(gradients) = settings.gradients {
                plan.gradients.insert(layer.name.clone(), gradients);
            }
        }
        if settings.fold_batch_norm {
            plan.folded = foldable(graph, &layers, &plan.weights)?;
        }
        let mut groups = Groups::default();
        if let (true, Some(activation)) = (settings.everywhere, &settings.activations) {
            for (id, node) in graph.nodes() {
                let joins = match node.op() {
                    Op::Binary(Binary::Add) | Op::Cat { .. } => true,
                    Op::Pool(pool) => !matches!(pool.kind, PoolKind::Max),
                    Op::AdaptiveAvgPool { .. } | Op::Reduce { .. } => true,
                    _ => false,
                };
                if !joins || !depends_on_input(graph, id)? {
                    continue;
                }
                let mut members = Vec::new();
                for &input in node.inputs() {
                    let source = source(graph, input)?;
                    if depends_on_input(graph, source)? {
                        sources.entry(source).or_insert_with(|| activation.clone());
                        members.push(source);
                    }
                }
                groups.join(&members);
            }
        }
        for (&source, quantizer) in &sources {
            let members = groups.of(source);
            let mut negative = false;
            for &member in &members {
                negative |= can_be_negative(graph, member)?;
            }
            let finest = members.iter().filter_map(|member| sources.get(member)).max_by_key(|q| q.bits());
            let point = Point {
                quantizer: finest.unwrap_or(quantizer).for_sign(negative)?,
                group: match members.first() {
                    Some(&head) if members.len() > 1 => Some(graph.node(head)?.name().to_owned()),
                    _ => None,
                },
                layers_only: !settings.everywhere,
            };
            plan.activations.insert(graph.node(source)?.name().to_owned(), point);
        }
        if settings.scale_map {
            for layer in &layers {
                let signs = plan.activations.get(graph.node(layer.source)?.name());
                let signs = signs.is_some_and(|point| matches!(point.quantizer, Quantizer::Sign(_)));
                if signs && plan.weights.contains_key(&layer.weight) {
                    scale::window(graph, layer.node)?;
                    plan.scaled.insert(layer.name.clone());
                }
            }
        }
        Ok(plan)
    }
}

impl fmt::Display for QuantPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
        table.set_header(["tensor", "quantiser", "read by", "group"]);
        let mut row = |tensor: String, quantiser: String, read_by: &str, group: &str| {
            table.add_row([tensor, quantiser, read_by.to_owned(), group.to_owned()]);
        };
        for (path, quantizer) in &self.weights {
            row(path.clone(), quantizer.to_string(), "", "");
        }
        for (name, Point { quantizer, group, layers_only }) in &self.activations {
            let read_by = if *layers_only { "layers" } else { "all" };
            row(name.clone(), quantizer.to_string(), read_by, group.as_deref().unwrap_or_default());
        }
        for (name, DorefaGradient { bits }) in &self.gradients {
            row(format!("gradient of {name}"), format!("dorefa-gradient {bits} bit"), "", "");
        }
        for name in &self.folded {
            row(name.clone(), "folded into the layer in front".to_owned(), "", "");
        }
        for name in &self.scaled {
            row(format!("result of {name}"), "map of scales".to_owned(), "", "");
        }
        write!(f, "{table}")
    }
}

/// Up to three names of layers that are most like a pattern, best first.
fn nearest<'a>(pattern: &str, layers: &'a [Layer]) -> Vec<&'a str> {
    let like = |name: &str| strsim::jaro_winkler(&pattern.replace('*', ""), name);
    let mut names: Vec<_> = layers.iter().map(|layer| layer.name.as_str()).collect();
    names.sort_by(|a, b| like(b).total_cmp(&like(a)).then(a.cmp(b)));
    names.truncate(3);
    names
}

/// The batch normalisations behind layers whose weights get a grid.
fn foldable(
    graph: &Graph,
    layers: &[Layer],
    weights: &BTreeMap<String, Quantizer>,
) -> Result<BTreeSet<String>, QuantError> {
    let mut names = BTreeSet::new();
    for (id, node) in graph.nodes() {
        let Ok(pair) = fold::pair(graph, id)? else { continue };
        let weight = layers.iter().find(|layer| layer.node == pair.layer).map(|layer| &layer.weight);
        let quantizer = weight.and_then(|weight| weights.get(weight));
        if matches!(quantizer, Some(Quantizer::Uniform(_) | Quantizer::Lsq(_))) {
            names.insert(node.name().to_owned());
        }
    }
    Ok(names)
}

/// Activations that have to share a scale.
#[derive(Default)]
struct Groups(Vec<BTreeSet<NodeId>>);

impl Groups {
    fn join(&mut self, members: &[NodeId]) {
        if members.len() < 2 {
            return;
        }
        let mut joined: BTreeSet<NodeId> = members.iter().copied().collect();
        self.0.retain(|group| {
            let apart = group.is_disjoint(&joined);
            if !apart {
                joined.extend(group);
            }
            apart
        });
        self.0.push(joined);
    }

    /// The members of the group that a node is in: itself alone if in none.
    fn of(&self, id: NodeId) -> Vec<NodeId> {
        let group = self.0.iter().find(|group| group.contains(&id));
        group.map_or_else(|| vec![id], |group| group.iter().copied().collect())
    }
}
