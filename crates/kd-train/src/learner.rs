//! What an optimizer sees: the student and the learnable parts of its losses.

use burn::module::{Devices, Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use kd_core::Params;

/// The student and the adapters of its objective, as one module. Parameter paths start with `student.` or `adapters.`.
#[derive(Clone, Debug)]
pub struct Learner<N> {
    /// The model that is kept.
    pub student: N,
    /// Regressors, memory banks and the like; dropped when the run is over.
    pub adapters: Params,
}

// By hand: the derive would ask every network to implement burn's display traits as well.
impl<N: Module> Module for Learner<N> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.adapters.collect_devices(self.student.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        Self { student: self.student.fork(device), adapters: self.adapters.fork(device) }
    }

    fn to_device(self, device: &Device) -> Self {
        Self { student: self.student.to_device(device), adapters: self.adapters.to_device(device) }
    }

    fn train(self) -> Self {
        Self { student: self.student.train(), adapters: self.adapters.train() }
    }

    fn valid(&self) -> Self {
        Self { student: self.student.valid(), adapters: self.adapters.valid() }
    }

    fn materialize(self) -> Self {
        Self { student: self.student.materialize(), adapters: self.adapters.materialize() }
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.enter_module("student", "Learner");
        self.student.visit(visitor);
        visitor.exit_module("student", "Learner");
        visitor.enter_module("adapters", "Learner");
        self.adapters.visit(visitor);
        visitor.exit_module("adapters", "Learner");
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        mapper.enter_module("student", "Learner");
        let student = self.student.map(mapper);
        mapper.exit_module("student", "Learner");
        mapper.enter_module("adapters", "Learner");
        let adapters = self.adapters.map(mapper);
        mapper.exit_module("adapters", "Learner");
        Self { student, adapters }
    }
}

/// A change of tensors of any rank, told by their path.
pub trait TensorMap {
    /// The tensor to put in `tensor`'s place; same shape.
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D>;
}

/// Changes a module's weights in place: identities, gradient flags and everything that is not a weight stay. Running statistics of batch
/// normalisation are left out.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::{Device, Tensor}};
/// use kd_train::{TensorMap, map_weights};
///
/// struct Halve;
/// impl TensorMap for Halve {
///     fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
///         if path.ends_with("weight") { tensor * 0.5 } else { tensor }
///     }
/// }
/// let layer = LinearConfig::new(2, 2).init(&Device::flex().autodiff());
/// let before = layer.weight.val().inner();
/// let layer = map_weights(layer, &mut Halve);
/// assert!(layer.weight.is_require_grad());
/// assert!(layer.weight.val().inner().all_close(before * 0.5, None, None));
/// ```
pub fn map_weights<M: Module>(module: M, map: &mut impl TensorMap) -> M {
    module.map(&mut WeightMapper { map, path: Vec::new() })
}

struct WeightMapper<'a, T> {
    map: &'a mut T,
    path: Vec<String>,
}

impl<T: TensorMap> ModuleMapper for WeightMapper<'_, T> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        if is_statistic(&path) {
            return param;
        }
        // A mapped autodiff tensor would no longer be a leaf and would get no gradient.
        let requires_grad = param.val().is_require_grad();
        let map = &mut self.map;
        param.map(|tensor| {
            if tensor.is_autodiff() {
                map.map(&path, tensor.inner()).autodiff().set_require_grad(requires_grad)
            } else {
                map.map(&path, tensor)
            }
        })
    }
}

/// Path and shape of every float tensor of `module`, in its own order.
pub(crate) fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Shapes::default();
    module.visit(&mut shapes);
    shapes.found
}

#[derive(Default)]
struct Shapes {
    path: Vec<String>,
    found: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push((self.path.join("."), param.val().dims().to_vec()));
    }
}

/// Whether `path` names a running statistic, which visitors see like a parameter.
pub(crate) fn is_statistic(path: &str) -> bool {
    path.ends_with("running_mean") || path.ends_with("running_var")
}

/// Gradients of a module, by path: what hooks change before a step.
pub struct Gradients<'a, M: Module> {
    module: &'a M,
    grads: &'a mut GradientsParams,
}

impl<'a, M: Module> Gradients<'a, M> {
    /// The gradients `grads` of `module`.
    pub fn new(module: &'a M, grads: &'a mut GradientsParams) -> Self {
        Self { module, grads }
    }

    /// Changes every gradient there is; paths are the module's.
    pub fn map(&mut self, map: &mut impl TensorMap) {
        self.module.visit(&mut GradientMapper { grads: self.grads, map, path: Vec::new() });
    }

    /// The L2 norm over all gradients together.
    pub fn norm(&mut self) -> f64 {
        let mut squares = Squares { sum: 0.0 };
        self.map(&mut squares);
        squares.sum.sqrt()
    }

    /// Scales all gradients so that their common norm is at most `max`; returns the norm before. (burn's own clipping is per parameter.)
    pub fn clip(&mut self, max: f64) -> f64 {
        let norm = self.norm();
        if norm > max {
            self.map(&mut Scale { factor: max / norm });
        }
        norm
    }

    /// Multiplies all gradients by `factor`.
    pub fn scale(&mut self, factor: f64) {
        self.map(&mut Scale { factor });
    }
}

struct GradientMapper<'a, T> {
    grads: &'a mut GradientsParams,
    map: &'a mut T,
    path: Vec<String>,
}

impl<T: TensorMap> ModuleVisitor for GradientMapper<'_, T> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.grads.remove::<D>(param.id) {
            let gradient = self.map.map(&self.path.join("."), gradient);
            self.grads.register(param.id, gradient);
        }
    }
}

struct Squares {
    sum: f64,
}

impl TensorMap for Squares {
    fn map<const D: usize>(&mut self, _path: &str, tensor: Tensor<D>) -> Tensor<D> {
        self.sum += f64::from(tensor.clone().square().sum().into_scalar::<f32>());
        tensor
    }
}

struct Scale {
    factor: f64,
}

impl TensorMap for Scale {
    fn map<const D: usize>(&mut self, _path: &str, tensor: Tensor<D>) -> Tensor<D> {
        tensor.mul_scalar(self.factor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    fn grads(layer: &Linear, scale: f32) -> GradientsParams {
        let input = Tensor::<2>::ones([1, 4], &layer.weight.val().device());
        GradientsParams::from_grads((layer.forward(input) * scale).sum().backward(), layer)
    }

    #[test]
    fn clipping_is_over_all_parameters_together() {
        let layer = LinearConfig::new(4, 3).init(&Device::flex().autodiff());
        // Weight gradients are 2 (12 of them), bias gradients 2 (3 of them).
        let mut grads = grads(&layer, 2.0);
        let mut gradients = Gradients::new(&layer, &mut grads);
        let norm = gradients.clip(1.0);
        assert!((norm - 60f64.sqrt()).abs() < 1e-5, "{norm}");
        assert!((gradients.norm() - 1.0).abs() < 1e-5);
        let bias =
            grads.get::<1>(layer.bias.as_ref().unwrap().id).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert!(bias.iter().all(|g| (f64::from(*g) - 2.0 / 60f64.sqrt()).abs() < 1e-6), "{bias:?}");
    }

    #[test]
    fn a_norm_below_the_limit_is_left_as_it_is() {
        let layer = LinearConfig::new(4, 3).init(&Device::flex().autodiff());
        let mut grads = grads(&layer, 0.1);
        let mut gradients = Gradients::new(&layer, &mut grads);
        let norm = gradients.clip(10.0);
        assert_eq!(norm, gradients.norm());
    }
}
