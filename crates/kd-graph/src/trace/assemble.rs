//! From a draft with symbolic sizes to the graph.

use std::collections::HashMap;

use super::TraceError;
use super::capture::Recording;
use super::draft::{Draft, Leaf};
use super::momentum::momenta;
use super::names::{inside, names};
use super::parameters::Held;
use crate::graph::Unseen;
use crate::{Graph, NodeId, Op, Role};

/// Where names and values come from.
pub(super) struct Sources<'a> {
    /// In evaluation.
    pub(super) recording: &'a Recording,
    /// In training.
    pub(super) training: &'a Recording,
    /// Names of the first inputs.
    pub(super) inputs: &'a [String],
}

pub(super) fn assemble(mut draft: Draft, sources: &Sources<'_>) -> Result<Graph, TraceError> {
    set_momenta(&mut draft, sources);
    let held = &sources.recording.held;
    let paths: Vec<_> = held.iter().map(|held| held.path.as_str()).collect();
    let named = names(&draft, &paths);
    let mut building =
        Building { graph: Graph::new(), sources, first: tied(sources.recording), nodes: HashMap::new() };
    for (number, &position) in draft.inputs.iter().enumerate() {
        let name = sources.inputs.get(number).map_or("input", String::as_str);
        let name = building.graph.free_name(name);
        let id = building.graph.input(&name, draft.steps[position].output.clone())?;
        building.nodes.insert(position, id);
    }
    for (position, step) in draft.steps.iter().enumerate().filter(|(_, step)| step.leaf.is_none()) {
        let scope = &named.scopes[position];
        let inputs: Vec<_> =
            step.inputs.iter().map(|&input| building.node(&draft, input, scope)).collect::<Result<_, _>>()?;
        let name = building.graph.free_name(&named.names[position]);
        let id = building.graph.push(&name, step.op.clone(), inputs, step.output.clone())?;
        building.nodes.insert(position, id);
    }
    let outputs: Vec<_> =
        draft.outputs.iter().map(|&output| building.node(&draft, output, "")).collect::<Result<_, _>>()?;
    let mut graph = building.graph;
    graph.set_outputs(&outputs)?;
    graph.unseen = unseen(sources.training);
    Ok(graph)
}

struct Building<'a> {
    graph: Graph,
    sources: &'a Sources<'a>,
    /// For every tensor of the module, the first one that is tied to it.
    first: Vec<usize>,
    nodes: HashMap<usize, NodeId>,
}

impl Building<'_> {
    /// The node of a step; a leaf is added when it is first used.
    fn node(&mut self, draft: &Draft, position: usize, scope: &str) -> Result<NodeId, TraceError> {
        if let Some(&id) = self.nodes.get(&position) {
            return Ok(id);
        }
        let id = match draft.steps[position].leaf {
            Some(Leaf::Held(number)) => self.parameter(self.first[number])?,
            Some(Leaf::Data(tensor)) => {
                let name = self.graph.free_name(&inside(scope, "constant"));
                let value = self.sources.recording.values.get(&tensor).cloned();
                self.graph.constant(&name, value.ok_or_else(|| lost(&name))?)?
            }
            Some(Leaf::Input(_)) | None => return Err(lost("a step")),
        };
        self.nodes.insert(position, id);
        Ok(id)
    }

    fn parameter(&mut self, number: usize) -> Result<NodeId, TraceError> {
        let held = &self.sources.recording.held;
        let path = &held[number].path;
        if let Ok(id) = self.graph.find(path) {
            return Ok(id);
        }
        let tied = held.iter().zip(&self.first).filter(|(_, first)| **first == number);
        let aliases: Vec<_> = tied.map(|(held, _)| held.path.clone()).filter(|alias| alias != path).collect();
        let learned = &self.sources.training.training.learned;
        let learned = learned.iter().any(|path| *path == held[number].path || aliases.contains(path));
        let role = if learned { Role::Weight } else { Role::Buffer };
        let value = self.sources.recording.values.get(&held[number].tensor).cloned();
        let value = value.ok_or_else(|| lost(path))?;
        Ok(self.graph.holding(path, Op::Parameter { role, aliases }, value)?)
    }
}

fn lost(name: &str) -> TraceError {
    TraceError::Capture { reason: format!("the value of `{name}` was not recorded") }
}

/// For every tensor of the module, the first one that is the same parameter: same identity and, as clones of a module share identities, same
/// value.
fn tied(recording: &Recording) -> Vec<usize> {
    let mut first: HashMap<_, Vec<usize>> = HashMap::new();
    let value = |held: &Held| recording.values.get(&held.tensor);
    let held = recording.held.iter().enumerate();
    held.map(|(number, this)| {
        let others = first.entry(this.id).or_default();
        let same = others.iter().copied().find(|&other| value(&recording.held[other]) == value(this));
        same.unwrap_or_else(|| {
            others.push(number);
            number
        })
    })
    .collect()
}

fn set_momenta(draft: &mut Draft, sources: &Sources<'_>) {
    let momenta = momenta(sources.training);
    let mut missing = Vec::new();
    for position in 0..draft.steps.len() {
        let running = draft.steps[position].inputs.get(3).and_then(|&mean| draft.steps[mean].leaf);
        if let (Op::BatchNorm(norm), Some(Leaf::Held(number))) = (&mut draft.steps[position].op, running) {
            let path = &sources.recording.held[number].path;
            norm.momentum = momenta.get(path).copied();
            if norm.momentum.is_none() {
                missing.push(path.as_str());
            }
        }
    }
    if !missing.is_empty() {
        tracing::warn!(
            running_means = ?missing, reason = ?sources.training.panicked,
            "the momentum of these batch normalisations is unknown (frozen, or no training pass); set it before training the graph"
        );
    }
}

fn unseen(training: &Recording) -> Vec<Unseen> {
    let unseen = training.training.unseen.iter();
    let unseen: Vec<_> =
        unseen.map(|(path, kind)| Unseen { path: path.clone(), kind: kind.clone() }).collect();
    if !unseen.is_empty() {
        tracing::warn!(?unseen, "these layers act in training only and are not in the graph");
    }
    unseen
}
