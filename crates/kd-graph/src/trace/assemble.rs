//! From a draft with symbolic sizes to the graph.

use std::collections::{HashMap, HashSet};

use super::TraceError;
use super::capture::Recording;
use super::draft::{Draft, Leaf};
use super::names::{Name, inside, names};
use super::parameters::{Held, Training};
use crate::{Graph, NodeId, Op, Role};

/// Where names and values come from.
pub(super) struct Sources<'a> {
    pub(super) recording: &'a Recording,
    pub(super) training: Training,
    /// By the path of the running mean.
    pub(super) momenta: HashMap<String, f64>,
    /// Names of the first inputs.
    pub(super) inputs: &'a [String],
}

pub(super) fn assemble(draft: &Draft, sources: &Sources<'_>) -> Result<Graph, TraceError> {
    let held = &sources.recording.held;
    let paths: Vec<_> = held.iter().map(|held| held.path.as_str()).collect();
    let named = names(draft, &paths);
    let mut building = Building {
        graph: Graph::new(),
        sources,
        reserved: paths.into_iter().chain(named.names.iter().filter_map(Name::layer)).collect(),
        numbers: HashMap::new(),
        first: tied(sources.recording),
        nodes: HashMap::new(),
        parameters: HashMap::new(),
    };
    for (number, &position) in draft.inputs.iter().enumerate() {
        let name = sources.inputs.get(number).map_or("input", String::as_str);
        let name = building.free_name(name);
        let id = building.graph.input(&name, draft.steps[position].output.clone())?;
        building.nodes.insert(position, id);
    }
    for (position, step) in draft.steps.iter().enumerate().filter(|(_, step)| step.leaf.is_none()) {
        let scope = &named.scopes[position];
        let inputs: Vec<_> =
            step.inputs.iter().map(|&input| building.node(draft, input, scope)).collect::<Result<_, _>>()?;
        let name = match &named.names[position] {
            Name::Layer(path) => path.clone(),
            Name::Other(word) => building.free_name(word),
        };
        let mut op = step.op.clone();
        if let (Op::BatchNorm(norm), Some(mean)) = (&mut op, running_mean(draft, position, sources.recording))
        {
            norm.momentum = sources.momenta.get(mean).copied();
        }
        let id = building.graph.push(&name, op, inputs, step.output.clone())?;
        building.nodes.insert(position, id);
    }
    let outputs: Vec<_> =
        draft.outputs.iter().map(|&output| building.node(draft, output, "")).collect::<Result<_, _>>()?;
    let mut graph = building.graph;
    graph.set_outputs(&outputs)?;
    graph.unseen = sources.training.unseen.clone();
    Ok(graph)
}

struct Building<'a> {
    graph: Graph,
    sources: &'a Sources<'a>,
    /// Names that parameters and layers take.
    reserved: HashSet<&'a str>,
    /// How many names were tried for a word.
    numbers: HashMap<String, usize>,
    /// For every tensor of the module, the first one that is tied to it.
    first: Vec<usize>,
    /// By position in the draft.
    nodes: HashMap<usize, NodeId>,
    /// By the number of the tensor in the module.
    parameters: HashMap<usize, NodeId>,
}

impl Building<'_> {
    /// A name that no node has and no parameter or layer will have: `name` itself, or with `_1`, `_2`, ... behind it.
    fn free_name(&mut self, name: &str) -> String {
        let taken = |name: &str| self.graph.names.contains_key(name) || self.reserved.contains(name);
        // A long sequence has thousands of nodes of one name: start where the last search ended.
        let number = self.numbers.entry(name.to_owned()).or_insert(0);
        loop {
            let candidate = if *number == 0 { name.to_owned() } else { format!("{name}_{number}") };
            *number += 1;
            if !taken(&candidate) {
                return candidate;
            }
        }
    }

    /// The node of a step; a leaf is added when it is first used.
    fn node(&mut self, draft: &Draft, position: usize, scope: &str) -> Result<NodeId, TraceError> {
        if let Some(&id) = self.nodes.get(&position) {
            return Ok(id);
        }
        let id = match draft.steps[position].leaf {
            Some(Leaf::Held(number)) => self.parameter(self.first[number])?,
            Some(Leaf::Data(tensor)) => {
                let name = self.free_name(&inside(scope, "constant"));
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
        if let Some(&id) = self.parameters.get(&number) {
            return Ok(id);
        }
        let path = &held[number].path;
        let tied = held.iter().zip(&self.first).filter(|(_, first)| **first == number);
        let aliases: Vec<_> = tied.map(|(held, _)| held.path.clone()).filter(|alias| alias != path).collect();
        let learned = &self.sources.training.learned;
        let learned = learned.contains(path) || aliases.iter().any(|alias| learned.contains(alias));
        let role = if learned { Role::Weight } else { Role::Buffer };
        let value = self.sources.recording.values.get(&held[number].tensor).cloned();
        let value = value.ok_or_else(|| lost(path))?;
        let id = self.graph.holding(path, Op::Parameter { role, aliases }, value)?;
        self.parameters.insert(number, id);
        Ok(id)
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

/// Path of the running mean that a batch normalisation reads, if it is one and reads it from the module.
pub(super) fn running_mean<'a>(draft: &Draft, step: usize, recording: &'a Recording) -> Option<&'a str> {
    let step = draft.steps.get(step).filter(|step| matches!(step.op, Op::BatchNorm(_)))?;
    match draft.steps[*step.inputs.get(3)?].leaf {
        Some(Leaf::Held(number)) => Some(&recording.held[number].path),
        _ => None,
    }
}
