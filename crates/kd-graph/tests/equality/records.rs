//! Records of graphs and of burn's structs are the same.

use crate::model::burns;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm as Norm, BatchNormConfig, Linear, LinearConfig};
use burn::store::ModuleRecord;
use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{BatchNorm, Conv, Graph, GraphModule, Op, Role, Shape, TensorType, compare_training};

use crate::support::{assert_same, noise, take};

#[derive(Module, Debug)]
struct Block {
    conv: Conv2d,
    norm: Norm,
    drop: burn::nn::Dropout,
}

#[derive(Module, Debug)]
struct Net {
    blocks: Vec<Block>,
    fc: Linear,
}

impl Net {
    fn new(classes: usize, device: &Device) -> Self {
        let block = |channels| Block {
            conv: Conv2dConfig::new([channels, 4], [3, 3]).init(device),
            norm: BatchNormConfig::new(4).init(device),
            drop: burn::nn::DropoutConfig::new(0.0).init(),
        };
        Self { blocks: vec![block(2), block(4)], fc: LinearConfig::new(4, classes).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let step = |x, block: &Block| block.drop.forward(block.norm.forward(block.conv.forward(x)));
        let x = self.blocks.iter().fold(x, step);
        let [batch, channels, height, width] = x.dims();
        self.fc.forward(x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels]))
    }
}

/// The net as a graph, with numbers of its own.
fn graph() -> Graph {
    let mut graph = Graph::new();
    let mut x = graph.input("x", TensorType::float(Shape::batched([2, 7, 7]))).unwrap();
    let mut seed = 0;
    let mut data = |shape: &[usize]| {
        seed += 1;
        let values = take(&mut noise(seed), shape.iter().product()).into_iter().map(|x| x.abs()).collect();
        TensorData::new::<f32, _>(values, shape.to_vec())
    };
    for (index, channels) in [2, 4].into_iter().enumerate() {
        let path = |name: &str| format!("blocks.{index}.{name}");
        let weight = data(&[4, channels, 3, 3]);
        let weight = graph.parameter(&path("conv.weight"), Role::Weight, weight).unwrap();
        let bias = graph.parameter(&path("conv.bias"), Role::Weight, data(&[4])).unwrap();
        let conv = Conv { stride: vec![1; 2], padding: vec![(0, 0); 2], dilation: vec![1; 2], groups: 1 };
        x = graph.add(&path("conv"), Op::Conv(conv), &[x, weight, bias]).unwrap();
        let mut inputs = vec![x];
        for (name, role) in [
            ("gamma", Role::Weight),
            ("beta", Role::Weight),
            ("running_mean", Role::Buffer),
            ("running_var", Role::Buffer),
        ] {
            inputs.push(graph.parameter(&path(&format!("norm.{name}")), role, data(&[4])).unwrap());
        }
        let norm = BatchNorm { epsilon: 1e-5, momentum: Some(0.1) };
        x = graph.add(&path("norm"), Op::BatchNorm(norm), &inputs).unwrap();
    }
    let rows = Op::Reshape { shape: Shape::batched([4, 9]) };
    x = graph.add("rows", rows, &[x]).unwrap();
    let mean = Op::Reduce { kind: kd_graph::Reduction::Mean, axes: Some(vec![2]) };
    x = graph.add("mean", mean, &[x]).unwrap();
    x = graph.add("flat", Op::Reshape { shape: Shape::batched([4]) }, &[x]).unwrap();
    let weight = graph.parameter("fc.weight", Role::Weight, data(&[4, 3])).unwrap();
    let bias = graph.parameter("fc.bias", Role::Weight, data(&[3])).unwrap();
    x = graph.add("fc", Op::Linear, &[x, weight, bias]).unwrap();
    graph.set_outputs(&[x]).unwrap();
    graph
}

fn image(device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(take(&mut noise(77), 5 * 2 * 49), [5, 2, 7, 7]), device)
}

fn output(module: &GraphModule, x: Tensor<4>) -> TensorData {
    module.forward::<4, 2>(x).unwrap().into_data()
}

#[test]
fn a_graphs_record_loads_into_the_struct_and_the_structs_into_the_graph() {
    let device = Device::flex();
    let module = burns(graph(), &device).unwrap();
    let x = image(&device);
    let bytes = module.clone().into_record().into_bytes().unwrap();
    let net = Net::new(3, &device).load_record(ModuleRecord::from_bytes(bytes).unwrap());
    assert_same(&output(&module, x.clone()), &net.forward(x.clone()).into_data(), "graph to struct");

    let other = Net::new(3, &device);
    let loaded = module.try_load_record(other.clone().into_record()).unwrap();
    assert_same(&output(&loaded, x.clone()), &other.forward(x).into_data(), "struct to graph");
    assert_eq!(loaded.num_params(), other.num_params());
}

#[test]
fn a_record_for_another_graph_is_refused_with_what_does_not_fit() {
    let device = Device::flex();
    let module = burns(graph(), &device).unwrap();
    let error = module.clone().try_load_record(Net::new(5, &device).into_record()).unwrap_err().to_string();
    assert!(error.contains("fc.weight") && error.contains("shape mismatch"), "{error}");
    let foreign = LinearConfig::new(4, 3).init(&device).into_record();
    let error = module.try_load_record(foreign).unwrap_err().to_string();
    assert!(error.contains("Missing tensors") && error.contains("blocks.0.conv.weight"), "{error}");
}

#[test]
fn weights_go_back_into_the_struct_and_what_does_not_fit_is_listed() {
    let device = Device::flex().autodiff();
    let module = burns(graph(), &device).unwrap();
    let plain = Device::flex();
    let mut net = Net::new(3, &plain);
    module.write_back(&mut net).unwrap();
    let x = image(&plain);
    assert_same(&output(&module.valid(), x.clone()), &net.forward(x).into_data(), "written back");

    let mut net = Net::new(5, &device);
    let error = module.write_back(&mut net).unwrap_err();
    let paths: Vec<_> = error.unwritten.iter().map(|weight| weight.path.as_str()).collect();
    assert_eq!(paths, ["fc.weight", "fc.bias"]);
    assert_eq!(error.written, 12);
    assert!(
        error.to_string().contains("`fc.weight` is [4, 3] in the graph and [4, 5] in the model"),
        "{error}"
    );
    let written = net.blocks[1].conv.weight.val();
    assert_same(
        &written.to_data(),
        &module.weight("blocks.1.conv.weight").unwrap().data().unwrap(),
        "what fits",
    );
    // What was written is a leaf that learns.
    let grads = (written.clone() * 2.0).sum().backward();
    assert!(written.grad(&grads).is_some());
}

#[test]
fn the_graph_comes_back_with_the_weights_as_they_are_now() {
    let device = Device::flex();
    let module = burns(graph(), &device).unwrap();
    let trained = module.try_load_record(Net::new(3, &device).into_record()).unwrap();
    let again = burns(trained.to_graph().unwrap(), &device).unwrap();
    let x = image(&device);
    assert_same(&output(&again, x.clone()), &output(&trained, x), "compiled again");
    assert!(trained.graph().value(trained.graph().find("fc.weight").unwrap()).is_none());
}

#[test]
fn a_dropout_that_drops_nothing_is_no_difference_in_training() {
    let device = Device::flex();
    let net = Net::new(3, &device);
    let x = image(&device);
    let graph = kd_graph::trace(&net, x.clone(), Net::forward).unwrap();
    let module = burns(graph, &device).unwrap();
    let report = compare_training(&net, &module, x.clone(), Net::forward).unwrap();
    assert!(report.is_exact(), "{report}");
    assert_eq!(report.unseen, []);
}

/// Two fields that hold one tensor.
#[derive(Module, Debug)]
struct Tied {
    first: Linear,
    second: Linear,
}

#[test]
fn a_tied_parameter_is_recorded_under_all_its_paths_and_stays_one_in_training() {
    use burn::optim::{GradientsParams, SgdConfig};
    let device = Device::flex().autodiff();
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
    let data = TensorData::from([[1.0f32, 2.0], [3.0, 4.0]]);
    let weight = graph.parameter("first.weight", Role::Weight, data).unwrap();
    let y = graph.add("first", Op::Linear, &[x, weight]).unwrap();
    let z = graph.add("second", Op::Linear, &[y, weight]).unwrap();
    graph.set_outputs(&[z]).unwrap();
    let op = Op::Parameter { role: Role::Weight, aliases: vec!["second.weight".into()] };
    graph.edit(|edit| edit.set_op(weight, op)).unwrap();
    let module = burns(graph, &device).unwrap();

    let native = Tied {
        first: LinearConfig::new(2, 2).with_bias(false).init(&device),
        second: LinearConfig::new(2, 2).with_bias(false).init(&device),
    };
    let native = native.load_record(module.valid().into_record());
    assert_eq!(native.first.weight.to_data(), native.second.weight.to_data());
    let module = module.try_load_record(native.valid().into_record()).unwrap();

    let y: Tensor<2> = module.forward(Tensor::<2>::ones([1, 2], &device)).unwrap();
    let grads = GradientsParams::from_grads(y.sum().backward(), &module);
    let module = SgdConfig::new().init().step(0.1, module, grads);
    let [first, second] =
        ["first.weight", "second.weight"].map(|path| module.weight(path).unwrap().data().unwrap());
    assert_eq!(first, second);
    assert_ne!(first, TensorData::from([[1.0f32, 2.0], [3.0, 4.0]]));
}
