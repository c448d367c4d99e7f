//! VGG with batch normalisation for small images.
//!
//! Simonyan and Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, 2015,
//! [arXiv:1409.1556](https://arxiv.org/abs/1409.1556), in the form that distillation papers train on CIFAR (Tian et al., *Contrastive Representation
//! Distillation*, 2020, [arXiv:1910.10699](https://arxiv.org/abs/1910.10699)): batch normalisation, three poolings, a global mean, one linear layer.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};

use crate::builder::{Builder, global_pool, max_pool};
use crate::error::{ModelError, in_range, size};
use crate::init::initialised;
use crate::input_shape::InputShape;

/// Channels of the five stages.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// Settings of [`Vgg`], by name `vgg8`, `vgg11`, `vgg13`, `vgg16` or `vgg19`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VggConfig {
    /// Which one: 8, 11, 13, 16 or 19, counting three linear layers as the paper does (here there is one).
    pub depth: usize,
}

impl VggConfig {
    /// Reads a name; `None` if it means another architecture.
    pub(crate) fn parse(name: &str) -> Result<Option<Self>, ModelError> {
        let Some(depth) = name.strip_prefix("vgg").and_then(size) else { return Ok(None) };
        let config = Self { depth };
        config.layers()?;
        Ok(Some(config))
    }

    /// Convolutions per stage.
    fn layers(&self) -> Result<[usize; 5], ModelError> {
        let layers = match self.depth {
            8 => [1; 5],
            11 => [1, 1, 2, 2, 2],
            13 => [2; 5],
            16 => [2, 2, 3, 3, 3],
            19 => [2, 2, 4, 4, 4],
            _ => [0; 5],
        };
        in_range("vgg", "depth", self.depth, layers != [0; 5], "8, 11, 13, 16 or 19")?;
        Ok(layers)
    }

    /// Makes the model.
    ///
    /// # Errors
    /// [`ModelError::OutOfRange`] for another depth, [`ModelError::TooSmall`] for images below 8×8, [`ModelError::Empty`] and
    /// [`ModelError::NoClasses`].
    pub fn init(&self, shape: InputShape, classes: usize, device: &Device) -> Result<Vgg, ModelError> {
        let mut build = Builder::new(shape, device)?;
        let mut stages = Vec::new();
        for ((layers, channels), index) in self.layers()?.into_iter().zip(CHANNELS).zip(0..) {
            let stage = (0..layers).map(|_| Layer::new(&mut build, channels, device));
            stages.push(stage.collect::<Result<Vec<_>, _>>()?);
            if index < POOLINGS {
                build.max_pool()?;
            }
        }
        build.global_pool();
        let classifier = build.classifier(classes)?;
        Ok(initialised(Vgg { stages, classifier, macs: build.macs() }))
    }
}

/// The first stages end in a pooling; the last two see the same image size.
const POOLINGS: usize = 3;

/// A 3×3 convolution with bias and its normalisation.
#[derive(Module, Debug)]
struct Layer {
    conv: Conv2d,
    bn: BatchNorm,
}

impl Layer {
    fn new(build: &mut Builder<'_>, channels: usize, device: &Device) -> Result<Self, ModelError> {
        let mut conv = build.conv(channels, 3, 1)?;
        // The bias is idle before a normalisation; it is there because the public networks and their weights have it.
        conv.bias = Some(Param::from_tensor(Tensor::zeros([channels], device)));
        Ok(Self { conv, bn: build.norm() })
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.bn.forward(self.conv.forward(input))
    }
}

/// A VGG network: see the [settings](VggConfig).
///
/// Taps, for images of `h`×`w`: `stage1` `[batch, 64, h, w]`, `stage2` `[batch, 128, h/2, w/2]`, `stage3` `[batch, 256, h/4, w/4]`, `stage4` and `stage5`
/// `[batch, 512, h/8, w/8]`, before the pooling; each also before its last ReLU as `stageN.preact`; and `features` `[batch, 512]`.
#[derive(Module, Debug)]
pub struct Vgg {
    stages: Vec<Vec<Layer>>,
    classifier: Linear,
    #[module(skip)]
    macs: u64,
}

impl Network for Vgg {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<4>, taps: &mut Taps) -> Tensor<2> {
        let mut x = input;
        for (layers, index) in self.stages.iter().zip(0..) {
            let Some((last, others)) = layers.split_last() else { continue };
            let name = format!("stage{}", index + 1);
            x = others.iter().fold(x, |x, layer| relu(layer.forward(x)));
            let preact = taps.tap(&format!("{name}.preact"), last.forward(x));
            x = taps.tap(&name, relu(preact));
            if index < POOLINGS {
                x = max_pool(x);
            }
        }
        self.classifier.forward(taps.tap("features", global_pool(x)))
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
    fn eight_pixels_are_the_least() {
        let init = |side| VggConfig { depth: 8 }.init(InputShape::new(3, side, side), 10, &Device::flex());
        assert!(init(8).is_ok());
        assert!(matches!(init(7).unwrap_err(), ModelError::TooSmall { window: 2, .. }));
    }

    #[test]
    fn another_depth_is_refused() {
        let error = VggConfig::parse("vgg12").unwrap_err().to_string();
        assert!(error.contains("depth is `12`") && error.contains("8, 11, 13, 16 or 19"), "{error}");
    }
}
