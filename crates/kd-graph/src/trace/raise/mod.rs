//! Recognises the sequences that burn makes of a layer and puts one operation in the place of each.
//!
//! A pattern looks backwards from the last operation of a sequence. What it swallows must be read by nothing else. Small patterns build on each
//! other: a product becomes a linear layer, the sum with a vector gives it a bias, the reshapes around it fall away.

mod activation;
mod attention;
mod linear;
mod norm;

use super::draft::{Draft, between};
use crate::{Activation, Binary, Op, Reduction, Scalar, Unary};

/// What stands in the place of a sequence.
struct Raised {
    op: Op,
    inputs: Vec<usize>,
}

impl Raised {
    fn new(op: Op, inputs: impl IntoIterator<Item = usize>) -> Option<Self> {
        Some(Self { op, inputs: inputs.into_iter().collect() })
    }
}

/// Looks for a sequence that ends at a step.
type Pattern = fn(&View<'_>, usize) -> Option<Raised>;

/// The most specific first.
const PATTERNS: &[Pattern] = &[
    linear::product,
    linear::bias,
    linear::folded_batch,
    activation::silu,
    activation::hard_swish,
    activation::softplus,
    activation::mish,
    activation::elu,
    activation::gelu_tanh,
    activation::softsign,
    activation::celu,
    activation::selu,
    attention::layered,
    norm::group,
    norm::affine,
    norm::rms,
];

/// Raises every sequence of a draft and drops what is no longer needed.
pub(super) fn raise(draft: &mut Draft) {
    let varying = draft.varying();
    let mut users = draft.users();
    for root in 0..draft.steps.len() {
        if users[root].is_empty() && !draft.outputs.contains(&root) {
            continue;
        }
        while let Some(raised) = PATTERNS.iter().find_map(|pattern| {
            let view = View { draft, varying: &varying };
            pattern(&view, root).filter(|raised| swallows_only_its_own(draft, &users, root, raised))
        }) {
            replace(draft, &mut users, root, raised);
        }
    }
    draft.sweep();
}

/// Whether nothing else reads what the sequence computes on its way.
fn swallows_only_its_own(draft: &Draft, users: &[Vec<usize>], root: usize, raised: &Raised) -> bool {
    let inner = between(draft, root, &raised.inputs);
    inner.iter().all(|&position| {
        draft.steps[position].leaf.is_none()
            && !draft.outputs.contains(&position)
            && users[position].iter().all(|user| *user == root || inner.contains(user))
    })
}

fn replace(draft: &mut Draft, users: &mut [Vec<usize>], root: usize, raised: Raised) {
    let inner = between(draft, root, &raised.inputs);
    for position in inner.into_iter().chain([root]) {
        for input in std::mem::take(&mut draft.steps[position].inputs) {
            users[input].retain(|&user| user != position);
        }
    }
    for &input in &raised.inputs {
        users[input].push(root);
    }
    draft.steps[root].op = raised.op;
    draft.steps[root].inputs = raised.inputs;
}

/// A draft with the questions that patterns ask: each is `None` when the step is something else.
struct View<'a> {
    draft: &'a Draft,
    varying: &'a [bool],
}

impl View<'_> {
    fn op(&self, step: usize) -> &Op {
        &self.draft.steps[step].op
    }

    fn inputs(&self, step: usize) -> &[usize] {
        &self.draft.steps[step].inputs
    }

    fn only_input(&self, step: usize) -> Option<usize> {
        match self.inputs(step) {
            &[input] => Some(input),
            _ => None,
        }
    }

    /// Sizes of a step's result.
    fn sizes(&self, step: usize) -> Vec<usize> {
        self.draft.steps[step].output.shape.at(1)
    }

    /// The two sides of an operation.
    fn binary(&self, step: usize, op: Binary) -> Option<(usize, usize)> {
        match (self.op(step), self.inputs(step)) {
            (Op::Binary(found), &[a, b]) if *found == op => Some((a, b)),
            _ => None,
        }
    }

    /// The left side of an operation and the literal on its right.
    fn literal(&self, step: usize, op: Binary) -> Option<(usize, f64)> {
        match self.op(step) {
            Op::Literal { op: found, value } if *found == op && !matches!(value, Scalar::Bool(_)) => {
                Some((self.only_input(step)?, value.as_f64()))
            }
            _ => None,
        }
    }

    /// The left side of an operation with this literal on its right.
    fn with_literal(&self, step: usize, op: Binary, value: f64) -> Option<usize> {
        let (input, found) = self.literal(step, op)?;
        // Literals are recorded in the precision of the tensor.
        ((found - value).abs() <= value.abs() * 1e-6).then_some(input)
    }

    fn unary(&self, step: usize, op: Unary) -> Option<usize> {
        (*self.op(step) == Op::Unary(op)).then(|| self.only_input(step))?
    }

    fn activation(&self, step: usize, activation: Activation) -> Option<usize> {
        (*self.op(step) == Op::Activation(activation)).then(|| self.only_input(step))?
    }

    fn reshape(&self, step: usize) -> Option<usize> {
        matches!(self.op(step), Op::Reshape { .. }).then(|| self.only_input(step))?
    }

    /// The input of a mean over this one axis.
    fn mean(&self, step: usize, axis: usize) -> Option<usize> {
        match self.op(step) {
            Op::Reduce { kind: Reduction::Mean, axes: Some(axes) } if *axes == [axis] => {
                self.only_input(step)
            }
            _ => None,
        }
    }

    /// What is multiplied with itself.
    fn square(&self, step: usize) -> Option<usize> {
        match self.binary(step, Binary::Mul) {
            Some((a, b)) => (a == b).then_some(a),
            None => self.with_literal(step, Binary::Pow, 2.0),
        }
    }

    /// The vector behind a reshape that only puts axes of size 1 around it, where `axis` of the result is the vector's.
    fn vector_along(&self, step: usize, axis: usize) -> Option<usize> {
        let vector = self.reshape(step)?;
        let (from, to) = (self.sizes(vector), self.sizes(step));
        let lonely = to.iter().enumerate().all(|(at, &size)| at == axis || size == 1);
        (from.len() == 1 && lonely && to.get(axis) == from.first()).then_some(vector)
    }
}
