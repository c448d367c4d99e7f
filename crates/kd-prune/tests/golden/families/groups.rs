//! Pruning of coupled channels: importances, kept indices, and the network that is left.

use std::collections::{BTreeMap, BTreeSet};

use kd_graph::{Dependencies, Graph, Group, Op, Position, Role};
use kd_prune::{
    Allocation, Array, Arrays, ChannelImportance, ChannelLimits, ChannelNorm, GroupScores, Limits, PrunePlan,
    Reduce, channel_positions,
};
use serde::Deserialize;

use crate::case::{Case, Failure, array, close, field, parse, text};
use crate::fx;
use crate::net::{logits, transposed};

pub fn run(case: &Case) -> Result<(), Failure> {
    let source = of_groups(case)?;
    let network = fx::import(&source, &case.folder)?;
    let graph = with_weights(network.graph, &case.weights(&case.folder)?)?;
    let dependencies = graph.dependencies();
    let settings = Settings::of(case)?;
    let scores = settings.scores(&graph, &dependencies, case)?;
    let positions = settings.positions(&dependencies, &scores)?;
    let plan = PrunePlan::new(&graph, positions).map_err(text)?;
    same_kept(case, &graph, &plan)?;

    let smaller = plan.apply(&graph).map_err(text)?;
    let cost = smaller.cost(1).map_err(text)?;
    let layers = |op: &str| op.starts_with("conv") || op == "linear";
    let macs: u64 = cost.nodes.iter().filter(|node| layers(&node.op)).map(|node| node.macs).sum();
    for (what, ours) in [("params", cost.parameters), ("macs_conv_linear", macs)] {
        let recorded: u64 = parse(&case.expected, &[what])?;
        if ours != recorded {
            return Err(format!("{what} is {ours}, recorded is {recorded}"));
        }
    }
    let x = source.given("x")?;
    let ours = logits::<4>(&smaller, &x)?;
    close("logits", &ours, &case.expected("logits")?, 1e-3, true)
}

/// The case that holds the network: `resnet20_groups` for `resnet20_prune_..`.
fn of_groups(case: &Case) -> Result<Case, Failure> {
    let net = case.name.split("_prune_").next().unwrap_or_default();
    let path = case.folder.join("prune_groups.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let cases: Vec<Case> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let name = format!("{net}_groups");
    cases.into_iter().find(|case| case.name == name).ok_or_else(|| format!("there is no case `{name}`"))
}

/// Linear weights are `[out, in]` in the file and `[in, out]` here.
fn with_weights(mut graph: Graph, weights: &Arrays) -> Result<Graph, Failure> {
    let parameters: Vec<_> = graph.parameters().map(|(id, node)| (id, node.name().to_owned())).collect();
    let mut values = Vec::new();
    for (id, name) in parameters {
        let weight = weights.get(&name).ok_or_else(|| format!("`{name}` is not among the weights"))?;
        let linear = graph.users(id).any(|(_, user)| *user.op() == Op::Linear);
        values.push((id, if linear { transposed(weight)? } else { weight.clone() }));
    }
    let set = graph.edit(|edit| {
        for (id, value) in &values {
            edit.set_value(*id, value.to_data())?;
            // Running statistics are not learned, and don't count as parameters.
            if edit.graph().node(*id)?.name().contains("running_") {
                edit.set_op(*id, Op::Parameter { role: Role::Buffer, aliases: Vec::new() })?;
            }
        }
        Ok(())
    });
    set.map_err(text)?;
    Ok(graph)
}

#[derive(Deserialize)]
struct Settings {
    importance: String,
    global_pruning: bool,
    pruning_ratio: f64,
    max_pruning_ratio: f64,
    round_to: Option<usize>,
    prune_num_heads: bool,
    head_pruning_ratio: f64,
    ignored_layers: Vec<String>,
    num_heads: Option<BTreeMap<String, usize>>,
}

impl Settings {
    fn of(case: &Case) -> Result<Self, Failure> {
        Settings::deserialize(&case.params).map_err(text)
    }

    fn importance(&self) -> Result<ChannelImportance, Failure> {
        let (norm, reduce, normalise) = match self.importance.as_str() {
            "l1" => (ChannelNorm::L1, Reduce::Mean, true),
            "l2" => (ChannelNorm::L2, Reduce::Mean, true),
            "bn" => (ChannelNorm::BatchNorm, Reduce::Mean, true),
            "l2_sum_nonorm" => (ChannelNorm::L2, Reduce::Sum, false),
            "l1_first" => (ChannelNorm::L1, Reduce::First, false),
            other => return Err(format!("the importance `{other}` is not known")),
        };
        Ok(ChannelImportance { norm, reduce, normalise })
    }

    /// Importances of the groups, compared with those recorded where a group is not a product.
    fn scores(
        &self,
        graph: &Graph,
        dependencies: &Dependencies,
        case: &Case,
    ) -> Result<GroupScores, Failure> {
        #[derive(Deserialize)]
        struct Recorded {
            root: String,
            importance: serde_json::Value,
        }
        let recorded: Vec<Recorded> = parse(&case.expected, &["group_importance"])?;
        let importance = self.importance()?;
        let mut scores = importance.score(graph, dependencies).map_err(text)?;
        for Recorded { root, importance: theirs } in recorded {
            let weight = format!("{root}.weight");
            let id = graph.find(&weight).map_err(text)?;
            let out = usize::from(graph.users(id).any(|(_, user)| *user.op() == Op::Linear));
            let of = |axis| dependencies.groups_of(&weight, axis).map_err(text);
            // What reads heads stands for the heads and their places, which are groups of their own here.
            if of(1 - out)?.iter().any(|group| !group.crosses.is_empty()) {
                continue;
            }
            let groups = of(out)?;
            let group = groups.first().ok_or_else(|| format!("`{root}` is in no group"))?;
            if self.importance == "l1_first" {
                // The first is the reference's way of walking: from the root on.
                let members = importance.members(graph, group).map_err(text)?;
                let walk = group.members.iter().skip_while(|member| member.parameter != weight);
                let first = walk
                    .filter_map(|member| members.iter().find(|(path, _)| *path == member.parameter))
                    .next()
                    .ok_or_else(|| format!("nothing counts from `{root}` on"))?;
                scores.insert(group.index, importance.combined(&[&first.1]));
            }
            let theirs = array(&theirs)?;
            let ours = scores.get(&group.index).cloned().unwrap_or_default();
            let ours = Array::new([ours.len()], ours).map_err(text)?;
            close(&format!("importance of {root}"), &ours, &theirs, 1e-4, false)?;
        }
        for group in dependencies.groups() {
            let places = self.places(dependencies, group);
            if places.first().is_some_and(|first| first.index == group.index) {
                let mut members = Vec::new();
                for place in &places {
                    members.extend(importance.members(graph, place).map_err(text)?);
                }
                let parts: Vec<&[f64]> = members.iter().map(|(_, scores)| scores.as_slice()).collect();
                scores.insert(group.index, importance.combined(&parts));
                places.iter().skip(1).for_each(|place| drop(scores.remove(&place.index)));
            }
        }
        Ok(scores)
    }

    /// The groups of places in heads that go together in the reference: those of queries and keys with those of values, though they could go
    /// independently of each other.
    fn places<'a>(&self, dependencies: &'a Dependencies, group: &Group) -> Vec<&'a Group> {
        let (mut joined, mut pending) = (BTreeSet::new(), vec![group.index]);
        while let Some(index) = pending.pop().filter(|_| !group.crosses.is_empty()) {
            if joined.insert(index) {
                pending.extend(dependencies.groups()[index].crosses.iter().copied());
            }
        }
        let groups: Vec<_> = joined.into_iter().map(|index| &dependencies.groups()[index]).collect();
        let heads = groups.iter().find_map(|group| self.heads(group));
        groups.into_iter().filter(|group| Some(group.len()) != heads).collect()
    }

    fn positions(
        &self,
        dependencies: &Dependencies,
        scores: &GroupScores,
    ) -> Result<BTreeSet<Position>, Failure> {
        let ignored: Vec<String> =
            self.ignored_layers.iter().map(|layer| format!("{layer}.weight")).collect();
        let makes_ignored = |group: &Group| {
            group
                .members
                .iter()
                .any(|member| member.side == kd_graph::Side::Output && ignored.contains(&member.parameter))
        };
        let (mut free, mut heads) = (scores.clone(), GroupScores::new());
        for group in dependencies.groups() {
            let product = !group.crosses.is_empty();
            let is_heads = product && self.heads(group).is_some_and(|count| count == group.len());
            let ours = free.get(&group.index).cloned();
            if makes_ignored(group) || product && is_heads != self.prune_num_heads {
                free.remove(&group.index);
            } else if let Some(ours) = ours.filter(|_| is_heads) {
                free.remove(&group.index);
                heads.insert(group.index, ours);
            }
        }
        let allocation = if self.global_pruning { Allocation::Global } else { Allocation::Uniform };
        let limits = ChannelLimits {
            limits: Limits { multiple: self.round_to.unwrap_or(1), ..Limits::default() },
            most: self.max_pruning_ratio,
        };
        let mut removed =
            channel_positions(dependencies, &free, &allocation, self.pruning_ratio, &limits).map_err(text)?;
        for group in dependencies.groups() {
            let places = self.places(dependencies, group);
            let first = places.first().filter(|first| first.index == group.index).map(|first| first.index);
            let gone: Vec<usize> =
                removed.iter().filter(|at| Some(at.group) == first).map(|at| at.index).collect();
            for place in places.iter().skip(1).filter(|_| first.is_some()) {
                removed.extend(gone.iter().map(|index| place.position(*index)));
            }
        }
        let ratio = self.head_pruning_ratio;
        removed.extend(
            channel_positions(dependencies, &heads, &Allocation::Uniform, ratio, &limits).map_err(text)?,
        );
        Ok(removed)
    }

    fn heads(&self, group: &Group) -> Option<usize> {
        let heads = self.num_heads.as_ref()?;
        group.members.iter().find_map(|member| heads.get(member.parameter.strip_suffix(".weight")?).copied())
    }
}

/// Layers and sides that lost something, with what they kept.
fn same_kept(case: &Case, graph: &Graph, plan: &PrunePlan) -> Result<(), Failure> {
    let recorded: BTreeMap<String, BTreeMap<String, Vec<usize>>> =
        BTreeMap::deserialize(field(&case.expected, &["kept"])?).map_err(text)?;
    let mut ours: BTreeMap<String, BTreeMap<String, Vec<usize>>> = BTreeMap::new();
    for (path, axis, kept) in plan.axes() {
        let id = graph.find(path).map_err(text)?;
        let reads = |wanted: fn(&Op) -> bool| graph.users(id).any(|(_, user)| wanted(user.op()));
        let (layer, side) = match path.strip_suffix(".weight") {
            Some(layer) if reads(|op| *op == Op::Linear) => (layer, if axis == 0 { "in" } else { "out" }),
            Some(layer) => (layer, if axis == 0 { "out" } else { "in" }),
            // Biases and statistics follow their weight; a table stands for itself.
            None if path.contains('.') => continue,
            None => (path, "out"),
        };
        ours.entry(layer.to_owned()).or_default().insert(side.to_owned(), kept.to_vec());
    }
    // A depthwise convolution has one axis; the reference counts it on both sides.
    for (layer, sides) in &recorded {
        if let Some(found) = ours.get_mut(layer)
            && sides.get("in") == sides.get("out")
            && !found.contains_key("in")
            && let Some(out) = found.get("out").cloned()
            && sides.contains_key("in")
        {
            found.insert("in".to_owned(), out);
        }
    }
    for (layer, sides) in &recorded {
        let found = ours.get(layer);
        if found != Some(sides) {
            return Err(format!("of `{layer}` {found:?} are kept, recorded are {sides:?}"));
        }
    }
    let extra = ours.keys().find(|layer| !recorded.contains_key(*layer));
    extra.map_or(Ok(()), |layer| Err(format!("`{layer}` loses something, but not in the reference")))
}
