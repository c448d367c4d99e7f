//! Mean and variance of every channel.

use super::period::Period;
use super::sums::{Sums, Terms, load};
use crate::error::{KernelError, geometry, length, setting};
use crate::simd::Simd;
use crate::workspace::Workspace;

/// Rows whose mean is taken as the shift.
const SAMPLE: usize = 64;

/// Mean and biased variance (`sum / rows`) of every channel of `x` `[rows, channels]`; as many channels as `mean` has elements.
///
/// One pass, numerically safe: sums are taken of the distances $d = x - k$ from the mean $k$ of the first rows,
/// $$\mu = k + \overline{d}, \quad \sigma^2 = \overline{d^2} - \overline{d}^2,$$
/// and go from f32 to f64 after some hundred terms.
///
/// ```
/// use kd_kernels::{Workspace, norm::statistics};
///
/// let x = [1.0, 10.0, 3.0, 10.0]; // two rows of two channels
/// let (mut mean, mut variance) = ([0.0; 2], [0.0; 2]);
/// statistics(&x, &mut mean, &mut variance, &Workspace::new())?;
/// assert_eq!((mean, variance), ([2.0, 10.0], [1.0, 0.0]));
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Length`]; [`KernelError::Geometry`] without rows or channels.
pub fn statistics(
    x: &[f32],
    mean: &mut [f32],
    variance: &mut [f32],
    workspace: &Workspace,
) -> Result<(), KernelError> {
    let channels = mean.len();
    length("variance", variance.len(), channels)?;
    let rows = rows("x", x.len(), channels)?;
    geometry(rows > 0, "rows", rows, "at least 1")?;

    let sample = rows.min(SAMPLE);
    let sampled = |c| x.iter().skip(c).step_by(channels).take(sample).sum::<f32>() / sample as f32;
    let period = Period::new(channels);
    let shift = period.expand(workspace, sampled);
    let sums = Sums::new(Distances { x, shift: &shift }, x.len(), period, workspace);
    for (c, ((mean, variance), &shift)) in mean.iter_mut().zip(variance).zip(shift.iter()).enumerate() {
        let (sum, squares) = sums.channel(c);
        (*mean, *variance) = moments(rows, shift, sum, squares);
    }
    Ok(())
}

/// As [`statistics`], from sums that somebody else has gathered, such as the convolution that made the rows: per channel, the sum of `x - shift` and the
/// sum of its squares over all rows. The shift should be near the mean (the running mean will do) for the variance to be exact.
///
/// # Errors
/// [`KernelError::Length`]; [`KernelError::Geometry`] without rows.
pub fn statistics_from_sums(
    rows: usize,
    shift: &[f32],
    sums: &[f32],
    squares: &[f32],
    mean: &mut [f32],
    variance: &mut [f32],
) -> Result<(), KernelError> {
    geometry(rows > 0, "rows", rows, "at least 1")?;
    let channels = mean.len();
    for (name, len) in [
        ("shift", shift.len()),
        ("sums", sums.len()),
        ("squares", squares.len()),
        ("variance", variance.len()),
    ] {
        length(name, len, channels)?;
    }
    let given = shift.iter().zip(sums).zip(squares);
    for ((mean, variance), ((&shift, &sum), &square)) in mean.iter_mut().zip(variance).zip(given) {
        (*mean, *variance) = moments(rows, shift, sum.into(), square.into());
    }
    Ok(())
}

/// `running = (1 - momentum) running + momentum batch`, for mean and variance alike.
///
/// # Errors
/// [`KernelError::Length`]; [`KernelError::Setting`] for a momentum outside 0 to 1.
pub fn update_running(running: &mut [f32], batch: &[f32], momentum: f32) -> Result<(), KernelError> {
    length("batch", batch.len(), running.len())?;
    setting((0.0..=1.0).contains(&momentum), "momentum", momentum.into(), "from 0 to 1")?;
    for (running, &batch) in running.iter_mut().zip(batch) {
        *running = (1.0 - momentum) * *running + momentum * batch;
    }
    Ok(())
}

/// Rows of a slice, which must be whole.
pub(super) fn rows(name: &'static str, len: usize, channels: usize) -> Result<usize, KernelError> {
    geometry(channels > 0, "channels", channels, "at least 1")?;
    length(name, len, len - len % channels)?;
    Ok(len / channels)
}

fn moments(rows: usize, shift: f32, sum: f64, squares: f64) -> (f32, f32) {
    let distance = sum / rows as f64;
    let variance = (squares / rows as f64 - distance * distance).max(0.0);
    // NaN must not become 0, which `max` makes of it.
    let variance = if squares.is_nan() { f64::NAN } else { variance };
    ((f64::from(shift) + distance) as f32, variance as f32)
}

/// `d` and `d * d`.
#[derive(Clone, Copy)]
struct Distances<'a> {
    x: &'a [f32],
    shift: &'a [f32],
}

impl Terms for Distances<'_> {
    #[inline(always)]
    unsafe fn terms<S: Simd>(self, s: S, i: usize, p: usize, n: usize) -> (S::V, S::V) {
        // SAFETY: the caller's: `x` has all elements, `shift` is a super-row.
        let d = unsafe { s.sub(load(s, self.x, i, n), load(s, self.shift, p, n)) };
        (d, d)
    }
}
