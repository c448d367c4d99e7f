//! From labels to groups.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::group::{Attribute, Group, Member, Position, Side};
use super::label::{Atom, Atoms, Axis, Label};
use super::rules::{Dependent, Walk};
use super::{Cells, Dependencies, Inexact, Reason, Unprunable};
use crate::{Graph, NodeId, Op};

/// Puts together what the walk has found.
pub(super) fn build(walk: Walk<'_>) -> Dependencies {
    let Walk { graph, atoms, axes, produced, reading, attributes, .. } = walk;
    let mut resolver = Resolver { atoms, known: HashMap::new() };
    let axes: BTreeMap<NodeId, Vec<Roots>> =
        axes.iter().map(|(id, axes)| (*id, axes.iter().map(|axis| resolver.roots(axis)).collect())).collect();
    let produced: Vec<Roots> = produced.iter().map(|axis| resolver.roots(axis)).collect();

    let holdings = Holdings::of(graph, &axes);
    let mut sets = linked(&produced, &axes, &holdings);
    let fixed = |set: &Vec<Atom>| why_fixed(set, &resolver.atoms, &holdings);
    sets.retain(|set| !fixed(set).iter().all(|why| why.is_some_and(|why| why.reason == Reason::Window)));
    sets.sort_by_key(|set| fixed(set).iter().all(Option::is_some));

    let mut groups: Vec<Group> = sets
        .iter()
        .enumerate()
        .map(|(index, set)| Group {
            index,
            members: members(graph, set, &holdings, &reading),
            attributes: Vec::new(),
            inexact: set
                .iter()
                .flat_map(|atom| resolver.atoms.inexact(*atom))
                .copied()
                .collect::<BTreeSet<Inexact>>()
                .into_iter()
                .collect(),
            fixed: fixed(set),
            crosses: Vec::new(),
        })
        .collect();

    let mut cells = Cellar::of(&sets);
    attach(&mut groups, attributes, &mut resolver, &mut cells);
    let cells: BTreeMap<NodeId, Vec<Cells>> =
        axes.iter().map(|(id, axes)| (*id, axes.iter().map(|roots| cells.get(roots)).collect())).collect();
    cross(&mut groups, holdings.holders.iter().filter_map(|id| cells.get(id)).flatten());
    Dependencies { groups, cells, parameters: names_of_parameters(graph), names: names(graph) }
}

/// The roots of every index of an axis.
type Roots = Rc<[Vec<Atom>]>;

/// Resolves axes, each vector of labels once however many nodes have it.
struct Resolver {
    atoms: Atoms,
    known: HashMap<*const Label, (Axis, Roots)>,
}

impl Resolver {
    fn roots(&mut self, axis: &Axis) -> Roots {
        if let Some((_, roots)) = self.known.get(&axis.as_ptr()) {
            return roots.clone();
        }
        let roots: Roots = axis.iter().map(|label| self.atoms.resolve(label)).collect();
        // The axis is kept, so that its address stays its own.
        self.known.insert(axis.as_ptr(), (axis.clone(), roots.clone()));
        roots
    }
}

/// Where the indices that an atom decides over are: node, axis, index.
struct Holdings {
    /// Parameters and constants in execution order.
    holders: Vec<NodeId>,
    places: HashMap<Atom, Vec<(usize, usize, usize)>>,
}

impl Holdings {
    fn of(graph: &Graph, axes: &BTreeMap<NodeId, Vec<Roots>>) -> Self {
        let holds = |op: &Op| matches!(op, Op::Parameter { .. } | Op::Constant);
        let holders: Vec<_> = graph.nodes().filter(|(_, node)| holds(&node.op)).map(|(id, _)| id).collect();
        let mut places: HashMap<Atom, Vec<(usize, usize, usize)>> = HashMap::new();
        for (rank, id) in holders.iter().enumerate() {
            for (axis, roots) in axes.get(id).into_iter().flatten().enumerate() {
                for (index, atoms) in roots.iter().enumerate() {
                    for atom in atoms {
                        let all = places.entry(*atom).or_default();
                        if all.last() != Some(&(rank, axis, index)) {
                            all.push((rank, axis, index));
                        }
                    }
                }
            }
        }
        Self { holders, places }
    }

    fn get(&self, atom: Atom) -> &[(usize, usize, usize)] {
        self.places.get(&atom).map_or(&[], Vec::as_slice)
    }
}

/// Atoms that belong to one group: those at one place of the product that an axis is.
#[derive(Default)]
struct Links {
    parent: HashMap<Atom, Atom>,
    /// In the order in which they were first seen.
    order: Vec<Atom>,
}

impl Links {
    fn root(&mut self, atom: Atom) -> Atom {
        let mut root = atom;
        while let Some(&parent) = self.parent.get(&root)
            && parent != root
        {
            root = parent;
        }
        self.parent.insert(atom, root);
        root
    }

    fn link(&mut self, axis: &Roots, ignored: &BTreeSet<Atom>) {
        let mut leaders: BTreeMap<(usize, usize), Atom> = BTreeMap::new();
        for atoms in axis.iter() {
            for (slot, &atom) in atoms.iter().enumerate().filter(|(_, atom)| !ignored.contains(atom)) {
                if let Entry::Vacant(entry) = self.parent.entry(atom) {
                    entry.insert(atom);
                    self.order.push(atom);
                }
                let leader = *leaders.entry((atoms.len(), slot)).or_insert(atom);
                let (a, b) = (self.root(leader), self.root(atom));
                self.parent.insert(a.max(b), a.min(b));
            }
        }
    }
}

/// Sets of atoms that become groups. What a layer makes is one; what none makes (a table to multiply with, say) is one by the parameter's own
/// axis. Atoms that no parameter holds decide nothing.
fn linked(produced: &[Roots], axes: &BTreeMap<NodeId, Vec<Roots>>, holdings: &Holdings) -> Vec<Vec<Atom>> {
    let mut links = Links::default();
    produced.iter().for_each(|axis| links.link(axis, &BTreeSet::new()));
    let of_layers = links.order.iter().copied().collect();
    for axis in holdings.holders.iter().filter_map(|id| axes.get(id)).flatten() {
        links.link(axis, &of_layers);
    }
    let mut sets: Vec<Vec<Atom>> = Vec::new();
    let mut place = HashMap::new();
    for atom in std::mem::take(&mut links.order) {
        if holdings.get(atom).is_empty() {
            continue;
        }
        let set = *place.entry(links.root(atom)).or_insert(sets.len());
        match sets.get_mut(set) {
            Some(set) => set.push(atom),
            None => sets.push(vec![atom]),
        }
    }
    sets
}

fn why_fixed(set: &[Atom], atoms: &Atoms, holdings: &Holdings) -> Vec<Option<Unprunable>> {
    let mut fixed: Vec<_> = set.iter().map(|atom| atoms.why_fixed(*atom)).collect();
    if let ([only], [why @ None]) = (set, fixed.as_mut_slice()) {
        let holder = holdings.get(*only).first().and_then(|(rank, ..)| holdings.holders.get(*rank));
        *why = holder.map(|&node| Unprunable { reason: Reason::Single, node });
    }
    fixed
}

fn members(
    graph: &Graph,
    set: &[Atom],
    holdings: &Holdings,
    reading: &BTreeSet<(NodeId, usize)>,
) -> Vec<Member> {
    let mut indices: BTreeMap<(usize, usize), Vec<Vec<usize>>> = BTreeMap::new();
    for (position, atom) in set.iter().enumerate() {
        for &(rank, axis, index) in holdings.get(*atom) {
            let positions = indices.entry((rank, axis)).or_insert_with(|| vec![Vec::new(); set.len()]);
            positions.get_mut(position).into_iter().for_each(|all| all.push(index));
        }
    }
    let member = |((rank, axis), indices)| {
        let node = *holdings.holders.get(rank)?;
        let parameter = graph.nodes.get(&node)?.name.clone();
        let side = if reading.contains(&(node, axis)) { Side::Input } else { Side::Output };
        Some(Member { parameter, node, axis, side, indices })
    };
    indices.into_iter().filter_map(member).collect()
}

/// Turns atoms into positions.
struct Cellar {
    positions: HashMap<Atom, Position>,
    known: HashMap<*const Vec<Atom>, (Roots, Cells)>,
}

impl Cellar {
    fn of(sets: &[Vec<Atom>]) -> Self {
        let position = |group| move |(index, atom): (usize, &Atom)| (*atom, Position { group, index });
        let sets = sets.iter().enumerate();
        let positions = sets.flat_map(|(group, set)| set.iter().enumerate().map(position(group))).collect();
        Self { positions, known: HashMap::new() }
    }

    fn get(&mut self, roots: &Roots) -> Cells {
        let cell =
            |atoms: &Vec<Atom>| atoms.iter().filter_map(|atom| self.positions.get(atom).copied()).collect();
        let make = || (roots.clone(), roots.iter().map(cell).collect());
        self.known.entry(roots.as_ptr()).or_insert_with(make).1.clone()
    }
}

fn attach(groups: &mut [Group], attributes: Vec<Dependent>, resolver: &mut Resolver, cells: &mut Cellar) {
    for Dependent { node, kind, axis } in attributes {
        let cells = cells.get(&resolver.roots(&axis));
        let touched: BTreeSet<usize> = cells.iter().flatten().map(|position| position.group).collect();
        for group in touched {
            let attributes = groups.get_mut(group).map(|group| &mut group.attributes);
            attributes.into_iter().for_each(|all| all.push(Attribute { node, kind, cells: cells.clone() }));
        }
    }
}

/// Groups with a common index cross.
fn cross<'a>(groups: &mut [Group], axes: impl Iterator<Item = &'a Cells>) {
    let mut pairs = BTreeSet::new();
    for cell in axes.flat_map(|cells| cells.iter()).filter(|cell| cell.len() > 1) {
        for (a, b) in cell.iter().flat_map(|a| cell.iter().map(move |b| (a.group, b.group))) {
            pairs.insert((a, b));
        }
    }
    for (a, b) in pairs.into_iter().filter(|(a, b)| a != b) {
        groups.get_mut(a).into_iter().for_each(|group| group.crosses.push(b));
    }
}

fn names(graph: &Graph) -> BTreeMap<NodeId, String> {
    graph.nodes().map(|(id, node)| (id, node.name.clone())).collect()
}

fn names_of_parameters(graph: &Graph) -> BTreeMap<String, NodeId> {
    let mut names = BTreeMap::new();
    for (id, node) in graph.nodes() {
        if let Op::Parameter { aliases, .. } = &node.op {
            names.extend(aliases.iter().map(|alias| (alias.clone(), id)));
        }
        if matches!(node.op, Op::Parameter { .. } | Op::Constant) {
            names.insert(node.name.clone(), id);
        }
    }
    names
}
