//! Names of nodes: a layer is called as its module, anything else after the layer before it.

use std::collections::{HashMap, HashSet};

use super::draft::{Draft, Leaf};
use crate::{Activation, Op};

/// What a step is called.
pub(super) enum Name {
    /// A layer, by its module and how often that was called before: unique.
    Layer(String),
    /// Anything else, by scope and operation: to be made unique.
    Other(String),
}

impl Name {
    /// The name of a layer.
    pub(super) fn layer(&self) -> Option<&str> {
        match self {
            Name::Layer(name) => Some(name),
            Name::Other(_) => None,
        }
    }
}

/// Names of all steps that compute, by position.
pub(super) struct Names {
    pub(super) names: Vec<Name>,
    /// The module that a step belongs to.
    pub(super) scopes: Vec<String>,
}

/// Names every step of a draft. `paths` are those of the tensors that the module holds.
pub(super) fn names(draft: &Draft, paths: &[&str]) -> Names {
    let anchors: Vec<_> = anchors(draft).into_iter().map(|held| held.map(|held| paths[held])).collect();
    let crowded = crowded(draft, &anchors);
    let mut calls: HashMap<&str, usize> = HashMap::new();
    // For every step: when its last layer was executed, and that layer's scope.
    let mut scopes: Vec<Option<(usize, &str)>> = Vec::with_capacity(draft.steps.len());
    let mut names = Vec::with_capacity(draft.steps.len());
    for (position, step) in draft.steps.iter().enumerate() {
        let word = step.op.word();
        let module = anchors[position].map(module_of);
        let layer =
            module.filter(|module| is_layer(&step.op) && !module.is_empty() && !crowded.contains(module));
        let scope = match (layer, module) {
            (Some(layer), _) => Some((position, module_of(layer))),
            (None, Some(module)) => Some((position, module)),
            (None, None) => step.inputs.iter().filter_map(|&input| scopes[input]).max(),
        };
        names.push(match layer {
            Some(layer) => {
                let call = calls.entry(layer).or_insert(0);
                *call += 1;
                Name::Layer(if *call == 1 { layer.to_owned() } else { format!("{layer}@{call}") })
            }
            None => Name::Other(inside(scope.map_or("", |(_, scope)| scope), &word)),
        });
        scopes.push(scope);
    }
    let scopes =
        scopes.iter().map(|scope| scope.map_or(String::new(), |(_, scope)| scope.to_owned())).collect();
    Names { names, scopes }
}

/// `word` in a scope; the model itself has none.
pub(super) fn inside(scope: &str, word: &str) -> String {
    match scope {
        "" => word.to_owned(),
        scope => format!("{scope}.{word}"),
    }
}

/// The module that holds a tensor, or that holds a module.
fn module_of(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(module, _)| module)
}

/// For every step that computes, the tensor of the module that it is called after: the first that it reads directly or through steps that depend on
/// no input.
fn anchors(draft: &Draft) -> Vec<Option<usize>> {
    let varying = draft.varying();
    let mut reached: Vec<Option<usize>> = Vec::with_capacity(draft.steps.len());
    for step in &draft.steps {
        // What a layer works on comes first, except for a table.
        let skip = usize::from(is_layer(&step.op) && step.op != Op::Embedding);
        let fixed = step.inputs.iter().skip(skip).filter(|&&input| !varying[input]);
        reached.push(match step.leaf {
            Some(Leaf::Held(number)) => Some(number),
            _ => fixed.into_iter().find_map(|&input| reached[input]),
        });
    }
    let computes = draft.steps.iter().map(|step| step.leaf.is_none());
    computes.zip(reached).map(|(computes, held)| held.filter(|_| computes)).collect()
}

/// Modules that hold the weights of several layers themselves: their path names none of them.
fn crowded<'a>(draft: &Draft, anchors: &[Option<&'a str>]) -> HashSet<&'a str> {
    let mut weights: HashMap<&str, &str> = HashMap::new();
    let mut crowded = HashSet::new();
    for (step, anchor) in draft.steps.iter().zip(anchors) {
        if let Some(path) = anchor.filter(|_| is_layer(&step.op))
            && *weights.entry(module_of(path)).or_insert(path) != path
        {
            crowded.insert(module_of(path));
        }
    }
    crowded
}

/// Whether an operation is what a module of burn does as a whole.
fn is_layer(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Linear
            | Op::Embedding
            | Op::BatchNorm(_)
            | Op::LayerNorm { .. }
            | Op::GroupNorm { .. }
            | Op::InstanceNorm { .. }
            | Op::RmsNorm { .. }
            | Op::Activation(Activation::Prelu)
            | Op::Custom { .. }
    )
}
