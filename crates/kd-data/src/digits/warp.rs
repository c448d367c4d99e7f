//! Random changes of position: an affine map and a smooth elastic displacement.

use super::strokes::Point;
use crate::seed::Stream;

/// How far digits vary.
#[derive(Clone, Copy)]
pub(super) struct Variation {
    /// Largest displacement of a stroke's points, as a part of the digit's height.
    pub wobble: f64,
    /// Tangent of half the largest rotation.
    pub rotation: f64,
    /// Largest slant.
    pub shear: f64,
    /// Smallest and largest width, in pixels.
    pub width: [f64; 2],
    /// Smallest and largest height, in pixels.
    pub height: [f64; 2],
    /// Largest shift, in pixels.
    pub shift: f64,
    /// Largest elastic displacement, in pixels.
    pub elastic: f64,
    /// Smallest and largest radius of the pen, in pixels.
    pub pen: [f64; 2],
    /// Largest change of an inked pixel by noise, of 255.
    pub noise: f64,
}

/// A map from the unit square to the pixels of one image.
///
/// Only sums, products, quotients: every platform computes the same bits.
pub(super) struct Warp {
    matrix: [[f64; 2]; 2],
    centre: Point,
    grid: [[Point; GRID]; GRID],
}

/// Control points of the elastic displacement, in each direction.
const GRID: usize = 6;

impl Warp {
    /// A random map to images of `side` pixels.
    pub(super) fn draw(side: usize, variation: &Variation, stream: &mut Stream) -> Self {
        let t = stream.between(-variation.rotation, variation.rotation);
        let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let shear = stream.between(-variation.shear, variation.shear);
        let width = stream.between(variation.width[0], variation.width[1]);
        let height = stream.between(variation.height[0], variation.height[1]);
        let matrix =
            [[cos * width, (cos * shear - sin) * height], [sin * width, (sin * shear + cos) * height]];
        let middle = side as f64 / 2.0;
        let centre = std::array::from_fn(|_| middle + stream.between(-variation.shift, variation.shift));
        let mut displaced = || stream.between(-variation.elastic, variation.elastic);
        let grid = std::array::from_fn(|_| std::array::from_fn(|_| [displaced(), displaced()]));
        Self { matrix, centre, grid }
    }

    /// Where a point of the unit square lies in the image, in pixels.
    pub(super) fn apply(&self, point: Point) -> Point {
        let (x, y) = (point[0] - 0.5, point[1] - 0.5);
        let elastic = self.displacement(point);
        std::array::from_fn(|axis| {
            let [a, b] = self.matrix[axis];
            self.centre[axis] + a * x + b * y + elastic[axis]
        })
    }

    /// A uniform cubic B-spline over the grid, which covers the unit square.
    fn displacement(&self, point: Point) -> Point {
        let spans = (GRID - 3) as f64;
        let located = point.map(|value| {
            let position = value.clamp(0.0, 1.0) * spans;
            let cell = (position as usize).min(GRID - 4);
            (cell, basis(position - cell as f64))
        });
        let [(column, across), (row, down)] = located;
        let mut sum = [0.0; 2];
        for (line, dy) in self.grid[row..row + 4].iter().zip(down) {
            for (control, dx) in line[column..column + 4].iter().zip(across) {
                sum[0] += control[0] * dx * dy;
                sum[1] += control[1] * dx * dy;
            }
        }
        sum
    }
}

/// The four cubic B-spline weights at `t` in 0 to 1; they add up to 1.
fn basis(t: f64) -> [f64; 4] {
    let s = 1.0 - t;
    let (t2, t3) = (t * t, t * t * t);
    [
        s * s * s / 6.0,
        (3.0 * t3 - 6.0 * t2 + 4.0) / 6.0,
        (-3.0 * t3 + 3.0 * t2 + 3.0 * t + 1.0) / 6.0,
        t3 / 6.0,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basis_weights_add_up_to_one() {
        for t in [0.0, 0.3, 1.0] {
            assert!((basis(t).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_constant_grid_moves_everything_alike() {
        let warp =
            Warp { matrix: [[1.0, 0.0], [0.0, 1.0]], centre: [0.5, 0.5], grid: [[[2.0, -1.0]; GRID]; GRID] };
        for point in [[0.0, 0.0], [0.4, 0.9], [1.0, 1.0]] {
            let [x, y] = warp.apply(point);
            assert!((x - point[0] - 2.0).abs() < 1e-9 && (y - point[1] + 1.0).abs() < 1e-9);
        }
    }
}
