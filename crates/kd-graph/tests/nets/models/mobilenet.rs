//! Inverted residuals with depthwise convolutions.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::{conv, norm, pooled, relu6};

#[derive(Module, Debug)]
struct Block {
    pw: Conv2d,
    bn1: BatchNorm,
    dw: Conv2d,
    bn2: BatchNorm,
    pl: Conv2d,
    bn3: BatchNorm,
    residual: bool,
}

#[derive(Module, Debug)]
pub struct MobileNet {
    conv: Conv2d,
    bn: BatchNorm,
    blocks: Vec<Block>,
    last: Conv2d,
    lbn: BatchNorm,
    fc: Linear,
}

impl Block {
    fn new([from, wide, to]: [usize; 3], stride: usize, device: &Device) -> Self {
        Self {
            pw: conv([from, wide], 1, 1, 1, device),
            bn1: norm(wide, device),
            dw: conv([wide, wide], 3, stride, wide, device),
            bn2: norm(wide, device),
            pl: conv([wide, to], 1, 1, 1, device),
            bn3: norm(to, device),
            residual: from == to && stride == 1,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let inner = relu6(self.bn1.forward(self.pw.forward(x.clone())));
        let inner = relu6(self.bn2.forward(self.dw.forward(inner)));
        let inner = self.bn3.forward(self.pl.forward(inner));
        if self.residual { x + inner } else { inner }
    }
}

impl MobileNet {
    pub fn new(device: &Device) -> Self {
        let blocks =
            [([8, 16, 8], 1), ([8, 24, 12], 2), ([12, 36, 12], 1), ([12, 24, 16], 2), ([16, 32, 16], 1)];
        Self {
            conv: conv([3, 8], 3, 2, 1, device),
            bn: norm(8, device),
            blocks: blocks.map(|(sizes, stride)| Block::new(sizes, stride, device)).into(),
            last: conv([16, 32], 1, 1, 1, device),
            lbn: norm(32, device),
            fc: LinearConfig::new(32, 10).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu6(self.bn.forward(self.conv.forward(x)));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.fc.forward(pooled(relu6(self.lbn.forward(self.last.forward(x)))))
    }
}
