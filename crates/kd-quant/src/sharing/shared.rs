//! Codebooks in a graph: weights become codes and centroids.

use std::collections::BTreeMap;

use burn::tensor::{Int, Tensor, TensorData};
use kd_graph::{Graph, GraphError, Kernel, NodeId, Op, Role, Scalar, Value};

use super::{Codebook, KMeans};
use crate::QuantError;

/// The operation that looks a weight's elements up.
pub(super) const LOOK_UP: &str = "share.codebook";
const CODES: &str = "_codes";
const CENTROIDS: &str = "_centroids";

/// Replaces weights by codes and trained centroids (Deep Compression, stage 2).
///
/// A weight `fc.weight` is no parameter any more: `fc.weight_codes`, a buffer of integers of the weight's shape (0 is zero, `c` is centroid `c - 1`), and
/// `fc.weight_centroids`, a learned vector, are; the node `fc.weight_shared` looks one up in the other. A pruned weight has the code 0 and stays zero; the
/// gradient of a centroid is the sum over the weights that share it, so that any [`Run`](kd_train::Run) trains centroids. Give [`kernels`](super::kernels)
/// to the module.
///
/// ```
/// use std::collections::BTreeMap;
/// use burn::tensor::TensorData;
/// use kd_graph::{Graph, GraphModule, Op, Role, Shape, TensorType};
/// use kd_quant::sharing::{KMeans, kernels, share_weights, unshare_weights};
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::float(Shape::batched([2])))?;
/// let w = graph.parameter("fc.weight", Role::Weight, TensorData::from([[0.0f32, 1.0], [1.2, -0.9]]))?;
/// let fc = graph.add("fc", Op::Linear, &[x, w])?;
/// graph.set_outputs(&[fc])?;
///
/// let books = share_weights(&mut graph, &BTreeMap::from([("fc.weight".to_owned(), KMeans::new(2))]))?;
/// assert_eq!(books["fc.weight"].codes(), [None, Some(1), Some(1), Some(0)]);
/// let module = GraphModule::with_kernels(graph.clone(), &burn::tensor::Device::flex(), &kernels())?;
/// assert!(module.weight("fc.weight_centroids").is_some());
///
/// unshare_weights(&mut graph)?;
/// let w = graph.find("fc.weight")?;
/// assert_eq!(graph.value(w).unwrap().as_slice::<f32>()?, [0.0, 1.1, 1.1, -0.9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`GraphError::UnknownName`] with the nearest names; [`GraphError::Edit`] for a node that is no learned parameter; as [`KMeans::fit`] for a weight that
/// can't be clustered. The graph is then as it was.
pub fn share_weights(
    graph: &mut Graph,
    weights: &BTreeMap<String, KMeans>,
) -> Result<BTreeMap<String, Codebook>, QuantError> {
    let mut books = BTreeMap::new();
    for (path, kmeans) in weights {
        let id = graph.find(path)?;
        if !matches!(graph.node(id)?.op(), Op::Parameter { role: Role::Weight, .. }) {
            return Err(refused(path, "it is no learned parameter, so it can't be shared").into());
        }
        let value = graph.value(id).ok_or_else(|| refused(path, "its tensor is missing"))?;
        let values: Vec<f32> = value.iter::<f32>().collect();
        books.insert(path.clone(), Codebook::of(&values, *kmeans)?);
    }
    graph.edit(|edit| {
        for (path, book) in &books {
            let weight = edit.graph().find(path)?;
            let ty = edit.graph().node(weight)?.output().clone();
            let codes: Vec<i32> = book.codes().iter().map(|code| code.map_or(0, |c| c as i32 + 1)).collect();
            let centroids: Vec<f32> = book.clusters().centroids.iter().map(|&c| c as f32).collect();
            let length = centroids.len();
            let codes = TensorData::new(codes, ty.shape.at(1));
            let codes = edit.add_parameter(&format!("{path}{CODES}"), Role::Buffer, codes)?;
            let centroids = TensorData::new(centroids, [length]);
            let centroids = edit.add_parameter(&format!("{path}{CENTROIDS}"), Role::Weight, centroids)?;
            let op = Op::Custom { name: LOOK_UP.to_owned(), attributes: Vec::new() };
            let node = edit.add(&format!("{path}_shared"), op, &[codes, centroids])?;
            edit.set_type(node, ty)?;
            edit.replace_uses(weight, node)?;
            edit.remove(weight)?;
        }
        Ok(())
    })?;
    Ok(books)
}

/// Puts plain weights in the place of codes and centroids, as these are now: for evaluation, for files that others read, for another method after it.
///
/// # Errors
/// [`GraphError::Edit`] for codes that name no centroid.
pub fn unshare_weights(graph: &mut Graph) -> Result<(), QuantError> {
    let shared = shared(graph)?;
    graph.edit(|edit| {
        for Shared { path, node, codes, centroids } in shared {
            let ty = edit.graph().node(node)?.output().clone();
            let missing = || refused(&path, "codes and centroids are not parameters with a tensor");
            let read = |id: NodeId| edit.graph().value(id).cloned().ok_or_else(missing);
            let (numbers, table) = (read(codes)?, read(centroids)?);
            let values = decode(&numbers, &table);
            let wrong = || refused(&path, "a code names no centroid");
            let value = TensorData::new(values.ok_or_else(wrong)?, ty.shape.at(1));
            let weight = edit.add_parameter(&path, Role::Weight, value)?;
            edit.replace_uses(node, weight)?;
            edit.remove(node)?;
            edit.remove(codes)?;
            edit.remove(centroids)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// The numbers that codes stand for, unless one names no centroid.
pub(super) fn decode(codes: &TensorData, centroids: &TensorData) -> Option<Vec<f32>> {
    let table: Vec<f32> = centroids.iter::<f32>().collect();
    let look_up = |code: i64| match usize::try_from(code) {
        Ok(0) => Some(0.0),
        Ok(code) => table.get(code - 1).copied(),
        Err(_) => None,
    };
    codes.iter::<i64>().map(look_up).collect()
}

/// A shared weight in a graph.
pub(super) struct Shared {
    pub path: String,
    node: NodeId,
    pub codes: NodeId,
    pub centroids: NodeId,
}

pub(super) fn shared(graph: &Graph) -> Result<Vec<Shared>, GraphError> {
    let mut found = Vec::new();
    for (node, of) in graph.nodes() {
        let (Op::Custom { name, .. }, &[codes, centroids]) = (of.op(), of.inputs()) else { continue };
        if name == LOOK_UP {
            let path = graph.node(codes)?.name();
            let path = path.strip_suffix(CODES).unwrap_or(path).to_owned();
            found.push(Shared { path, node, codes, centroids });
        }
    }
    Ok(found)
}

pub(super) fn refused(name: &str, reason: &str) -> GraphError {
    GraphError::Edit { name: name.to_owned(), reason: reason.to_owned() }
}

/// Elements of a vector by code; 0 is zero.
#[derive(Debug)]
pub(super) struct LookUp;

impl Kernel for LookUp {
    fn run(&self, inputs: Vec<Value>, _attributes: &[Scalar]) -> Result<Value, String> {
        let [codes, centroids] = inputs.as_slice() else {
            return Err(format!("it reads codes and centroids, not {} tensors", inputs.len()));
        };
        match codes.rank() {
            1 => look_up::<1>(codes, centroids),
            2 => look_up::<2>(codes, centroids),
            3 => look_up::<3>(codes, centroids),
            4 => look_up::<4>(codes, centroids),
            5 => look_up::<5>(codes, centroids),
            rank => Err(format!("weights of {rank} axes can't be shared; of 1 to 5 they can")),
        }
    }
}

fn look_up<const D: usize>(codes: &Value, centroids: &Value) -> Result<Value, String> {
    let in_words = |error: kd_graph::ValueError| error.to_string();
    let (codes, centroids) = (codes.int::<D>().map_err(in_words)?, centroids.float::<1>().map_err(in_words)?);
    let shape = codes.dims();
    let zero = Tensor::zeros([1], &centroids.device());
    let flat: Tensor<1, Int> = codes.reshape([shape.iter().product::<usize>()]);
    Ok(Tensor::cat(vec![zero, centroids], 0).select(0, flat).reshape(shape).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::kernels;
    use super::*;
    use burn::module::Module;
    use burn::optim::{GradientsParams, SgdConfig};
    use burn::tensor::Device;
    use kd_graph::{GraphModule, Shape, TensorType};

    fn graph() -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([3]))).unwrap();
        let weight = TensorData::from([[0.0f32, 1.0], [1.2, -0.9], [-1.1, 0.0]]);
        let w = graph.parameter("fc.weight", Role::Weight, weight).unwrap();
        let fc = graph.add("fc", Op::Linear, &[x, w]).unwrap();
        graph.set_outputs(&[fc]).unwrap();
        graph
    }

    fn two() -> BTreeMap<String, KMeans> {
        BTreeMap::from([("fc.weight".to_owned(), KMeans::new(2))])
    }

    fn weight(graph: &Graph) -> Vec<f32> {
        graph.value(graph.find("fc.weight").unwrap()).unwrap().iter::<f32>().collect()
    }

    #[test]
    fn training_moves_centroids_by_summed_gradients_and_leaves_zeros() {
        let mut graph = graph();
        share_weights(&mut graph, &two()).unwrap();
        let device = Device::flex().autodiff();
        let mut module = GraphModule::with_kernels(graph, &device, &kernels()).unwrap();
        let x = Tensor::<2>::from_data([[1.0, 2.0, 3.0]], &device);
        let upstream = Tensor::<2>::from_data([[1.0, 10.0]], &device);
        let y: Tensor<2> = module.forward(x).unwrap();
        let loss = (y * upstream).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        module = SgdConfig::new().init().step(0.01, module, gradients);
        let mut trained = module.valid().to_graph().unwrap();
        unshare_weights(&mut trained).unwrap();
        // d/dw is x times upstream: [1, 10], [2, 20], [3, 30]. Low centroid -1: 20 + 3; high centroid 1.1: 10 + 2.
        let (low, high) = (-1.0 - 0.01 * 23.0, 1.1 - 0.01 * 12.0);
        for (got, wanted) in weight(&trained).iter().zip([0.0, high, high, low, low, 0.0]) {
            assert!((got - wanted).abs() < 1e-6, "{got} {wanted}");
        }
        assert_eq!(weight(&trained)[0].to_bits(), 0.0_f32.to_bits());
    }

    #[test]
    fn a_shared_network_is_saved_and_loaded() {
        let mut graph = graph();
        share_weights(&mut graph, &two()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shared.kdg");
        graph.save(&file).unwrap();
        let mut loaded = Graph::load(&file).unwrap();
        assert_eq!(loaded, graph);
        unshare_weights(&mut loaded).unwrap();
        let wanted = [0.0, 1.1, 1.1, -1.0, -1.0, 0.0];
        assert!(weight(&loaded).iter().zip(wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-6));
        let node = graph.node(graph.find("fc.weight_shared").unwrap()).unwrap();
        let codes = graph.node(graph.find("fc.weight_codes").unwrap()).unwrap();
        assert_eq!(*node.output(), TensorType::float(codes.output().shape.clone()));
    }

    #[test]
    fn what_can_not_be_shared_is_refused_and_the_graph_stays() {
        let before = graph();
        let mut graph = before.clone();
        let unknown = BTreeMap::from([("fc.wieght".to_owned(), KMeans::new(2))]);
        let error = share_weights(&mut graph, &unknown).unwrap_err().to_string();
        assert!(error.contains("`fc.weight`"), "{error}");
        let input = BTreeMap::from([("x".to_owned(), KMeans::new(2))]);
        assert!(share_weights(&mut graph, &input).is_err());
        assert_eq!(graph, before);
    }
}
