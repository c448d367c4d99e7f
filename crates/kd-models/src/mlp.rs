//! Multi-layer perceptrons over flattened images.
//!
//! LeNet-300-100 is the one of LeCun et al., *Gradient-based learning applied to document recognition*, 1998; 1200-1200 and 800-800 are teacher
//! and student of Hinton et al., *Distilling the Knowledge in a Neural Network*, 2015, [arXiv:1503.02531](https://arxiv.org/abs/1503.02531);
//! 500-300 with batch normalisation is the one of Liu et al., *Learning Efficient Convolutional Networks through Network Slimming*, 2017,
//! [arXiv:1708.06519](https://arxiv.org/abs/1708.06519).

use std::iter::{once, repeat};

use burn::module::Module;
use burn::nn::{BatchNorm, Dropout, DropoutConfig, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};

use crate::builder::Builder;
use crate::error::{ModelError, in_range, widths};
use crate::init::initialised;
use crate::input_shape::InputShape;

/// Settings of [`Mlp`], by name `mlp:1200,1200`, `mlp:1200,1200;dropout=0.2,0.5`, `mlp-bn:500,300`, `lenet300-100` or `linear`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MlpConfig {
    /// Units of each hidden layer; none makes a linear classifier.
    pub hidden: Vec<usize>,
    /// Probability of zeroing an input pixel and a hidden unit while training; 0 by default.
    pub dropout: [f64; 2],
    /// Batch normalisation between every hidden layer and its ReLU; false by default.
    pub norm: bool,
}

impl MlpConfig {
    /// Reads a name; `None` if it means another architecture.
    pub(crate) fn parse(name: &str) -> Result<Option<Self>, ModelError> {
        let (hidden, norm) = match name.split_once(':') {
            None if name == "linear" => (Vec::new(), false),
            None if name == "lenet300-100" => (vec![300, 100], false),
            Some(("mlp", text)) => (widths(name, text)?, false),
            Some(("mlp-bn", text)) => (widths(name, text)?, true),
            _ => return Ok(None),
        };
        Ok(Some(Self { hidden, norm, ..Self::default() }))
    }

    /// Makes the model.
    ///
    /// # Errors
    /// [`ModelError::OutOfRange`] for a dropout outside 0 to 1 (1 excluded) or a layer without units, [`ModelError::Empty`] and
    /// [`ModelError::NoClasses`].
    pub fn init(&self, shape: InputShape, classes: usize, device: &Device) -> Result<Mlp, ModelError> {
        for rate in self.dropout {
            in_range("mlp", "dropout", rate, (0.0..1.0).contains(&rate), "at least 0 and below 1")?;
        }
        for &width in &self.hidden {
            in_range("mlp", "width", width, width > 0, "at least 1")?;
        }
        let mut build = Builder::new(shape, device)?;
        let mut norms = Vec::new();
        let layer = |&width: &usize| {
            let layer = build.linear(width);
            norms.extend(self.norm.then(|| build.norm()));
            layer
        };
        let hidden: Vec<_> = self.hidden.iter().map(layer).collect();
        let output = build.classifier(classes)?;
        let [input, inner] = self.dropout;
        let rates = once(input).chain(repeat(inner)).take(hidden.len());
        let dropout = rates.map(|rate| DropoutConfig::new(rate).init()).collect();
        let rate = if hidden.is_empty() { input } else { inner };
        let output_dropout = DropoutConfig::new(rate).init();
        Ok(initialised(Mlp { dropout, hidden, norms, output_dropout, output, macs: build.macs() }))
    }
}

/// Linear layers with ReLU, and batch normalisation before it if asked for, between them; dropout before each of them.
///
/// Taps: `hiddenN` (`[batch, units]`, after ReLU, before dropout), `hiddenN.preact` and `features`, the last of them.
#[derive(Module, Debug)]
pub struct Mlp {
    dropout: Vec<Dropout>,
    hidden: Vec<Linear>,
    /// One for every hidden layer, or none at all.
    norms: Vec<BatchNorm>,
    output_dropout: Dropout,
    output: Linear,
    #[module(skip)]
    macs: u64,
}

impl Network for Mlp {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<4>, taps: &mut Taps) -> Tensor<2> {
        let mut x = input.flatten(1, 3);
        for ((layer, dropout), number) in self.hidden.iter().zip(&self.dropout).zip(1..) {
            let preact = layer.forward(dropout.forward(x));
            let preact = match self.norms.get(number - 1) {
                Some(norm) => norm.forward(preact),
                None => preact,
            };
            let preact = taps.tap(&format!("hidden{number}.preact"), preact);
            x = taps.tap(&format!("hidden{number}"), relu(preact));
        }
        let features = taps.tap("features", x);
        self.output.forward(self.output_dropout.forward(features))
    }

    fn macs(&self) -> Option<u64> {
        Some(self.macs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dropout_zeroes_inputs_and_units_in_training_only() {
        let device = Device::flex().autodiff();
        let config = MlpConfig { hidden: vec![64], dropout: [0.2, 0.5], norm: false };
        let model = config.init(InputShape::MNIST, 10, &device).unwrap();
        let image = Tensor::<4>::ones([1, 1, 28, 28], &device);
        let run = |model: &Mlp, image: &Tensor<4>| {
            model.forward(image.clone(), &mut Taps::none()).into_data().try_to_vec::<f32>().unwrap()
        };
        assert_ne!(run(&model, &image), run(&model, &image));
        let (model, image) = (model.valid(), image.inner());
        assert_eq!(run(&model, &image), run(&model, &image));
    }

    #[test]
    fn every_layer_has_its_own_dropout_rate() {
        let config = MlpConfig { hidden: vec![4, 4], dropout: [0.2, 0.5], norm: false };
        let model = config.init(InputShape::MNIST, 10, &Device::flex()).unwrap();
        let layers = model.dropout.iter().chain([&model.output_dropout]);
        let rates: Vec<_> = layers.map(|layer| layer.prob).collect();
        assert_eq!(rates, [0.2, 0.5, 0.5]);
    }

    #[test]
    fn initial_weights_are_uniform_within_the_inverse_root_of_fan_in() {
        let device = Device::flex();
        device.seed(3);
        let config = MlpConfig { hidden: vec![300], ..MlpConfig::default() };
        let layer = config.init(InputShape::MNIST, 10, &device).unwrap().hidden.remove(0);
        let bound = 1.0 / 28.0;
        for numbers in [layer.weight.val().into_data(), layer.bias.unwrap().val().into_data()] {
            let largest = numbers.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
            assert!(largest <= bound && largest > 0.95 * bound, "{largest} against {bound}");
        }
    }

    #[test]
    fn a_dropout_of_one_is_refused() {
        let config = MlpConfig { hidden: vec![4], dropout: [0.0, 1.0], norm: false };
        let error = config.init(InputShape::MNIST, 10, &Device::flex()).unwrap_err();
        assert_eq!(error.to_string(), "model `mlp`: dropout is `1`, but it must be at least 0 and below 1");
    }
}
