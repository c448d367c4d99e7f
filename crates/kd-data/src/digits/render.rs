//! Ink: polylines to grey pixels.

use super::strokes::Point;

/// Draws polylines with a round pen of `radius` pixels into `side`² pixels, 0 for paper and 1 for ink.
///
/// A pixel's ink falls off linearly over one pixel at the pen's edge, which smooths the outline.
pub(super) fn ink(strokes: &[Vec<Point>], radius: f64, side: usize) -> Vec<f64> {
    let mut squared = vec![f64::INFINITY; side * side];
    let reach = radius + 1.0;
    for segment in strokes.iter().flat_map(|stroke| stroke.windows(2)) {
        let &[from, to] = segment else { continue };
        let span = |axis: usize| {
            let low = (from[axis].min(to[axis]) - reach).floor().max(0.0) as usize;
            let high = (from[axis].max(to[axis]) + reach).ceil().clamp(0.0, side as f64) as usize;
            low..high
        };
        for y in span(1) {
            for x in span(0) {
                let centre = [x as f64 + 0.5, y as f64 + 0.5];
                let pixel = &mut squared[y * side + x];
                *pixel = pixel.min(squared_distance(centre, from, to));
            }
        }
    }
    squared.into_iter().map(|d| (radius + 0.5 - d.sqrt()).clamp(0.0, 1.0)).collect()
}

/// Squared distance from `point` to the segment.
fn squared_distance(point: Point, from: Point, to: Point) -> f64 {
    let along = [to[0] - from[0], to[1] - from[1]];
    let toward = [point[0] - from[0], point[1] - from[1]];
    let length = along[0] * along[0] + along[1] * along[1];
    let dot = along[0] * toward[0] + along[1] * toward[1];
    let t = if length > 0.0 { (dot / length).clamp(0.0, 1.0) } else { 0.0 };
    let off = [toward[0] - t * along[0], toward[1] - t * along[1]];
    off[0] * off[0] + off[1] * off[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_to_a_segment() {
        assert_eq!(squared_distance([1.0, 2.0], [0.0, 0.0], [4.0, 0.0]), 4.0);
        assert_eq!(squared_distance([-3.0, 4.0], [0.0, 0.0], [4.0, 0.0]), 25.0);
        assert_eq!(squared_distance([3.0, 4.0], [0.0, 0.0], [0.0, 0.0]), 25.0);
    }

    #[test]
    fn a_line_has_its_width_and_a_soft_edge() {
        let pixels = ink(&[vec![[-5.0, 2.5], [10.0, 2.5]]], 1.0, 5);
        let column: Vec<f64> = (0..5).map(|y| pixels[y * 5 + 2]).collect();
        assert_eq!(column, [0.0, 0.5, 1.0, 0.5, 0.0]);
    }

    #[test]
    fn strokes_far_outside_leave_no_ink() {
        let pixels = ink(&[vec![[-50.0, -50.0], [-40.0, -60.0]], vec![[90.0, 90.0], [95.0, 99.0]]], 1.0, 4);
        assert!(pixels.iter().all(|&p| p == 0.0));
    }
}
