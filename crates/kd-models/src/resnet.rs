//! Residual networks for small images.
//!
//! He et al., *Deep Residual Learning for Image Recognition*, 2016, [arXiv:1512.03385](https://arxiv.org/abs/1512.03385), section 4.2: a 3×3
//! convolution, three stages of $n$ blocks with 16, 32 and 64 channels, a global mean and a linear layer: $6n + 2$ layers with weights. Shortcuts
//! have no parameters (option A): where a stage halves the image, every second position is kept and the missing channels are zeros, half of them before
//! and half after, as in public code.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear};
use burn::tensor::activation::relu;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor, s};
use kd_core::{Network, Taps};

use crate::builder::{Builder, global_pool};
use crate::error::{ModelError, in_range, size};
use crate::init::initialised;
use crate::input_shape::InputShape;

/// Settings of [`ResNet`], by name `resnet8`, `resnet20`, `resnet32`, `resnet56`, `resnet110` or another depth $6n + 2$.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Layers with weights: 6n + 2, at most 1202 as in the paper.
    pub depth: usize,
}

impl ResNetConfig {
    /// Reads a name; `None` if it means another architecture.
    pub(crate) fn parse(name: &str) -> Result<Option<Self>, ModelError> {
        let Some(depth) = name.strip_prefix("resnet").and_then(size) else { return Ok(None) };
        let config = Self { depth };
        config.blocks()?;
        Ok(Some(config))
    }

    /// Blocks per stage.
    fn blocks(&self) -> Result<usize, ModelError> {
        let ok = (8..=1202).contains(&self.depth) && self.depth % 6 == 2;
        in_range(
            "resnet",
            "depth",
            self.depth,
            ok,
            "6n + 2 from 8 to 1202: 8, 14, 20, 26, 32, 56, 110, ...",
        )?;
        Ok((self.depth - 2) / 6)
    }

    /// Makes the model.
    ///
    /// # Errors
    /// [`ModelError::OutOfRange`] for an impossible depth, [`ModelError::Empty`] and [`ModelError::NoClasses`].
    pub fn init(&self, shape: InputShape, classes: usize, device: &Device) -> Result<ResNet, ModelError> {
        let blocks = self.blocks()?;
        let mut build = Builder::new(shape, device)?;
        let (conv1, bn1) = (build.conv(16, 3, 1)?, build.norm());
        let mut stage = |channels, stride| -> Result<Vec<_>, _> {
            let strides = std::iter::once(stride).chain(std::iter::repeat(1)).take(blocks);
            strides.map(|stride| BasicBlock::new(&mut build, channels, stride)).collect()
        };
        let (layer1, layer2, layer3) = (stage(16, 1)?, stage(32, 2)?, stage(64, 2)?);
        build.global_pool();
        let linear = build.classifier(classes)?;
        Ok(initialised(ResNet { conv1, bn1, layer1, layer2, layer3, linear, macs: build.macs() }))
    }
}

/// Two 3×3 convolutions around a shortcut.
#[derive(Module, Debug)]
struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    stride: usize,
    widen: usize,
}

impl BasicBlock {
    fn new(build: &mut Builder<'_>, channels: usize, stride: usize) -> Result<Self, ModelError> {
        let widen = channels - build.channels();
        let (conv1, bn1) = (build.conv(channels, 3, stride)?, build.norm());
        let (conv2, bn2) = (build.conv(channels, 3, 1)?, build.norm());
        Ok(Self { conv1, bn1, conv2, bn2, stride, widen })
    }

    /// The sum, before its ReLU.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let x = relu(self.bn1.forward(self.conv1.forward(input.clone())));
        self.bn2.forward(self.conv2.forward(x)) + self.shortcut(input)
    }

    fn shortcut(&self, input: Tensor<4>) -> Tensor<4> {
        if self.stride == 1 && self.widen == 0 {
            return input;
        }
        let step = self.stride as isize;
        let kept = input.slice(s![.., .., ..;step, ..;step]);
        let before = self.widen / 2;
        kept.pad([(before, self.widen - before), (0, 0), (0, 0)], PadMode::Constant(0.0))
    }
}

/// A residual network: see the [settings](ResNetConfig).
///
/// Taps, for images of `h`×`w`: `stem` `[batch, 16, h, w]`, `stage1` `[batch, 16, h, w]`, `stage2` `[batch, 32, h/2, w/2]`, `stage3`
/// `[batch, 64, h/4, w/4]`, the stages also before their last ReLU as `stageN.preact`, and `features` `[batch, 64]`.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    linear: Linear,
    #[module(skip)]
    macs: u64,
}

impl Network for ResNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<4>, taps: &mut Taps) -> Tensor<2> {
        let mut x = taps.tap("stem", relu(self.bn1.forward(self.conv1.forward(input))));
        for (name, blocks) in [("stage1", &self.layer1), ("stage2", &self.layer2), ("stage3", &self.layer3)] {
            let (last, others) = match blocks.split_last() {
                Some(split) => split,
                None => continue,
            };
            x = others.iter().fold(x, |x, block| relu(block.forward(x)));
            let preact = taps.tap(&format!("{name}.preact"), last.forward(x));
            x = taps.tap(name, relu(preact));
        }
        self.linear.forward(taps.tap("features", global_pool(x)))
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
    fn the_shortcut_keeps_every_second_position_and_pads_channels_on_both_sides() {
        let device = Device::flex();
        let mut build = Builder::new(InputShape::new(2, 4, 4), &device).unwrap();
        let block = BasicBlock::new(&mut build, 4, 2).unwrap();
        let image = Tensor::arange(0..32, &device).float().reshape([1, 2, 4, 4]);
        let shortcut = block.shortcut(image).into_data().try_to_vec::<f32>().unwrap();
        let kept = [0., 2., 8., 10., 16., 18., 24., 26.];
        assert_eq!(shortcut, [&[0.0; 4], &kept[..], &[0.0; 4]].concat());
    }

    #[test]
    fn work_of_resnet20_is_the_sum_counted_by_hand() {
        let model = ResNetConfig { depth: 20 }.init(InputShape::CIFAR, 10, &Device::flex()).unwrap();
        let stem = 32 * 32 * 16 * 27;
        let same = 32 * 32 * 16 * 16 * 9;
        // A convolution that halves the image and doubles the channels costs half of one that keeps both.
        let stages = 6 * same + 2 * (5 * same + same / 2);
        assert_eq!(model.macs(), Some(stem + stages + 640));
        assert_eq!(model.macs(), Some(40_551_040));
    }

    #[test]
    fn a_depth_between_two_networks_is_refused() {
        let error = ResNetConfig::parse("resnet18").unwrap_err().to_string();
        assert!(error.contains("depth is `18`") && error.contains("6n + 2"), "{error}");
    }
}
