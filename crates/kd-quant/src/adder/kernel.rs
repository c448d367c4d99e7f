//! The sums on plain numbers, one image's patches at a time.

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

    /// Calls `visit(index in the patches [places, patch], index in the image)` for every element that is not padding.
    fn each(&self, mut visit: impl FnMut(usize, usize)) {
        let [height, width] = self.size;
        let [kh, kw] = self.kernel;
        for (place, (oy, ox)) in
            (0..self.result[0]).flat_map(|y| (0..self.result[1]).map(move |x| (y, x))).enumerate()
        {
            for c in 0..self.channels {
                for ky in 0..kh {
                    let Some(y) = (oy * self.stride + ky).checked_sub(self.padding).filter(|&y| y < height)
                    else {
                        continue;
                    };
                    for kx in 0..kw {
                        let x = (ox * self.stride + kx).checked_sub(self.padding).filter(|&x| x < width);
                        if let Some(x) = x {
                            let element = (c * kh + ky) * kw + kx;
                            visit(place * self.patch() + element, (c * height + y) * width + x);
                        }
                    }
                }
            }
        }
    }

    fn unfold(&self, image: &[f32], patches: &mut [f32]) {
        patches.fill(0.0);
        self.each(|patch, pixel| patches[patch] = image[pixel]);
    }

    fn fold(&self, patches: &[f32], image: &mut [f32]) {
        self.each(|patch, pixel| image[pixel] += patches[patch]);
    }
}

const LANES: usize = 16;

/// $\sum |a - b|$, in lanes, so that the order of the sum is one and the same everywhere.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| (a - b).abs()).sum();
    for (a, b) in a.zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += (a - b).abs();
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// `y [batch, out, places]`.
pub(crate) fn forward(g: Geometry, x: &[f32], w: &[f32]) -> Vec<f32> {
    let (patch, places) = (g.patch(), g.places());
    let mut y = vec![0.0; g.batch * g.out * places];
    let mut patches = vec![0.0; places * patch];
    for (image, y) in x.chunks_exact(g.image().max(1)).zip(y.chunks_exact_mut((g.out * places).max(1))) {
        g.unfold(image, &mut patches);
        y.par_chunks_mut(places).zip(w.par_chunks(patch)).for_each(|(row, filter)| {
            for (y, patch) in row.iter_mut().zip(patches.chunks_exact(patch)) {
                *y = -distance(filter, patch);
            }
        });
    }
    y
}

/// The gradients of input and weight, those wanted. The weight's is normalised over the layer and scaled by `eta`.
pub(crate) fn gradients(
    g: Geometry,
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    eta: f32,
    wanted: [bool; 2],
) -> [Option<Vec<f32>>; 2] {
    let (patch, places) = (g.patch(), g.places());
    let mut dw = vec![0.0; w.len()];
    let mut dx = vec![0.0; x.len()];
    let mut patches = vec![0.0; places * patch];
    let mut dpatches = vec![0.0; places * patch];
    let images = x.chunks_exact(g.image().max(1)).zip(dx.chunks_exact_mut(g.image().max(1)));
    for ((image, dimage), dy) in images.zip(dy.chunks_exact((g.out * places).max(1))) {
        g.unfold(image, &mut patches);
        if wanted[1] {
            let rows = dw.par_chunks_mut(patch).zip(w.par_chunks(patch)).zip(dy.par_chunks(places));
            rows.for_each(|((dw, w), dy)| {
                for (&up, patch) in dy.iter().zip(patches.chunks_exact(patch)) {
                    for ((dw, w), x) in dw.iter_mut().zip(w).zip(patch) {
                        *dw += up * (x - w);
                    }
                }
            });
        }
        if wanted[0] {
            let rows = dpatches.par_chunks_mut(patch).zip(patches.par_chunks(patch)).enumerate();
            rows.for_each(|(place, (dpatch, patch_values))| {
                dpatch.fill(0.0);
                for (filter, dy) in w.chunks_exact(patch).zip(dy.chunks_exact(places)) {
                    let up = dy[place];
                    for ((d, w), x) in dpatch.iter_mut().zip(filter).zip(patch_values) {
                        *d += up * (w - x).clamp(-1.0, 1.0);
                    }
                }
            });
            g.fold(&dpatches, dimage);
        }
    }
    if wanted[1] {
        let norm = dw.iter().map(|&d| f64::from(d) * f64::from(d)).sum::<f64>().sqrt().max(1e-12);
        let factor = (f64::from(eta) * (dw.len() as f64).sqrt() / norm) as f32;
        dw.iter_mut().for_each(|d| *d *= factor);
    }
    [wanted[0].then_some(dx), wanted[1].then_some(dw)]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn distances_with_and_without_a_tail() {
        for n in [1, 15, 16, 17, 40] {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let b = vec![1.0; n];
            let plain: f32 = a.iter().map(|a| (a - 1.0).abs()).sum();
            assert_eq!(distance(&a, &b), plain, "{n}");
        }
    }

    #[test]
    fn a_window_that_does_not_fit_is_refused() {
        assert!(Geometry::new([1, 2, 2, 2], [3, 2, 3, 3], 1, 0).is_err());
        assert!(Geometry::new([1, 2, 2, 2], [3, 1, 1, 1], 1, 0).is_err());
        assert_eq!(Geometry::new([1, 2, 2, 2], [3, 2, 3, 3], 1, 1).unwrap().result, [2, 2]);
    }

    #[test]
    fn folding_sums_what_unfolding_copied() {
        let g = Geometry::new([1, 2, 3, 4], [1, 2, 2, 2], 1, 1).unwrap();
        let image: Vec<f32> = (1..=24).map(|i| i as f32).collect();
        let mut patches = vec![0.0; g.places() * g.patch()];
        g.unfold(&image, &mut patches);
        let mut back = vec![0.0; 24];
        g.fold(&patches, &mut back);
        // Every pixel lies in four windows of two by two, one step apart, with padding on all sides.
        let four: Vec<f32> = image.iter().map(|x| 4.0 * x).collect();
        assert_eq!(back, four);
    }
}
