//! How long tracing takes: `cargo run --release -p kd-models --example trace_time -- resnet110`.
//!
//! Prints nodes and the fastest and the median of 21 traces, without the first.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use kd_core::{Network, Taps};
use kd_models::{InputShape, ModelSpec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let names: Vec<String> = std::env::args().skip(1).collect();
    let usual = || ["lenet5", "resnet20", "resnet110"].map(String::from).to_vec();
    for name in if names.is_empty() { usual() } else { names } {
        let model = name.parse::<ModelSpec>()?.init(InputShape::CIFAR, 10, &device)?;
        let images = Tensor::<4>::zeros([1, 3, 32, 32], &device);
        let mut nodes = 0;
        let mut times = Vec::new();
        for _ in 0..22 {
            let start = Instant::now();
            let graph = kd_graph::trace(&model, images.clone(), |m, x| m.forward(x, &mut Taps::none()))?;
            times.push(start.elapsed());
            nodes = graph.len();
        }
        times.remove(0);
        times.sort();
        println!("{name}: {nodes} nodes, fastest {:.1?}, median {:.1?}", times[0], times[times.len() / 2]);
    }
    Ok(())
}
