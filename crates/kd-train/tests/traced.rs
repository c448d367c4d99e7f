//! A traced graph in the place of the model: its weights are saved, loaded and trained as the model's own.
#![allow(clippy::unwrap_used)]

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kd_graph::GraphModule;
use kd_train::weights::{self, Layout, Source};

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    head: Vec<Linear>,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([1, 2], [3, 3]).init(device),
            norm: BatchNormConfig::new(2).init(device),
            head: vec![LinearConfig::new(8, 4).init(device), LinearConfig::new(4, 3).init(device)],
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.conv.forward(x)));
        let [batch, ..] = x.dims();
        self.head.iter().fold(x.reshape([batch, 8]), |x, layer| layer.forward(x))
    }
}

fn traced(net: &Net, device: &Device) -> GraphModule {
    let graph = kd_graph::trace(net, Tensor::<4>::zeros([1, 1, 4, 4], device), Net::forward).unwrap();
    GraphModule::new(graph, device).unwrap().with_engine(kd_graph::Engine::Burn)
}

fn image(device: &Device) -> Tensor<4> {
    Tensor::<1>::from_floats([0.5f32, -1.0, 2.0, 0.25].repeat(4).as_slice(), device).reshape([1, 1, 4, 4])
}

#[test]
fn files_of_the_model_and_of_its_graph_are_interchangeable() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let (net, other) = (Net::new(&device), Net::new(&device));
    let module = traced(&net, &device);
    for file in ["weights.bpk", "weights.safetensors"] {
        let path = folder.path().join(file);
        weights::save(&module, &path).unwrap();
        let loaded = weights::load(other.clone(), &Source::new(&path)).unwrap();
        assert_eq!(weights::fingerprint(&loaded).unwrap(), weights::fingerprint(&net).unwrap());
        assert_eq!(weights::fingerprint(&module).unwrap(), weights::fingerprint(&net).unwrap());

        weights::save(&other, &path).unwrap();
        let loaded = weights::load(module.clone(), &Source::new(&path)).unwrap();
        let expected = other.forward(image(&device)).into_data();
        assert_eq!(loaded.forward::<4, 2>(image(&device)).unwrap().into_data(), expected);
    }
}

#[test]
fn foreign_layouts_load_into_a_graph_as_into_the_model() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("torch.safetensors");
    let mut store =
        burn_store::SafetensorsStore::from_file(&path).with_to_adapter(burn_store::BurnToPyTorchAdapter);
    burn_store::ModuleSnapshot::save_into(&Net::new(&device), &mut store).unwrap();
    let source = Source { layout: Layout::PyTorch, ..Source::new(&path) };
    let net = weights::load(Net::new(&device), &source).unwrap();
    let module = weights::load(traced(&Net::new(&device), &device), &source).unwrap();
    let expected = net.forward(image(&device)).into_data();
    assert_eq!(module.forward::<4, 2>(image(&device)).unwrap().into_data(), expected);
}

#[test]
fn a_file_of_another_graph_is_refused_name_by_name() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.bpk");
    weights::save(&LinearConfig::new(3, 2).init(&device), &path).unwrap();
    let error =
        weights::load(traced(&Net::new(&device), &device), &Source::new(&path)).unwrap_err().to_string();
    assert!(error.contains("conv.weight") && error.contains("weight"), "{error}");
}
