//! LeNet-5 in the form that compression papers use: two 5×5 convolutions of 20 and 50 channels, a hidden layer of 500 units.
//!
//! After LeCun et al., *Gradient-based learning applied to document recognition*, 1998, with the sizes of Caffe's example (431,080 parameters on
//! MNIST) and, unlike there, a ReLU after each convolution as well.

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};

use crate::builder::{Builder, max_pool};
use crate::error::{ModelError, in_range, widths};
use crate::init::initialised;
use crate::input_shape::InputShape;

/// Settings of [`LeNet5`], by name `lenet5`, `lenet5-half` (10,25,250: half of every layer), `lenet5-tenth` (6,16,150: a tenth of the
/// parameters) or `lenet5:C1,C2,F`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeNet5Config {
    /// Channels of the two convolutions; 20 and 50 by default.
    pub channels: [usize; 2],
    /// Units of the hidden layer; 500 by default.
    pub hidden: usize,
}

impl Default for LeNet5Config {
    fn default() -> Self {
        Self { channels: [20, 50], hidden: 500 }
    }
}

impl LeNet5Config {
    /// Reads a name; `None` if it means another architecture.
    pub(crate) fn parse(name: &str) -> Result<Option<Self>, ModelError> {
        let (channels, hidden) = match name {
            "lenet5" => return Ok(Some(Self::default())),
            "lenet5-half" => ([10, 25], 250),
            "lenet5-tenth" => ([6, 16], 150),
            _ => {
                let Some(text) = name.strip_prefix("lenet5:") else { return Ok(None) };
                let &[first, second, hidden] = widths(name, text)?.as_slice() else {
                    return Err(ModelError::OutOfRange {
                        model: name.into(),
                        key: "widths",
                        value: text.into(),
                        allowed: "three numbers: channels, channels, units".into(),
                    });
                };
                ([first, second], hidden)
            }
        };
        Ok(Some(Self { channels, hidden }))
    }

    /// Makes the model.
    ///
    /// # Errors
    /// [`ModelError::TooSmall`] for images below 16×16, [`ModelError::OutOfRange`] for a layer without channels, [`ModelError::Empty`] and
    /// [`ModelError::NoClasses`].
    pub fn init(&self, shape: InputShape, classes: usize, device: &Device) -> Result<LeNet5, ModelError> {
        for width in self.channels.into_iter().chain([self.hidden]) {
            in_range("lenet5", "width", width, width > 0, "at least 1")?;
        }
        let mut build = Builder::new(shape, device)?;
        let [first, second] = self.channels;
        let conv1 = build.conv_valid(first, 5)?;
        build.max_pool()?;
        let conv2 = build.conv_valid(second, 5)?;
        build.max_pool()?;
        let fc1 = build.linear(self.hidden);
        let fc2 = build.classifier(classes)?;
        Ok(initialised(LeNet5 { conv1, conv2, fc1, fc2, macs: build.macs() }))
    }
}

/// Convolution, pooling, ReLU, twice; then a hidden layer and the classifier.
///
/// Taps, on MNIST at the default sizes: `stage1` `[batch, 20, 12, 12]`, `stage2` `[batch, 50, 4, 4]`, `features` `[batch, 500]`, each also before its
/// ReLU as `<tap>.preact`. The maximum is taken before the ReLU: the result is the same, on a quarter of the numbers.
#[derive(Module, Debug)]
pub struct LeNet5 {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    macs: u64,
}

impl Network for LeNet5 {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<4>, taps: &mut Taps) -> Tensor<2> {
        let x = taps.tap("stage1.preact", max_pool(self.conv1.forward(input)));
        let x = taps.tap("stage1", relu(x));
        let x = taps.tap("stage2.preact", max_pool(self.conv2.forward(x)));
        let x = taps.tap("stage2", relu(x));
        let x = taps.tap("features.preact", self.fc1.forward(x.flatten(1, 3)));
        let x = taps.tap("features", relu(x));
        self.fc2.forward(x)
    }

    fn macs(&self) -> Option<u64> {
        Some(self.macs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::parameter_count;

    #[test]
    fn work_on_mnist_is_the_sum_of_four_layers_counted_by_hand() {
        let model = LeNet5Config::default().init(InputShape::MNIST, 10, &Device::flex()).unwrap();
        let (conv1, conv2) = (24 * 24 * 20 * 25, 8 * 8 * 50 * 20 * 25);
        assert_eq!(model.macs(), Some(conv1 + conv2 + 800 * 500 + 500 * 10));
    }

    #[test]
    fn the_tenth_has_a_tenth_of_the_parameters() {
        let count = |name| {
            let config = LeNet5Config::parse(name).unwrap().unwrap();
            parameter_count(&config.init(InputShape::MNIST, 10, &Device::flex()).unwrap()) as f64
        };
        let ratio = count("lenet5") / count("lenet5-tenth");
        assert!((10.0..10.5).contains(&ratio), "{ratio}");
    }

    #[test]
    fn sixteen_pixels_are_the_least() {
        let init = |side| LeNet5Config::default().init(InputShape::new(1, side, side), 10, &Device::flex());
        assert!(init(16).is_ok());
        let error = init(15).unwrap_err().to_string();
        assert!(error.contains("1x15x15") && error.contains("50x1x1"), "{error}");
    }
}
