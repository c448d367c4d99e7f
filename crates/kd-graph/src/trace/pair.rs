//! Three drafts at three batch sizes become one in which the batch is a symbol.

use super::TraceError;
use super::capture::Recording;
use super::draft::{Draft, Leaf, Step, last_module};
use crate::{Dim, Op, Shape, TensorType};

/// The batch sizes of the recordings: two give the symbolic size, the third checks it. Never 1, which broadcasts.
pub(super) const BATCHES: [usize; 3] = [2, 3, 5];

/// Compares step by step.
pub(super) fn pair(drafts: [&Draft; 3], recording: &Recording) -> Result<Draft, TraceError> {
    let [first, ..] = drafts;
    let longest = drafts.iter().map(|draft| draft.steps.len()).max().unwrap_or(0);
    let mut steps = Vec::with_capacity(longest);
    for position in 0..longest {
        let module = || last_module(first, position, recording);
        let [Some(a), Some(b), Some(c)] = drafts.map(|draft| draft.steps.get(position)) else {
            let ends =
                drafts.map(|draft| draft.steps.get(position).map_or("nothing".into(), |step| step.op.word()));
            return Err(TraceError::Structure { module: module(), values: at_batches(&ends) });
        };
        steps.push(join([a, b, c], recording, &module)?);
    }
    if drafts.iter().any(|draft| draft.outputs != first.outputs || draft.inputs != first.inputs) {
        let outputs = drafts.map(|draft| format!("outputs {:?}", draft.outputs));
        return Err(TraceError::Structure { module: None, values: at_batches(&outputs) });
    }
    Ok(Draft { steps, inputs: first.inputs.clone(), outputs: first.outputs.clone() })
}

/// One step of all three.
fn join(
    steps: [&Step; 3],
    recording: &Recording,
    module: &dyn Fn() -> Option<String>,
) -> Result<Step, TraceError> {
    let [first, ..] = steps;
    let word = first.op.word();
    let like_first = |step: &Step| {
        let same_leaf = match (first.leaf, step.leaf) {
            (Some(Leaf::Data(_)), Some(Leaf::Data(_))) => true,
            (a, b) => a == b,
        };
        same_leaf
            && step.inputs == first.inputs
            && step.op.word() == word
            && step.output.kind == first.output.kind
    };
    if !steps.iter().all(|step| like_first(step)) {
        return Err(TraceError::Structure {
            module: module(),
            values: at_batches(&steps.map(|step| step.op.word())),
        });
    }
    if let [Some(Leaf::Data(a)), Some(Leaf::Data(b)), Some(Leaf::Data(c))] = steps.map(|step| step.leaf) {
        let [a, b, c] = [a, b, c].map(|id| recording.values.get(&id));
        if a != b || a != c {
            let values = at_batches(&steps.map(|step| step.output.to_string()));
            return Err(TraceError::BatchConstant { what: "a constant".into(), module: module(), values });
        }
    }
    let op = join_ops(steps.map(|step| step.op.clone()), module)?;
    let shapes = steps.map(|step| step.output.shape.at(1));
    let [a, b, c] = &shapes;
    let sizes = a.iter().zip(b).zip(c).map(|((&a, &b), &c)| between([a, b, c]));
    let shape: Option<Shape> = (a.len() == b.len() && a.len() == c.len()).then(|| sizes.collect()).flatten();
    let shape = shape.ok_or_else(|| TraceError::Shape {
        what: format!("the shape of `{word}`"),
        module: module(),
        values: at_batches(&shapes.map(|shape| format!("{shape:?}"))),
    })?;
    Ok(Step {
        op,
        inputs: first.inputs.clone(),
        output: TensorType { kind: first.output.kind, shape },
        leaf: first.leaf,
    })
}

/// The operation with symbolic sizes; everything that is not a size must agree.
fn join_ops(mut ops: [Op; 3], module: &dyn Fn() -> Option<String>) -> Result<Op, TraceError> {
    let shown = ops.each_ref().map(|op| format!("{op:?}"));
    let word = ops[0].word();
    let [a, b, c] = ops.each_mut().map(sizes);
    let mut joined = a.len() == b.len() && a.len() == c.len();
    for ((a, b), c) in a.into_iter().zip(b).zip(c) {
        match between([a.at(1), b.at(1), c.at(1)]) {
            Some(dim) => (*a, *b, *c) = (dim, dim, dim),
            None => joined = false,
        }
    }
    if !joined {
        let what = format!("a size in `{word}`");
        return Err(TraceError::Shape { what, module: module(), values: at_batches(&shown) });
    }
    let [first, second, third] = ops;
    if first != second || first != third {
        let what = format!("an attribute of `{word}`");
        return Err(TraceError::BatchConstant { what, module: module(), values: at_batches(&shown) });
    }
    Ok(first)
}

/// The size that fits all three batch sizes.
fn between(found: [usize; 3]) -> Option<Dim> {
    let [small, large, other] = BATCHES;
    let dim = Dim::between(found[0], found[1], [small, large])?;
    (dim.at(other) == found[2]).then_some(dim)
}

/// Every size in an operation that may depend on the batch.
fn sizes(op: &mut Op) -> Vec<&mut Dim> {
    match op {
        Op::Reshape { shape } | Op::Expand { shape } | Op::Full { shape, .. } => {
            shape.dims_mut().iter_mut().collect()
        }
        Op::Repeat { times, .. } => vec![times],
        Op::Slice { ranges } | Op::SliceAssign { ranges } => {
            ranges.iter_mut().flat_map(|range| [&mut range.start, &mut range.end]).collect()
        }
        _ => Vec::new(),
    }
}

fn at_batches(found: &[String; 3]) -> String {
    let parts: Vec<_> =
        BATCHES.iter().zip(found).map(|(batch, found)| format!("{found} at batch {batch}")).collect();
    parts.join(", ")
}
