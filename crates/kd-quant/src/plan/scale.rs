//! XNOR-Net's map of scales behind a binary layer.
//!
//! A layer that reads signs is followed by a node that multiplies its result with [`ScaleMap`] of the real activations behind those signs. The layer's bias
//! is added there, since the map scales products only. The map is arithmetic on real numbers, in an integer network too: its products of signs are sums in
//! i32, the node itself runs in float.

use burn::tensor::Tensor;
use kd_graph::{Edit, Graph, Kernel, NodeId, Op, Scalar, Value};
use serde::{Deserialize, Serialize};

use super::Quantizer;
use crate::QuantError;
use crate::binary::ScaleMap;

/// What the names of these operations begin with; the layer's window follows as JSON.
const PREFIX: &str = "scale-map";

/// The window of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Window {
    /// A convolution's.
    Map(ScaleMap),
    /// All that a linear layer reads.
    All,
}

/// The window of a layer, before a plan changes it.
///
/// # Errors
/// [`QuantError::Plan`] for a layer that can have no map.
pub(super) fn window(graph: &Graph, layer: NodeId) -> Result<Window, QuantError> {
    let node = graph.node(layer)?;
    let weight = node.inputs().get(1).map(|&id| graph.node(id)).transpose()?;
    let shape = weight.map(|weight| weight.output().shape.at(1)).unwrap_or_default();
    let why = match (node.op(), shape.as_slice()) {
        (Op::Linear, _) if node.output().shape.rank() == 2 => return Ok(Window::All),
        (Op::Conv(conv), &[_, _, kh, kw]) if conv.groups == 1 => {
            match (conv.stride.as_slice(), conv.padding.as_slice(), conv.dilation.as_slice()) {
                (&[sy, sx], &[py, px], &[dy, dx]) => {
                    return Ok(Window::Map(ScaleMap {
                        kernel: [kh, kw],
                        stride: [sy, sx],
                        padding: [py, px],
                        dilation: [dy, dx],
                    }));
                }
                _ => "has no window of two axes",
            }
        }
        (Op::Conv(_), &[_, _, _, _]) => "is grouped: its map would need one for each group",
        _ => "is no convolution over images and no linear layer over `[batch, features]`",
    };
    Err(refused(graph, layer, why))
}

fn refused(graph: &Graph, layer: NodeId, why: &str) -> QuantError {
    let name = graph.node(layer).map_or_else(|_| String::new(), |node| node.name().to_owned());
    QuantError::Plan { name, why: format!("{why}; leave the layer or `scale-map` out") }
}

/// Puts the map behind a layer whose quantisers are in place.
pub(super) fn insert(edit: &mut Edit, layer: NodeId, window: &Window) -> Result<(), QuantError> {
    let node = edit.graph().node(layer)?.clone();
    let &[x, weight, ref bias @ ..] = node.inputs() else {
        return Err(refused(edit.graph(), layer, "has no weight"));
    };
    let real = real(edit.graph(), layer, x, *window == Window::All)?;
    if !bias.is_empty() {
        edit.replace(layer, node.op().clone(), &[x, weight])?;
    }
    let settings =
        serde_json::to_string(window).map_err(|error| QuantError::Run { why: error.to_string() })?;
    let op = Op::Custom { name: format!("{PREFIX}{settings}"), attributes: Vec::new() };
    let inputs: Vec<NodeId> = [layer, real].into_iter().chain(bias.iter().copied()).collect();
    let new = edit.insert_after(layer, &format!("{}.scaled", node.name()), op, &inputs)?;
    edit.set_type(new, node.output().clone())?;
    Ok(())
}

/// What the signs that a layer reads are the signs of. A linear layer reads them flattened, perhaps.
fn real(graph: &Graph, layer: NodeId, mut x: NodeId, flattened: bool) -> Result<NodeId, QuantError> {
    loop {
        let node = graph.node(x)?;
        match (Quantizer::of(node.op())?, node.op(), node.inputs()) {
            (Some(Quantizer::Sign(_)), _, &[real, ..]) => return Ok(real),
            (None, Op::Reshape { .. }, &[before, ..]) if flattened => x = before,
            _ => return Err(refused(graph, layer, "does not read signs directly")),
        }
    }
}

/// The kernel of an operation, or none for another operation.
pub(super) fn kernel(name: &str) -> Result<Option<ScaleKernel>, QuantError> {
    let Some(settings) = name.strip_prefix(PREFIX) else { return Ok(None) };
    let why = |error: serde_json::Error| format!("is no map of scales: {error}");
    let window = serde_json::from_str(settings);
    window
        .map(|window| Some(ScaleKernel { window }))
        .map_err(|error| QuantError::Plan { name: name.to_owned(), why: why(error) })
}

#[derive(Debug)]
pub(super) struct ScaleKernel {
    window: Window,
}

impl Kernel for ScaleKernel {
    fn run(&self, inputs: Vec<Value>, _attributes: &[Scalar]) -> Result<Value, String> {
        let [y, real, bias @ ..] = inputs.as_slice() else {
            return Err(format!(
                "a map of scales reads a result and activations, not {} tensors",
                inputs.len()
            ));
        };
        let wrong = |error: kd_graph::ValueError| error.to_string();
        let bias = bias.first().map(|bias| bias.float::<1>()).transpose().map_err(wrong)?;
        match &self.window {
            Window::Map(map) => {
                let k = map.of(real.float::<4>().map_err(wrong)?).map_err(|error| error.to_string())?;
                let y = y.float::<4>().map_err(wrong)? * k;
                Ok(match bias {
                    Some(bias) => y + bias.reshape([1, -1, 1, 1]),
                    None => y,
                }
                .into())
            }
            Window::All => {
                let k: Tensor<2> = match real.rank() {
                    2 => ScaleMap::of_rows(real.float::<2>().map_err(wrong)?),
                    3 => ScaleMap::of_rows(real.float::<3>().map_err(wrong)?),
                    _ => ScaleMap::of_rows(real.float::<4>().map_err(wrong)?),
                };
                let y = y.float::<2>().map_err(wrong)? * k;
                Ok(match bias {
                    Some(bias) => y + bias.reshape([1, -1]),
                    None => y,
                }
                .into())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::{batch, network, quantised, values};
    use super::super::{Ends, PlanSettings, QuantPlan, kernels, sites};
    use super::*;
    use crate::integer::IntegerNetwork;
    use burn::tensor::{Device, TensorData};
    use kd_graph::{GraphModule, Role};

    fn settings() -> PlanSettings {
        PlanSettings { scale_map: true, ..PlanSettings::xnor() }
    }

    /// The network with a bias in the second layer, so that no sum of signs is a tie.
    fn biased() -> Graph {
        let mut float = network();
        float
            .edit(|edit| {
                let layer = edit.graph().find("conv2")?;
                let node = edit.graph().node(layer)?.clone();
                let bias = TensorData::from([0.5_f32, -1.0, 2.0, 0.125, 0.25, -3.0]);
                let bias = edit.add_parameter("conv2.bias", Role::Weight, bias)?;
                edit.replace(layer, node.op().clone(), &[node.inputs()[0], node.inputs()[1], bias])
            })
            .unwrap();
        float
    }

    #[test]
    fn a_binary_layers_result_is_scaled_by_the_map_of_what_it_reads_and_its_bias_is_not() {
        let float = biased();
        let plan = QuantPlan::new(&float, &settings()).unwrap();
        // The first layer reads the image, the last one stays in float.
        assert_eq!(plan.scaled.iter().map(String::as_str).collect::<Vec<_>>(), ["conv2", "fc1"]);
        assert!(plan.to_string().contains("map of scales"));
        let graph = plan.apply(&float).unwrap();
        let device = Device::flex();
        let module = GraphModule::with_kernels(graph.clone(), &device, &kernels(&graph).unwrap()).unwrap();
        for (layer, bias) in [("conv2", true), ("fc1", false)] {
            let scaled = graph.find(&format!("{layer}.scaled")).unwrap();
            let &[plain, real, ..] = graph.node(scaled).unwrap().inputs() else { unreachable!() };
            assert_eq!(graph.node(plain).unwrap().inputs().len(), 2);
            let (_, taps) = module.run_tapped(batch(3), &[plain, real, scaled]).unwrap();
            let [plain, real, scaled] = taps.as_slice() else { unreachable!() };
            let wanted = if bias {
                let map = ScaleMap { padding: [(1, 1); 2], ..ScaleMap::new([3, 3], [1, 1]) };
                let k = map.of(real.float().unwrap()).unwrap();
                let bias = module.weight("conv2.bias").unwrap().float::<1>().unwrap();
                values(&(plain.float::<4>().unwrap() * k + bias.reshape([1, -1, 1, 1])).into())
            } else {
                let k = ScaleMap::of_rows(real.float::<4>().unwrap());
                values(&(plain.float::<2>().unwrap() * k).into())
            };
            assert_eq!(values(scaled), wanted, "{layer}");
        }
    }

    #[test]
    fn the_gradient_through_the_map_reaches_what_lies_before_the_signs() {
        // The weight in front moves nothing but the map where no sign changes: its gradient is then the map's, besides the sign's own.
        let graph = quantised(&settings());
        let device = Device::flex().autodiff();
        let with = GraphModule::with_kernels(graph.clone(), &device, &kernels(&graph).unwrap()).unwrap();
        let plain = quantised(&PlanSettings::xnor());
        let without = GraphModule::with_kernels(plain.clone(), &device, &kernels(&plain).unwrap()).unwrap();
        let gradient = |module: &GraphModule| {
            let x: Tensor<4> = batch(3)[0].float().unwrap();
            let y: Tensor<2> = module.forward(x.autodiff()).unwrap();
            let weight: Tensor<4> = module.weight("conv1.weight").unwrap().float().unwrap();
            weight.grad(&y.square().sum().backward()).unwrap().into_data().try_to_vec::<f32>().unwrap()
        };
        let (with, without) = (gradient(&with), gradient(&without));
        assert!(with.iter().all(|g| g.is_finite()) && with != without);
    }

    #[test]
    fn the_integer_form_reproduces_it() {
        let float = biased();
        let graph = QuantPlan::new(&float, &settings()).unwrap().apply(&float).unwrap();
        let device = Device::flex();
        let network = IntegerNetwork::<Tensor<4>>::new(&graph, &device).unwrap();
        let listed = |name: &str| network.float_nodes().iter().any(|node| node.name == name);
        assert!(listed("conv2.scaled") && !listed("conv2"), "{:?}", network.float_nodes());
        let steps = network.agreement([batch(5)]).unwrap().steps();
        assert!(steps.rate() < 0.01, "{steps:?}");
    }

    #[test]
    fn methods_without_signs_other_layers_and_unknown_names_are_refused() {
        let twn = PlanSettings { scale_map: true, ..PlanSettings::twn() };
        let error = QuantPlan::new(&network(), &twn).unwrap_err().to_string();
        assert!(error.contains("`scale-map` is true"), "{error}");
        let mut plan = QuantPlan::new(&network(), &PlanSettings::xnor()).unwrap();
        plan.scaled.insert("conv1".into());
        assert!(plan.apply(&network()).unwrap_err().to_string().contains("reads no signs"));
        plan.scaled = ["cnov2".to_owned()].into();
        assert!(plan.apply(&network()).unwrap_err().to_string().contains("`conv2`"));
        plan.scaled = ["relu1".to_owned()].into();
        assert!(plan.apply(&network()).unwrap_err().to_string().contains("is no convolution"));
        let all = PlanSettings { ends: Ends::Same, ..settings() };
        assert_eq!(QuantPlan::new(&network(), &all).unwrap().scaled.len(), 3);
        assert!(!sites(&quantised(&all)).unwrap().is_empty());
    }
}
