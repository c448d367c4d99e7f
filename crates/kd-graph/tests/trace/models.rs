//! Models as burn's own examples have them.

use burn::module::Module;
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{
    BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Embedding, EmbeddingConfig, Linear, LinearConfig,
    Lstm, LstmConfig, PositionalEncoding, PositionalEncodingConfig,
};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{Bool, Device, Int, Tensor, s};
use kd_graph::{Op, trace};

use crate::{device, names, ops};

/// burn's MNIST example: convolutions with batch normalisation, dropout, two linear layers.
#[derive(Module, Debug)]
struct MnistCnn {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
    dropout: Dropout,
}

impl MnistCnn {
    fn new(device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, 8], [3, 3]).init(device),
            norm1: BatchNormConfig::new(8).init(device),
            conv2: Conv2dConfig::new([8, 4], [3, 3]).init(device),
            fc1: LinearConfig::new(4 * 24 * 24, 32).with_bias(false).init(device),
            fc2: LinearConfig::new(32, 10).init(device),
            dropout: DropoutConfig::new(0.25).init(),
        }
    }

    fn forward(&self, images: Tensor<3>) -> Tensor<2> {
        let [batch, height, width] = images.dims();
        let x = images.reshape([batch, 1, height, width]);
        let x = gelu(self.norm1.forward(self.conv1.forward(x)));
        let x = gelu(self.conv2.forward(x));
        let [batch, channels, height, width] = x.dims();
        let x = self.dropout.forward(x.reshape([batch, channels * height * width]));
        self.fc2.forward(relu(self.fc1.forward(x)))
    }
}

#[test]
fn an_mnist_cnn() {
    let model = MnistCnn::new(&device());
    let graph = trace(&model, Tensor::<3>::zeros([4, 28, 28], &device()), |m, x| m.forward(x)).unwrap();
    graph.validate().unwrap();
    assert_eq!(
        names(&graph),
        ["reshape", "conv1", "norm1", "gelu", "conv2", "gelu_1", "reshape_1", "fc1", "relu", "fc2"]
    );
    let unseen: Vec<_> =
        graph.unseen().iter().map(|unseen| (unseen.path.as_str(), unseen.kind.as_str())).collect();
    assert_eq!(unseen, [("dropout", "Dropout")]);
}

/// burn's text classification example, with masks.
#[derive(Module, Debug)]
struct TextClassifier {
    tokens: Embedding,
    positions: Embedding,
    encoding: PositionalEncoding,
    encoder: TransformerEncoder,
    output: Linear,
}

impl TextClassifier {
    fn new(device: &Device) -> Self {
        let encoder = TransformerEncoderConfig::new(16, 32, 2, 2).with_norm_first(true);
        Self {
            tokens: EmbeddingConfig::new(50, 16).init(device),
            positions: EmbeddingConfig::new(12, 16).init(device),
            encoding: PositionalEncodingConfig::new(16).with_max_sequence_size(20).init(device),
            encoder: encoder.init(device),
            output: LinearConfig::new(16, 3).init(device),
        }
    }

    fn forward(&self, tokens: Tensor<2, Int>, padding: Tensor<2, Bool>) -> Tensor<2> {
        let [batch, length] = tokens.dims();
        let device = tokens.device();
        let positions = Tensor::arange(0..length as i64, &device).reshape([1, length]).repeat_dim(0, batch);
        let x = (self.positions.forward(positions) + self.tokens.forward(tokens)) / 2.0;
        let input = TransformerEncoderInput::new(self.encoding.forward(x))
            .mask_pad(padding)
            .mask_attn(generate_autoregressive_mask(batch, length, &device));
        let encoded = self.encoder.forward(input);
        self.output.forward(encoded.slice(s![.., 0..1, ..]).reshape([batch, 16]))
    }
}

#[test]
fn a_transformer_encoder_classifier() {
    let model = TextClassifier::new(&device());
    let sample = (
        Tensor::<2, Int>::zeros([1, 7], &device()),
        Tensor::<2, Int>::zeros([1, 7], &device()).equal_scalar(1),
    );
    let graph = trace(&model, sample, |m, (tokens, padding)| m.forward(tokens, padding)).unwrap();
    graph.validate().unwrap();
    let linears = ops(&graph).iter().filter(|op| **op == Op::Linear).count();
    assert_eq!(
        linears,
        2 * 6 + 1,
        "query, key, value, output and two of the feed-forward net in each of two layers"
    );
    for name in [
        "encoder.layers.1.mha.query",
        "encoder.layers.0.norm_1",
        "encoder.layers.1.pwff.linear_outer",
        "output",
    ] {
        graph.find(name).unwrap();
    }
    let attentions: Vec<_> = ops(&graph)
        .into_iter()
        .filter_map(|op| match op {
            Op::LayeredAttention(attention) => Some((attention.divisor, attention.masks, attention.fill)),
            _ => None,
        })
        .collect();
    assert_eq!(attentions, [(f64::from(8f32.sqrt()), 2, -1.0e4); 2]);
    let unseen: Vec<_> = graph.unseen().iter().map(|unseen| unseen.path.as_str()).collect();
    let of_a_layer = ["mha.dropout", "pwff.dropout", "dropout"];
    let wanted: Vec<_> = [0, 1]
        .iter()
        .flat_map(|layer| of_a_layer.map(|path| format!("encoder.layers.{layer}.{path}")))
        .collect();
    assert_eq!(unseen, wanted);
    let table = graph.to_string();
    assert!(table.ends_with("`encoder.layers.1.dropout` (Dropout)"), "{table}");
}

#[derive(Module, Debug)]
struct Recurrent {
    lstm: Lstm,
    gru: Gru,
    output: Linear,
}

#[test]
fn recurrent_networks_with_their_state_as_input_and_output() {
    let model = Recurrent {
        lstm: LstmConfig::new(3, 4, true).init(&device()),
        gru: GruConfig::new(4, 5, true).init(&device()),
        output: LinearConfig::new(5, 2).init(&device()),
    };
    let graph = trace(&model, Tensor::<3>::zeros([1, 6, 3], &device()), |m, x| {
        let (sequence, state) = m.lstm.forward(x, None);
        (m.output.forward(m.gru.forward(sequence, None)), state.hidden)
    })
    .unwrap();
    graph.validate().unwrap();
    assert_eq!(graph.outputs().len(), 2);
    // Every step calls the same layers again.
    let linear = |name: &str| graph.find(name).map(|id| graph.node(id).unwrap().op() == &Op::Linear);
    assert_eq!(linear("lstm.input_gate.input_transform"), Ok(true));
    assert_eq!(linear("lstm.input_gate.input_transform@6"), Ok(true));
    assert!(linear("lstm.input_gate.input_transform@7").is_err());
    let weights = graph.parameters().filter(|(_, node)| node.name().ends_with("weight")).count();
    assert_eq!(weights, 2 * 4 + 2 * 3 + 1);
}
