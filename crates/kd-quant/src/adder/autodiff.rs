//! The layer on the tape.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

use super::Geometry;
use super::ops::{Adder, AdderGradients};

#[derive(Debug)]
struct Rule;

#[derive(Clone, Debug)]
struct Saved<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    geometry: Geometry,
    eta: f32,
}

impl<B: AdderGradients> Backward<B, 2> for Rule {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let Saved { x, weight, geometry, eta } = ops.state;
        let gradients = B::adder_gradients(x, weight, dy, geometry, eta, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: AdderGradients, C: CheckpointStrategy> Adder for Autodiff<B, C> {
    fn adder_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
        eta: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let y = B::adder_conv(x.clone(), weight.clone(), geometry, eta);
        match Rule.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(Saved { x, weight, geometry, eta }, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}
