use kd_quant::observer::{LeastError, MinMax, Observer, Symmetry};
use kd_quant::post::{AdaRound, BitSplit, Regulariser, SplitWeight, fixed_point_weights};
use kd_quant::{Affine, Bound, Granularity, Grid};

use super::unknown;
use crate::case::{Case, Failure, close, numbers, ok, read, wide};

pub fn run(case: &Case) -> Result<(), Failure> {
    match case.name.as_str() {
        name if name.starts_with("bitsplit_reconstruct") => reconstruct(case),
        name if name.starts_with("bitsplit_") => bit_split(case),
        name if name.starts_with("brecq_uaq") => uniform(case),
        name if name.starts_with("adaround_") => adaround(case),
        _ => unknown(case),
    }
}

fn flat(rows: &[Vec<f64>]) -> Vec<f64> {
    rows.concat()
}

fn planes(weight: &SplitWeight) -> Vec<f64> {
    weight.planes.iter().flat_map(|plane| plane.concat()).collect()
}

fn bit_split(case: &Case) -> Result<(), Failure> {
    let (rows, bits) = (case.rows("W")?, case.bits("bitwidth")?);
    let (codes, scales) = ok(fixed_point_weights(&rows, bits))?;
    case.near("fwa_q", &flat(&codes), 0.0)?;
    case.near("fwa_alpha", &scales, 1e-7)?;
    let rule = ok(BitSplit::new(bits))?.with_sweeps(case.number("max_epoch")? as usize);
    case.near("split_bits", &rule.split(&codes).concat().concat(), 0.0)?;
    let weight = ok(rule.quantize(&rows))?;
    case.near("ofwa_bits", &planes(&weight), 0.0)?;
    case.near("ofwa_B_sum", &flat(&weight.sums()), 0.0)?;
    case.near("ofwa_alpha", &weight.scale, 1e-7)?;
    case.near("weight_hat", &flat(&weight.values()), 1e-7)
}

fn reconstruct(case: &Case) -> Result<(), Failure> {
    let (x, y) = (case.rows("X")?, case.rows("Y")?);
    let rule = ok(BitSplit::new(case.bits("bitwidth")?))?;
    let start = ok(rule.quantize(&case.rows("W")?))?;
    case.near("init_bits", &planes(&start), 0.0)?;
    case.near("init_alpha", &start.scale, 1e-7)?;
    let error = |weight: &SplitWeight| {
        let values = weight.values();
        let squares = x.iter().zip(&y).flat_map(|(x, y)| {
            y.iter().zip(&values).map(|(y, w)| (y - x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>()).powi(2))
        });
        let all: Vec<f64> = squares.collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    case.near("mse_init", &[error(&start)], 1e-7)?;
    for epochs in case.numbered("B_sum_epoch")? {
        let found = ok(rule.reconstruct(start.clone(), &x, &y, epochs))?;
        case.near(&format!("B_sum_epoch{epochs}"), &flat(&found.sums()), 0.0)?;
        case.near(&format!("alpha_epoch{epochs}"), &found.scale, 1e-7)?;
    }
    for epochs in case.numbered("mse_epoch")? {
        let found = ok(rule.reconstruct(start.clone(), &x, &y, epochs))?;
        case.near(&format!("mse_epoch{epochs}"), &[error(&found)], 1e-7)?;
    }
    Ok(())
}

fn uniform(case: &Case) -> Result<(), Failure> {
    let bits = case.bits("bits")?;
    let grid = ok(Grid::unsigned(bits))?;
    let granularity =
        if case.flag("channel_wise")? { Granularity::Channel { axis: 0 } } else { Granularity::Tensor };
    let w = case.leaf("w")?;
    let ranges = match case.param("scale_method").and_then(|method| method.as_str()) {
        Some("mse") => {
            let mut observer = LeastError::new(grid, granularity);
            ok(observer.observe(w.clone()))?;
            ok(observer.ranges())?
        }
        method => {
            let mut observer = MinMax::new(granularity);
            ok(observer.observe(w.clone()))?;
            let factor = if method == Some("max_scale") { (bits as f32 + 2.0) / 8.0 } else { 1.0 };
            ok(observer.ranges())?.scaled(factor)
        }
    };
    let ranges = if case.flag("symmetric")? { ranges.mirrored() } else { ranges };
    let found = ok(ranges.parameters(grid, Symmetry::Affine))?;
    case.near("delta", &wide(&found.scale), 1e-5)?;
    case.near("zero_point", &wide(&found.zero_point), 0.0)?;

    let ambiguous = case.wanted("ambiguous_flat_indices")?;
    let certain = |values: Vec<f64>| -> Vec<f64> {
        let keep = |i: &usize| !ambiguous.contains(&(*i as f64));
        (0..values.len()).filter(keep).map(|i| values[i]).collect()
    };
    for (suffix, bound) in [("", Bound::Exclusive), ("_inclusive", Bound::Inclusive)] {
        let rule = Affine { granularity, bound, ..Affine::new(grid) };
        let w = case.leaf("w")?;
        let delta = case.row_leaf(&case.wanted("delta")?);
        let y = ok(rule.quantize(w.clone(), delta.clone(), case.row(&case.wanted("zero_point")?)))?;
        let same = |name: &str, got: Vec<f64>, tolerance, least| {
            close(name, &certain(got), &certain(case.wanted(name)?), tolerance, least)
        };
        same("y", read(&y), 1e-5, 1.0)?;
        let gradients = case.backward(&y, "upstream_grad")?;
        let gradient = read(&w.grad(&gradients).ok_or("no gradient of w")?);
        same(&format!("grad_w{suffix}"), gradient, 1e-4, 0.0)?;
        if ambiguous.is_empty() {
            case.gradient(&format!("grad_delta{suffix}"), &delta, &gradients)?;
        }
    }
    Ok(())
}

fn adaround(case: &Case) -> Result<(), Failure> {
    let grid = ok(Grid::unsigned(case.bits("bits")?))?;
    let granularity = Granularity::Channel { axis: 0 };
    let rule = AdaRound { grid, granularity, gamma: case.number("gamma")?, zeta: case.number("zeta")? };
    let w = case.tensor("w")?;
    let (scale, zero) = (case.row(&case.wanted("delta")?), case.row(&case.wanted("zero_point")?));
    let initial = ok(rule.initial(w.clone(), scale.clone()))?;
    case.near("V_init", &read(&initial), 1e-5)?;
    case.near("h_at_init", &read(&rule.rounding(initial.clone())), 1e-5)?;
    let soft = ok(rule.soften(w.clone(), initial, scale.clone(), zero.clone()))?;
    case.near("y_soft_at_init", &read(&soft), 1e-5)?;

    let v = case.leaf("V")?;
    case.near("h", &read(&rule.rounding(v.clone())), 1e-5)?;
    let soft = ok(rule.soften(w.clone(), v.clone(), scale.clone(), zero.clone()))?;
    case.near("y_soft", &read(&soft), 1e-5)?;
    case.gradient("grad_V_of_y", &v, &case.backward(&soft, "upstream_grad")?)?;
    case.near("y_hard", &read(&ok(rule.harden(w, v, scale, zero))?), 1e-5)?;

    for row in case.expected_rows("regulariser")? {
        let number = |key: &str| row.get(key).and_then(numbers).ok_or_else(|| format!("{row}: no {key}"));
        let range = number("b_range")?;
        let regulariser = Regulariser {
            weight: number("weight")?[0],
            steps: number("max_count")?[0] as usize,
            warm_up: number("warmup")?[0],
            from: range[0],
            to: range[1],
        };
        let step = number("count")?[0] as usize;
        close("b", &[regulariser.beta(step)], &number("b")?, 1e-6, 1.0)?;
        let v = case.leaf("V")?;
        match ok(regulariser.loss(&rule, v.clone(), step))? {
            None => close("round_loss", &[0.0], &number("round_loss")?, 0.0, 1.0)?,
            Some(loss) => {
                close("round_loss", &read(&loss), &number("round_loss")?, 1e-5, 1.0)?;
                let gradient = read(&v.grad(&loss.backward()).ok_or("no gradient of V")?);
                close("grad_V", &gradient, &number("grad_V")?, 1e-4, 0.0)?;
            }
        }
    }
    Ok(())
}
