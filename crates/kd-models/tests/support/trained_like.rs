//! Networks of the zoo whose normalisations do something.

use burn::tensor::{Device, Tensor, TensorData};
use kd_core::{Network, Taps};
use kd_graph::{Graph, trace};
use kd_models::{InputShape, ModelSpec};

/// A model's graph, its vectors unlike those of a fresh one: scales and variances within `spread` of 1, shifts, means and biases within half of it of 0.
pub fn trained_like(name: &str, image: InputShape, spread: f32) -> Graph {
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
                    if positive { 1.0 + spread * wave } else { 0.5 * spread * wave }
                };
                let values: Vec<_> = (0..shape[0]).map(value).collect();
                edit.set_value(id, TensorData::new(values, shape))?;
            }
            Ok(())
        })
        .unwrap();
    graph
}
