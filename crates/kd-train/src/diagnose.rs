//! What an epoch's first batch tells about the terms.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use kd_core::{Network, ObjectiveError, Replay, Taps};

use crate::batch::HostBatch;
use crate::checkpoint::Exact;
use crate::error::RunError;
use crate::fit::Fit;
use crate::learner::Gradients;
use crate::replay::{Replayed, replayed};
use crate::step::{Ready, batch};

impl<N: Network> Fit<'_, N> {
    /// The norm of every weighted term's gradient, on a copy; errors for terms that teach nothing.
    pub(crate) fn diagnose<B>(&mut self, ready: &Ready<N::Input>) -> Result<(), RunError>
    where
        B: HostBatch<Input = N::Input>,
    {
        let time = self.time();
        let names: Vec<String> = self.run.objective.names().iter().map(|&name| name.to_owned()).collect();
        let mut unweighted = Vec::with_capacity(names.len());
        for (index, term) in names.iter().enumerate() {
            // A copy: batch norm moves its statistics and memory banks their rows on every forward pass.
            let mut learner = self.learner.valid().train();
            let replay: Option<Replayed<'_, N, B>> =
                replayed(&self.run.teachers, &self.wants, &self.run.device, &learner.student, ready);
            self.run.device.seed(ready.seed);
            let taps = learner.student.run(ready.input.clone(), Taps::only(&self.wants.student));
            let batch = batch(ready, &taps, time, replay.as_ref().map(|replay| replay as &dyn Replay));
            let value = self.run.objective.forward_term(index, &batch, &mut learner.adapters)?;
            let number = f64::from(value.value.clone().into_scalar::<f32>());
            let term = || term.clone();
            if !number.is_finite() {
                return Err(ObjectiveError::NotFinite { term: term(), value: number.to_string() }.into());
            }
            if number == 0.0 && self.state.step == 0 {
                return Err(ObjectiveError::Zero { term: term() }.into());
            }
            if !value.value.is_tracked() {
                return Err(ObjectiveError::Detached { term: term() }.into());
            }
            let mut grads = GradientsParams::from_grads(value.value.backward(), &learner);
            if grads.is_empty() {
                return Err(ObjectiveError::Detached { term: term() }.into());
            }
            let norm = Gradients::new(&learner, &mut grads).norm();
            if !norm.is_finite() {
                // The root of a zero, for one: the step would turn every weight into NaN.
                let value = format!("{number}, but the norm of its gradient is {norm}");
                return Err(ObjectiveError::NotFinite { term: term(), value }.into());
            }
            unweighted.push(norm);
        }
        let weights = |objective: &kd_core::Objective| -> Vec<f64> {
            objective.terms().iter().map(|term| term.weight(time)).collect()
        };
        self.run.objective.set_scales(&vec![1.0; names.len()]);
        if self.run.objective.normalize() == kd_core::Normalize::Gradient {
            let weighted: Vec<_> = unweighted
                .iter()
                .zip(weights(&self.run.objective))
                .map(|(norm, weight)| norm * weight.abs())
                .collect();
            self.run.objective.balance(&weighted);
        }
        for ((name, norm), weight) in names.into_iter().zip(unweighted).zip(weights(&self.run.objective)) {
            self.state.sums.gradient_norms.insert(name, Exact(norm * weight.abs()));
        }
        Ok(())
    }

    /// Every learnable part of a loss must get a gradient, or the optimizer would never see it.
    pub(crate) fn check_adapters(&self, grads: &GradientsParams) -> Result<(), RunError> {
        let mut visitor = WithoutGradient { grads, path: Vec::new(), found: None };
        self.learner.adapters.visit(&mut visitor);
        match visitor.found {
            Some(path) => Err(RunError::AdapterWithoutGradient { path }),
            None => Ok(()),
        }
    }
}

struct WithoutGradient<'a> {
    grads: &'a GradientsParams,
    path: Vec<String>,
    found: Option<String>,
}

impl ModuleVisitor for WithoutGradient<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.val().is_require_grad() && self.grads.get::<D>(param.id).is_none() {
            self.found.get_or_insert(self.path.join("."));
        }
    }
}
