//! MobileNetV2 for small images.
//!
//! Sandler et al., *MobileNetV2: Inverted Residuals and Linear Bottlenecks*, 2018, [arXiv:1801.04381](https://arxiv.org/abs/1801.04381). This is the
//! variant that public code trains on CIFAR at width 1.0 (2,296,922 parameters for ten classes). It differs from the paper in the stem and the second stage, which
//! keep the image size, in ReLU in place of ReLU6, in a 1×1 convolution with batch normalisation as the shortcut wherever the stride is 1 but the number of
//! channels changes (the paper has no shortcut there), and in expanding by a factor of 1 in the first stage (the paper leaves that layer out).

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};

use crate::builder::{Builder, ConvNorm, global_pool};
use crate::error::ModelError;
use crate::init::initialised;
use crate::input_shape::InputShape;

/// Stages: expansion, channels, blocks, stride of the first block.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Settings of [`MobileNetV2`], by name `mobilenetv2`: there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MobileNetV2Config {}

impl MobileNetV2Config {
    /// Reads a name; `None` if it means another architecture.
    pub(crate) fn parse(name: &str) -> Result<Option<Self>, ModelError> {
        Ok((name == "mobilenetv2").then_some(Self {}))
    }

    /// Makes the model.
    ///
    /// # Errors
    /// [`ModelError::Empty`] and [`ModelError::NoClasses`].
    pub fn init(
        &self,
        shape: InputShape,
        classes: usize,
        device: &Device,
    ) -> Result<MobileNetV2, ModelError> {
        let mut build = Builder::new(shape, device)?;
        let stem = build.conv_norm(32, 3, 1)?;
        let mut stages = Vec::new();
        for (expansion, channels, blocks, stride) in STAGES {
            let strides = std::iter::once(stride).chain(std::iter::repeat(1)).take(blocks);
            let stage = strides.map(|stride| InvertedResidual::new(&mut build, expansion, channels, stride));
            stages.push(stage.collect::<Result<Vec<_>, _>>()?);
        }
        let head = build.conv_norm(1280, 1, 1)?;
        build.global_pool();
        let linear = build.classifier(classes)?;
        Ok(initialised(MobileNetV2 { stem, stages, head, linear, macs: build.macs() }))
    }
}

/// Widen by a 1×1 convolution, filter every channel alone, narrow without activation.
#[derive(Module, Debug)]
struct InvertedResidual {
    expand: ConvNorm,
    depthwise: Conv2d,
    depthwise_norm: BatchNorm,
    project: ConvNorm,
    shortcut: Option<ConvNorm>,
    residual: bool,
}

impl InvertedResidual {
    fn new(
        build: &mut Builder<'_>,
        expansion: usize,
        channels: usize,
        stride: usize,
    ) -> Result<Self, ModelError> {
        let residual = stride == 1;
        let shortcut = match residual && build.channels() != channels {
            true => Some(build.shortcut_norm(channels, stride)?),
            false => None,
        };
        let expand = build.conv_norm(build.channels() * expansion, 1, 1)?;
        let (depthwise, depthwise_norm) = (build.depthwise(stride)?, build.norm());
        let project = build.conv_norm(channels, 1, 1)?;
        Ok(Self { expand, depthwise, depthwise_norm, project, shortcut, residual })
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let x = relu(self.expand.forward(input.clone()));
        let x = relu(self.depthwise_norm.forward(self.depthwise.forward(x)));
        let x = self.project.forward(x);
        match &self.shortcut {
            Some(shortcut) => x + shortcut.forward(input),
            None if self.residual => x + input,
            None => x,
        }
    }
}

/// MobileNetV2: see the [module](self) for what it changes.
///
/// Taps: `stem` `[batch, 32, h, w]`, `stage1` to `stage7` (the paper's table: 16, 24, 32, 64, 96, 160, 320 channels at 1, 1, 1/2, 1/4, 1/4, 1/8, 1/8 of the image
/// size; linear bottlenecks, so there is no separate pre-activation) and `features` `[batch, 1280]`.
#[derive(Module, Debug)]
pub struct MobileNetV2 {
    stem: ConvNorm,
    stages: Vec<Vec<InvertedResidual>>,
    head: ConvNorm,
    linear: Linear,
    #[module(skip)]
    macs: u64,
}

impl Network for MobileNetV2 {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<4>, taps: &mut Taps) -> Tensor<2> {
        let mut x = taps.tap("stem", relu(self.stem.forward(input)));
        for (blocks, number) in self.stages.iter().zip(1..) {
            x = blocks.iter().fold(x, |x, block| block.forward(x));
            x = taps.tap(&format!("stage{number}"), x);
        }
        let x = relu(self.head.forward(x));
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
    fn work_of_a_depthwise_convolution_does_not_grow_with_the_channels_squared() {
        let device = Device::flex();
        let mut build = Builder::new(InputShape::new(8, 4, 4), &device).unwrap();
        build.depthwise(1).unwrap();
        assert_eq!(build.macs(), 4 * 4 * 8 * 9);
    }

    #[test]
    fn four_blocks_project_their_shortcut() {
        let model = MobileNetV2Config {}.init(InputShape::CIFAR, 10, &Device::flex()).unwrap();
        let projected = model.stages.iter().flatten().filter(|block| block.shortcut.is_some()).count();
        assert_eq!(projected, 4);
    }
}
