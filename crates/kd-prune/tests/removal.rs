//! Removed is the same as masked: every structure on every network of the zoo, and what is left trains, saves and loads in another process.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::Command;

use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use kd_core::{Network, Taps};
use kd_graph::{Graph, GraphModule, Op, Position, Role, trace};
use kd_models::{InputShape, MODELS, ModelSpec};
use kd_prune::{
    Magnitude, Pooling, PrunePlan, Pruner, Structure, Subject, fold_masks, insert_masks,
    remove_constant_branches,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CHILD: &str = "KD_PRUNE_TEST_CHILD";

/// A network of the zoo; every vector, that is every bias, scale, shift and statistic, is drawn, so that none is a neutral zero or one.
fn drawn(name: &str, rng: &mut ChaCha8Rng) -> Graph {
    let device = Device::flex();
    device.seed(rng.random());
    let shape = shape(name);
    let model = name.parse::<ModelSpec>().unwrap().init(shape, 10, &device).unwrap();
    let graph = trace(&model, images(shape, 1), |model, x| model.forward(x, &mut Taps::none())).unwrap();
    without_neutral_vectors(graph, rng)
}

fn without_neutral_vectors(mut graph: Graph, rng: &mut ChaCha8Rng) -> Graph {
    let vectors: Vec<_> = graph
        .parameters()
        .filter(|(_, node)| node.output().shape.rank() == 1)
        .map(|(id, node)| (id, node.output().shape.at(1)[0], node.name().ends_with("running_var")))
        .collect();
    graph
        .edit(|edit| {
            for (id, size, variance) in vectors {
                let low = if variance { 0.5 } else { -0.5 };
                let values: Vec<f32> = (0..size).map(|_| rng.random_range(low..1.5f32)).collect();
                edit.set_value(id, TensorData::new(values, [size]))?;
            }
            Ok(())
        })
        .unwrap();
    graph
}

fn shape(name: &str) -> InputShape {
    let grey = ["linear", "mlp", "lenet"].iter().any(|family| name.starts_with(family));
    if grey { InputShape::MNIST } else { InputShape::CIFAR }
}

fn images(shape: InputShape, batch: usize) -> Tensor<4> {
    let sizes = [batch, shape.channels, shape.height, shape.width];
    Tensor::random(sizes, Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn logits(graph: &Graph, images: &Tensor<4>) -> Vec<f32> {
    let module = GraphModule::new(graph.clone(), &Device::flex()).unwrap();
    module.forward::<4, 2>(images.clone()).unwrap().into_data().try_into_vec().unwrap()
}

fn assert_equal(a: &[f32], b: &[f32], what: &str) {
    let largest = a.iter().fold(1e-6f32, |largest, value| largest.max(value.abs()));
    let difference = a.iter().zip(b).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(a.len() == b.len() && difference <= 1e-5 * largest, "{what}: {difference} of {largest}");
}

/// Some of the positions of a group that may go, but not all.
fn some(group: &kd_graph::Group, rng: &mut ChaCha8Rng) -> Vec<Position> {
    let mut free: Vec<usize> = (0..group.len()).filter(|index| group.fixed[*index].is_none()).collect();
    let all = free.len() == group.len();
    let most = free.len() - usize::from(all);
    let count = rng.random_range(0..=most);
    (0..count).map(|_| group.position(free.swap_remove(rng.random_range(0..free.len())))).collect()
}

#[test]
fn any_positions_of_any_group_of_every_network_are_removed_as_if_they_were_zero() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for name in MODELS.iter().map(|model| model.example) {
        let graph = drawn(name, &mut rng);
        let images = images(shape(name), 2);
        let dependencies = graph.dependencies();
        let groups: Vec<_> = dependencies
            .groups()
            .iter()
            .filter(|group| group.len() > 1 && group.unprunable().is_none())
            .collect();
        // One group at a time, with one position and with some, and then some of all.
        let mut trials: Vec<Vec<Position>> = Vec::new();
        for group in &groups {
            trials.push(some(group, &mut rng).into_iter().take(1).collect());
            trials.push(some(group, &mut rng));
        }
        for _ in 0..3 {
            trials.push(groups.iter().flat_map(|group| some(group, &mut rng)).collect());
        }
        for positions in trials {
            let removed = dependencies.remove(&graph, positions.iter().copied()).unwrap();
            let masked = dependencies.zero(&graph, positions.iter().copied()).unwrap();
            let what = format!("{name} without {positions:?}");
            assert_equal(&logits(&masked, &images), &logits(&removed, &images), &what);
        }
    }
}

#[derive(Module, Debug)]
struct Attending {
    tokens: Linear,
    attention: MultiHeadAttention,
    output: Linear,
}

impl Attending {
    fn new(device: &Device) -> Self {
        Self {
            tokens: LinearConfig::new(28, 24).init(device),
            attention: MultiHeadAttentionConfig::new(24, 4).with_dropout(0.0).init(device),
            output: LinearConfig::new(24, 10).init(device),
        }
    }

    /// Every row of an image is a token.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let tokens = self.tokens.forward(images.squeeze_dim::<3>(1));
        let seen = self.attention.forward(MhaInput::self_attn(tokens.clone())).context;
        self.output.forward((tokens + seen).mean_dim(1).squeeze_dim(1))
    }
}

#[test]
fn heads_and_places_in_heads_are_removed_as_if_they_were_zero() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let device = Device::flex();
    let graph = trace(&Attending::new(&device), images(InputShape::MNIST, 1), Attending::forward).unwrap();
    let graph = without_neutral_vectors(graph, &mut rng);
    let images = images(InputShape::MNIST, 3);
    let dependencies = graph.dependencies();
    let of_queries: Vec<usize> = dependencies
        .groups_of("attention.query.weight", 1)
        .unwrap()
        .iter()
        .map(|group| group.len())
        .collect();
    // Four heads of six places.
    assert!(of_queries.contains(&4) && of_queries.contains(&6), "{of_queries:?}");
    for group in dependencies.groups().iter().filter(|group| group.unprunable().is_none()) {
        for _ in 0..4 {
            let positions = some(group, &mut rng);
            let plan = PrunePlan::new(&graph, positions.iter().copied()).unwrap();
            let (removed, masked) = (plan.apply(&graph).unwrap(), plan.mask(&graph).unwrap());
            assert_equal(&logits(&masked, &images), &logits(&removed, &images), &format!("{positions:?}"));
        }
    }
}

#[test]
fn masks_of_elements_filters_and_channels_of_every_network_fold_into_the_weights() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let slices = |axis| Structure::Slices { axes: vec![axis], pooling: Pooling::Sum };
    for name in MODELS.iter().map(|model| model.example) {
        let graph = drawn(name, &mut rng);
        let images = images(shape(name), 2);
        let subject = Subject::new(&graph, &Device::flex());
        for structure in [Structure::Element, slices(0), slices(1)] {
            let pruner = Pruner::new(Magnitude::L1).structure(structure.clone());
            let masks = pruner.masks(&subject, &subject.dense().unwrap(), 0.7).unwrap();
            let what = format!("{name}, {structure:?}");
            assert!(!masks.is_empty(), "{what}");
            let mut masked = graph.clone();
            insert_masks(&mut masked, &masks).unwrap();
            let mut folded = masked.clone();
            fold_masks(&mut folded).unwrap();
            assert_eq!(folded.len(), graph.len(), "{what}");
            assert_eq!(logits(&masked, &images), logits(&folded, &images), "{what}");
            assert_ne!(logits(&graph, &images), logits(&folded, &images), "{what}: nothing was masked");
        }
    }
}

/// Zeros in the scale and shift of a normalisation.
fn silence(graph: &mut Graph, norm: &str) {
    let ids = ["gamma", "beta"].map(|name| graph.find(&format!("{norm}.{name}")).unwrap());
    let size = graph.node(ids[0]).unwrap().output().shape.at(1)[0];
    graph
        .edit(|edit| ids.iter().try_for_each(|id| edit.set_value(*id, TensorData::zeros::<f32, _>([size]))))
        .unwrap();
}

#[test]
fn a_residual_branch_whose_last_layer_is_zero_is_removed_as_a_whole() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let graph = drawn("resnet20", &mut rng);
    let images = images(InputShape::CIFAR, 2);
    let norms: Vec<String> = graph
        .parameters()
        .filter_map(|(_, node)| node.name().strip_suffix(".bn2.gamma").map(|block| format!("{block}.bn2")))
        .collect();
    assert_eq!(norms.len(), 9);
    let mut untouched = graph.clone();
    assert!(remove_constant_branches(&mut untouched, &Device::flex()).unwrap().is_empty());
    // One block, two in a row, and blocks behind a shortcut that widens.
    for blocks in [&norms[1..2], &norms[1..3], &norms[4..6], &norms[..]] {
        let mut masked = graph.clone();
        blocks.iter().for_each(|norm| silence(&mut masked, norm));
        let mut removed = masked.clone();
        let gone = remove_constant_branches(&mut removed, &Device::flex()).unwrap();
        assert!(!gone.is_empty() && removed.len() < masked.len(), "{blocks:?}: {gone:?}");
        assert!(removed.cost(1).unwrap().macs < masked.cost(1).unwrap().macs);
        assert_equal(&logits(&masked, &images), &logits(&removed, &images), &format!("{blocks:?}"));
    }
}

/// In the child process: loads the graph, and writes what it says of the images.
fn child(folder: &Path) {
    let graph = Graph::load(folder.join("small.json")).unwrap();
    let bytes = std::fs::read(folder.join("images")).unwrap();
    let pixels: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let InputShape { channels, height, width } = InputShape::CIFAR;
    let batch = pixels.len() / (channels * height * width);
    let images =
        Tensor::<4>::from_data(TensorData::new(pixels, [batch, channels, height, width]), &Device::flex());
    let text = serde_json::to_vec(&logits(&graph, &images)).unwrap();
    std::fs::write(folder.join("logits.json"), text).unwrap();
}

#[test]
fn what_is_left_trains_a_step_and_gives_the_same_outputs_in_a_fresh_process() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return child(Path::new(&folder));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for name in ["resnet8", "mobilenetv2", "vgg8"] {
        let graph = drawn(name, &mut rng);
        let dependencies = graph.dependencies();
        let positions: Vec<_> = dependencies
            .groups()
            .iter()
            .filter(|group| group.len() > 1 && group.unprunable().is_none())
            .flat_map(|group| some(group, &mut rng))
            .collect();
        let plan = PrunePlan::new(&graph, positions).unwrap();
        let change = plan.cost(&graph).unwrap();
        assert!(change.after.macs < change.before.macs && change.after.parameters < change.before.parameters);
        assert!(
            change.to_string().starts_with(&format!("macs {} -> {}", change.before.macs, change.after.macs))
        );

        let device = Device::flex().autodiff();
        let module = GraphModule::new(plan.apply(&graph).unwrap(), &device).unwrap();
        let before = module.valid().to_graph().unwrap();
        let batch = images(InputShape::CIFAR, 4);
        let y: Tensor<2> = module.forward(batch.clone().autodiff()).unwrap();
        let grads = GradientsParams::from_grads(y.square().mean().backward(), &module);
        let module: GraphModule = SgdConfig::new().init().step(0.01, module, grads);
        let trained = module.valid().to_graph().unwrap();
        let learned = |graph: &Graph, (id, node): (kd_graph::NodeId, &kd_graph::Node)| {
            // A bias in front of a batch normalisation learns nothing.
            let weight = matches!(node.op(), Op::Parameter { role: Role::Weight, .. });
            (weight && node.output().shape.rank() > 1).then(|| graph.value(id).unwrap().clone())
        };
        let moved = trained.parameters().filter(|of| learned(&trained, *of) != learned(&before, *of)).count();
        let weights = trained.parameters().filter(|of| learned(&trained, *of).is_some()).count();
        // Behind a ReLU6 that is saturated everywhere nothing learns.
        let least = if name == "mobilenetv2" { weights / 2 } else { weights };
        assert!(moved >= least, "{name}: {moved} of {weights} weights learn");

        let folder = tempfile::tempdir().unwrap();
        trained.save(folder.path().join("small.json")).unwrap();
        let pixels: Vec<f32> = batch.clone().into_data().try_into_vec().unwrap();
        let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        std::fs::write(folder.path().join("images"), bytes).unwrap();
        let this = "what_is_left_trains_a_step_and_gives_the_same_outputs_in_a_fresh_process";
        let mut command = Command::new(std::env::current_exe().unwrap());
        let status = command.args(["--exact", this]).env(CHILD, folder.path()).output().unwrap().status;
        assert!(status.success(), "{name}");
        let text = std::fs::read(folder.path().join("logits.json")).unwrap();
        let there: Vec<f32> = serde_json::from_slice(&text).unwrap();
        assert_eq!(there, logits(&trained, &batch), "{name}");
    }
}

#[test]
fn a_group_that_would_vanish_and_a_position_that_must_stay_are_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let graph = drawn("lenet5-tenth", &mut rng);
    let dependencies = graph.dependencies();
    let first = dependencies.groups_of("conv1.weight", 0).unwrap()[0];
    let all = (0..first.len()).map(|index| first.position(index));
    let error = PrunePlan::new(&graph, all).unwrap_err().to_string();
    assert!(error.contains("nothing would be left") && error.contains("keep at least one"), "{error}");
    let last = dependencies.groups_of("fc2.weight", 1).unwrap()[0];
    let error = PrunePlan::new(&graph, [last.position(0)]).unwrap_err().to_string();
    assert!(error.contains("`fc2.weight`") && error.contains("output"), "{error}");
}
