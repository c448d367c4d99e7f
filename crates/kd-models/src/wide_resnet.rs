//! Wide residual networks.
//!
//! Zagoruyko and Komodakis, *Wide Residual Networks*, 2016, [arXiv:1605.07146](https://arxiv.org/abs/1605.07146): pre-activation blocks of two 3×3
//! convolutions, three stages of $16k$, $32k$ and $64k$ channels, depth $6n + 4$; a 1×1 convolution where the shape changes.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};

use crate::builder::{Builder, global_pool};
use crate::error::{ModelError, in_range, size};
use crate::init::initialised;
use crate::input_shape::InputShape;

/// Settings of [`WideResNet`], by name `wrn16-1`, `wrn16-2`, `wrn40-1`, `wrn40-2`, `wrn28-10`, ...
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WideResNetConfig {
    /// Layers with weights: 6n + 4.
    pub depth: usize,
    /// How many times wider than a plain residual network.
    pub width: usize,
}

impl WideResNetConfig {
    /// Reads a name; `None` if it means another architecture.
    pub(crate) fn parse(name: &str) -> Result<Option<Self>, ModelError> {
        let numbers = name.strip_prefix("wrn").and_then(|text| text.split_once('-'));
        let Some((Some(depth), Some(width))) = numbers.map(|(d, w)| (size(d), size(w))) else {
            return Ok(None);
        };
        let config = Self { depth, width };
        config.blocks()?;
        Ok(Some(config))
    }

    /// Blocks per stage.
    fn blocks(&self) -> Result<usize, ModelError> {
        let ok = (10..=1000).contains(&self.depth) && self.depth % 6 == 4;
        in_range("wrn", "depth", self.depth, ok, "6n + 4 from 10 to 1000: 10, 16, 22, 28, 40, ...")?;
        in_range("wrn", "width", self.width, (1..=64).contains(&self.width), "1 to 64")?;
        Ok((self.depth - 4) / 6)
    }

    /// Makes the model.
    ///
    /// # Errors
    /// [`ModelError::OutOfRange`] for an impossible depth or width, [`ModelError::Empty`] and [`ModelError::NoClasses`].
    pub fn init(&self, shape: InputShape, classes: usize, device: &Device) -> Result<WideResNet, ModelError> {
        let blocks = self.blocks()?;
        let mut build = Builder::new(shape, device)?;
        let conv1 = build.conv(16, 3, 1)?;
        let mut stage = |channels, stride| -> Result<Vec<_>, _> {
            let strides = std::iter::once(stride).chain(std::iter::repeat(1)).take(blocks);
            strides.map(|stride| PreactBlock::new(&mut build, channels * self.width, stride)).collect()
        };
        let (block1, block2, block3) = (stage(16, 1)?, stage(32, 2)?, stage(64, 2)?);
        let bn1 = build.norm();
        build.global_pool();
        let fc = build.classifier(classes)?;
        Ok(initialised(WideResNet { conv1, block1, block2, block3, bn1, fc, macs: build.macs() }))
    }
}

/// Normalise, ReLU, convolve, twice, around a shortcut.
#[derive(Module, Debug)]
struct PreactBlock {
    bn1: BatchNorm,
    conv1: Conv2d,
    bn2: BatchNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl PreactBlock {
    fn new(build: &mut Builder<'_>, channels: usize, stride: usize) -> Result<Self, ModelError> {
        let bn1 = build.norm();
        let shortcut = match build.channels() == channels && stride == 1 {
            true => None,
            false => Some(build.shortcut(channels, stride)?),
        };
        let conv1 = build.conv(channels, 3, stride)?;
        let bn2 = build.norm();
        let conv2 = build.conv(channels, 3, 1)?;
        Ok(Self { bn1, conv1, bn2, conv2, shortcut })
    }

    /// `preact` is the name under which the normalised input is offered: the previous stage's output before its ReLU.
    fn forward(&self, input: Tensor<4>, preact: Option<&str>, taps: &mut Taps) -> Tensor<4> {
        let mut normal = self.bn1.forward(input.clone());
        if let Some(name) = preact {
            normal = taps.tap(name, normal);
        }
        let active = relu(normal);
        let shortcut = match &self.shortcut {
            // A shortcut that changes the shape starts from the activated map, a plain one from the sum.
            Some(conv) => conv.forward(active.clone()),
            None => input,
        };
        self.conv2.forward(relu(self.bn2.forward(self.conv1.forward(active)))) + shortcut
    }
}

/// A wide residual network: see the [settings](WideResNetConfig).
///
/// Taps, for images of `h`×`w`: `stem` `[batch, 16, h, w]`, `stage1` `[batch, 16k, h, w]`, `stage2` `[batch, 32k, h/2, w/2]`, `stage3`
/// `[batch, 64k, h/4, w/4]` (sums, neither normalised nor activated), `stageN.preact` (the same, normalised by the batch normalisation that follows) and
/// `features` `[batch, 64k]`.
#[derive(Module, Debug)]
pub struct WideResNet {
    conv1: Conv2d,
    block1: Vec<PreactBlock>,
    block2: Vec<PreactBlock>,
    block3: Vec<PreactBlock>,
    bn1: BatchNorm,
    fc: Linear,
    #[module(skip)]
    macs: u64,
}

impl Network for WideResNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<4>, taps: &mut Taps) -> Tensor<2> {
        let mut x = taps.tap("stem", self.conv1.forward(input));
        let mut preact = None;
        let stages = [
            ("stage1", Some("stage1.preact"), &self.block1),
            ("stage2", Some("stage2.preact"), &self.block2),
            ("stage3", None, &self.block3),
        ];
        for (name, own_preact, blocks) in stages {
            for block in blocks {
                x = block.forward(x, preact.take(), taps);
            }
            x = taps.tap(name, x);
            preact = own_preact;
        }
        let x = relu(taps.tap("stage3.preact", self.bn1.forward(x)));
        self.fc.forward(taps.tap("features", global_pool(x)))
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
    fn a_shortcut_has_weights_only_where_the_shape_changes() {
        let model =
            WideResNetConfig { depth: 16, width: 1 }.init(InputShape::CIFAR, 10, &Device::flex()).unwrap();
        let has =
            |blocks: &[PreactBlock]| blocks.iter().map(|block| block.shortcut.is_some()).collect::<Vec<_>>();
        assert_eq!(has(&model.block1), [false, false]);
        assert_eq!(has(&model.block2), [true, false]);
        assert_eq!(has(&model.block3), [true, false]);
    }

    #[test]
    fn an_impossible_depth_or_width_is_refused() {
        let error = WideResNetConfig::parse("wrn17-2").unwrap_err().to_string();
        assert!(error.contains("depth is `17`") && error.contains("6n + 4"), "{error}");
        let error = WideResNetConfig::parse("wrn16-0").unwrap_err().to_string();
        assert!(error.contains("width is `0`"), "{error}");
    }
}
