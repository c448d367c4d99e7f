//! GB/s of the kernels that are bound by memory, beside a plain copy.
//!
//! `cargo run --release --example memory_speed -- [repetitions] [batch]`: the best of the repetitions (default 30) counts, on rayon's threads
//! (`RAYON_NUM_THREADS`), for maps of a network on CIFAR with the given batch (default 128). Bytes are those that must be read or written once: what a
//! cache loads in vain isn't counted.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use kd_kernels::linear::{Linear, WeightLayout};
use kd_kernels::loss::{CrossEntropy, SoftTargets};
use kd_kernels::norm::{BatchNorm, Gate, Gradients, Statistics, statistics};
use kd_kernels::optim::{Adam, AdamState, Sgd};
use kd_kernels::pool::{Pool2d, Window};
use kd_kernels::{KernelError, Workspace, elementwise};
use rayon::prelude::*;

/// Prints the shortest time of the repetitions and the rate for `bytes`.
fn measure(
    repetitions: usize,
    name: &str,
    bytes: usize,
    mut f: impl FnMut() -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    f()?;
    let mut best = f64::INFINITY;
    for _ in 0..repetitions {
        let start = Instant::now();
        f()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("  {name:<36} {:>8.3} ms {:>7.1} GB/s", best * 1e3, bytes as f64 / best / 1e9);
    Ok(())
}

fn map(repetitions: usize, batch: usize, side: usize, channels: usize) -> Result<(), KernelError> {
    let len = batch * side * side * channels;
    println!("{batch}x{side}x{side}x{channels}: {:.1} MB", len as f64 * 4e-6);
    let x: Vec<f32> = (0..len).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let (dy, residual) = (x.clone(), x.iter().map(|x| -x).collect::<Vec<_>>());
    let (mut y, mut dx, mut dr) = (x.clone(), x.clone(), x.clone());
    let workspace = Workspace::new();
    let unit = 4 * len;

    measure(repetitions, "copy, parallel", 2 * unit, || {
        y.par_chunks_mut(len.div_ceil(8))
            .zip(x.par_chunks(len.div_ceil(8)))
            .for_each(|(y, x)| y.copy_from_slice(x));
        Ok(())
    })?;
    measure(repetitions, "relu", 2 * unit, || elementwise::relu(&x, &mut y))?;
    measure(repetitions, "relu in place", 2 * unit, || {
        elementwise::relu_in_place(&mut y);
        Ok(())
    })?;
    measure(repetitions, "relu backward", 3 * unit, || elementwise::relu_backward(&x, &dy, &mut dx))?;
    measure(repetitions, "add", 3 * unit, || elementwise::add(&x, &residual, &mut y))?;
    measure(repetitions, "add, relu", 3 * unit, || elementwise::add_relu(&x, &residual, &mut y))?;

    let (gamma, beta) = (vec![1.0; channels], vec![0.1; channels]);
    let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
    measure(repetitions, "batch norm statistics", unit, || {
        statistics(&x, &mut mean, &mut variance, &workspace)
    })?;
    let norm = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance, epsilon: 1e-5 };
    measure(repetitions, "batch norm, relu", 2 * unit, || norm.forward(&x, None, true, &mut y, &workspace))?;
    measure(repetitions, "batch norm, add, relu", 3 * unit, || {
        norm.forward(&x, Some(&residual), true, &mut y, &workspace)
    })?;
    let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
    measure(repetitions, "batch norm, relu backward", 5 * unit, || {
        let gradients = Gradients { x: &mut dx, residual: None, gamma: &mut dgamma, beta: &mut dbeta };
        norm.backward(&x, &dy, Gate::Recomputed, Statistics::Batch, gradients, &workspace)
    })?;
    measure(repetitions, "batch norm, add, relu backward", 7 * unit, || {
        let gradients =
            Gradients { x: &mut dx, residual: Some(&mut dr), gamma: &mut dgamma, beta: &mut dbeta };
        norm.backward(&x, &dy, Gate::Output(&y), Statistics::Batch, gradients, &workspace)
    })?;

    let halves = Pool2d::new(batch, [side; 2], channels, Window::square(2))?;
    let mut winners = vec![0; len / 4];
    measure(repetitions, "maximum 2x2", unit + unit / 4, || halves.max(&x, &mut y[..len / 4]))?;
    measure(repetitions, "maximum 2x2 with winners", unit + unit / 4 + unit / 8, || {
        halves.max_with_winners(&x, &mut y[..len / 4], &mut winners)
    })?;
    measure(repetitions, "maximum 2x2 backward", unit + unit / 4 + unit / 8, || {
        halves.max_backward(&dy[..len / 4], &winners, &mut dx)
    })?;
    let global = Pool2d::global(batch, [side; 2], channels)?;
    measure(repetitions, "global mean", unit, || global.average(&x, false, &mut y[..batch * channels]))?;
    measure(repetitions, "global mean backward", unit, || {
        global.average_backward(&dy[..batch * channels], false, &mut dx)
    })
}

fn updates(repetitions: usize, len: usize) -> Result<(), KernelError> {
    println!("{len} parameters");
    let gradient = vec![0.01; len];
    let (mut weight, mut first, mut second) = (vec![1.0; len], vec![0.0; len], vec![0.0; len]);
    let sgd = Sgd { learning_rate: 1e-6, momentum: 0.9, weight_decay: 1e-4, ..Sgd::default() };
    measure(repetitions, "sgd with momentum", 5 * 4 * len, || {
        sgd.step_with_momentum(&gradient, &mut weight, &mut first, false)
    })?;
    measure(repetitions, "adam", 7 * 4 * len, || {
        let state = AdamState { first: &mut first, second: &mut second, largest: None };
        Adam::default().step(10, &gradient, &mut weight, state)
    })
}

fn losses(repetitions: usize, rows: usize, classes: usize) -> Result<(), KernelError> {
    println!("{rows}x{classes} logits");
    let logits: Vec<f32> = (0..rows * classes).map(|i| (i * 37 % 101) as f32 / 10.0).collect();
    let (labels, mut losses, mut gradient) = (vec![1; rows], vec![0.0; rows], vec![0.0; rows * classes]);
    measure(repetitions, "cross-entropy", 8 * logits.len(), || {
        let loss = CrossEntropy { classes, smoothing: 0.0 };
        loss.forward_backward(&logits, &labels, 1.0, &mut losses, &mut gradient)
    })?;
    let teacher: Vec<f32> = logits.iter().rev().copied().collect();
    measure(repetitions, "soft targets", 12 * logits.len(), || {
        let loss = SoftTargets { classes, temperature: 4.0 };
        loss.forward_backward(&logits, &teacher, 1.0, &mut losses, &mut gradient)
    })
}

fn linear(repetitions: usize, rows: usize, inputs: usize, outputs: usize) -> Result<(), KernelError> {
    let layer = Linear { rows, inputs, outputs, layout: WeightLayout::InputsFirst };
    println!("{rows}x{inputs} to {outputs}: {:.2} GFLOP a pass", 2e-9 * (rows * inputs * outputs) as f64);
    let (x, dy, bias) = (vec![0.5; rows * inputs], vec![0.5; rows * outputs], vec![0.5; outputs]);
    let (weight, mut dw) = (vec![0.5; inputs * outputs], vec![0.0; inputs * outputs]);
    let (mut y, mut dx, mut db) = (dy.clone(), x.clone(), bias.clone());
    let bytes = 4 * (x.len() + y.len() + weight.len());
    let workspace = Workspace::new();
    measure(repetitions, "linear forward", bytes, || layer.forward(&x, &weight, Some(&bias), true, &mut y))?;
    measure(repetitions, "linear input gradient", bytes, || layer.input_gradient(&dy, &weight, &mut dx))?;
    measure(repetitions, "linear weight gradient", bytes, || layer.weight_gradient(&x, &dy, &mut dw))?;
    measure(repetitions, "linear bias gradient", 4 * dy.len(), || {
        layer.bias_gradient(&dy, &mut db, &workspace)
    })
}

fn main() -> Result<(), KernelError> {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    let (repetitions, batch) = (numbers.next().unwrap_or(30), numbers.next().unwrap_or(128));
    println!("{} threads", rayon::current_num_threads());
    for (side, channels) in [(32, 16), (16, 32), (8, 64), (32, 96), (24, 20)] {
        map(repetitions, batch, side, channels)?;
    }
    updates(repetitions, 272_474)?;
    updates(repetitions, 2_395_210)?;
    losses(repetitions, batch, 10)?;
    losses(repetitions, batch, 1000)?;
    linear(repetitions, batch, 800, 500)?;
    linear(repetitions, batch, 1200, 1200)
}
