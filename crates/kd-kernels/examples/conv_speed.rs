//! GFLOP/s of the convolution's passes beside what the processor's multiply-adds can reach.
//!
//! `cargo run --release --example conv_speed -- [repetitions] [name] [level]`: the best of the repetitions
//! (default 20) counts, on rayon's threads (`RAYON_NUM_THREADS`), for the shapes whose line contains the name, with
//! the instruction set named (`Portable`, `Avx2`, ...; default the fastest). Operations are counted as the formula
//! has them: minimal filtering needs fewer, and may exceed the peak.
#![allow(clippy::print_stdout)]

use kd_kernels::simd::{Kernel, Level, Simd, dispatch, with_level};
use kd_kernels::{Conv2d, Geometry, KernelError, Workspace, conv};
use std::time::Instant;

/// Independent chains of multiply-adds, all in registers.
struct Peak(usize);

impl Kernel for Peak {
    type Output = (f32, usize);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, usize) {
        const CHAINS: usize = 12;
        let (a, b) = (s.splat(0.999), s.splat(1e-3));
        let mut acc = [s.zero(); CHAINS];
        for _ in 0..self.0 {
            for acc in &mut acc {
                *acc = s.fma(*acc, a, b);
            }
        }
        let sum = acc.into_iter().fold(s.zero(), |sum, v| s.add(sum, v));
        (s.reduce_sum(sum), 2 * CHAINS * S::LANES * self.0)
    }
}

/// The shortest of the repetitions in seconds.
fn best(repetitions: usize, mut f: impl FnMut()) -> f64 {
    f();
    let time = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..repetitions).map(|_| time(&mut f)).fold(f64::INFINITY, f64::min)
}

/// Name, and batch, side, channels in and out, kernel, stride, padding, groups.
const SHAPES: &[(&str, [usize; 8])] = &[
    ("resnet20 stem", [128, 32, 3, 16, 3, 1, 1, 1]),
    ("resnet20 16", [128, 32, 16, 16, 3, 1, 1, 1]),
    ("resnet20 16-32", [128, 32, 16, 32, 3, 2, 1, 1]),
    ("resnet20 32", [128, 16, 32, 32, 3, 1, 1, 1]),
    ("resnet20 32-64", [128, 16, 32, 64, 3, 2, 1, 1]),
    ("resnet20 64", [128, 8, 64, 64, 3, 1, 1, 1]),
    ("resnet20 short 32", [128, 32, 16, 32, 1, 2, 0, 1]),
    ("resnet20 short 64", [128, 16, 32, 64, 1, 2, 0, 1]),
    ("lenet5 1", [128, 28, 1, 20, 5, 1, 0, 1]),
    ("lenet5 2", [128, 12, 20, 50, 5, 1, 0, 1]),
    ("wrn16-2 32", [64, 32, 32, 32, 3, 1, 1, 1]),
    ("wrn16-2 64", [64, 16, 64, 64, 3, 1, 1, 1]),
    ("wrn16-2 128", [64, 8, 128, 128, 3, 1, 1, 1]),
    ("mobilenet expand", [128, 32, 16, 96, 1, 1, 0, 1]),
    ("mobilenet project", [128, 16, 144, 32, 1, 1, 0, 1]),
    ("mobilenet late", [128, 4, 160, 960, 1, 1, 0, 1]),
    ("mobilenet last", [128, 4, 960, 320, 1, 1, 0, 1]),
    ("mobilenet depthwise", [128, 32, 96, 96, 3, 1, 1, 96]),
    ("mobilenet depthwise s2", [128, 32, 96, 96, 3, 2, 1, 96]),
    ("mobilenet depthwise late", [128, 4, 960, 960, 3, 1, 1, 960]),
];

fn main() -> Result<(), KernelError> {
    let mut arguments = std::env::args().skip(1);
    let repetitions = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(20);
    let name = arguments.next().unwrap_or_default();
    let level = arguments.next();
    let level = Level::available().into_iter().find(|l| level.as_deref() == Some(&format!("{l:?}")));
    with_level(level.unwrap_or_else(Level::detect), || measure(repetitions, &name))
}

fn measure(repetitions: usize, name: &str) -> Result<(), KernelError> {
    let (threads, level) = (rayon::current_num_threads(), Level::current());
    let steps = 2_000_000;
    let operations = dispatch(level, Peak(1)).1 * steps;
    let run = || {
        rayon::broadcast(|_| std::hint::black_box(dispatch(level, Peak(std::hint::black_box(steps)))));
    };
    let peak = (threads * operations) as f64 / best(10, run) / 1e9;
    println!("{level:?}, {threads} threads, multiply-adds in registers: {peak:.0} GFLOP/s\n");
    println!("{:26} {:>9} {:>9} {:>9}   GFLOP/s and % of the peak; ms", "", "forward", "dx", "dw");

    let workspace = Workspace::new();
    for &(shape, [batch, side, in_channels, out_channels, k, s, p, groups]) in SHAPES {
        if !shape.contains(name) {
            continue;
        }
        let geometry = Geometry::new(Conv2d {
            batch,
            input: [side; 2],
            in_channels,
            out_channels,
            kernel: [k; 2],
            stride: [s; 2],
            padding: [p; 2],
            dilation: [1; 2],
            groups,
        })?;
        let (x, dy) = (vec![0.5; geometry.input_len()], vec![0.25; geometry.output_len()]);
        let w = vec![0.125; geometry.weight_len()];
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        let mut result = Ok(());
        let forward = best(repetitions, || {
            let epilogue = conv::Epilogue::default();
            result = result.clone().and(conv::forward(&geometry, &x, &w, epilogue, &mut y, &workspace));
        });
        let input = best(repetitions, || {
            result = result.clone().and(conv::input_gradient(&geometry, &dy, &w, &mut dx, &workspace));
        });
        let weight = best(repetitions, || {
            result = result.clone().and(conv::weight_gradient(&geometry, &x, &dy, &mut dw, None, &workspace));
        });
        result?;
        print!("{shape:26}");
        for seconds in [forward, input, weight] {
            let speed = geometry.operations() as f64 / seconds / 1e9;
            print!(" {speed:>4.0} {:>3.0}%", 100.0 * speed / peak);
        }
        println!("   {:.2} {:.2} {:.2}", 1e3 * forward, 1e3 * input, 1e3 * weight);
    }
    Ok(())
}
