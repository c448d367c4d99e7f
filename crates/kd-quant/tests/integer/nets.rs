//! Networks to quantise.

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Graph, NodeId, Value};
use kd_models::InputShape;
use kd_quant::Grid;
use kd_quant::integer::{Format, LinearCodes};
use kd_quant::plan::{PlanSettings, Point, QuantPlan, Quantizer, Uniform, initialise};

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

/// Codes on a grid with this scale and zero point.
pub fn format(grid: Grid, scale: f32, zero_point: i32) -> Format {
    Format { codes: LinearCodes { scale, zero_point }, grid }
}

/// A place of its own for codes of a grid.
pub fn point(grid: Grid) -> Point {
    let uniform = Uniform { grid, ..Uniform::activation(8).unwrap() };
    Point { quantizer: Quantizer::Uniform(uniform), group: None, layers_only: false }
}

/// A graph with quantisers of these weights and activations, their scales and zero points as given.
pub fn placed(graph: &Graph, weights: &[(&str, Format)], activations: &[(&str, Format)]) -> Graph {
    let mut plan = QuantPlan::default();
    for (_, node) in graph.parameters() {
        plan.network.insert(node.name().to_owned(), node.output().shape.at(1));
    }
    for (path, format) in weights {
        plan.weights.insert((*path).to_owned(), point(format.grid).quantizer);
    }
    for (name, format) in activations {
        plan.activations.insert((*name).to_owned(), point(format.grid));
    }
    let mut quantised = plan.apply(graph).unwrap();
    let weights = weights.iter().map(|(path, format)| (format!("{path}_"), format.codes));
    let activations = activations.iter().map(|(name, format)| (format!("{name}."), format.codes));
    let set: Vec<(NodeId, NodeId, LinearCodes)> = weights
        .chain(activations)
        .map(|(name, codes)| {
            let find = |end: &str| quantised.find(&format!("{name}{end}")).unwrap();
            (find("scale"), find("zero_point"), codes)
        })
        .collect();
    quantised
        .edit(|edit| {
            for (scale, zero, codes) in set {
                edit.set_value(scale, TensorData::from([codes.scale]))?;
                edit.set_value(zero, TensorData::from([codes.zero_point as f32]))?;
            }
            Ok(())
        })
        .unwrap();
    quantised
}

pub fn numbers(values: &[Value]) -> Vec<f32> {
    values[0].data().unwrap().try_to_vec::<f32>().unwrap()
}
