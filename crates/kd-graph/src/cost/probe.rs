//! A short measurement of what a device can do.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Distribution, Tensor};

use super::Machine;

/// Why a device could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("the device failed while it was measured: {0}")]
pub struct ProbeError(String);

/// Side of the matrices that are multiplied: a product takes a millisecond or two, less than a scheduler's time slice, so that on a busy machine
/// some rounds run undisturbed.
const SIDE: usize = 512;
/// Elements of the vectors that are added: far more than caches hold.
const LENGTH: usize = 1 << 24;
/// Rounds are repeated at least so often and for so long; the best counts.
const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_millis(400);

impl Machine {
    /// Measures a device for about a second: arithmetic by products of two 512 by 512 matrices, bandwidth by sums of two vectors of 64 MiB, each
    /// the best of many. On a CPU the vectors are added by all threads without the framework, whose elementwise operations run on one. Bytes are
    /// those that the program asks for: two reads and a write.
    ///
    /// On a machine that does other work this is what is left of it, not its peak, and varies by a factor of two and more.
    ///
    /// `memory` is unknown, hence `None`.
    ///
    /// # Errors
    /// [`ProbeError`] when the device reports one.
    pub fn probe(device: &Device) -> Result<Self, ProbeError> {
        let bandwidth = if is_cpu(device) { triad()? } else { sum(device)? };
        Ok(Self { flops: product(device)?, bandwidth, memory: None })
    }
}

fn best(mut run: impl FnMut() -> Result<(), ProbeError>) -> Result<f64, ProbeError> {
    // Warms up.
    run()?;
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    let mut rounds = 0;
    while rounds < ROUNDS || begin.elapsed() < SPAN {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
        rounds += 1;
    }
    Ok(best)
}

fn finish(device: &Device) -> Result<(), ProbeError> {
    device.sync().map_err(|error| ProbeError(error.to_string()))
}

fn product(device: &Device) -> Result<f64, ProbeError> {
    let [a, b] = [0, 1].map(|_| Tensor::<2>::random([SIDE; 2], Distribution::Default, device));
    let seconds = best(|| {
        black_box(a.clone().matmul(b.clone()));
        finish(device)
    })?;
    Ok(2.0 * (SIDE as f64).powi(3) / seconds)
}

fn sum(device: &Device) -> Result<f64, ProbeError> {
    let [a, b] = [0, 1].map(|_| Tensor::<1>::ones([LENGTH], device));
    let seconds = best(|| {
        black_box(a.clone() + b.clone());
        finish(device)
    })?;
    Ok(3.0 * 4.0 * LENGTH as f64 / seconds)
}

/// `a = b + c` by all threads, as the STREAM benchmark does it.
fn triad() -> Result<f64, ProbeError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = LENGTH.div_ceil(threads);
    let mut a = vec![0.0_f32; LENGTH];
    let [b, c] = [1.0_f32, 2.0].map(|value| vec![value; LENGTH]);
    let seconds = best(|| {
        std::thread::scope(|scope| {
            for ((a, b), c) in a.chunks_mut(part).zip(b.chunks(part)).zip(c.chunks(part)) {
                scope.spawn(move || {
                    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                        *a = b + c;
                    }
                });
            }
        });
        black_box(&mut a);
        Ok(())
    })?;
    Ok(3.0 * 4.0 * LENGTH as f64 / seconds)
}

fn is_cpu(device: &Device) -> bool {
    // The name of the backend is the first word that burn prints of a device; no method tells it.
    let name = format!("{device:?}");
    ["Flex", "NdArray"].iter().any(|backend| name.contains(backend))
}
