//! HashedNets in a graph: layers whose weights are a few buckets.

use burn::tensor::{Tensor, TensorData};
use kd_graph::{Graph, Kernel, NodeId, Op, Role, Scalar, Value};

use super::Hashed;
use super::shared::refused;
use crate::QuantError;

/// The operation of a hashed linear layer.
pub(super) const LINEAR: &str = "share.hashed-linear";
/// The operation that makes a whole weight.
pub(super) const WEIGHT: &str = "share.hashed-weight";
/// What the path of the buckets ends with.
pub(super) const BUCKETS: &str = "_buckets";

/// Replaces a linear layer's weight by `parameters` buckets, from which the layer takes its elements by a hash, tile by tile while it runs.
///
/// The layer keeps its name and bias. `fc.weight` becomes the learned vector `fc.weight_buckets`. A bucket starts at the mean of the (signed) weights that
/// hash there; all are then scaled to the weights' deviation, so that training from scratch starts with activations as large as before. [`Hashed`] has the
/// formula and the paper; give [`kernels`](super::kernels) to the module.
///
/// ```
/// use burn::tensor::{Device, Tensor, TensorData};
/// use kd_graph::{Graph, GraphModule, Op, Role, Shape, TensorType};
/// use kd_quant::sharing::{hash_linear, kernels};
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::float(Shape::batched([4])))?;
/// let w = graph.parameter("fc.weight", Role::Weight, TensorData::new(vec![0.1f32; 32], [4, 8]))?;
/// let fc = graph.add("fc", Op::Linear, &[x, w])?;
/// graph.set_outputs(&[fc])?;
/// hash_linear(&mut graph, "fc", 4, 0)?;
/// assert_eq!(graph.cost(1)?.parameters, 4);
/// let module = GraphModule::with_kernels(graph, &Device::flex(), &kernels())?;
/// let y: Tensor<2> = module.forward(Tensor::<2>::ones([3, 4], &Device::flex()))?;
/// assert_eq!(y.dims(), [3, 8]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`GraphError::UnknownName`](kd_graph::GraphError::UnknownName) with the nearest names; [`GraphError::Edit`](kd_graph::GraphError::Edit) for a node that
/// is no linear layer over rows or whose weight is read elsewhere too; [`QuantError::Setting`] without buckets; [`QuantError::NonFinite`].
pub fn hash_linear(graph: &mut Graph, layer: &str, parameters: usize, seed: u32) -> Result<(), QuantError> {
    let id = graph.find(layer)?;
    let node = graph.node(id)?;
    let (Op::Linear, 2, &[x, weight, ref bias @ ..]) = (node.op(), node.output().shape.rank(), node.inputs())
    else {
        return Err(refused(layer, "only a linear layer over `[batch, features]` can be hashed").into());
    };
    let path = graph.node(weight)?.name().to_owned();
    let (Some(value), 1) = (graph.value(weight), graph.users(weight).count()) else {
        return Err(refused(layer, "its weight is computed, or read elsewhere too").into());
    };
    let &[inputs, outputs] = &value.shape()[..] else {
        return Err(refused(layer, "its weight is no matrix").into());
    };
    let hashed = Hashed::new(inputs, outputs, parameters)?.with_seed(seed);
    let weights: Vec<f32> = value.iter::<f32>().collect();
    let at = |row: usize, column: usize| weights.get(column * outputs + row);
    let buckets = start(&hashed, &weights, at, parameters)?;
    let (bias, ty) = (bias.to_vec(), node.output().clone());
    graph.edit(|edit| {
        let data = TensorData::new(buckets, [parameters]);
        let buckets = edit.add_parameter(&format!("{path}{BUCKETS}"), Role::Weight, data)?;
        let inputs: Vec<_> = [x, buckets].into_iter().chain(bias).collect();
        let attributes = hashed.attributes().map(|number| Scalar::Int(number as i64)).to_vec();
        edit.replace(id, Op::Custom { name: LINEAR.to_owned(), attributes }, &inputs)?;
        edit.set_type(id, ty)?;
        edit.remove(weight)
    })?;
    Ok(())
}

/// Replaces the weight of any layer by `parameters` buckets: that of a linear layer as [`hash_linear`] does; any other, `[out, ...]`, is made whole by a
/// node `conv.weight_hashed` while the network runs, each output channel a row of the hashed matrix.
///
/// # Errors
/// As [`hash_linear`], with the path of a learned weight of 2 to 5 axes in place of the layer's name.
pub fn hash_weight(graph: &mut Graph, path: &str, parameters: usize, seed: u32) -> Result<(), QuantError> {
    let id = graph.find(path)?;
    if let Some(layer) = hashable_linear(graph, id)? {
        return hash_linear(graph, &layer, parameters, seed);
    }
    let (Op::Parameter { role: Role::Weight, .. }, Some(value)) = (graph.node(id)?.op(), graph.value(id))
    else {
        return Err(refused(path, "it is no learned parameter, so it can't be hashed").into());
    };
    let ty = graph.node(id)?.output().clone();
    let shape = ty.shape.at(1);
    let (2..=5, Some(&rows)) = (shape.len(), shape.first()) else {
        return Err(refused(path, "only weights of 2 to 5 axes can be hashed").into());
    };
    let weights: Vec<f32> = value.iter::<f32>().collect();
    let columns = weights.len() / rows.max(1);
    let hashed = Hashed::new(columns, rows, parameters)?.with_seed(seed);
    let at = |row: usize, column: usize| weights.get(row * columns + column);
    let buckets = start(&hashed, &weights, at, parameters)?;
    graph.edit(|edit| {
        let data = TensorData::new(buckets, [parameters]);
        let buckets = edit.add_parameter(&format!("{path}{BUCKETS}"), Role::Weight, data)?;
        let numbers = hashed.attributes().into_iter().chain(shape);
        let attributes = numbers.map(|number| Scalar::Int(number as i64)).collect();
        let node = edit.add(
            &format!("{path}_hashed"),
            Op::Custom { name: WEIGHT.to_owned(), attributes },
            &[buckets],
        )?;
        edit.set_type(node, ty)?;
        edit.replace_uses(id, node)?;
        edit.remove(id)
    })?;
    Ok(())
}

/// The one linear layer over rows that reads a weight directly.
fn hashable_linear(graph: &Graph, weight: NodeId) -> Result<Option<String>, QuantError> {
    let mut users = graph.users(weight);
    let (Some((_, layer)), None) = (users.next(), users.next()) else { return Ok(None) };
    let linear = matches!(layer.op(), Op::Linear) && layer.output().shape.rank() == 2;
    Ok((linear && layer.inputs().get(1) == Some(&weight)).then(|| layer.name().to_owned()))
}

/// Means of the weights of every bucket, at the weights' deviation; `at` is the weight in a row and column of the hashed matrix.
fn start<'a>(
    hashed: &Hashed,
    weights: &'a [f32],
    at: impl Fn(usize, usize) -> Option<&'a f32>,
    parameters: usize,
) -> Result<Vec<f32>, QuantError> {
    crate::data::check_finite("the weight to hash", weights)?;
    let (mut sums, mut counts) = (vec![0.0_f64; parameters], vec![0.0_f64; parameters]);
    let [inputs, outputs, ..] = hashed.attributes();
    for column in 0..inputs {
        for row in 0..outputs {
            let (bucket, sign) = hashed.element(row, column);
            let weight = at(row, column).copied().unwrap_or(0.0);
            if let (Some(sum), Some(count)) = (sums.get_mut(bucket), counts.get_mut(bucket)) {
                *sum += f64::from(sign * weight);
                *count += 1.0;
            }
        }
    }
    let means: Vec<f64> = sums.iter().zip(&counts).map(|(sum, count)| sum / count.max(1.0)).collect();
    let size = |squares: f64, n: usize| (squares / n.max(1) as f64).sqrt();
    let of_weights = size(weights.iter().map(|&w| f64::from(w).powi(2)).sum(), weights.len());
    let of_means = size(means.iter().map(|m| m * m).sum(), means.len());
    let factor = if of_means > 0.0 { of_weights / of_means } else { 1.0 };
    Ok(means.into_iter().map(|mean| (mean * factor) as f32).collect())
}

/// `x`, buckets, `[bias]`.
#[derive(Debug)]
pub(super) struct HashedLinear;

impl Kernel for HashedLinear {
    fn run(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
        let [x, buckets, bias @ ..] = inputs.as_slice() else {
            return Err(format!("it reads an input and buckets, not {} tensors", inputs.len()));
        };
        let wrong = |error: kd_graph::ValueError| error.to_string();
        let hashed = Hashed::from_attributes(attributes).ok_or("its attributes are not five numbers")?;
        let (x, buckets) = (x.float::<2>().map_err(wrong)?, buckets.float::<1>().map_err(wrong)?);
        let y = hashed.linear(x, buckets).map_err(|error| error.to_string())?;
        Ok(match bias.first() {
            Some(bias) => y + bias.float::<1>().map_err(wrong)?.unsqueeze(),
            None => y,
        }
        .into())
    }
}

/// Buckets; the attributes are the hash's and the weight's shape.
#[derive(Debug)]
pub(super) struct HashedWeight;

impl Kernel for HashedWeight {
    fn run(&self, inputs: Vec<Value>, attributes: &[Scalar]) -> Result<Value, String> {
        let [buckets] = inputs.as_slice() else {
            return Err(format!("it reads buckets, not {} tensors", inputs.len()));
        };
        let (hash, shape) = attributes.split_at_checked(5).ok_or("its attributes are too few")?;
        let hashed = Hashed::from_attributes(hash).ok_or("its first attributes are not five numbers")?;
        let buckets = buckets.float::<1>().map_err(|error| error.to_string())?;
        let matrix: Tensor<2> = hashed.weight(&buckets).map_err(|error| error.to_string())?;
        let shape: Vec<usize> = shape.iter().map(|size| size.as_f64() as usize).collect();
        if shape.iter().product::<usize>() != matrix.dims().iter().product::<usize>() {
            return Err(format!("a weight of shape {shape:?} has other elements than the hashed matrix"));
        }
        Ok(match *shape {
            [a, b] => matrix.reshape([a, b]).into(),
            [a, b, c] => matrix.reshape([a, b, c]).into(),
            [a, b, c, d] => matrix.reshape([a, b, c, d]).into(),
            [a, b, c, d, e] => matrix.reshape([a, b, c, d, e]).into(),
            _ => return Err(format!("weights have 2 to 5 axes, not {}", shape.len())),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::kernels;
    use super::*;
    use burn::tensor::{Device, Distribution, Tensor};
    use kd_graph::{GraphModule, Shape, TensorType};

    fn graph() -> Graph {
        let device = Device::flex();
        device.seed(4);
        let w = Tensor::<2>::random([20, 30], Distribution::Normal(0.0, 0.3), &device).into_data();
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([20]))).unwrap();
        let w = graph.parameter("fc.weight", Role::Weight, w).unwrap();
        let b = graph.parameter("fc.bias", Role::Weight, TensorData::new(vec![0.5_f32; 30], [30])).unwrap();
        let fc = graph.add("fc", Op::Linear, &[x, w, b]).unwrap();
        graph.set_outputs(&[fc]).unwrap();
        graph
    }

    #[test]
    fn the_layer_computes_with_the_hashed_matrix_and_keeps_its_bias() {
        let device = Device::flex();
        let mut graph = graph();
        hash_linear(&mut graph, "fc", 75, 9).unwrap();
        assert!(graph.find("fc.weight").is_err());
        let module = GraphModule::with_kernels(graph, &device, &kernels()).unwrap();
        let x = Tensor::<2>::random([4, 20], Distribution::Normal(0.0, 1.0), &device);
        let y: Tensor<2> = module.forward(x.clone()).unwrap();
        let buckets = module.weight("fc.weight_buckets").unwrap().float::<1>().unwrap();
        let matrix = Hashed::new(20, 30, 75).unwrap().with_seed(9).weight(&buckets).unwrap();
        let wanted = x.matmul(matrix.transpose()) + 0.5;
        assert!((y - wanted).abs().max().into_scalar::<f32>() < 1e-5);
        let deviation = buckets.square().mean().sqrt().into_scalar::<f32>();
        assert!((deviation - 0.3).abs() < 0.02, "{deviation}");
    }

    #[test]
    fn a_convolutions_weight_is_made_whole_and_a_linear_layers_is_not() {
        let device = Device::flex();
        device.seed(8);
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([2, 5, 5]))).unwrap();
        let w = Tensor::<4>::random([6, 2, 3, 3], Distribution::Normal(0.0, 0.3), &device).into_data();
        let w = graph.parameter("conv.weight", Role::Weight, w).unwrap();
        let conv =
            kd_graph::Conv { stride: vec![1; 2], padding: vec![(0, 0); 2], dilation: vec![1; 2], groups: 1 };
        let y = graph.add("conv", Op::Conv(conv), &[x, w]).unwrap();
        graph.set_outputs(&[y]).unwrap();
        hash_weight(&mut graph, "conv.weight", 27, 3).unwrap();
        assert_eq!(graph.cost(1).unwrap().parameters, 27);
        let module = GraphModule::with_kernels(graph.clone(), &device, &kernels()).unwrap();
        let node = graph.find("conv.weight_hashed").unwrap();
        let (_, taps) =
            module.run_tapped(vec![Tensor::<4>::ones([1, 2, 5, 5], &device).into()], &[node]).unwrap();
        let buckets = module.weight("conv.weight_buckets").unwrap().float::<1>().unwrap();
        let matrix = Hashed::new(18, 6, 27).unwrap().with_seed(3).weight(&buckets).unwrap();
        assert_eq!(taps[0].float::<4>().unwrap().into_data(), matrix.reshape([6, 2, 3, 3]).into_data());

        let mut graph = self::graph();
        hash_weight(&mut graph, "fc.weight", 75, 9).unwrap();
        assert!(graph.find("fc.weight_hashed").is_err() && graph.find("fc.weight_buckets").is_ok());
        assert!(
            hash_weight(&mut graph, "x", 75, 9).unwrap_err().to_string().contains("no learned parameter")
        );
    }

    #[test]
    fn other_layers_and_no_buckets_are_refused() {
        let mut graph = graph();
        assert!(hash_linear(&mut graph, "fd", 4, 0).unwrap_err().to_string().contains("`fc`"));
        assert!(hash_linear(&mut graph, "x", 4, 0).unwrap_err().to_string().contains("linear layer"));
        let error = hash_linear(&mut graph, "fc", 0, 0).unwrap_err().to_string();
        assert!(error.contains("`parameters` is 0"), "{error}");
    }
}
