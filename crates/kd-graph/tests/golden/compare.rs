//! Groups as sets of `(layer, in or out)`.

use std::collections::{BTreeMap, BTreeSet};

use kd_graph::{Dependencies, Graph, Group, Side};

use crate::case::{self, Case, Failure};

/// A graph, and which layers it has.
pub struct Network {
    pub graph: Graph,
    /// Names and types.
    pub layers: BTreeMap<String, String>,
}

/// Layer, and whether what it reads or what it makes.
type Axis = (String, &'static str);

/// A group in the reference's terms: the indices of every axis.
#[derive(Debug, Default)]
struct Joined {
    /// Number of positions of every group that went into it.
    sizes: Vec<usize>,
    axes: BTreeMap<Axis, BTreeSet<usize>>,
}

/// Compares, and returns what should be known about how.
pub fn groups(case: &Case, network: &Network) -> Result<Vec<String>, Failure> {
    let expected = case.groups()?;
    let ignored = case.ignored_layers()?;
    let found = joined(&network.graph.dependencies(), network)?;
    // The reference starts from layers that make something, and leaves out a group that would change an ignored one's result.
    let starts =
        |(layer, side): &Axis| *side == "out" && network.layers.get(layer).is_some_and(|kind| is_root(kind));
    let free = |(layer, side): &Axis| *side == "in" || !ignored.contains(layer);
    let listed = |group: &&Joined| group.axes.keys().any(starts) && group.axes.keys().all(free);
    let found: Vec<&Joined> = found.iter().filter(listed).collect();
    let mut notes = Vec::new();
    for wanted in &expected {
        let group = found.iter().find(|group| group.axes.contains_key(&(wanted.root.clone(), "out")));
        let group = group.ok_or_else(|| format!("no group with the output of {}", wanted.root))?;
        same(wanted, group).map_err(|why| format!("group of {}: {why}", wanted.root))?;
        if group.sizes.len() > 1 {
            notes.push(format!(
                "{} is a product here, in groups of {:?}; joined for this comparison",
                wanted.root, group.sizes
            ));
        }
    }
    if found.len() != expected.len() {
        return Err(format!("{} groups are expected, {} were found", expected.len(), found.len()));
    }
    Ok(notes)
}

fn is_root(kind: &str) -> bool {
    kind.starts_with("Conv") || kind == "Linear"
}

/// Groups with common indices put together.
fn joined(dependencies: &Dependencies, network: &Network) -> Result<Vec<Joined>, Failure> {
    let groups = dependencies.groups();
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for first in groups {
        let mut joined = Joined::default();
        let mut pending = vec![first];
        while let Some(group) = pending.pop().filter(|group| seen.insert(group.index)) {
            joined.sizes.push(group.len());
            add(&mut joined, group, network)?;
            pending.extend(group.crosses.iter().filter_map(|&other| groups.get(other)));
            pending.retain(|group| !seen.contains(&group.index));
        }
        all.push(joined);
    }
    Ok(all)
}

fn add(joined: &mut Joined, group: &Group, network: &Network) -> Result<(), Failure> {
    for member in &group.members {
        let side = if member.side == Side::Input { "in" } else { "out" };
        joined
            .axes
            .entry((layer(&member.parameter, network), side))
            .or_default()
            .extend(member.indices.iter().flatten());
    }
    // A position of a product is everywhere where its axis is; one of any other group is somewhere.
    let lost =
        (0..group.len()).find(|&index| group.members.iter().all(|member| member.indices[index].is_empty()));
    lost.map_or(Ok(()), |index| Err(format!("position {index} of group {} has no index", group.index)))
}

/// The layer of a parameter; one that is in none stands for itself.
fn layer(parameter: &str, network: &Network) -> String {
    let layer = parameter.rsplit_once('.').map_or("", |(layer, _)| layer);
    // burn puts the variant of an enumeration into the path, in capitals.
    let segments = layer.split('.').filter(|segment| !segment.starts_with(char::is_uppercase));
    let layer = segments.collect::<Vec<_>>().join(".");
    if network.layers.contains_key(&layer) { layer } else { parameter.to_owned() }
}

fn same(wanted: &case::Group, found: &Joined) -> Result<(), Failure> {
    let axis = |member: &case::Member| (member.layer.clone(), if member.dim == "in" { "in" } else { "out" });
    let names: BTreeSet<Axis> = wanted.members.iter().map(axis).collect();
    let ours: BTreeSet<Axis> = found.axes.keys().cloned().collect();
    let (missing, extra): (Vec<_>, Vec<_>) =
        (names.difference(&ours).collect(), ours.difference(&names).collect());
    if !missing.is_empty() || !extra.is_empty() {
        return Err(format!("{missing:?} missing, {extra:?} too many"));
    }
    for member in &wanted.members {
        let indices = &found.axes[&axis(member)];
        let range = indices.first().copied().zip(indices.last().copied());
        if indices.len() != member.count || range != Some(member.index_range) {
            let (count, wanted) = (member.count, member.index_range);
            return Err(format!(
                "{} {}: {} indices in {range:?}, not {count} in {wanted:?}",
                member.layer,
                member.dim,
                indices.len()
            ));
        }
    }
    let size = match found.sizes.as_slice() {
        [one] => *one,
        _ => found.axes.get(&(wanted.root.clone(), "out")).map_or(0, BTreeSet::len),
    };
    if size == wanted.size { Ok(()) } else { Err(format!("{size} positions, not {}", wanted.size)) }
}
