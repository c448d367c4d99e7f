//! A graph at one batch size, before names: what a recording says, in the graph's own operations.

use std::collections::{HashMap, HashSet};

use burn::tensor::DType;
use burn_capture::TensorId;
use burn_ir::TensorIr;

use super::TraceError;
use super::capture::{Pass, Recording};
use super::lower::{CustomOps, lower};
use crate::{Kind, Op, Shape, TensorType};

/// What a leaf of a draft stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// The input of this number.
    Input(usize),
    /// The tensor of this number among those that the module holds.
    Held(usize),
    /// Data from inside the forward pass.
    Data(TensorId),
}

/// An operation at one batch size.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) op: Op,
    /// Positions of earlier steps.
    pub(super) inputs: Vec<usize>,
    /// Every size is a number.
    pub(super) output: TensorType,
    pub(super) leaf: Option<Leaf>,
}

/// Steps in order of execution, leaves before their first use.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) steps: Vec<Step>,
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
}

impl Draft {
    /// Reads a recorded pass.
    pub(super) fn read(pass: &Pass, recording: &Recording, custom: &CustomOps) -> Result<Self, TraceError> {
        let mut reader = Reader::new(recording);
        for (number, &id) in pass.inputs.iter().enumerate() {
            let position = reader.leaf(id, Leaf::Input(number))?;
            reader.draft.inputs.push(position);
        }
        for operation in &pass.operations {
            let lowered = lower(operation, custom)
                .map_err(|op| TraceError::Unsupported { op, module: reader.module() })?;
            for step in lowered {
                reader.step(step)?;
            }
        }
        if let Some(panicked) = &pass.panicked {
            return Err(TraceError::Forward {
                module: reader.module(),
                place: panicked.place.clone(),
                message: panicked.message.clone(),
            });
        }
        for (index, id) in pass.outputs.iter().enumerate() {
            let id = id.ok_or(TraceError::Output { index })?;
            let position = reader.position(id).map_err(|_| TraceError::Output { index })?;
            reader.draft.outputs.push(position);
        }
        Ok(reader.draft)
    }

    /// For every step, those that read it.
    pub(super) fn users(&self) -> Vec<Vec<usize>> {
        let mut users = vec![Vec::new(); self.steps.len()];
        for (position, step) in self.steps.iter().enumerate() {
            for &input in &step.inputs {
                users[input].push(position);
            }
        }
        users
    }

    /// Which steps depend on an input.
    pub(super) fn varying(&self) -> Vec<bool> {
        let mut varying = vec![false; self.steps.len()];
        for (position, step) in self.steps.iter().enumerate() {
            varying[position] =
                matches!(step.leaf, Some(Leaf::Input(_))) || step.inputs.iter().any(|&input| varying[input]);
        }
        varying
    }

    /// Drops the steps that no output needs; inputs stay.
    pub(super) fn sweep(&mut self) {
        let mut needed = vec![false; self.steps.len()];
        for &position in self.outputs.iter().chain(&self.inputs) {
            needed[position] = true;
        }
        for position in (0..self.steps.len()).rev() {
            if needed[position] {
                for &input in &self.steps[position].inputs {
                    needed[input] = true;
                }
            }
        }
        let mut place = vec![0; self.steps.len()];
        let mut kept = 0;
        for (position, &needed) in needed.iter().enumerate() {
            place[position] = kept;
            kept += usize::from(needed);
        }
        let mut flags = needed.into_iter();
        self.steps.retain(|_| flags.next().unwrap_or(false));
        let step_inputs = self.steps.iter_mut().flat_map(|step| &mut step.inputs);
        for position in step_inputs.chain(&mut self.inputs).chain(&mut self.outputs) {
            *position = place[*position];
        }
    }
}

/// An operation as it was recorded: tensors by id.
pub(super) struct Lowered {
    pub(super) op: Op,
    pub(super) inputs: Vec<TensorId>,
    pub(super) output: TensorIr,
}

struct Reader<'a> {
    recording: &'a Recording,
    held: HashMap<TensorId, usize>,
    places: HashMap<TensorId, usize>,
    draft: Draft,
}

impl<'a> Reader<'a> {
    fn new(recording: &'a Recording) -> Self {
        let held = recording.held.iter().enumerate().map(|(number, held)| (held.tensor, number)).collect();
        Self { recording, held, places: HashMap::new(), draft: Draft::default() }
    }

    fn step(&mut self, lowered: Lowered) -> Result<(), TraceError> {
        let inputs = lowered.inputs.iter().map(|&id| self.position(id)).collect::<Result<_, _>>()?;
        self.places.insert(lowered.output.id, self.draft.steps.len());
        let output = type_of(&lowered.output.shape, lowered.output.dtype);
        self.draft.steps.push(Step { op: lowered.op, inputs, output, leaf: None });
        Ok(())
    }

    /// Where a tensor comes from; one that was not computed becomes a leaf.
    fn position(&mut self, id: TensorId) -> Result<usize, TraceError> {
        if let Some(&position) = self.places.get(&id) {
            return Ok(position);
        }
        match self.held.get(&id) {
            Some(&number) => self.leaf(id, Leaf::Held(number)),
            None => self.leaf(id, Leaf::Data(id)),
        }
    }

    fn leaf(&mut self, id: TensorId, leaf: Leaf) -> Result<usize, TraceError> {
        let value = self.recording.values.get(&id).ok_or_else(|| TraceError::Capture {
            reason: format!("it has neither data nor origin of {id}; was that tensor made in another trace?"),
        })?;
        let op = if matches!(leaf, Leaf::Input(_)) { Op::Input } else { Op::Constant };
        let output = type_of(value.shape(), value.dtype());
        let position = self.draft.steps.len();
        self.draft.steps.push(Step { op, inputs: Vec::new(), output, leaf: Some(leaf) });
        self.places.insert(id, position);
        Ok(position)
    }

    /// The module of the parameter that was used last.
    fn module(&self) -> Option<String> {
        last_module(&self.draft, self.draft.steps.len(), self.recording)
    }
}

/// The module of the parameter that was used last before a step.
pub(super) fn last_module(draft: &Draft, before: usize, recording: &Recording) -> Option<String> {
    let steps = draft.steps.get(..before).unwrap_or(&draft.steps);
    steps.iter().rev().flat_map(|step| &step.inputs).find_map(|&input| match draft.steps[input].leaf {
        Some(Leaf::Held(number)) => {
            let path = &recording.held[number].path;
            Some(path.rsplit_once('.').map_or("", |(module, _)| module).to_owned())
        }
        _ => None,
    })
}

fn type_of(shape: &[usize], dtype: DType) -> TensorType {
    let kind = match dtype {
        DType::Bool(_) => Kind::Bool,
        dtype if dtype.is_float() => Kind::Float,
        _ => Kind::Int,
    };
    TensorType { kind, shape: Shape::fixed(shape.iter().copied()) }
}

/// Steps that compute only from what is in a set of positions; used by patterns to find what they swallow.
pub(super) fn between(draft: &Draft, root: usize, inputs: &[usize]) -> HashSet<usize> {
    let stop: HashSet<usize> = inputs.iter().copied().collect();
    let mut inner = HashSet::new();
    let mut open = vec![root];
    while let Some(position) = open.pop() {
        for &input in &draft.steps[position].inputs {
            if !stop.contains(&input) && inner.insert(input) {
                open.push(input);
            }
        }
    }
    inner
}
