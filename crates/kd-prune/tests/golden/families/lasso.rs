//! LASSO channel pruning: kept channels, and the weights refitted to them.

use kd_prune::{Array, lasso_channels, least_squares};

use crate::case::{Case, Failure, field, number, parse, text};

pub fn run(case: &Case) -> Result<(), Failure> {
    let (x, w, y) = (case.given("X")?, case.given("W2")?, case.given("Y")?);
    let &[n, channels, ..] = x.shape() else { return Err("X has no channels".to_owned()) };
    let outputs = w.shape()[0];
    let window = x.len() / n / channels;
    let samples: Vec<usize> = parse(&case.params, &["samples"])?;
    let rank: usize = parse(&case.params, &["rank"])?;

    let (mut z, mut responses) = (Vec::new(), Vec::new());
    for &sample in &samples {
        for output in 0..outputs {
            for channel in 0..channels {
                let at = |array: &Array, row: usize, k: usize| {
                    f64::from(array.values()[(row * channels + channel) * window + k])
                };
                z.push((0..window).map(|k| at(&x, sample, k) * at(&w, output, k)).sum());
            }
            responses.push(f64::from(y.values()[sample * outputs + output]));
        }
    }
    let kept = lasso_channels(&z, &responses, channels, rank).map_err(text)?;
    let recorded: Vec<usize> = case.expected("kept")?.values().iter().map(|x| *x as usize).collect();
    if kept != recorded {
        return Err(format!("{kept:?} are kept, recorded are {recorded:?}"));
    }

    let rows = x.values().chunks(channels * window);
    let left = rows.flat_map(|row| {
        kept.iter()
            .flat_map(|channel| row[channel * window..(channel + 1) * window].iter().map(|x| f64::from(*x)))
    });
    let left: Vec<f64> = left.collect();
    let responses: Vec<f64> = y.values().iter().map(|y| f64::from(*y)).collect();
    let columns = kept.len() * window;
    let (weights, intercepts) = least_squares(&left, columns, &responses, outputs).map_err(text)?;
    let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<_>>();
    let recorded = case.expected("new_W2")?;
    case.close("new_W2", &Array::new(recorded.shape(), single(&weights)).map_err(text)?, 1e-4, false)?;
    case.close("new_B2", &Array::new([outputs], single(&intercepts)).map_err(text)?, 1e-4, false)?;

    let (mut off, mut size) = (0.0, 0.0);
    for (row, response) in left.chunks(columns).zip(responses.chunks(outputs)) {
        for ((w, b), y) in weights.chunks(columns).zip(&intercepts).zip(response) {
            let fitted: f64 = b + row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
            off += (fitted - y).powi(2);
            size += y.powi(2);
        }
    }
    let (ours, recorded) = ((off / size).sqrt(), number(field(&case.expected, &["rel_error"])?)?);
    if (ours - recorded).abs() <= 1e-3 {
        Ok(())
    } else {
        Err(format!("the error is {ours}, recorded is {recorded}"))
    }
}
