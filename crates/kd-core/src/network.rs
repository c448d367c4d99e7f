//! What kd needs to know of a model.

use burn::module::Module;
use burn::tensor::{Int, Tensor};

use crate::taps::{OUTPUT, Taps};

/// A model that can be trained and distilled.
///
/// One method: the forward pass, which offers its intermediate values to [`Taps`]. Any input and output type will do: integer tokens,
/// several inputs as a tuple, logits per token or per pixel.
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{activation::relu, Device, Tensor}};
/// use kd_core::{Network, Taps};
///
/// #[derive(Module, Debug)]
/// struct Student { hidden: Linear, output: Linear }
///
/// impl Network for Student {
///     type Input = Tensor<2>;
///     type Output = Tensor<2>;
///     fn forward(&self, input: Tensor<2>, taps: &mut Taps) -> Tensor<2> {
///         let hidden = taps.tap("hidden", relu(self.hidden.forward(input)));
///         self.output.forward(hidden)
///     }
/// }
/// # let device = Device::flex();
/// # let student = Student { hidden: LinearConfig::new(4, 8).init(&device), output: LinearConfig::new(8, 3).init(&device) };
/// let mut taps = Taps::only(["hidden"]);
/// let logits = student.forward(Tensor::zeros([5, 4], &device), &mut taps);
/// assert_eq!(logits.dims(), [5, 3]);
/// assert_eq!(taps.get::<2>("hidden")?.dims(), [5, 8]);
/// # Ok::<(), kd_core::TapError>(())
/// ```
pub trait Network: Module {
    /// What goes in; the first axis of every tensor in it is the batch.
    type Input: Clone;
    /// What comes out.
    type Output: Output;

    /// Runs the model and offers its intermediate values to `taps`.
    fn forward(&self, input: Self::Input, taps: &mut Taps) -> Self::Output;

    /// Multiply-accumulate operations for one sample, if the model knows them; reports show it.
    fn macs(&self) -> Option<u64> {
        None
    }

    /// [`forward`](Self::forward), with the output among the taps under [`OUTPUT`].
    fn run(&self, input: Self::Input, mut taps: Taps) -> Taps {
        let output = self.forward(input, &mut taps);
        output.record(&mut taps);
        taps
    }
}

/// The output of a [`Network`]: puts its tensors among the taps, the main one under [`OUTPUT`].
pub trait Output {
    /// Records the output's tensors.
    fn record(self, taps: &mut Taps);
}

impl<const D: usize> Output for Tensor<D> {
    fn record(self, taps: &mut Taps) {
        taps.insert(OUTPUT, self);
    }
}

impl<const D: usize> Output for Tensor<D, Int> {
    fn record(self, taps: &mut Taps) {
        taps.insert(OUTPUT, self);
    }
}
