//! What is stored of shared and hashed weights.

use kd_graph::{Graph, GraphError, NodeId, Op};

use super::Hashed;
use super::hashed_layer::{self, BUCKETS};
use super::shared::{decode, refused, shared};

/// A weight in whose place something smaller is stored.
pub(crate) struct Stored {
    /// Path of the parameter that it was.
    pub path: String,
    /// The parameters in its place: codes and centroids, or buckets.
    pub parameters: Vec<NodeId>,
    /// What they are.
    pub form: Form,
}

/// What stands for a weight.
pub(crate) enum Form {
    /// So many different codes, one of them perhaps for zero, and so many centroids.
    Codes {
        /// Of the codes.
        levels: usize,
        /// Of the codebook.
        centroids: usize,
    },
    /// Buckets; whether the weight is `[in, out]`, as a linear layer's is.
    Buckets {
        /// From elements to buckets.
        hashed: Hashed,
        /// Whether rows of the hashed matrix are columns of the weight.
        turned: bool,
    },
}

/// All weights of a graph in whose place something smaller is stored.
pub(crate) fn stored(graph: &Graph) -> Result<Vec<Stored>, GraphError> {
    let mut found = Vec::new();
    for of in shared(graph)? {
        let codes = graph.value(of.codes).map(|codes| codes.iter::<i64>().any(|code| code == 0));
        let centroids = graph.value(of.centroids).map_or(0, |centroids| centroids.num_elements());
        let form = Form::Codes { levels: centroids + usize::from(codes == Some(true)), centroids };
        found.push(Stored { path: of.path, parameters: vec![of.codes, of.centroids], form });
    }
    for (_, node) in graph.nodes() {
        let Op::Custom { name, attributes } = node.op() else { continue };
        let turned = name == hashed_layer::LINEAR;
        let buckets = match *node.inputs() {
            [_, buckets, ..] if turned => buckets,
            [buckets] if name == hashed_layer::WEIGHT => buckets,
            _ => continue,
        };
        let path = graph.node(buckets)?.name();
        let hashed = attributes.get(..5).and_then(Hashed::from_attributes);
        let hashed = hashed.ok_or_else(|| refused(node.name(), "its attributes are no hash"))?;
        let path = path.strip_suffix(BUCKETS).unwrap_or(path).to_owned();
        found.push(Stored { path, parameters: vec![buckets], form: Form::Buckets { hashed, turned } });
    }
    Ok(found)
}

impl Stored {
    /// The whole weight, row-major in the shape that the parameter had.
    pub fn whole(&self, graph: &Graph) -> Result<Vec<f32>, GraphError> {
        let missing = || refused(&self.path, "what is stored of it is no parameter with a tensor");
        let value = |id: &NodeId| graph.value(*id).ok_or_else(missing);
        let whole = match (&self.form, self.parameters.as_slice()) {
            (Form::Codes { .. }, [codes, centroids]) => decode(value(codes)?, value(centroids)?),
            (Form::Buckets { hashed, turned }, [buckets]) => {
                let buckets: Vec<f32> = value(buckets)?.iter::<f32>().collect();
                let [columns, rows, ..] = hashed.attributes();
                let at = |i: usize| match turned {
                    true => hashed.element(i % rows, i / rows),
                    false => hashed.element(i / columns, i % columns),
                };
                let element = |(bucket, sign): (usize, f32)| Some(sign * buckets.get(bucket)?);
                (0..rows * columns).map(|i| element(at(i))).collect()
            }
            _ => None,
        };
        whole.ok_or_else(|| refused(&self.path, "a code names no centroid or bucket"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{KMeans, hash_weight, share_weights, unshare_weights};
    use super::*;
    use burn::tensor::{Device, Tensor, TensorData};
    use kd_graph::{Conv, GraphModule, Role, Shape, TensorType};

    fn wave(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.7).sin()).collect()
    }

    #[test]
    fn a_shared_weight_is_what_unsharing_gives() {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([4]))).unwrap();
        let w = graph.parameter("fc.weight", Role::Weight, TensorData::new(wave(20), [4, 5])).unwrap();
        let fc = graph.add("fc", Op::Linear, &[x, w]).unwrap();
        graph.set_outputs(&[fc]).unwrap();
        share_weights(&mut graph, &BTreeMap::from([("fc.weight".to_owned(), KMeans::new(3))])).unwrap();
        let found = stored(&graph).unwrap().remove(0);
        // The wave starts at zero, which is a code of its own.
        assert!(matches!(found.form, Form::Codes { levels: 4, centroids: 3 }));
        let whole = found.whole(&graph).unwrap();
        unshare_weights(&mut graph).unwrap();
        let weight = graph.value(graph.find("fc.weight").unwrap()).unwrap();
        assert_eq!(weight.as_slice::<f32>().unwrap(), whole);
    }

    #[test]
    fn hashed_weights_are_what_their_layers_compute_with() {
        let device = Device::flex();
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([2, 1, 1]))).unwrap();
        let conv = graph.parameter("conv.weight", Role::Weight, TensorData::new(wave(6), [3, 2, 1, 1]));
        let window = Conv { stride: vec![1; 2], padding: vec![(0, 0); 2], dilation: vec![1; 2], groups: 1 };
        let y = graph.add("conv", Op::Conv(window), &[x, conv.unwrap()]).unwrap();
        let y = graph.add("flat", Op::Reshape { shape: Shape::batched([3]) }, &[y]).unwrap();
        let fc = graph.parameter("fc.weight", Role::Weight, TensorData::new(wave(12), [3, 4])).unwrap();
        let fc = graph.add("fc", Op::Linear, &[y, fc]).unwrap();
        graph.set_outputs(&[fc]).unwrap();
        for path in ["conv.weight", "fc.weight"] {
            hash_weight(&mut graph, path, 3, 5).unwrap();
        }
        let [fc, conv]: [Vec<f32>; 2] = ["fc.weight", "conv.weight"].map(|path| {
            let all = stored(&graph).unwrap();
            all.iter().find(|of| of.path == path).unwrap().whole(&graph).unwrap()
        });
        let x = [0.5_f32, -2.0];
        let module = GraphModule::with_kernels(graph, &device, &super::super::kernels()).unwrap();
        let y: Tensor<2> = module
            .forward(Tensor::<4>::from_data(TensorData::new(x.to_vec(), [1, 2, 1, 1]), &device))
            .unwrap();
        let hidden: Vec<f32> = conv.chunks(2).map(|row| row[0] * x[0] + row[1] * x[1]).collect();
        let wanted = (0..4).map(|out| (0..3).map(|i| hidden[i] * fc[4 * i + out]).sum::<f32>());
        for (got, wanted) in y.into_data().try_to_vec::<f32>().unwrap().iter().zip(wanted) {
            assert!((got - wanted).abs() < 1e-5, "{got} {wanted}");
        }
    }
}
