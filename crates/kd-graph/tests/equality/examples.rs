//! Models as burn's own examples have them, and whole layers of burn.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{
    BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Embedding, EmbeddingConfig, Gru, GruConfig,
    LayerNorm, LayerNormConfig, Linear, LinearConfig, Lstm, LstmConfig, PaddingConfig2d,
};
use burn::tensor::activation::{gelu, relu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::model::{noise, random, same_model};

/// The convolutional network of burn's MNIST example, its dropout switched off.
#[derive(Module, Debug)]
struct Mnist {
    convs: Vec<Conv2d>,
    norms: Vec<BatchNorm>,
    dropout: Dropout,
    fc1: Linear,
    fc2: Linear,
}

impl Mnist {
    fn new(device: &Device) -> Self {
        let conv =
            |channels| Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Valid).init(device);
        Self {
            convs: vec![conv([1, 8]), conv([8, 16]), conv([16, 24])],
            norms: [8, 16, 24].map(|channels| BatchNormConfig::new(channels).init(device)).into(),
            dropout: DropoutConfig::new(0.0).init(),
            fc1: LinearConfig::new(24 * 22 * 22, 32).with_bias(false).init(device),
            fc2: LinearConfig::new(32, 10).with_bias(false).init(device),
        }
    }

    fn forward(&self, images: Tensor<3>) -> Tensor<2> {
        let [batch, height, width] = images.dims();
        let x = images.reshape([batch, 1, height, width]);
        let layers = self.convs.iter().zip(&self.norms);
        let x = layers.fold(x, |x, (conv, norm)| gelu(norm.forward(conv.forward(x))));
        let [batch, channels, height, width] = x.dims();
        let x = self.dropout.forward(x.reshape([batch, channels * height * width]));
        self.fc2.forward(gelu(self.fc1.forward(x)))
    }
}

#[test]
fn the_mnist_network() {
    let device = Device::flex();
    device.seed(1);
    let input = |batch, seed, device: &Device| random([batch, 28, 28], seed, device);
    same_model(&Mnist::new(&device), input, Mnist::forward);
}

/// The text classifier of burn's examples.
#[derive(Module, Debug)]
struct Classifier {
    transformer: TransformerEncoder,
    tokens: Embedding,
    positions: Embedding,
    output: Linear,
}

const LENGTH: usize = 6;

impl Classifier {
    fn new(device: &Device) -> Self {
        let transformer = TransformerEncoderConfig::new(16, 32, 4, 2).with_dropout(0.0).with_norm_first(true);
        Self {
            transformer: transformer.init(device),
            tokens: EmbeddingConfig::new(23, 16).init(device),
            positions: EmbeddingConfig::new(LENGTH, 16).init(device),
            output: LinearConfig::new(16, 4).init(device),
        }
    }

    fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        let positions = Tensor::<1, Int>::arange(0..length as i64, &tokens.device());
        let positions = positions.reshape([1, length]).repeat_dim(0, batch);
        (self.tokens.forward(tokens) + self.positions.forward(positions)) / 2.0
    }

    fn classify(&self, encoded: Tensor<3>) -> Tensor<2> {
        let [batch, _, _] = encoded.dims();
        let first = self.output.forward(encoded).slice([0..batch, 0..1]).reshape([batch, 4]);
        softmax(first, 1)
    }

    fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let x = self.embed(tokens);
        self.classify(self.transformer.forward(TransformerEncoderInput::new(x)))
    }

    fn forward_masked(&self, (tokens, mask): (Tensor<2, Int>, Tensor<2, Bool>)) -> (Tensor<2>, Tensor<3>) {
        let x = self.embed(tokens);
        let encoded = self.transformer.forward(TransformerEncoderInput::new(x).mask_pad(mask));
        (self.classify(encoded.clone()), encoded)
    }
}

fn tokens(batch: usize, seed: u64, device: &Device) -> Tensor<2, Int> {
    let values: Vec<i64> = noise(seed).take(batch * LENGTH).map(|x| (x.abs() * 1e4) as i64 % 23).collect();
    Tensor::from_data(TensorData::new(values, [batch, LENGTH]), device)
}

#[test]
fn a_transformer_that_classifies_text() {
    let device = Device::flex();
    device.seed(2);
    same_model(&Classifier::new(&device), tokens, Classifier::forward);
}

#[test]
fn a_transformer_with_a_mask_as_second_input_and_two_outputs() {
    let device = Device::flex();
    device.seed(3);
    let input = |batch, seed, device: &Device| {
        let mask: Vec<bool> = (0..batch * LENGTH).map(|place| place % LENGTH > 3).collect();
        (tokens(batch, seed, device), Tensor::from_data(TensorData::new(mask, [batch, LENGTH]), device))
    };
    same_model(&Classifier::new(&device), input, Classifier::forward_masked);
}

/// A recurrent network that classifies by its last state.
#[derive(Module, Debug)]
struct Recurrent {
    lstm: Lstm,
    norm: LayerNorm,
    output: Linear,
}

impl Recurrent {
    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let (_, state) = self.lstm.forward(x, None);
        self.output.forward(relu(self.norm.forward(state.hidden)))
    }
}

#[test]
fn a_long_short_term_memory() {
    let device = Device::flex();
    device.seed(4);
    let model = Recurrent {
        lstm: LstmConfig::new(5, 7, true).init(&device),
        norm: LayerNormConfig::new(7).init(&device),
        output: LinearConfig::new(7, 3).init(&device),
    };
    let input = |batch, seed, device: &Device| random([batch, 4, 5], seed, device);
    same_model(&model, input, Recurrent::forward);
}

#[test]
fn a_gated_recurrent_unit() {
    let device = Device::flex();
    device.seed(5);
    let model: Gru = GruConfig::new(5, 6, true).init(&device);
    let input = |batch, seed, device: &Device| random([batch, 3, 5], seed, device);
    same_model(&model, input, |model: &Gru, x: Tensor<3>| model.forward(x, None));
}
