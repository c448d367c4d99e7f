//! Initialisation and size of a module's parameters.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor};

/// Gives every parameter its initial numbers now, in the order of the module's fields.
///
/// burn draws a parameter's initial numbers when it is first read and shares them with the clones made before: without this, the weights
/// would depend on which layer is touched first. Every model of this crate is initialised so; seed the device before making it.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
///
/// let device = Device::flex();
/// device.seed(7);
/// let layer = LinearConfig::new(4, 2).init(&device);
/// kd_models::force_init(&layer);
/// assert!(layer.weight.is_initialized());
/// ```
pub fn force_init(module: &impl Module) {
    struct Touch;

    impl ModuleVisitor for Touch {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            param.val();
        }
        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            param.val();
        }
    }

    module.visit(&mut Touch);
}

/// The module, its parameters initialised.
pub(crate) fn initialised<M: Module>(module: M) -> M {
    force_init(&module);
    module
}

/// How many numbers training sets: what papers call the number of parameters.
///
/// burn's own `num_params` counts the running means and variances of batch normalisation as well.
///
/// ```
/// use burn::{module::Module, nn::BatchNormConfig, tensor::Device};
///
/// let norm = BatchNormConfig::new(8).init(&Device::flex());
/// assert_eq!(kd_models::parameter_count(&norm), 16);
/// assert_eq!(norm.num_params(), 32);
/// ```
pub fn parameter_count(module: &impl Module) -> usize {
    #[derive(Default)]
    struct Count {
        path: Vec<String>,
        total: usize,
    }

    impl ModuleVisitor for Count {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let buffer = self.path.last().is_some_and(|name| name == "running_mean" || name == "running_var");
            if !buffer {
                self.total += param.lazy_shape().num_elements();
            }
        }
    }

    let mut count = Count::default();
    module.visit(&mut count);
    count.total
}
