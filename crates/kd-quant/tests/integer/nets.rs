//! Networks to quantise.

use burn::tensor::{Device, Tensor, TensorData};
use kd_core::{Network, Taps};
use kd_graph::{Graph, Value, trace};
use kd_models::{InputShape, ModelSpec};
use kd_quant::plan::{PlanSettings, QuantPlan, initialise};

/// A model's graph, its one-dimensional parameters unlike those of a fresh one: statistics and biases that are not zero.
pub fn graph(name: &str, image: InputShape) -> Graph {
    let device = Device::flex();
    device.seed(3);
    let model = name.parse::<ModelSpec>().unwrap().init(image, 10, &device).unwrap();
    let sample = Tensor::<4>::zeros([1, image.channels, image.height, image.width], &device);
    let mut graph = trace(&model, sample, |model, x| model.forward(x, &mut Taps::none())).unwrap();
    let vectors: Vec<_> = graph
        .parameters()
        .filter(|(_, node)| node.output().shape.rank() == 1)
        .map(|(id, node)| (id, node.name().to_owned(), node.output().shape.at(1)))
        .collect();
    graph
        .edit(|edit| {
            for (seed, (id, name, shape)) in vectors.into_iter().enumerate() {
                let positive = name.ends_with("var") || name.ends_with("gamma");
                let value = |i: usize| {
                    let wave = ((i * 7 + seed * 3) as f32).sin();
                    if positive { 1.0 + 0.4 * wave } else { 0.2 * wave }
                };
                let values: Vec<_> = (0..shape[0]).map(value).collect();
                edit.set_value(id, TensorData::new(values, shape))?;
            }
            Ok(())
        })
        .unwrap();
    graph
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
