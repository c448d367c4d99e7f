//! Every layer reads all before it.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig};
use burn::nn::{BatchNorm, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::{conv, norm, pooled};

#[derive(Module, Debug)]
struct Dense {
    bn: BatchNorm,
    conv: Conv2d,
}

#[derive(Module, Debug)]
pub struct DenseNet {
    conv0: Conv2d,
    block1: Vec<Dense>,
    tbn: BatchNorm,
    tconv: Conv2d,
    tpool: AvgPool2d,
    block2: Vec<Dense>,
    bn: BatchNorm,
    fc: Linear,
}

const GROWTH: usize = 4;

fn block(from: usize, device: &Device) -> Vec<Dense> {
    let layer = |from| Dense { bn: norm(from, device), conv: conv([from, GROWTH], 3, 1, 1, device) };
    (0..3).map(|index| layer(from + index * GROWTH)).collect()
}

fn dense(block: &[Dense], x: Tensor<4>) -> Tensor<4> {
    block.iter().fold(x, |x, layer| {
        let new = layer.conv.forward(relu(layer.bn.forward(x.clone())));
        Tensor::cat(vec![x, new], 1)
    })
}

impl DenseNet {
    pub fn new(device: &Device) -> Self {
        Self {
            conv0: conv([3, 8], 3, 1, 1, device),
            block1: block(8, device),
            tbn: norm(20, device),
            tconv: conv([20, 10], 1, 1, 1, device),
            tpool: AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            block2: block(10, device),
            bn: norm(22, device),
            fc: LinearConfig::new(22, 10).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = dense(&self.block1, self.conv0.forward(x));
        let x = self.tconv.forward(relu(self.tbn.forward(x)));
        let x = dense(&self.block2, self.tpool.forward(x));
        self.fc.forward(pooled(relu(self.bn.forward(x))))
    }
}
