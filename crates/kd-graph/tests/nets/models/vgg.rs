//! A plain chain whose last maps are flattened.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, Linear, LinearConfig, PaddingConfig2d, Relu};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::norm;

#[derive(Module, Debug)]
enum Feature {
    Conv(Conv2d),
    Norm(BatchNorm),
    Relu(Relu),
    Pool(MaxPool2d),
}

#[derive(Module, Debug)]
pub struct Vgg {
    features: Vec<Feature>,
    fc1: Linear,
    fc2: Linear,
}

impl Vgg {
    pub fn new(device: &Device) -> Self {
        let (mut features, mut from) = (Vec::new(), 3);
        let widths: &[&[usize]] = &[&[8], &[12], &[16, 16], &[20, 20], &[20, 20]];
        for (stage, widths) in widths.iter().enumerate() {
            if stage > 0 {
                features.push(Feature::Pool(MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init()));
            }
            for &to in *widths {
                let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
                features.push(Feature::Conv(
                    Conv2dConfig::new([from, to], [3, 3]).with_padding(padding).init(device),
                ));
                features.push(Feature::Norm(norm(to, device)));
                features.push(Feature::Relu(Relu));
                from = to;
            }
        }
        Self {
            features,
            fc1: LinearConfig::new(80, 24).init(device),
            fc2: LinearConfig::new(24, 10).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features.iter().fold(x, |x, feature| match feature {
            Feature::Conv(conv) => conv.forward(x),
            Feature::Norm(norm) => norm.forward(x),
            Feature::Relu(relu) => relu.forward(x),
            Feature::Pool(pool) => pool.forward(x),
        });
        self.fc2.forward(relu(self.fc1.forward(x.flatten(1, 3))))
    }
}
