//! Between `[batch, channels, height, width]` and `[batch, height, width, channels]`.

use crate::KernelError;
use crate::error::{elements, length};
use rayon::prelude::*;

/// Positions that are transposed together: a cache line of each channel.
const TILE: usize = 16;

/// `[batch, channels, positions]` to `[batch, positions, channels]`, where positions are height × width.
///
/// ```
/// let mut nhwc = [0.0; 6];
/// kd_kernels::layout::to_nhwc([1, 2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], &mut nhwc)?;
/// assert_eq!(nhwc, [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
/// # Ok::<(), kd_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Length`] if a slice isn't as long as the shape says.
pub fn to_nhwc(
    [batch, channels, positions]: [usize; 3],
    nchw: &[f32],
    nhwc: &mut [f32],
) -> Result<(), KernelError> {
    let len = elements("shape", &[batch, channels, positions])?;
    length("nchw", nchw.len(), len)?;
    length("nhwc", nhwc.len(), len)?;
    transpose(channels, positions, nchw, nhwc);
    Ok(())
}

/// The inverse of [`to_nhwc`]; the shape is again `[batch, channels, positions]`.
///
/// # Errors
/// [`KernelError::Length`] if a slice isn't as long as the shape says.
pub fn to_nchw(
    [batch, channels, positions]: [usize; 3],
    nhwc: &[f32],
    nchw: &mut [f32],
) -> Result<(), KernelError> {
    let len = elements("shape", &[batch, channels, positions])?;
    length("nhwc", nhwc.len(), len)?;
    length("nchw", nchw.len(), len)?;
    transpose(positions, channels, nhwc, nchw);
    Ok(())
}

/// Transposes matrices of `rows` by `cols`, one after another.
fn transpose(rows: usize, cols: usize, source: &[f32], target: &mut [f32]) {
    let len = rows * cols;
    if target.is_empty() {
        return;
    }
    if rows == 1 || cols == 1 {
        let chunk = target.len().div_ceil(rayon::current_num_threads());
        target
            .par_chunks_mut(chunk)
            .zip(source.par_chunks(chunk))
            .for_each(|(to, from)| to.copy_from_slice(from));
        return;
    }
    // One image alone is split by its rows of the target, several by image.
    let images = target.len() / len;
    let bands = rayon::current_num_threads().div_ceil(images).min(cols);
    let band = cols.div_ceil(bands);
    target.par_chunks_mut(len).zip(source.par_chunks(len)).for_each(|(target, source)| {
        target.par_chunks_mut(band * rows).enumerate().for_each(|(i, target)| {
            tiles(rows, cols, i * band, source, target);
        });
    });
}

/// Columns `first..` of `source` become the rows of `target`.
fn tiles(rows: usize, cols: usize, first: usize, source: &[f32], target: &mut [f32]) {
    let count = target.len() / rows;
    for r in (0..rows).step_by(TILE) {
        let r_end = rows.min(r + TILE);
        for c in (0..count).step_by(TILE) {
            let c_end = count.min(c + TILE);
            if r_end - r == TILE && c_end - c == TILE {
                // Of constant size, so that the compiler turns it into shuffles.
                let mut tile = [[0.0; TILE]; TILE];
                for (i, line) in tile.iter_mut().enumerate() {
                    line.copy_from_slice(&source[(r + i) * cols + first + c..][..TILE]);
                }
                for i in 0..TILE {
                    let to = &mut target[(c + i) * rows + r..][..TILE];
                    for (j, to) in to.iter_mut().enumerate() {
                        *to = tile[j][i];
                    }
                }
                continue;
            }
            for i in c..c_end {
                let to = &mut target[i * rows + r..i * rows + r_end];
                for (j, to) in to.iter_mut().enumerate() {
                    *to = source[(r + j) * cols + first + i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_goes_to_its_place_and_back(n in 1usize..4, c in 1usize..40, p in 1usize..70) {
            let nchw: Vec<f32> = (0..n * c * p).map(|i| i as f32).collect();
            let mut nhwc = vec![-1.0; nchw.len()];
            to_nhwc([n, c, p], &nchw, &mut nhwc).unwrap();
            for (i, x) in nhwc.iter().enumerate() {
                let (image, position, channel) = (i / (c * p), i / c % p, i % c);
                prop_assert_eq!(*x, nchw[(image * c + channel) * p + position]);
            }
            let mut back = vec![-1.0; nchw.len()];
            to_nchw([n, c, p], &nhwc, &mut back).unwrap();
            prop_assert_eq!(back, nchw);
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        assert!(to_nhwc([1, 2, 3], &[0.0; 5], &mut [0.0; 6]).is_err());
        assert!(to_nchw([1, 2, 3], &[0.0; 6], &mut [0.0; 7]).is_err());
        assert!(to_nchw([0, 2, 3], &[], &mut []).is_ok());
    }
}
