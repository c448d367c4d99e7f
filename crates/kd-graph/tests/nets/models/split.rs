//! Half of the channels pass by a unit, the other half go through it.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear, LinearConfig, Relu};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::{conv, norm, pooled};

#[derive(Module, Debug)]
struct Unit {
    pw1: Conv2d,
    bn1: BatchNorm,
    dw: Conv2d,
    bn2: BatchNorm,
    pw2: Conv2d,
    bn3: BatchNorm,
}

#[derive(Module, Debug)]
pub struct SplitNet {
    conv: Conv2d,
    bn: BatchNorm,
    units: (Unit, Conv2d, BatchNorm, Relu, Unit),
    last: Conv2d,
    lbn: BatchNorm,
    fc: Linear,
}

impl Unit {
    fn new(half: usize, device: &Device) -> Self {
        Self {
            pw1: conv([half, half], 1, 1, 1, device),
            bn1: norm(half, device),
            dw: conv([half, half], 3, 1, half, device),
            bn2: norm(half, device),
            pw2: conv([half, half], 1, 1, 1, device),
            bn3: norm(half, device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[1] / 2;
        let parts: [Tensor<4>; 2] = x.split_with_sizes(vec![half, half], 1).try_into().unwrap();
        let [passing, x] = parts;
        let x = relu(self.bn1.forward(self.pw1.forward(x)));
        let x = self.bn2.forward(self.dw.forward(x));
        let x = relu(self.bn3.forward(self.pw2.forward(x)));
        Tensor::cat(vec![passing, x], 1)
    }
}

impl SplitNet {
    pub fn new(device: &Device) -> Self {
        Self {
            conv: conv([3, 16], 3, 2, 1, device),
            bn: norm(16, device),
            units: (
                Unit::new(8, device),
                conv([16, 16], 1, 1, 1, device),
                norm(16, device),
                Relu,
                Unit::new(8, device),
            ),
            last: conv([16, 24], 1, 1, 1, device),
            lbn: norm(24, device),
            fc: LinearConfig::new(24, 10).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn.forward(self.conv.forward(x)));
        let (first, conv, norm, activation, second) = &self.units;
        let x = activation.forward(norm.forward(conv.forward(first.forward(x))));
        let x = relu(self.lbn.forward(self.last.forward(second.forward(x))));
        self.fc.forward(pooled(x))
    }
}
