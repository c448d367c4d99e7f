//! A vision transformer with attention by hand.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Tensor};

const WIDTH: usize = 16;
const HEADS: usize = 2;

#[derive(Module, Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    proj: Linear,
}

#[derive(Module, Debug)]
struct Block {
    n1: LayerNorm,
    attn: Attention,
    n2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

#[derive(Module, Debug)]
pub struct Vit {
    patch: Conv2d,
    pos: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

fn linear(from: usize, to: usize, device: &Device) -> Linear {
    LinearConfig::new(from, to).init(device)
}

fn norm(device: &Device) -> LayerNorm {
    LayerNormConfig::new(WIDTH).init(device)
}

impl Attention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let heads = |x: Tensor<3>| x.reshape([batch, tokens, HEADS, WIDTH / HEADS]).swap_dims(1, 2);
        let (q, k) = (heads(self.q.forward(x.clone())), heads(self.k.forward(x.clone())));
        let v = heads(self.v.forward(x));
        let scores = q.matmul(k.swap_dims(2, 3)) * ((WIDTH / HEADS) as f64).powf(-0.5);
        let mixed = softmax(scores, 3).matmul(v).swap_dims(1, 2);
        self.proj.forward(mixed.reshape([batch, tokens, WIDTH]))
    }
}

impl Block {
    fn new(device: &Device) -> Self {
        let square = || linear(WIDTH, WIDTH, device);
        Self {
            n1: norm(device),
            attn: Attention { q: square(), k: square(), v: square(), proj: square() },
            n2: norm(device),
            fc1: linear(WIDTH, 2 * WIDTH, device),
            fc2: linear(2 * WIDTH, WIDTH, device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.n1.forward(x));
        x.clone() + self.fc2.forward(gelu(self.fc1.forward(self.n2.forward(x))))
    }
}

impl Vit {
    pub fn new(device: &Device) -> Self {
        Self {
            patch: Conv2dConfig::new([3, WIDTH], [4, 4]).with_stride([4, 4]).init(device),
            pos: Param::from_tensor(Tensor::zeros([1, 16, WIDTH], device)),
            blocks: (0..2).map(|_| Block::new(device)).collect(),
            norm: norm(device),
            head: linear(WIDTH, 10, device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.patch.forward(x).flatten::<3>(2, 3).swap_dims(1, 2) + self.pos.val();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.head.forward(self.norm.forward(x).mean_dim(1).squeeze_dim(1))
    }
}
