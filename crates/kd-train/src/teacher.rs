//! The network that a student learns from.

use burn::tensor::Device;
use kd_core::{Network, TapError, Taps};

use crate::cache::CacheError;
use crate::weights::{FingerprintError, fingerprint};

/// Why a teacher could not answer.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// The teacher has no such tap; the error lists those it has.
    #[error("teacher `{teacher}`: {source}")]
    Tap {
        /// Name of the teacher.
        teacher: String,
        /// The tap and what there is.
        source: TapError,
    },
    /// The teacher's weights could not be read.
    #[error("teacher `{teacher}`: {source}")]
    Fingerprint {
        /// Name of the teacher.
        teacher: String,
        /// The tensor and what the device said.
        source: FingerprintError,
    },
    /// The cache of the teacher's outputs cannot be used.
    #[error("teacher `{teacher}`: {source}")]
    Cache {
        /// Name of the teacher.
        teacher: String,
        /// What is wrong with the cache.
        source: Box<CacheError>,
    },
    /// A teacher of the user's own failed.
    #[error("teacher `{teacher}`: {message}")]
    Failed {
        /// Name of the teacher.
        teacher: String,
        /// What went wrong and what to do about it.
        message: String,
    },
}

/// What a run asks of a teacher: values for a batch, with its layers in evaluation mode and off the autodiff tape.
///
/// [`NetworkTeacher`] makes one of any [`Network`]; [`CachedTeacher`](crate::cache::CachedTeacher) keeps its outputs on disk.
pub trait Teacher<I>: Send {
    /// The taps `wanted` for `input`, and the output under [`OUTPUT`](kd_core::OUTPUT), without gradient.
    ///
    /// `input` lies on the device without autodiff. `ids` holds the dataset's number of every sample of the batch and `view` the number of
    /// the augmented view: only a cache looks at them.
    ///
    /// # Errors
    /// [`TeacherError::Tap`] for a tap that does not exist, others as the teacher says.
    fn taps(&mut self, input: &I, ids: &[usize], view: u64, wanted: &[String]) -> Result<Taps, TeacherError>;

    /// The same on the autodiff device, for losses that need gradients with respect to the input. Layers stay in evaluation mode and
    /// the weights are constants: gradients flow into `input` only, which lies on the autodiff device.
    ///
    /// # Errors
    /// As [`taps`](Self::taps).
    fn differentiable(&self, input: I, wanted: &[String]) -> Result<Taps, TeacherError>;

    /// Identifies all weights and running statistics, see [`fingerprint`]. A run checks that it does not move.
    ///
    /// # Errors
    /// [`TeacherError::Fingerprint`] when the weights cannot be read.
    fn fingerprint(&self) -> Result<String, TeacherError>;

    /// Number of parameters.
    fn parameters(&self) -> usize;

    /// Name for reports.
    fn name(&self) -> &str;
}

impl<I, T: Teacher<I> + ?Sized> Teacher<I> for Box<T> {
    fn taps(&mut self, input: &I, ids: &[usize], view: u64, wanted: &[String]) -> Result<Taps, TeacherError> {
        (**self).taps(input, ids, view, wanted)
    }

    fn differentiable(&self, input: I, wanted: &[String]) -> Result<Taps, TeacherError> {
        (**self).differentiable(input, wanted)
    }

    fn fingerprint(&self) -> Result<String, TeacherError> {
        (**self).fingerprint()
    }

    fn parameters(&self) -> usize {
        (**self).parameters()
    }

    fn name(&self) -> &str {
        (**self).name()
    }
}

/// A [`Network`] as a frozen teacher.
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
/// use kd_core::{Network, OUTPUT, Taps};
/// use kd_train::teacher::{NetworkTeacher, Teacher};
///
/// #[derive(Module, Debug)]
/// struct Scores { output: Linear }
///
/// impl Network for Scores {
///     type Input = Tensor<2>;
///     type Output = Tensor<2>;
///     fn forward(&self, input: Tensor<2>, _taps: &mut Taps) -> Tensor<2> {
///         self.output.forward(input)
///     }
/// }
/// let device = Device::flex();
/// let network = Scores { output: LinearConfig::new(4, 3).init(&device) };
/// let mut teacher = NetworkTeacher::new("scores", network, &device);
/// let taps = teacher.taps(&Tensor::zeros([2, 4], &device), &[0, 1], 0, &[])?;
/// assert_eq!(taps.get::<2>(OUTPUT)?.dims(), [2, 3]);
/// assert_eq!(teacher.parameters(), 15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct NetworkTeacher<N> {
    name: String,
    network: N,
    /// The same numbers on the autodiff device, with every training flag off.
    frozen: N,
}

impl<N: Network> NetworkTeacher<N> {
    /// Takes the network as it is now, in evaluation mode, to `device`; whether that has autodiff does not matter.
    ///
    /// Nothing is shared with a network that goes on training: its later steps do not move the teacher.
    pub fn new(name: impl Into<String>, network: N, device: &Device) -> Self {
        let network = network.valid().materialize().to_device(&device.clone().without_autodiff());
        // `train` copies the running statistics; `freeze` keeps batch norm from updating them and dropout from dropping.
        let frozen = network.clone().train().freeze();
        Self { name: name.into(), network, frozen }
    }

    /// The network in evaluation mode.
    pub fn network(&self) -> &N {
        &self.network
    }

    fn checked(&self, taps: Taps, wanted: &[String]) -> Result<Taps, TeacherError> {
        for name in wanted {
            taps.value(name).map_err(|source| TeacherError::Tap { teacher: self.name.clone(), source })?;
        }
        Ok(taps)
    }
}

impl<N: Network> Teacher<N::Input> for NetworkTeacher<N> {
    fn taps(
        &mut self,
        input: &N::Input,
        _ids: &[usize],
        _view: u64,
        wanted: &[String],
    ) -> Result<Taps, TeacherError> {
        let taps = self.network.run(input.clone(), Taps::only(wanted));
        self.checked(taps.inner(), wanted)
    }

    fn differentiable(&self, input: N::Input, wanted: &[String]) -> Result<Taps, TeacherError> {
        self.checked(self.frozen.run(input, Taps::only(wanted)), wanted)
    }

    fn fingerprint(&self) -> Result<String, TeacherError> {
        fingerprint(&self.network)
            .map_err(|source| TeacherError::Fingerprint { teacher: self.name.clone(), source })
    }

    fn parameters(&self) -> usize {
        self.network.num_params()
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::module::Module;
    use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
    use burn::tensor::Tensor;
    use burn::tensor::activation::tanh;
    use kd_core::OUTPUT;

    #[derive(Module, Debug)]
    struct Net {
        hidden: Linear,
        norm: BatchNorm,
        dropout: Dropout,
        output: Linear,
    }

    impl Network for Net {
        type Input = Tensor<2>;
        type Output = Tensor<2>;
        fn forward(&self, input: Tensor<2>, taps: &mut Taps) -> Tensor<2> {
            let hidden = self.dropout.forward(tanh(self.norm.forward(self.hidden.forward(input))));
            self.output.forward(taps.tap("hidden", hidden))
        }
    }

    fn net(device: &Device) -> Net {
        Net {
            hidden: LinearConfig::new(3, 8).init(device),
            norm: BatchNormConfig::new(8).init(device),
            dropout: DropoutConfig::new(0.5).init(),
            output: LinearConfig::new(8, 2).init(device),
        }
    }

    fn input(device: &Device) -> Tensor<2> {
        Tensor::from_floats([[0.3, -0.2, 0.9], [1.1, 0.4, -0.6], [-0.8, 0.7, 0.1], [0.2, 0.5, -1.3]], device)
    }

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// A network whose statistics are no longer those it started with.
    fn trained() -> (Net, Device) {
        let device = Device::flex().autodiff();
        let network = net(&device);
        network.forward(input(&device), &mut Taps::none());
        (network, device)
    }

    #[test]
    fn taps_are_those_of_evaluation_mode_and_off_the_tape() {
        let (network, device) = trained();
        let mut teacher = NetworkTeacher::new("net", network.clone(), &device);
        let x = input(&device).inner();
        let taps = teacher.taps(&x, &[0, 1, 2, 3], 0, &["hidden".into()]).unwrap();
        let expected = network.valid().forward(x, &mut Taps::none());
        let output = taps.get::<2>(OUTPUT).unwrap();
        assert!(!output.is_autodiff());
        assert_eq!(numbers(output), numbers(expected));
        assert_eq!(taps.get::<2>("hidden").unwrap().dims(), [4, 8]);
    }

    #[test]
    fn a_tap_that_does_not_exist_is_an_error_that_lists_those_that_do() {
        let (network, device) = trained();
        let mut teacher = NetworkTeacher::new("net", network, &device);
        let error = teacher.taps(&input(&device).inner(), &[], 0, &["hiden".into()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "teacher `net`: there is no tap `hiden`; the network has: hidden, output"
        );
    }

    #[test]
    fn neither_kind_of_forward_pass_moves_weights_or_statistics() {
        let (network, device) = trained();
        let mut teacher = NetworkTeacher::new("net", network, &device);
        let before = teacher.fingerprint().unwrap();
        for _ in 0..3 {
            teacher.taps(&input(&device).inner(), &[], 0, &[]).unwrap();
            let x = input(&device).require_grad();
            teacher.differentiable(x, &[]).unwrap().get::<2>(OUTPUT).unwrap().sum().backward();
        }
        assert_eq!(teacher.fingerprint().unwrap(), before);
        assert_eq!(fingerprint(&teacher.frozen.valid()).unwrap(), before);
    }

    #[test]
    fn a_network_that_goes_on_training_does_not_move_its_teacher() {
        let (network, device) = trained();
        let teacher = NetworkTeacher::new("net", network.clone(), &device);
        let before = teacher.fingerprint().unwrap();
        network.forward(input(&device) * 3.0, &mut Taps::none());
        network.forward(input(&device) * 3.0, &mut Taps::none());
        assert_eq!(teacher.fingerprint().unwrap(), before);
        assert_ne!(fingerprint(&network.valid()).unwrap(), before);
    }

    #[test]
    fn the_differentiable_pass_has_the_numbers_of_the_other_one() {
        let (network, device) = trained();
        let mut teacher = NetworkTeacher::new("net", network, &device);
        let x = input(&device);
        let plain = teacher.taps(&x.clone().inner(), &[], 0, &[]).unwrap().get::<2>(OUTPUT).unwrap();
        let taped = teacher.differentiable(x, &[]).unwrap().get::<2>(OUTPUT).unwrap();
        assert!(taped.is_autodiff());
        assert_eq!(numbers(plain), numbers(taped));
    }

    #[test]
    fn the_input_gradient_is_the_finite_difference_and_the_weights_get_none() {
        let (network, device) = trained();
        let mut teacher = NetworkTeacher::new("net", network, &device);
        let x = input(&device).require_grad();
        let loss =
            teacher.differentiable(x.clone(), &[]).unwrap().get::<2>(OUTPUT).unwrap().powi_scalar(2).sum();
        let gradients = loss.backward();
        let gradient = numbers(x.grad(&gradients).unwrap());
        assert!(teacher.frozen.hidden.weight.val().grad(&gradients).is_none());

        let mut loss_at = |values: &[f32]| {
            let x = Tensor::<1>::from_floats(values, &device.clone().without_autodiff()).reshape([4, 3]);
            let output = teacher.taps(&x, &[], 0, &[]).unwrap().get::<2>(OUTPUT).unwrap();
            numbers(output).iter().map(|&y| f64::from(y) * f64::from(y)).sum::<f64>()
        };
        let values = numbers(x);
        for (index, &found) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut values = values.clone();
                values[index] += by;
                values
            };
            let step = 1e-2;
            let expected = (loss_at(&moved(step)) - loss_at(&moved(-step))) / (2.0 * f64::from(step));
            assert!(
                (f64::from(found) - expected).abs() < 2e-3 * expected.abs().max(1.0),
                "{found} {expected}"
            );
        }
    }
}
