//! Running a step's models again, for losses on input gradients.

use std::marker::PhantomData;

use burn::tensor::Device;
use kd_core::{Network, Replay, Taps, TermError, Value, Wants};

use crate::batch::HostBatch;
use crate::step::Ready;
use crate::teacher::Teacher;
use crate::twin::twin;

/// What a term needs to run the step's models again, if any term does and the input allows it.
pub(crate) fn replayed<'a, N: Network, B: HostBatch<Input = N::Input>>(
    teachers: &'a [Box<dyn Teacher<N::Input>>],
    wants: &'a Wants,
    device: &'a Device,
    student: &'a N,
    ready: &Ready<N::Input>,
) -> Option<Replayed<'a, N, B>> {
    let input = B::input_as_value(&ready.input).filter(|_| wants.replays)?;
    Some(Replayed { input, student, teachers, wants, device, seed: ready.seed, batch: PhantomData })
}

/// Runs the step's models again on other inputs.
pub(crate) struct Replayed<'a, N: Network, B> {
    input: Value,
    student: &'a N,
    teachers: &'a [Box<dyn Teacher<N::Input>>],
    wants: &'a Wants,
    device: &'a Device,
    seed: u64,
    batch: PhantomData<fn() -> B>,
}

impl<N: Network, B: HostBatch<Input = N::Input>> Replay for Replayed<'_, N, B> {
    fn input(&self) -> Value {
        self.input.clone()
    }

    fn student(&self, input: &Value) -> Result<Taps, TermError> {
        let input = B::input_from_value(input).ok_or(TermError::NoReplay)?;
        self.device.seed(self.seed);
        Ok(twin(self.student).run(input, Taps::only(&self.wants.student)))
    }

    fn teacher(&self, index: usize, input: &Value) -> Result<Taps, TermError> {
        let input = B::input_from_value(input).ok_or(TermError::NoReplay)?;
        let teacher = self.teachers.get(index).ok_or(TermError::NoTeacher)?;
        let taps = teacher.differentiable(input, &self.wants.teacher);
        taps.map_err(|error| TermError::Other(error.to_string()))
    }
}
