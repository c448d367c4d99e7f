//! Rewritten graphs of the zoo compute what the original ones do.
#![allow(clippy::unwrap_used)]

#[path = "support/trained_like.rs"]
mod trained_like;

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Engine, Graph, GraphModule, Op, Scalar};
use kd_models::{InputShape, MODELS};
use trained_like::trained_like;

const IMAGE: InputShape = InputShape::new(3, 32, 32);

/// The graph of a model with parameters and running statistics unlike those of a fresh one.
fn graph(name: &str) -> Graph {
    trained_like(name, IMAGE, 0.7)
}

fn outputs(graph: &Graph) -> Vec<f32> {
    let device = Device::flex();
    let [channels, height, width] = [IMAGE.channels, IMAGE.height, IMAGE.width];
    let count = 3 * channels * height * width;
    let pixels = (0..count).map(|i| ((i * i % 1009) as f32 / 500.0) - 1.0).collect::<Vec<_>>();
    let data = TensorData::new(pixels, [3, channels, height, width]);
    let module = GraphModule::new(graph.clone(), &device).unwrap().with_engine(Engine::Burn);
    let output: Tensor<2> = module.forward(Tensor::<4>::from_data(data, &device)).unwrap();
    output.into_data().try_to_vec().unwrap()
}

fn models() -> impl Iterator<Item = &'static str> {
    // The small member of a family stands for the large ones.
    MODELS.iter().map(|row| row.example).map(|name| if name == "resnet110" { "resnet8" } else { name })
}

#[test]
fn folded_normalisations_compute_the_same_in_evaluation() {
    for name in models() {
        let mut folded = graph(name);
        let before = outputs(&folded);
        let norms = folded.nodes().filter(|(_, node)| matches!(node.op(), Op::BatchNorm(_))).count();
        let rewritten = folded.fold_batch_norm().unwrap();
        assert_eq!(rewritten.removed.len() + rewritten.kept.len(), norms, "{name}");
        // A block that normalises first, as those of wide residual networks, has normalisations behind sums: there is no layer to fold them into.
        let behind_sums = if name.starts_with("wrn") { norms } else { 0 };
        assert!(rewritten.kept.len() <= behind_sums, "{name}: {rewritten}");
        let after = outputs(&folded);
        let scale = before.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let difference = before.iter().zip(&after).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(scale > 0.0 && difference <= 1e-4 * scale, "{name}: {difference} of {scale}");
    }
}

#[test]
fn other_rewrites_change_no_bit() {
    for name in models() {
        let plain = graph(name);
        let mut rewritten = plain.clone();
        // Something to find: an identity, a copy of the first layer, and what nobody reads.
        rewritten
            .edit(|edit| {
                let output = edit.graph().outputs()[0];
                let one = Op::Literal { op: kd_graph::Binary::Mul, value: Scalar::Float(1.0) };
                edit.insert_after(output, "times_one", one, &[output])?;
                let layers =
                    edit.graph().nodes().filter(|(_, node)| matches!(node.op(), Op::Conv(_) | Op::Linear));
                let (layer, op, inputs) =
                    layers.map(|(id, node)| (id, node.op().clone(), node.inputs().to_vec())).next().unwrap();
                let copy = edit.add("copy", op, &inputs)?;
                // The larger of both is either, to the bit.
                let larger = Op::Binary(kd_graph::Binary::Max);
                edit.insert_after(layer, "larger", larger, &[layer, copy])?;
                edit.add("unread", Op::Activation(kd_graph::Activation::Tanh), &[copy]).map(drop)
            })
            .unwrap();
        let before = rewritten.len();
        rewritten.remove_dead().unwrap();
        rewritten.merge_common().unwrap();
        rewritten.remove_identities().unwrap();
        assert!(rewritten.len() < before && rewritten.find("times_one").is_err(), "{name}");
        assert!(rewritten.find("copy").is_err() && rewritten.find("unread").is_err(), "{name}");
        assert_eq!(outputs(&rewritten), outputs(&plain), "{name}");
    }
}
