//! What running a graph costs beside running the same calls by hand: on tensors of one element nothing but calls is left.
//!
//! `cargo run --release -p kd-graph --example overhead` prints microseconds per node, evaluated and trained, the median of many runs
//! taken in turn.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kd_graph::GraphModule;

/// Residual blocks `x + relu(fc(x)) * scale`, of one unit.
#[derive(Module, Debug)]
struct Net {
    blocks: Vec<Linear>,
    scale: Param<Tensor<2>>,
}

impl Net {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let block = |x: Tensor<2>, fc: &Linear| x.clone() + relu(fc.forward(x)) * self.scale.val();
        self.blocks.iter().fold(x, block)
    }
}

const BLOCKS: usize = 50;
const RUNS: usize = 400;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plain = Device::flex();
    let blocks = (0..BLOCKS).map(|_| LinearConfig::new(1, 1).init(&plain)).collect();
    let net = Net { blocks, scale: Param::from_tensor(Tensor::ones([1, 1], &plain)) };
    let graph = kd_graph::trace(&net, Tensor::<2>::ones([1, 1], &plain), Net::forward)?;
    let nodes = graph.nodes().filter(|(_, node)| !node.op().is_leaf()).count();
    let module = GraphModule::new(graph, &plain)?;

    for (what, device) in [("evaluation", plain.clone()), ("training, forward pass", plain.autodiff())] {
        let (net, module) = if device.is_autodiff() {
            (net.valid().train(), module.valid().train())
        } else {
            (net.valid(), module.valid())
        };
        let x = Tensor::<2>::ones([1, 1], &device);
        let (mut native, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let start = Instant::now();
            let expected = net.forward(x.clone());
            native.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            let found: Tensor<2> = module.forward(x.clone())?;
            ours.push(start.elapsed().as_secs_f64());
            drop((expected, found));
        }
        let (native, ours) = (median(native) * 1e6, median(ours) * 1e6);
        let overhead = (ours - native) / nodes as f64;
        println!(
            "{what}: {nodes} nodes, by hand {native:.1} us, as a graph {ours:.1} us: {overhead:.3} us per node"
        );
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
