//! 2:4 masks, dynamic network surgery, group lasso.

use kd_prune::{
    GroupLasso, Magnitude, Mask, Moments, Pooling, Structure, Thresholds, Ties, UpdateProbability, n_of_m,
    n_of_m_square,
};

use crate::case::{Case, Failure, close, field, number, parse, text};

pub fn run(case: &Case) -> Result<(), Failure> {
    match () {
        () if case.is("apex", "apex_m4n2_1d") => {
            let scores = case.given("w")?.map(|w| Magnitude::L1.of(w));
            case.same_mask("mask", &n_of_m(&scores, 2, 4, 1, Ties::LowerIndex).map_err(text)?)
        }
        () if case.is("apex", "apex_m4n2_2d_greedy") => {
            let scores = case.given("w")?.map(f32::abs);
            case.same_mask("mask", &n_of_m_square(&scores, 2, 4).map_err(text)?)
        }
        () if case.is("Dynamic-Network-Surgery", "dns_conv") => surgery(case),
        () if case.is("distiller", "distiller_splicing") => {
            let weight = case.given("w")?;
            let moments = Moments::unbiased(weight.values());
            let (low, high) = (case.param("low_mult")?, case.param("hi_mult")?);
            let around = Thresholds::around(moments, case.param("sensitivity")?, false);
            // The factors are the case's.
            let thresholds = Thresholds {
                lower: (f64::from(around.lower) / 0.9 * low) as f32,
                upper: (f64::from(around.upper) / 1.1 * high) as f32,
                ..around
            };
            let mask = Mask::of_nonzeros(&case.given("mask")?);
            case.same_mask("mask_after", &thresholds.update(&weight, &mask).map_err(text)?)
        }
        () if case.is("distiller", "group_lasso") => lasso(case),
        () => case.unknown(),
    }
}

fn surgery(case: &Case) -> Result<(), Failure> {
    let (w0, w1, bias) = (case.given("w0")?, case.given("w1")?, case.given("bias")?);
    let mask0 = Mask::of_nonzeros(&case.given("mask0")?);
    let masked = mask0.apply(&w0).map_err(text)?;
    let moments = Moments::of_nonzeros(masked.values().iter().chain(bias.values()));
    for (what, ours) in [("mu", moments.mean), ("std", moments.deviation)] {
        let theirs = number(field(&case.expected, &[what])?)?;
        if (ours - theirs).abs() > 1e-5 {
            return Err(format!("{what} is {ours}, recorded is {theirs}"));
        }
    }
    let thresholds = Thresholds::around(moments, case.param("c_rate")?, true);
    let after0 = thresholds.update(&w0, &mask0).map_err(text)?;
    case.same_mask("mask_after_iter0", &after0)?;
    let bias_mask = thresholds.update(&bias, &Mask::dense(bias.shape())).map_err(text)?;
    case.same_mask("bias_mask_after_iter0", &bias_mask)?;
    let after7 = thresholds.update(&w1, &after0).map_err(text)?;
    case.same_mask("mask_after_iter7", &after7)?;
    let stop = parse::<usize>(&case.params, &["iter_stop"])?;
    let probability = UpdateProbability { gamma: case.param("gamma")?, power: case.param("power")?, stop };
    let stopped = if probability.at(stop) > 0.0 { after7 } else { after0 };
    case.same_mask("mask_at_iter_stop_unchanged", &stopped)
}

fn lasso(case: &Case) -> Result<(), Failure> {
    let weight = case.given("w")?;
    let slices = |axes: &[usize]| Structure::Slices { axes: axes.to_vec(), pooling: Pooling::Sum };
    let kind: String = parse(&case.params, &["group_type"])?;
    let structures: Vec<Structure> = match kind.as_str() {
        "Filters" | "3D" => vec![slices(&[0])],
        "Channels" => vec![slices(&[1])],
        "2D" => vec![slices(&[0, 1])],
        "4D" => vec![slices(&[])],
        "Rows" => vec![slices(&[0])],
        "Cols" => vec![slices(&[1])],
        "Rows+Cols" => vec![slices(&[0]), slices(&[1])],
        other => return Err(format!("groups of type `{other}` are not known")),
    };
    let epsilon = if kind == "Channels" { 1e-8 } else { 0.0 };
    let lambda = case.param("lambda")?;
    let (mut loss, mut gradient) = (0.0, weight.map(|_| 0.0));
    for structure in structures {
        let (part, grad) = GroupLasso { lambda, structure, epsilon }.penalty(&weight).map_err(text)?;
        loss += part;
        gradient = gradient.zip(&grad, |a, b| a + b).map_err(text)?;
    }
    let recorded = number(field(&case.expected, &["loss"])?)?;
    if (loss - recorded).abs() > 1e-5 * recorded.abs().max(1.0) {
        return Err(format!("loss is {loss}, recorded is {recorded}"));
    }
    close("grad", &gradient, &case.expected("grad")?, 1e-5, false)
}
