#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::{assert_close, at_every_level, cases, numbers};
use proptest::prelude::*;

/// For every output, the positions of its window on the map, by the definition: all positions tried one by one.
fn windows(input: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Vec<Vec<usize>> {
    let outputs = (input + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
    let of = |o: usize| {
        let padded = (0..kernel).map(|k| o * stride + k * dilation);
        padded.filter(|p| (padding..padding + input).contains(p)).map(|p| p - padding).collect()
    };
    (0..outputs).map(of).collect()
}

struct Case {
    pool: Pool2d,
    rows: Vec<Vec<usize>>,
    columns: Vec<Vec<usize>>,
    area: Option<usize>,
}

impl Case {
    /// Positions in `x` of every window, in the order of the output.
    fn positions(&self) -> Vec<Vec<usize>> {
        let [batch, height, width, channels] = self.pool.input_shape();
        let mut all = Vec::new();
        for image in 0..batch {
            for rows in &self.rows {
                for columns in &self.columns {
                    for c in 0..channels {
                        let place = |r: usize, k: usize| ((image * height + r) * width + k) * channels + c;
                        let each = rows.iter().flat_map(|&r| columns.iter().map(move |&k| place(r, k)));
                        all.push(each.collect());
                    }
                }
            }
        }
        all
    }

    fn check(&self, seed: u32) {
        let positions = self.positions();
        let inputs: usize = self.pool.input_shape().iter().product();
        assert_eq!(self.pool.output_shape().iter().product::<usize>(), positions.len());
        // Few distinct values: windows with several equal maxima occur.
        let x: Vec<f32> = numbers(seed, inputs + 1).iter().map(|x| (x * 8.0).round()).collect();
        let (x, dy) = (&x[1..], &numbers(seed ^ 1, positions.len() + 1)[1..]);
        let mut memory = vec![f32::NAN; inputs.max(positions.len()) + 1];

        let first_largest = |window: &Vec<usize>| {
            window.iter().copied().reduce(|best, p| if x[p] > x[best] { p } else { best }).unwrap()
        };
        let largest: Vec<f64> = positions.iter().map(|window| x[first_largest(window)].into()).collect();
        let mut wanted_dx = vec![0.0; inputs];
        for (window, &dy) in positions.iter().zip(dy) {
            wanted_dx[first_largest(window)] += f64::from(dy);
        }
        let mut winners = vec![0; positions.len()];
        at_every_level(|| {
            let y = &mut memory[1..=positions.len()];
            self.pool.max(x, y).unwrap();
            assert_close("maximum", y, &largest, 0.0);
            y.fill(f32::NAN);
            self.pool.max_with_winners(x, y, &mut winners).unwrap();
            assert_close("maximum with winners", y, &largest, 0.0);
            let dx = &mut memory[1..=inputs];
            self.pool.max_backward(dy, &winners, dx).unwrap();
            assert_close("gradient of the maximum", dx, &wanted_dx, 1e-6);
        });

        for count_padding in [false, true] {
            let size =
                |window: &Vec<usize>| self.area.filter(|_| count_padding).unwrap_or(window.len()) as f64;
            let mean =
                |window: &Vec<usize>| window.iter().map(|&p| f64::from(x[p])).sum::<f64>() / size(window);
            let means: Vec<f64> = positions.iter().map(mean).collect();
            let mut wanted_dx = vec![0.0; inputs];
            for (window, &dy) in positions.iter().zip(dy) {
                window.iter().for_each(|&p| wanted_dx[p] += f64::from(dy) / size(window));
            }
            at_every_level(|| {
                let y = &mut memory[1..=positions.len()];
                self.pool.average(x, count_padding, y).unwrap();
                assert_close("mean", y, &means, 1e-5);
                let dx = &mut memory[1..=inputs];
                self.pool.average_backward(dy, count_padding, dx).unwrap();
                assert_close("gradient of the mean", dx, &wanted_dx, 1e-5);
            });
        }
    }
}

fn direction() -> impl Strategy<Value = (usize, usize, usize, usize, usize)> {
    (1usize..5, 1usize..4, 1usize..4).prop_flat_map(|(kernel, stride, dilation)| {
        let extent = dilation * (kernel - 1) + 1;
        (0..=extent / 2).prop_flat_map(move |padding| {
            let least = extent.saturating_sub(2 * padding).max(1);
            (least..least + 9, Just(kernel), Just(stride), Just(padding), Just(dilation))
        })
    })
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn sliding_windows_are_the_definition(v in direction(), h in direction(), batch in 0usize..4, channels in 1usize..40, seed: u32) {
        let window = Window { kernel: [v.1, h.1], stride: [v.2, h.2], padding: [v.3, h.3], dilation: [v.4, h.4] };
        let (rows, columns) = (windows(v.0, v.1, v.2, v.3, v.4), windows(h.0, h.1, h.2, h.3, h.4));
        let empty = rows.iter().chain(&columns).any(Vec::is_empty);
        match Pool2d::new(batch, [v.0, h.0], channels, window) {
            Ok(pool) => Case { pool, rows, columns, area: Some(v.1 * h.1) }.check(seed),
            Err(error) => prop_assert!(empty, "{error}"),
        }
    }

    #[test]
    fn even_windows_are_the_definition(input in [1usize..12, 1usize..12], output in [1usize..8, 1usize..8], batch in 1usize..3, channels in 1usize..40, seed: u32) {
        let spans = |input: usize, output: usize| -> Vec<Vec<usize>> {
            let edge = |i: usize| i as f64 * input as f64 / output as f64;
            (0..output).map(|i| (edge(i).floor() as usize..edge(i + 1).ceil() as usize).collect()).collect()
        };
        let pool = Pool2d::adaptive(batch, input, channels, output).unwrap();
        Case { pool, rows: spans(input[0], output[0]), columns: spans(input[1], output[1]), area: None }.check(seed);
    }
}

#[test]
#[cfg_attr(miri, ignore = "millions of numbers")]
fn a_batch_that_several_tasks_share_is_the_definition() {
    let pool = Pool2d::new(70, [24, 24], 20, Window::square(2)).unwrap();
    let axis = windows(24, 2, 2, 0, 1);
    Case { pool, rows: axis.clone(), columns: axis, area: Some(4) }.check(5);
}

#[test]
fn a_global_mean_is_one_number_per_channel() {
    let pool = Pool2d::global(2, [8, 8], 3).unwrap();
    assert_eq!(pool.output_shape(), [2, 1, 1, 3]);
    let mut y = [0.0; 6];
    pool.average(&[0.5; 2 * 64 * 3], false, &mut y).unwrap();
    assert_eq!(y, [0.5; 6]);
}

#[test]
fn impossible_windows_are_refused() {
    let refused = |input, window| Pool2d::new(1, input, 1, window).unwrap_err().to_string();
    let square = Window::square(2);
    assert!(refused([1, 4], square).contains("kernel is 2"));
    assert!(refused([4, 4], Window { padding: [2, 0], ..square }).contains("padding is 2"));
    assert!(refused([4, 4], Window { stride: [1, 0], ..square }).contains("stride is 0"));
    assert!(refused([0, 4], square).contains("input is 0"));
    assert!(refused([usize::MAX, 4], square).contains("input"));
    assert!(
        refused([1, 4], Window { dilation: [5, 1], padding: [3, 0], ..square }).contains("dilation is 5")
    );
    assert!(Pool2d::global(1, [4, 4], 0).is_err());
}

#[test]
fn slices_of_another_shape_are_refused() {
    let pool = Pool2d::global(1, [2, 2], 1).unwrap();
    let error = pool.max(&[0.0; 5], &mut [0.0]).unwrap_err();
    assert_eq!(error, KernelError::Length { name: "x", got: 5, wanted: 4 });
    assert!(pool.max_with_winners(&[0.0; 4], &mut [0.0], &mut []).is_err());
    assert!(pool.average_backward(&[0.0; 2], false, &mut [0.0; 4]).is_err());
}
