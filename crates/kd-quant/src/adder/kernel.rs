//! The sums on plain numbers, the patches of a few images at a time.

use kd_kernels::KernelError;
use kd_kernels::distance::Distances;
use kd_kernels::linear::{Linear, WeightLayout};
use rayon::prelude::*;

use crate::QuantError;

/// Sizes of an adder convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub channels: usize,
    pub size: [usize; 2],
    pub out: usize,
    pub kernel: [usize; 2],
    pub stride: usize,
    pub padding: usize,
    pub result: [usize; 2],
}

impl Geometry {
    pub fn new(x: [usize; 4], weight: [usize; 4], stride: usize, padding: usize) -> Result<Self, QuantError> {
        let [batch, channels, height, width] = x;
        let [out, inputs, kh, kw] = weight;
        let refuse = |wanted: String| QuantError::Shape { what: "the weight", got: weight.to_vec(), wanted };
        if inputs != channels || out == 0 || kh == 0 || kw == 0 {
            return Err(refuse(format!("[out, {channels}, height, width] for an input of shape {x:?}")));
        }
        let places =
            |size: usize, kernel: usize| Some((size + 2 * padding).checked_sub(kernel)? / stride + 1);
        match (places(height, kh), places(width, kw)) {
            (Some(h), Some(w)) => Ok(Self {
                batch,
                channels,
                size: [height, width],
                out,
                kernel: [kh, kw],
                stride,
                padding,
                result: [h, w],
            }),
            _ => Err(refuse(format!("a window within {height}x{width} padded by {padding}"))),
        }
    }

    /// Elements of a patch.
    fn patch(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// Places of the window.
    fn places(&self) -> usize {
        self.result[0] * self.result[1]
    }

    fn image(&self) -> usize {
        self.channels * self.size[0] * self.size[1]
    }

    /// Calls `visit(element of the patch, place of the window, index in the image, count)` for every run of windows in one row whose element is not padding.
    fn runs(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let [height, width] = self.size;
        let [kh, kw] = self.kernel;
        for element in 0..self.patch() {
            let (c, ky, kx) = (element / (kh * kw), element / kw % kh, element % kw);
            // Windows whose element lies within the image: from the first place not left of it up to the last not right of it.
            let first = self.padding.saturating_sub(kx).div_ceil(self.stride);
            let end = (width + self.padding).saturating_sub(kx).div_ceil(self.stride).min(self.result[1]);
            if first >= end {
                continue;
            }
            for oy in 0..self.result[0] {
                let y = (oy * self.stride + ky).checked_sub(self.padding).filter(|&y| y < height);
                if let Some(y) = y {
                    let x = first * self.stride + kx - self.padding;
                    visit(element, oy * self.result[1] + first, (c * height + y) * width + x, end - first);
                }
            }
        }
    }
}

/// Some images whose patches are compared at once: a matrix `[patch, columns]`, a column for every place of every image.
struct Tile {
    geometry: Geometry,
    images: usize,
    columns: usize,
}

/// Numbers of a patch matrix: about what a core's own cache holds.
const TILE: usize = 1 << 17;

impl Tile {
    /// As many images as fit, but one at least.
    fn largest(geometry: Geometry) -> usize {
        (TILE / (geometry.patch() * geometry.places()).max(1)).clamp(1, geometry.batch.max(1))
    }

    /// The number of columns is rounded up to an odd multiple of 16, so that rows of the matrix don't fall on one another in the cache; the columns
    /// nobody asked for are zero.
    fn new(geometry: Geometry, images: usize) -> Self {
        let columns = 16 * ((images * geometry.places()).div_ceil(16) | 1);
        Self { geometry, images, columns }
    }

    fn distances(&self) -> Distances {
        Distances { rows: self.geometry.out, inner: self.geometry.patch(), columns: self.columns }
    }

    fn unfold(&self, images: &[f32]) -> Vec<f32> {
        let (g, stride) = (self.geometry, self.geometry.stride);
        let mut patches = vec![0.0; g.patch() * self.columns];
        for (n, image) in images.chunks_exact(g.image().max(1)).enumerate() {
            g.runs(|element, place, pixel, count| {
                let row = &mut patches[element * self.columns + n * g.places() + place..][..count];
                if stride == 1 {
                    row.copy_from_slice(&image[pixel..pixel + count]);
                } else {
                    row.iter_mut().zip(image[pixel..].iter().step_by(stride)).for_each(|(to, &x)| *to = x);
                }
            });
        }
        patches
    }

    fn fold(&self, patches: &[f32], images: &mut [f32]) {
        let (g, stride) = (self.geometry, self.geometry.stride);
        for (n, image) in images.chunks_exact_mut(g.image().max(1)).enumerate() {
            g.runs(|element, place, pixel, count| {
                let row = &patches[element * self.columns + n * g.places() + place..][..count];
                image[pixel..].iter_mut().step_by(stride).zip(row).for_each(|(x, &d)| *x += d);
            });
        }
    }

    /// `[images, out, places]` as `[out, columns]`.
    fn gather(&self, y: &[f32]) -> Vec<f32> {
        let places = self.geometry.places();
        let mut rows = vec![0.0; self.geometry.out * self.columns];
        for (i, part) in y.chunks_exact(places.max(1)).enumerate() {
            rows[self.start(i)..][..places].copy_from_slice(part);
        }
        rows
    }

    /// `[out, columns]` as `[images, out, places]`.
    fn scatter(&self, rows: &[f32], y: &mut [f32]) {
        let places = self.geometry.places();
        for (i, part) in y.chunks_exact_mut(places.max(1)).enumerate() {
            part.copy_from_slice(&rows[self.start(i)..][..places]);
        }
    }

    /// Where the `i`-th map of all images lies in the matrix.
    fn start(&self, i: usize) -> usize {
        let (image, out) = (i / self.geometry.out, i % self.geometry.out);
        debug_assert!(image < self.images);
        out * self.columns + image * self.geometry.places()
    }
}

/// `y [batch, out, places]`.
pub(crate) fn forward(g: Geometry, x: &[f32], w: &[f32]) -> Result<Vec<f32>, KernelError> {
    let mut y = vec![0.0; g.batch * g.out * g.places()];
    let images = Tile::largest(g);
    let tiles = x.par_chunks((images * g.image()).max(1));
    tiles.zip(y.par_chunks_mut((images * g.out * g.places()).max(1))).try_for_each(|(x, y)| {
        let tile = Tile::new(g, x.len() / g.image());
        let mut rows = vec![0.0; g.out * tile.columns];
        tile.distances().forward(w, &tile.unfold(x), &mut rows)?;
        tile.scatter(&rows, y);
        Ok(())
    })?;
    Ok(y)
}

/// The gradients of input and weight, those wanted. The weight's is normalised over the layer and scaled by `eta`.
pub(crate) fn gradients(
    g: Geometry,
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    eta: f32,
    wanted: [bool; 2],
) -> Result<[Option<Vec<f32>>; 2], KernelError> {
    let mut dx = vec![0.0; x.len()];
    let images = Tile::largest(g);
    let image = (images * g.image()).max(1);
    let tiles = x.par_chunks(image).zip(dx.par_chunks_mut(image));
    let tiles = tiles.zip(dy.par_chunks((images * g.out * g.places()).max(1)));
    let parts: Vec<Vec<f32>> = tiles
        .map(|((x, dx), dy)| {
            let tile = Tile::new(g, x.len() / g.image());
            let (patches, dy) = (tile.unfold(x), tile.gather(dy));
            if wanted[0] {
                let mut dpatches = vec![0.0; patches.len()];
                tile.distances().clamped_gradient(w, &patches, &dy, &mut dpatches)?;
                tile.fold(&dpatches, dx);
            }
            if wanted[1] { differences(&tile, w, &patches, &dy) } else { Ok(Vec::new()) }
        })
        .collect::<Result<_, KernelError>>()?;
    let dw = wanted[1].then(|| {
        let mut dw = vec![0.0_f32; w.len()];
        for part in parts {
            dw.iter_mut().zip(part).for_each(|(sum, d)| *sum += d);
        }
        let norm = dw.iter().map(|&d| f64::from(d) * f64::from(d)).sum::<f64>().sqrt().max(1e-12);
        let factor = (f64::from(eta) * (dw.len() as f64).sqrt() / norm) as f32;
        dw.iter_mut().for_each(|d| *d *= factor);
        dw
    });
    Ok([wanted[0].then_some(dx), dw])
}

/// $\sum_p g_{op}(x_{kp} - w_{ok})$, by a matrix product and a sum.
fn differences(tile: &Tile, w: &[f32], patches: &[f32], dy: &[f32]) -> Result<Vec<f32>, KernelError> {
    let (out, patch, columns) = (tile.geometry.out, tile.geometry.patch(), tile.columns);
    let mut dw = vec![0.0; out * patch];
    let product = Linear { rows: out, inputs: columns, outputs: patch, layout: WeightLayout::OutputsFirst };
    product.forward(dy, patches, None, false, &mut dw)?;
    for ((dw, w), dy) in dw.chunks_exact_mut(patch).zip(w.chunks_exact(patch)).zip(dy.chunks_exact(columns)) {
        let sum: f32 = dy.iter().sum();
        dw.iter_mut().zip(w).for_each(|(d, w)| *d -= sum * w);
    }
    Ok(dw)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_does_not_fit_is_refused() {
        assert!(Geometry::new([1, 2, 2, 2], [3, 2, 3, 3], 1, 0).is_err());
        assert!(Geometry::new([1, 2, 2, 2], [3, 1, 1, 1], 1, 0).is_err());
        assert_eq!(Geometry::new([1, 2, 2, 2], [3, 2, 3, 3], 1, 1).unwrap().result, [2, 2]);
    }

    #[test]
    fn folding_sums_what_unfolding_copied() {
        let g = Geometry::new([2, 2, 3, 4], [1, 2, 2, 2], 1, 1).unwrap();
        let images: Vec<f32> = (1..=48).map(|i| i as f32).collect();
        let tile = Tile::new(g, 2);
        let patches = tile.unfold(&images);
        let mut back = vec![0.0; 48];
        tile.fold(&patches, &mut back);
        // Every pixel lies in four windows of two by two, one step apart, with padding on all sides.
        let four: Vec<f32> = images.iter().map(|x| 4.0 * x).collect();
        assert_eq!(back, four);
    }

    #[test]
    fn patches_are_what_a_window_sees() {
        for (size, kernel, stride, padding) in [
            ([5, 4], [3, 2], 1, 0),
            ([5, 7], [3, 3], 2, 1),
            ([4, 4], [1, 1], 2, 0),
            ([2, 3], [2, 3], 3, 2),
            ([3, 3], [3, 3], 1, 2),
        ] {
            let g = Geometry::new([3, 2, size[0], size[1]], [4, 2, kernel[0], kernel[1]], stride, padding)
                .unwrap();
            let images: Vec<f32> = (1..=3 * g.image()).map(|i| i as f32).collect();
            let tile = Tile::new(g, 3);
            let patches = tile.unfold(&images);
            for n in 0..3 {
                for (element, place) in (0..g.patch()).flat_map(|e| (0..g.places()).map(move |p| (e, p))) {
                    let (c, ky, kx) = (
                        element / (kernel[0] * kernel[1]),
                        element / kernel[1] % kernel[0],
                        element % kernel[1],
                    );
                    let (oy, ox) = (place / g.result[1], place % g.result[1]);
                    let inside = |at: usize, size: usize| at.checked_sub(padding).filter(|&at| at < size);
                    let wanted = match (inside(oy * stride + ky, size[0]), inside(ox * stride + kx, size[1]))
                    {
                        (Some(y), Some(x)) => images[n * g.image() + (c * size[0] + y) * size[1] + x],
                        _ => 0.0,
                    };
                    assert_eq!(
                        patches[element * tile.columns + n * g.places() + place],
                        wanted,
                        "{g:?} {n} {element} {place}"
                    );
                }
            }
        }
    }
}
