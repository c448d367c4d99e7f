//! How curved the loss is in every layer's weights.

use burn::tensor::{Gradients, Tensor, TensorData};
use kd_graph::{GraphModule, Value};
use kd_train::{TensorMap, map_weights};

use super::PowerIteration;
use crate::QuantError;

/// The Hessian's top eigenvalue in one weight, over batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// The weight's path.
    pub path: String,
    /// Mean over the batches.
    pub mean: f64,
    /// Sample standard deviation; 0 of one batch.
    pub deviation: f64,
    /// How many elements the weight has.
    pub elements: usize,
}

impl Sensitivity {
    /// $\lvert \bar\lambda \rvert + \sigma_\lambda$: a curvature that differs from batch to batch counts as more, for a mean alone may hide it.
    pub fn score(&self) -> f64 {
        self.mean.abs() + self.deviation
    }
}

/// The top eigenvalues of some weights of a network, by path.
///
/// `loss` gives the loss `[1]` of a network, on an autodiff device, on batch number `0..batches`. A batch normalisation would take the statistics of the batch:
/// fold it before. Every weight and batch takes two passes forward and back for each of the power iteration's products.
///
/// Shen et al., *Q-BERT: Hessian Based Ultra Low Precision Quantization of BERT*, AAAI 2020.
///
/// # Errors
/// What `loss` returns; [`QuantError::Graph`] for an unknown weight, with the nearest names; [`QuantError::Empty`] without batches; as
/// [`PowerIteration::top`].
pub fn sensitivities<E: From<QuantError>>(
    network: &GraphModule,
    weights: &[String],
    batches: usize,
    power: PowerIteration,
    mut loss: impl FnMut(&GraphModule, usize) -> Result<Tensor<1>, E>,
) -> Result<Vec<Sensitivity>, E> {
    if batches == 0 {
        return Err(QuantError::Empty { what: "the list of batches" }.into());
    }
    let network = burn::module::Module::train(network.clone());
    let mut found = Vec::with_capacity(weights.len());
    for path in weights {
        let start = weight(&network, path)?;
        let mut values = Vec::with_capacity(batches);
        for batch in 0..batches {
            let gradient = |w: &[f32]| -> Result<Vec<f32>, E> {
                let moved = map_weights(network.clone(), &mut Put { path, values: w });
                let gradients = loss(&moved, batch)?.backward();
                Ok(gradient(&moved, path, &gradients)?)
            };
            values.push(power.top(&start, gradient)?.value);
        }
        let n = batches as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (n - 1.0).max(1.0)).sqrt();
        tracing::info!("{path}: top eigenvalue {mean:.4} ± {deviation:.4}");
        found.push(Sensitivity { path: path.clone(), mean, deviation, elements: start.len() });
    }
    Ok(found)
}

fn held(network: &GraphModule, path: &str) -> Result<Value, QuantError> {
    match network.weight(path) {
        Some(value) => Ok(value),
        // The graph knows the nearest names.
        None => match network.graph().find(path) {
            Err(error) => Err(error.into()),
            Ok(_) => Err(kd_graph::GraphError::Edit {
                name: path.to_owned(),
                reason: "it is no parameter".to_owned(),
            }
            .into()),
        },
    }
}

fn weight(network: &GraphModule, path: &str) -> Result<Vec<f32>, QuantError> {
    let data = held(network, path)?.data();
    let data = data.map_err(|error| QuantError::Read { what: "the weight", why: error.to_string() })?;
    Ok(data.iter::<f32>().collect())
}

fn gradient(network: &GraphModule, path: &str, gradients: &Gradients) -> Result<Vec<f32>, QuantError> {
    fn at_rank<const D: usize>(value: &Value, gradients: &Gradients) -> Option<Vec<f32>> {
        let gradient = value.float::<D>().ok()?.grad(gradients)?;
        Some(gradient.into_data().iter::<f32>().collect())
    }
    let value = held(network, path)?;
    let found = match value.rank() {
        1 => at_rank::<1>(&value, gradients),
        2 => at_rank::<2>(&value, gradients),
        3 => at_rank::<3>(&value, gradients),
        4 => at_rank::<4>(&value, gradients),
        5 => at_rank::<5>(&value, gradients),
        _ => None,
    };
    // A weight that the loss does not depend on.
    Ok(found.unwrap_or_else(|| vec![0.0; value.shape().iter().product()]))
}

/// Other numbers in one weight.
struct Put<'a> {
    path: &'a str,
    values: &'a [f32],
}

impl TensorMap for Put<'_> {
    fn map<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        if path != self.path {
            return tensor;
        }
        Tensor::from_data(TensorData::new(self.values.to_vec(), tensor.dims()), &tensor.device())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::{PlanSettings, QuantPlan, kernels, sites};
    use burn::module::Module;
    use burn::nn::loss::CrossEntropyLossConfig;
    use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
    use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
    use burn::tensor::{Device, Int};
    use kd_graph::{Graph, Op, Role, Shape, TensorType, trace};

    #[test]
    fn a_linear_layer_under_squared_error_has_the_eigenvalue_of_its_inputs_covariance() {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::float(Shape::batched([2]))).unwrap();
        let w = graph.parameter("fc.weight", Role::Weight, TensorData::from([[0.5f32], [-1.0]])).unwrap();
        let fc = graph.add("fc", Op::Linear, &[x, w]).unwrap();
        graph.set_outputs(&[fc]).unwrap();
        let device = Device::flex().autodiff();
        let network = GraphModule::new(graph, &device).unwrap();
        // Covariance diag(1, s²) for batch s: L = ½ mean (xw)².
        let loss = |network: &GraphModule, batch: usize| {
            let s = if batch == 0 { 2.0 } else { 4.0 };
            let x = Tensor::<2>::from_data([[1.0, s], [1.0, -s], [-1.0, s], [-1.0, -s]], &device);
            let y: Tensor<2> = network.forward(x).unwrap();
            Ok::<_, QuantError>(y.square().mean() * 0.5)
        };
        let paths = ["fc.weight".to_owned()];
        let found = sensitivities(&network, &paths, 2, PowerIteration::default(), loss).unwrap();
        // 4 and 16.
        assert!((found[0].mean - 10.0).abs() < 0.05, "{found:?}");
        assert!((found[0].deviation - 72.0_f64.sqrt()).abs() < 0.1, "{found:?}");
        assert_eq!(found[0].elements, 2);
        assert!((found[0].score() - 10.0 - 72.0_f64.sqrt()).abs() < 0.15);
        // The network itself is as it was.
        assert_eq!(weight(&network, "fc.weight").unwrap(), [0.5, -1.0]);

        let unknown = ["fc.wieght".to_owned()];
        let error = sensitivities(&network, &unknown, 1, PowerIteration::default(), loss).unwrap_err();
        assert!(error.to_string().contains("`fc.weight`"), "{error}");
        assert!(sensitivities(&network, &paths, 0, PowerIteration::default(), loss).is_err());
    }

    #[derive(Module, Debug)]
    struct Classifier {
        tokens: Embedding,
        encoder: TransformerEncoder,
        output: Linear,
    }

    impl Classifier {
        fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
            let x = self.encoder.forward(TransformerEncoderInput::new(self.tokens.forward(tokens)));
            self.output.forward(x.mean_dim(1).flatten(1, 2))
        }
    }

    #[test]
    fn every_matrix_of_a_transformer_has_a_curvature() {
        let device = Device::flex();
        device.seed(1);
        let model = Classifier {
            tokens: EmbeddingConfig::new(20, 8).init(&device),
            encoder: TransformerEncoderConfig::new(8, 16, 2, 1).with_dropout(0.0).init(&device),
            output: LinearConfig::new(8, 3).init(&device),
        };
        let sample = Tensor::<2, Int>::zeros([2, 5], &device);
        let graph = trace(&model, sample, Classifier::forward).unwrap();
        let linear = graph.nodes().filter(|(_, node)| *node.op() == Op::Linear);
        let weights: Vec<String> = linear
            .filter_map(|(_, node)| Some(graph.node(*node.inputs().get(1)?).ok()?.name().to_owned()))
            .collect();
        assert_eq!(weights.len(), 7);
        let tape = device.clone().autodiff();
        let network = GraphModule::new(graph, &tape).unwrap();
        let loss = |network: &GraphModule, batch: usize| {
            let tokens = Tensor::<1, Int>::arange(batch as i64..batch as i64 + 15, &tape).reshape([3, 5]);
            let outputs = network.run(vec![tokens.into()]).unwrap();
            let labels = Tensor::<1, Int>::from_ints([0, 1, 2], &tape);
            let logits = outputs[0].float::<2>().unwrap();
            Ok::<_, QuantError>(CrossEntropyLossConfig::new().init(&tape).forward(logits, labels))
        };
        let found = sensitivities(&network, &weights, 2, PowerIteration::default(), loss).unwrap();
        assert!(found.iter().all(|of| of.score() > 1e-6 && of.score() < 1e3), "{found:?}");
        let bits = super::super::bits_by_sensitivity(&found, 4, 2, 0.5).unwrap();
        assert_eq!(bits.values().filter(|bits| **bits == 4).count(), 4);

        let float = network.to_graph().unwrap();
        let weights = PlanSettings::uniform(8).unwrap().weights;
        let mut plan = QuantPlan::new(&float, &PlanSettings::new(weights, None)).unwrap();
        super::super::set_bits(&mut plan, &bits, 4).unwrap();
        let quantised = plan.apply(&float).unwrap();
        for site in sites(&quantised).unwrap() {
            let path = quantised.node(site.weight.unwrap()).unwrap().name();
            assert_eq!(site.quantizer.bits(), bits[path]);
            let elements = quantised.node(site.weight.unwrap()).unwrap().output().shape.elements(1);
            let scales = quantised.node(site.parameters[0]).unwrap().output().shape.elements(1);
            assert_eq!(scales * 4, elements, "{path}");
        }
        let kernels = kernels(&quantised).unwrap();
        let module = GraphModule::with_kernels(quantised, &device, &kernels).unwrap();
        let logits = module.run(vec![Tensor::<2, Int>::ones([2, 5], &device).into()]).unwrap();
        assert!(logits[0].data().unwrap().iter::<f32>().all(f32::is_finite));
        let unknown = [("encoder.weight".to_owned(), 4)].into();
        let error = super::super::set_bits(&mut plan, &unknown, 4).unwrap_err().to_string();
        assert!(error.contains("`encoder.weight` is not in it"), "{error}");
    }
}
