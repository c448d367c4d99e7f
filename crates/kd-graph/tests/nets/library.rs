//! Layers of burn that are many operations: what their groups say can be removed, can be.

use burn::module::Module;
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{GroupNorm, GroupNormConfig, Linear, LinearConfig, Lstm, LstmConfig, SwiGlu, SwiGluConfig};
use burn::tensor::{Device, Distribution, Tensor};
use kd_graph::{Dependencies, Graph, GraphModule, Group, trace};

/// Of every group one position is removed; where that is zeroing, the output is the same as with zeros.
fn check(graph: &Graph, sample: Tensor<3>) -> Dependencies {
    let dependencies = graph.dependencies();
    let run = |graph: Graph| -> Vec<f32> {
        let module = GraphModule::new(graph, &Device::flex()).unwrap();
        module.forward::<3, 2>(sample.clone()).unwrap().into_data().try_into_vec().unwrap()
    };
    for group in prunable(&dependencies) {
        let index = group.fixed.iter().rposition(Option::is_none).unwrap();
        let smaller = dependencies.remove(graph, [group.position(index)]);
        let smaller =
            smaller.unwrap_or_else(|error| panic!("group {}: {error}\n{dependencies}\n{graph}", group.index));
        let zeroed = run(dependencies.zero(graph, [group.position(index)]).unwrap());
        let removed = run(smaller);
        let largest = removed.iter().fold(1e-6f32, |largest, value| largest.max(value.abs()));
        let pairs = zeroed.iter().zip(&removed);
        let difference = pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest;
        assert!(
            !group.inexact.is_empty() || difference <= 1e-5,
            "group {}: {difference}\n{dependencies}",
            group.index
        );
    }
    dependencies
}

fn prunable(dependencies: &Dependencies) -> Vec<&Group> {
    dependencies.groups().iter().filter(|group| group.unprunable().is_none() && group.len() > 1).collect()
}

fn sample() -> Tensor<3> {
    Tensor::random([2, 5, 3], Distribution::Default, &Device::flex())
}

fn sizes(dependencies: &Dependencies) -> Vec<usize> {
    prunable(dependencies).iter().map(|group| group.len()).collect()
}

#[derive(Module, Debug)]
struct Encoder {
    embed: Linear,
    layers: TransformerEncoder,
    head: Linear,
}

#[test]
fn a_transformer_encoder_has_heads_and_places_in_them() {
    let device = Device::flex();
    let model = Encoder {
        embed: LinearConfig::new(3, 8).init(&device),
        layers: TransformerEncoderConfig::new(8, 12, 2, 2).init(&device),
        head: LinearConfig::new(8, 3).init(&device),
    };
    let graph = trace(&model, sample(), |model, x| {
        let x = model.layers.forward(TransformerEncoderInput::new(model.embed.forward(x)));
        model.head.forward(x.mean_dim(1).squeeze_dim::<2>(1))
    });
    let dependencies = check(&graph.unwrap(), sample());
    let mut sizes = sizes(&dependencies);
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 2, 4, 4, 4, 4, 8, 12, 12], "{dependencies}");
}

#[derive(Module, Debug)]
struct Recurrent {
    lstm: Lstm,
    head: Linear,
}

#[test]
fn the_gates_of_a_recurrent_layer_share_their_hidden_features() {
    let device = Device::flex();
    let model = Recurrent {
        lstm: LstmConfig::new(3, 6, true).init(&device),
        head: LinearConfig::new(6, 3).init(&device),
    };
    let graph = trace(&model, sample(), |model, x| {
        let (all, _) = model.lstm.forward(x, None);
        model.head.forward(all.narrow(1, 4, 1).squeeze_dim::<2>(1))
    });
    let dependencies = check(&graph.unwrap(), sample());
    assert_eq!(sizes(&dependencies), [6], "{dependencies}");
    assert_eq!(prunable(&dependencies)[0].members.len(), 21, "{dependencies}");
}

#[derive(Module, Debug)]
struct Gated {
    gate: SwiGlu,
    norm: GroupNorm,
    head: Linear,
}

#[test]
fn a_gated_layer_and_groups_of_a_normalisation_are_divided() {
    let device = Device::flex();
    let model = Gated {
        gate: SwiGluConfig::new(3, 6).init(&device),
        norm: GroupNormConfig::new(2, 6).init(&device),
        head: LinearConfig::new(6, 3).init(&device),
    };
    let graph = trace(&model, sample(), |model, x| {
        let x = model.gate.forward(x).mean_dim(1).squeeze_dim::<2>(1);
        model.head.forward(model.norm.forward(x.unsqueeze_dim::<3>(2)).squeeze_dim::<2>(2))
    });
    let dependencies = check(&graph.unwrap(), sample());
    assert_eq!(sizes(&dependencies), [2, 3], "{dependencies}");
}
