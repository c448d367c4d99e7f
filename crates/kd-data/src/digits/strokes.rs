//! How each digit is written: strokes of a pen in the unit square, x to the right, y downwards.

use crate::seed::Stream;

/// A point of the unit square.
pub(super) type Point = [f64; 2];

/// A stroke: a smooth curve through its points, or straight lines between them.
#[derive(Clone, Copy)]
struct Template {
    smooth: bool,
    points: &'static [Point],
}

const fn curve(points: &'static [Point]) -> Template {
    Template { smooth: true, points }
}

const fn lines(points: &'static [Point]) -> Template {
    Template { smooth: false, points }
}

/// The ways in which people write each digit.
const WAYS: [&[&[Template]]; 10] = [
    &[
        &[curve(&[
            [0.52, 0.04],
            [0.24, 0.22],
            [0.18, 0.6],
            [0.45, 0.96],
            [0.76, 0.72],
            [0.78, 0.3],
            [0.5, 0.05],
        ])],
        &[curve(&[
            [0.62, 0.1],
            [0.36, 0.1],
            [0.2, 0.5],
            [0.38, 0.93],
            [0.68, 0.88],
            [0.8, 0.45],
            [0.56, 0.06],
        ])],
    ],
    &[
        &[lines(&[[0.5, 0.04], [0.5, 0.96]])],
        &[lines(&[[0.32, 0.26], [0.54, 0.04], [0.52, 0.96]])],
        &[lines(&[[0.34, 0.22], [0.52, 0.05], [0.52, 0.95]]), lines(&[[0.28, 0.95], [0.76, 0.95]])],
    ],
    &[
        &[
            curve(&[[0.2, 0.26], [0.38, 0.06], [0.68, 0.1], [0.74, 0.36], [0.5, 0.66], [0.2, 0.94]]),
            lines(&[[0.2, 0.94], [0.82, 0.93]]),
        ],
        &[curve(&[
            [0.22, 0.22],
            [0.46, 0.04],
            [0.74, 0.22],
            [0.6, 0.56],
            [0.3, 0.88],
            [0.2, 0.74],
            [0.42, 0.76],
            [0.84, 0.94],
        ])],
    ],
    &[
        &[
            curve(&[[0.22, 0.16], [0.5, 0.04], [0.74, 0.22], [0.62, 0.42], [0.4, 0.47]]),
            curve(&[[0.4, 0.47], [0.7, 0.54], [0.78, 0.76], [0.54, 0.96], [0.2, 0.86]]),
        ],
        &[
            lines(&[[0.24, 0.07], [0.74, 0.07], [0.46, 0.42]]),
            curve(&[[0.46, 0.42], [0.74, 0.54], [0.76, 0.8], [0.5, 0.96], [0.22, 0.86]]),
        ],
    ],
    &[
        &[lines(&[[0.3, 0.06], [0.2, 0.56], [0.84, 0.54]]), lines(&[[0.7, 0.26], [0.62, 0.97]])],
        &[lines(&[[0.62, 0.97], [0.62, 0.04], [0.16, 0.64], [0.86, 0.64]])],
        &[
            curve(&[[0.26, 0.08], [0.22, 0.4], [0.42, 0.54], [0.72, 0.46]]),
            lines(&[[0.74, 0.08], [0.7, 0.97]]),
        ],
    ],
    &[
        &[
            lines(&[[0.78, 0.06], [0.32, 0.06], [0.26, 0.44]]),
            curve(&[[0.26, 0.44], [0.56, 0.38], [0.78, 0.62], [0.6, 0.92], [0.2, 0.88]]),
        ],
        &[
            curve(&[[0.34, 0.08], [0.28, 0.42], [0.6, 0.44], [0.74, 0.7], [0.5, 0.96], [0.2, 0.84]]),
            lines(&[[0.34, 0.08], [0.8, 0.05]]),
        ],
    ],
    &[
        &[curve(&[
            [0.68, 0.06],
            [0.36, 0.26],
            [0.22, 0.66],
            [0.46, 0.96],
            [0.76, 0.74],
            [0.54, 0.5],
            [0.25, 0.66],
        ])],
        &[curve(&[
            [0.44, 0.03],
            [0.26, 0.4],
            [0.24, 0.76],
            [0.5, 0.96],
            [0.74, 0.8],
            [0.6, 0.58],
            [0.3, 0.72],
        ])],
    ],
    &[
        &[lines(&[[0.18, 0.08], [0.8, 0.08], [0.42, 0.96]])],
        &[lines(&[[0.2, 0.08], [0.78, 0.07], [0.44, 0.96]]), lines(&[[0.36, 0.5], [0.76, 0.48]])],
        &[curve(&[[0.2, 0.2], [0.3, 0.08], [0.6, 0.12], [0.8, 0.07], [0.62, 0.46], [0.5, 0.96]])],
    ],
    &[
        &[curve(&[
            [0.7, 0.14],
            [0.46, 0.04],
            [0.27, 0.22],
            [0.5, 0.46],
            [0.74, 0.72],
            [0.5, 0.96],
            [0.26, 0.76],
            [0.48, 0.48],
            [0.72, 0.22],
            [0.62, 0.08],
        ])],
        &[
            curve(&[[0.5, 0.46], [0.29, 0.26], [0.48, 0.04], [0.7, 0.22], [0.52, 0.46]]),
            curve(&[[0.5, 0.46], [0.24, 0.7], [0.5, 0.96], [0.76, 0.74], [0.5, 0.46]]),
        ],
    ],
    &[
        &[curve(&[
            [0.74, 0.24],
            [0.48, 0.05],
            [0.25, 0.28],
            [0.48, 0.5],
            [0.74, 0.26],
            [0.72, 0.6],
            [0.6, 0.96],
        ])],
        &[
            curve(&[[0.7, 0.16], [0.4, 0.06], [0.26, 0.32], [0.5, 0.48], [0.7, 0.18]]),
            curve(&[[0.72, 0.1], [0.74, 0.5], [0.64, 0.9], [0.3, 0.92]]),
        ],
    ],
];

/// Number of digits.
pub(super) const CLASSES: usize = WAYS.len();

/// One way of writing `digit`, each point displaced by up to `wobble`, as polylines.
pub(super) fn written(digit: usize, wobble: f64, stream: &mut Stream) -> Vec<Vec<Point>> {
    let ways = WAYS.get(digit).copied().unwrap_or_default();
    let way = ways.get(stream.below(ways.len())).copied().unwrap_or_default();
    let mut moved = |point: &Point| point.map(|value| value + stream.between(-wobble, wobble));
    let stroke = |template: &Template| {
        let points: Vec<Point> = template.points.iter().map(&mut moved).collect();
        if template.smooth { smoothed(&points) } else { points }
    };
    way.iter().map(stroke).collect()
}

/// A Catmull–Rom spline through the points, eight pieces a span.
fn smoothed(points: &[Point]) -> Vec<Point> {
    const PIECES: usize = 8;
    let at = |i: isize| points[i.clamp(0, points.len() as isize - 1) as usize];
    let spans = points.len().saturating_sub(1);
    let mut line: Vec<Point> = points.first().copied().into_iter().collect();
    for i in 0..spans as isize {
        let (before, from, to, after) = (at(i - 1), at(i), at(i + 1), at(i + 2));
        line.extend((1..=PIECES).map(|piece| {
            let t = piece as f64 / PIECES as f64;
            std::array::from_fn(|axis| {
                let (a, b, c, d) = (before[axis], from[axis], to[axis], after[axis]);
                let cubic = (3.0 * (b - c) + d - a) * t;
                b + 0.5 * t * (c - a + t * (2.0 * a - 5.0 * b + 4.0 * c - d + cubic))
            })
        }));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strokes_stay_in_the_unit_square() {
        let points = WAYS.iter().flat_map(|ways| ways.iter()).flat_map(|way| way.iter());
        for template in points {
            let line = if template.smooth { smoothed(template.points) } else { template.points.to_vec() };
            assert!(line.iter().flatten().all(|value| (-0.05..=1.05).contains(value)), "{line:?}");
        }
    }

    #[test]
    fn a_spline_goes_through_its_points() {
        let line = smoothed(&[[0.0, 0.0], [1.0, 0.5], [0.5, 1.0]]);
        assert_eq!((line.len(), line[0], line[8], line[16]), (17, [0.0, 0.0], [1.0, 0.5], [0.5, 1.0]));
        assert!(smoothed(&[]).is_empty());
    }
}
