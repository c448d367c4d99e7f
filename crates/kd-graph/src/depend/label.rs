//! What stands behind every index of an axis, and the union-find that tells which of them are the same.
//!
//! A *label* says when its index has to go. It is a list of atoms: the index is removed if any of them is. Most labels are one atom. The
//! index `(h, j)` of an axis that is read as `[heads, size]` has two, one for the head and one for the place in the head, because whole heads
//! can be removed, and one place in all heads, but nothing else. An atom that turns out to be such a product is replaced by its parts.

use std::rc::Rc;

use super::{Inexact, Reason, Unprunable};
use crate::NodeId;

/// One independent decision: remove or keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Atom(u32);

/// What decides whether an index is removed.
#[derive(Clone, Debug)]
pub(super) enum Label {
    /// It never is.
    Fixed(Unprunable),
    /// This one.
    One(Atom),
    /// Any of these, from the outermost factor of the axis to the innermost.
    Many(Rc<[Atom]>),
}

impl Label {
    fn atoms(&self) -> &[Atom] {
        match self {
            Label::Fixed(_) => &[],
            Label::One(atom) => std::slice::from_ref(atom),
            Label::Many(atoms) => atoms,
        }
    }

    fn of(atoms: &[Atom], otherwise: Unprunable) -> Self {
        match atoms {
            [] => Label::Fixed(otherwise),
            [atom] => Label::One(*atom),
            atoms => Label::Many(atoms.into()),
        }
    }
}

/// The labels of an axis. For one of size `Dim::Batch(k)` there are `k`, the batch being the outer factor.
pub(super) type Axis = Rc<[Label]>;

/// Whether no index of the axis can be removed.
pub(super) fn is_fixed(axis: &Axis) -> bool {
    axis.iter().all(|label| matches!(label, Label::Fixed(_)))
}

/// An axis of which nothing can be removed.
pub(super) fn fixed(width: usize, reason: Reason, node: NodeId) -> Axis {
    vec![Label::Fixed(Unprunable { reason, node }); width].into()
}

/// Two axes that become one, `outer` varying slowest.
pub(super) fn merge(outer: &Axis, inner: &Axis) -> Axis {
    if inner.len() == 1 && is_fixed(inner) {
        return outer.clone();
    }
    let join = |a: &Label, b: &Label| match (a, b) {
        (Label::Fixed(_), b) if !matches!(b, Label::Fixed(_)) => b.clone(),
        (a, Label::Fixed(_)) => a.clone(),
        (a, b) => Label::Many(a.atoms().iter().chain(b.atoms()).copied().collect()),
    };
    outer.iter().flat_map(|a| inner.iter().map(move |b| join(a, b))).collect()
}

/// All atoms of a graph.
#[derive(Debug, Default)]
pub(super) struct Atoms {
    parent: Vec<Atom>,
    /// What an atom turned out to be a product of; only of roots.
    parts: Vec<Option<Box<[Atom]>>>,
    fixed: Vec<Option<Unprunable>>,
    inexact: Vec<Vec<Inexact>>,
}

impl Atoms {
    /// An axis whose indices have nothing to do with each other or with anything so far.
    pub(super) fn fresh(&mut self, width: usize) -> Axis {
        (0..width).map(|_| Label::One(self.atom())).collect()
    }

    fn atom(&mut self) -> Atom {
        let atom = Atom(self.parent.len() as u32);
        self.parent.push(atom);
        self.parts.push(None);
        self.fixed.push(None);
        self.inexact.push(Vec::new());
        atom
    }

    fn root(&mut self, mut atom: Atom) -> Atom {
        while let Some(&parent) = self.parent.get(atom.0 as usize)
            && parent != atom
        {
            let grandparent = self.parent[parent.0 as usize];
            self.parent[atom.0 as usize] = grandparent;
            atom = grandparent;
        }
        atom
    }

    /// The atoms that a label stands for now, in order; none if it is fixed.
    pub(super) fn resolve(&mut self, label: &Label) -> Vec<Atom> {
        let mut resolved = Vec::new();
        for &atom in label.atoms() {
            self.expand(atom, &mut resolved);
        }
        resolved
    }

    fn expand(&mut self, atom: Atom, into: &mut Vec<Atom>) {
        let root = self.root(atom);
        match self.parts[root.0 as usize].clone() {
            Some(parts) => parts.iter().for_each(|part| self.expand(*part, into)),
            None => into.push(root),
        }
    }

    /// Why an atom must stay, if it must.
    pub(super) fn why_fixed(&self, root: Atom) -> Option<Unprunable> {
        self.fixed[root.0 as usize]
    }

    /// Where removing an atom is not zeroing it.
    pub(super) fn inexact(&self, root: Atom) -> &[Inexact] {
        &self.inexact[root.0 as usize]
    }

    /// Whether, as far as is known, every index of the axis must stay.
    pub(super) fn stays(&mut self, axis: &Axis) -> bool {
        axis.iter().all(|label| self.resolve(label).into_iter().all(|root| self.why_fixed(root).is_some()))
    }

    /// All indices of the axis must stay.
    pub(super) fn fix(&mut self, axis: &Axis, reason: Reason, node: NodeId) {
        for label in axis.iter() {
            self.fix_label(label, Unprunable { reason, node });
        }
    }

    fn fix_label(&mut self, label: &Label, why: Unprunable) {
        for root in self.resolve(label) {
            // The reason that stands first in `Reason` says most.
            let slot = &mut self.fixed[root.0 as usize];
            *slot = Some(slot.map_or(why, |old| old.min(why)));
        }
    }

    /// Removing an index of the axis changes what becomes of the others.
    pub(super) fn mix(&mut self, axis: &Axis, what: Inexact) {
        for label in axis.iter() {
            for root in self.resolve(label) {
                let places = &mut self.inexact[root.0 as usize];
                if !places.contains(&what) {
                    places.push(what);
                }
            }
        }
    }

    /// Index by index, both axes are removed together.
    pub(super) fn unify(&mut self, a: &Axis, b: &Axis, node: NodeId) {
        if Rc::ptr_eq(a, b) {
            return;
        }
        for (a, b) in a.iter().zip(b.iter()) {
            self.unify_labels(a, b, node);
        }
    }

    fn unify_labels(&mut self, a: &Label, b: &Label, node: NodeId) {
        match (a, b) {
            (Label::Fixed(why), other) | (other, Label::Fixed(why)) => return self.fix_label(other, *why),
            _ => {}
        }
        let (left, right) = (self.resolve(a), self.resolve(b));
        match (left.as_slice(), right.as_slice()) {
            (left, right) if left.len() == right.len() => {
                left.iter().zip(right).for_each(|(a, b)| self.join(*a, *b));
            }
            ([atom], parts) | (parts, [atom]) if !parts.contains(atom) => self.substitute(*atom, parts),
            _ => {
                let why = Unprunable { reason: Reason::Split, node };
                self.fix_label(a, why);
                self.fix_label(b, why);
            }
        }
    }

    fn join(&mut self, a: Atom, b: Atom) {
        // An earlier pair of the same labels may have joined them already.
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let (keep, drop) = (a.min(b), a.max(b));
        self.parent[drop.0 as usize] = keep;
        self.hand_over(drop, keep);
    }

    fn substitute(&mut self, atom: Atom, parts: &[Atom]) {
        self.parts[atom.0 as usize] = Some(parts.into());
        parts.iter().for_each(|part| self.hand_over(atom, *part));
    }

    /// What is known of one atom holds for another.
    fn hand_over(&mut self, from: Atom, to: Atom) {
        if let Some(why) = self.fixed[from.0 as usize] {
            self.fix_label(&Label::One(to), why);
        }
        let places = self.inexact[from.0 as usize].clone();
        for what in places {
            self.mix(&[Label::One(to)].into(), what);
        }
    }

    /// One axis that becomes two, the outer of a given width; the inner is `width / outer`.
    ///
    /// If the labels have this structure already, it is reused; otherwise new atoms say that the axis has it.
    pub(super) fn split(&mut self, axis: &Axis, outer: usize, node: NodeId) -> (Axis, Axis) {
        let single = || fixed(1, Reason::Single, node);
        if outer <= 1 {
            return (single(), axis.clone());
        }
        let inner = axis.len() / outer;
        if inner <= 1 {
            return (axis.clone(), single());
        }
        if let Some(first) = axis.first()
            && is_fixed(axis)
        {
            return (vec![first.clone(); outer].into(), vec![first.clone(); inner].into());
        }
        if let Some(found) = self.existing_split(axis, inner, node) {
            return found;
        }
        let (outer, inner) = (self.fresh(outer), self.fresh(inner));
        self.unify(axis, &merge(&outer, &inner), node);
        (outer, inner)
    }

    fn existing_split(&mut self, axis: &Axis, inner: usize, node: NodeId) -> Option<(Axis, Axis)> {
        let atoms: Vec<_> = axis.iter().map(|label| self.resolve(label)).collect();
        let factors = atoms.first()?.len();
        if atoms.iter().any(|atoms| atoms.len() != factors) {
            return None;
        }
        let fits = |cut: &usize| {
            atoms.iter().enumerate().all(|(index, label)| {
                let (row, column) = (index / inner, index % inner);
                label[..*cut] == atoms[row * inner][..*cut] && label[*cut..] == atoms[column][*cut..]
            })
        };
        let cut = (0..=factors).find(fits)?;
        let constant = Unprunable { reason: Reason::Position, node };
        let outer = atoms.iter().step_by(inner).map(|label| Label::of(&label[..cut], constant)).collect();
        let inner = atoms[..inner].iter().map(|label| Label::of(&label[cut..], constant)).collect();
        Some((outer, inner))
    }
}
