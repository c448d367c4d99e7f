//! Alone in its program: the generator of random numbers is one for the whole process.
#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Distribution, Tensor};
use kd_core::{Network, Taps};
use kd_models::{InputShape, ModelSpec};

/// Logits of a model made from `seed`; `draws` numbers are drawn between making and using it.
fn logits(name: &str, shape: InputShape, seed: u64, draws: usize) -> Vec<f32> {
    let device = Device::flex();
    device.seed(seed);
    let model = name.parse::<ModelSpec>().unwrap().init(shape, 10, &device).unwrap();
    Tensor::<1>::random([draws], Distribution::Default, &device);
    let images = Tensor::ones([1, shape.channels, shape.height, shape.width], &device);
    model.forward(images, &mut Taps::none()).into_data().try_to_vec().unwrap()
}

#[test]
fn initial_weights_depend_on_the_seed_and_not_on_what_is_drawn_before_first_use() {
    for (name, shape) in [("lenet5-tenth", InputShape::MNIST), ("resnet8", InputShape::CIFAR)] {
        let first = logits(name, shape, 5, 1);
        assert_eq!(logits(name, shape, 5, 1000), first, "{name}");
        assert_ne!(logits(name, shape, 6, 1), first, "{name}");
    }
}
