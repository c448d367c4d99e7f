//! Residual network with projections at the shortcuts.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::{conv, norm, pooled};

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    shortcut: Option<(Conv2d, BatchNorm)>,
}

#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    fc: Linear,
}

impl Block {
    fn new(from: usize, to: usize, device: &Device) -> Self {
        let stride = to / from;
        let project = || (conv([from, to], 1, stride, 1, device), norm(to, device));
        Self {
            conv1: conv([from, to], 3, stride, 1, device),
            bn1: norm(to, device),
            conv2: conv([to, to], 3, 1, 1, device),
            bn2: norm(to, device),
            shortcut: (stride > 1).then(project),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let inner = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let inner = self.bn2.forward(self.conv2.forward(inner));
        let outer = match &self.shortcut {
            Some((conv, norm)) => norm.forward(conv.forward(x)),
            None => x,
        };
        relu(inner + outer)
    }
}

impl ResNet {
    pub fn new(blocks: usize, width: usize, device: &Device) -> Self {
        let stage = |from: usize, to: usize| {
            let inputs = std::iter::once(from).chain(std::iter::repeat(to)).take(blocks);
            inputs.map(|from| Block::new(from, to, device)).collect()
        };
        Self {
            conv1: conv([3, width], 3, 1, 1, device),
            bn1: norm(width, device),
            layer1: stage(width, width),
            layer2: stage(width, 2 * width),
            layer3: stage(2 * width, 4 * width),
            fc: LinearConfig::new(4 * width, 10).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn1.forward(self.conv1.forward(x)));
        let blocks = self.layer1.iter().chain(&self.layer2).chain(&self.layer3);
        self.fc.forward(pooled(blocks.fold(x, |x, block| block.forward(x))))
    }
}
