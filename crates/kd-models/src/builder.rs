//! Layers made one after the other, with an account of shape and work.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::module::{adaptive_avg_pool2d, max_pool2d};
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use crate::error::ModelError;
use crate::input_shape::InputShape;

/// Makes layers in the order of the forward pass and follows the shape of the feature map through them.
pub(crate) struct Builder<'a> {
    device: &'a Device,
    input: InputShape,
    map: InputShape,
    macs: u64,
}

impl<'a> Builder<'a> {
    /// Starts with images of the given shape.
    pub fn new(input: InputShape, device: &'a Device) -> Result<Self, ModelError> {
        if input.is_empty() {
            return Err(ModelError::Empty { input });
        }
        Ok(Self { device, input, map: input, macs: 0 })
    }

    /// Channels of the map so far.
    pub fn channels(&self) -> usize {
        self.map.channels
    }

    /// Multiply-accumulates of convolutions and linear layers so far, for one image.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// A convolution without padding, with bias, initialised as PyTorch does: weight and bias uniform in $\pm 1/\sqrt{\text{fan-in}}$.
    pub fn conv_valid(&mut self, channels: usize, kernel: usize) -> Result<Conv2d, ModelError> {
        let config = Conv2dConfig::new([self.map.channels, channels], [kernel; 2]);
        self.conv_of(config, 0)
    }

    /// A convolution that keeps the image size at stride 1, without bias, weights normal with variance $2/\text{fan-out}$ (He et al., 2015).
    pub fn conv(&mut self, channels: usize, kernel: usize, stride: usize) -> Result<Conv2d, ModelError> {
        let config = he(Conv2dConfig::new([self.map.channels, channels], [kernel; 2]));
        self.conv_of(config.with_stride([stride; 2]), kernel / 2)
    }

    /// As [`conv`](Self::conv) with a 3×3 kernel for every channel alone.
    pub fn depthwise(&mut self, stride: usize) -> Result<Conv2d, ModelError> {
        let channels = self.map.channels;
        let config = he(Conv2dConfig::new([channels; 2], [3; 2]).with_groups(channels));
        self.conv_of(config.with_stride([stride; 2]), 1)
    }

    /// A 1×1 convolution beside the main path: the map stays what it was.
    pub fn shortcut(&mut self, channels: usize, stride: usize) -> Result<Conv2d, ModelError> {
        let map = self.map;
        let conv = self.conv(channels, 1, stride)?;
        self.map = map;
        Ok(conv)
    }

    /// As [`shortcut`](Self::shortcut), with batch normalisation.
    pub fn shortcut_norm(&mut self, channels: usize, stride: usize) -> Result<ConvNorm, ModelError> {
        let conv = self.shortcut(channels, stride)?;
        Ok(ConvNorm { conv, norm: BatchNormConfig::new(channels).init(self.device) })
    }

    fn conv_of(&mut self, config: Conv2dConfig, padding: usize) -> Result<Conv2d, ModelError> {
        let ([from, to], [kernel, _], [stride, _]) = (config.channels, config.kernel_size, config.stride);
        self.shrink(kernel, stride, padding)?;
        self.map.channels = to;
        self.macs += (self.map.len() * (from / config.groups) * kernel * kernel) as u64;
        Ok(config
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .init(self.device))
    }

    /// Accounts for a [`max_pool`].
    pub fn max_pool(&mut self) -> Result<(), ModelError> {
        self.shrink(2, 2, 0)
    }

    /// Accounts for a [`global_pool`].
    pub fn global_pool(&mut self) {
        self.map = InputShape::new(self.map.channels, 1, 1);
    }

    fn shrink(&mut self, window: usize, stride: usize, padding: usize) -> Result<(), ModelError> {
        let shrink = |side: usize| (side + 2 * padding).checked_sub(window).map(|rest| rest / stride + 1);
        let too_small = || ModelError::TooSmall { input: self.input, map: self.map, window };
        let height = shrink(self.map.height).ok_or_else(too_small)?;
        let width = shrink(self.map.width).ok_or_else(too_small)?;
        self.map = InputShape::new(self.map.channels, height, width);
        Ok(())
    }

    /// Batch normalisation of the map (momentum 0.1, epsilon 1e-5).
    pub fn norm(&self) -> BatchNorm {
        BatchNormConfig::new(self.map.channels).init(self.device)
    }

    /// A convolution as [`conv`](Self::conv) makes it, then batch normalisation.
    pub fn conv_norm(
        &mut self,
        channels: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<ConvNorm, ModelError> {
        Ok(ConvNorm { conv: self.conv(channels, kernel, stride)?, norm: self.norm() })
    }

    /// A linear layer over the flattened map, initialised as PyTorch does: weight and bias uniform in $\pm 1/\sqrt{\text{fan-in}}$.
    pub fn linear(&mut self, width: usize) -> Linear {
        let inputs = self.map.len();
        self.map = InputShape::new(width, 1, 1);
        self.macs += (inputs * width) as u64;
        LinearConfig::new(inputs, width).init(self.device)
    }

    /// The last layer.
    pub fn classifier(&mut self, classes: usize) -> Result<Linear, ModelError> {
        if classes == 0 {
            return Err(ModelError::NoClasses);
        }
        Ok(self.linear(classes))
    }
}

fn he(config: Conv2dConfig) -> Conv2dConfig {
    config
        .with_bias(false)
        .with_initializer(Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true })
}

/// A convolution and the batch normalisation of what it makes.
#[derive(Module, Debug)]
pub struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    /// Both, without the activation.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(input))
    }
}

/// Maximum over windows of 2×2.
pub(crate) fn max_pool(map: Tensor<4>) -> Tensor<4> {
    max_pool2d(map, MaxPoolOptions::new([2, 2]).with_stride([2, 2]))
}

/// Mean over all positions: `[batch, channels]`.
pub(crate) fn global_pool(map: Tensor<4>) -> Tensor<2> {
    adaptive_avg_pool2d(map, [1, 1]).flatten(1, 3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn convolutions_start_with_the_variance_of_he() {
        let device = Device::flex();
        let mut build = Builder::new(InputShape::new(16, 8, 8), &device).unwrap();
        let weight = build.conv(256, 3, 1).unwrap().weight.val();
        let variance = weight.square().mean().into_scalar::<f32>();
        let expected = 2.0 / (256.0 * 9.0);
        assert!((variance / expected - 1.0).abs() < 0.05, "{variance} against {expected}");
    }

    #[test]
    fn a_shortcut_counts_as_work_and_leaves_the_map_alone() {
        let device = Device::flex();
        let mut build = Builder::new(InputShape::new(4, 7, 7), &device).unwrap();
        build.shortcut(8, 2).unwrap();
        assert_eq!((build.map, build.macs()), (InputShape::new(4, 7, 7), 4 * 4 * 8 * 4));
    }

    #[test]
    fn followed_shapes_are_those_that_the_layers_make() {
        let device = Device::flex();
        for side in [9, 10, 13] {
            let mut build = Builder::new(InputShape::new(2, side, side), &device).unwrap();
            let image = Tensor::<4>::ones([1, 2, side, side], &device);
            let map = build.conv(3, 3, 2).unwrap().forward(image);
            let map = build.conv_valid(4, 2).unwrap().forward(map);
            build.max_pool().unwrap();
            let InputShape { channels, height, width } = build.map;
            assert_eq!(max_pool(map).dims(), [1, channels, height, width]);
        }
    }
}
