//! Networks to quantise.

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Graph, Value};
use kd_models::InputShape;
use kd_quant::plan::{PlanSettings, QuantPlan, initialise};

use crate::trained_like::trained_like;

/// A model's graph, its statistics and biases unlike those of a fresh one.
pub fn graph(name: &str, image: InputShape) -> Graph {
    trained_like(name, image, 0.4)
}

/// As many images, each unlike the others.
pub fn images(count: usize, image: InputShape) -> Tensor<4> {
    let size = image.channels * image.height * image.width;
    let pixel = |i: usize| ((i * i % 1009) as f32 / 500.0) - 1.0 + 0.3 * ((i / size) as f32).sin();
    let pixels: Vec<f32> = (0..count * size).map(pixel).collect();
    let shape = [count, image.channels, image.height, image.width];
    Tensor::from_data(TensorData::new(pixels, shape), &Device::flex())
}

pub fn batch(count: usize, image: InputShape) -> Vec<Value> {
    vec![images(count, image).into()]
}

/// A graph with the quantisers that settings spread over it, their scales from a few images.
pub fn quantised(graph: &Graph, settings: &PlanSettings, image: InputShape) -> Graph {
    let plan = QuantPlan::new(graph, settings).unwrap();
    let mut quantised = plan.apply(graph).unwrap();
    initialise(&mut quantised, &Device::flex(), [batch(8, image)]).unwrap();
    quantised
}

pub fn numbers(values: &[Value]) -> Vec<f32> {
    values[0].data().unwrap().try_to_vec::<f32>().unwrap()
}
