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
    let varying = draft.varying();
    let anchors: Vec<_> =
        (0..draft.steps.len()).map(|step| anchor(draft, &varying, step).map(|held| paths[held])).collect();
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

/// The tensor of the module that a step is called after: the first that it reads directly or through steps that depend on no input.
fn anchor(draft: &Draft, varying: &[bool], step: usize) -> Option<usize> {
    let found = &draft.steps[step];
    // What a layer works on comes first, except for a table.
    let skip = usize::from(is_layer(&found.op) && found.op != Op::Embedding);
    found.inputs.iter().skip(skip).filter(|&&input| !varying[input]).find_map(|&input| {
        match draft.steps[input].leaf {
            Some(Leaf::Held(number)) => Some(number),
            Some(_) => None,
            None => anchor(draft, varying, input),
        }
    })
}

/// Modules that hold the weights of several layers themselves: their path names none of them.
fn crowded<'a>(draft: &Draft, anchors: &[Option<&'a str>]) -> HashSet<&'a str> {
    let mut weights: HashMap<&str, &str> = HashMap::new();
    let mut crowded = HashSet::new();
    for (step, anchor) in draft.steps.iter().zip(anchors) {
        if let Some(path) = anchor.filter(|_| is_layer(&step.op)) {
            if *weights.entry(module_of(path)).or_insert(path) != path {
                crowded.insert(module_of(path));
            }
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
