use kd_quant::post::{Aciq, Distribution, asymmetric, multiplier_and_shift, symmetric};
use kd_quant::{Bound, DorefaActivation, DorefaWeight, Granularity, Grid, Lsq, Pact};
use serde_json::Value as Json;

use super::unknown;
use crate::case::{Case, Failure, close, ok, read};

pub fn lsq(case: &Case) -> Result<(), Failure> {
    let grid = ok(Grid::new(case.number("Qn")? as i32, case.number("Qp")? as i32))?;
    if case.name.starts_with("ties_and_edges") {
        for (suffix, bound) in [("", Bound::Exclusive), ("_inclusive", Bound::Inclusive)] {
            let lsq = Lsq { bound, ..ok(Lsq::new(grid))? };
            let (x, step) = (case.leaf("x")?, case.row_leaf(&[case.number("s")?]));
            let y = ok(lsq.quantize(x.clone(), step.clone()))?;
            case.value("y", &y)?;
            let gradients = case.backward(&y, "upstream_grad")?;
            case.gradient(&format!("grad_x{suffix}"), &x, &gradients)?;
            case.gradient(&format!("grad_s{suffix}"), &step, &gradients)?;
        }
        return Ok(());
    }
    let granularity =
        if case.flag("per_channel")? { Granularity::Channel { axis: 0 } } else { Granularity::Tensor };
    let lsq = Lsq { granularity, ..ok(Lsq::new(grid))? };
    let x = case.leaf("x")?;
    let initial = ok(lsq.initial_step(x.clone()))?;
    case.relative("s_init", &read(&initial), 1e-6)?;
    let step = case.row_leaf(&case.wanted("s")?);
    let scaled = initial * case.number("s_multiplier")?;
    case.relative("s", &read(&scaled), 1e-6)?;
    let y = ok(lsq.quantize(x.clone(), step.clone()))?;
    case.relative("y", &read(&y), 1e-6)?;
    let gradients = case.backward(&y, "upstream_grad")?;
    case.gradient("grad_x", &x, &gradients)?;
    case.gradient("grad_s", &step, &gradients)
}

pub fn pact_dorefa(case: &Case) -> Result<(), Failure> {
    match case.name.as_str() {
        name if name.starts_with("distiller_") => {
            case.expected_rows("rows")?.iter().try_for_each(|row| parameters(case, row))
        }
        name if name.starts_with("aciq_clip") => aciq(case),
        name if name.starts_with("pact_act") => {
            let (x, alpha) = (case.leaf("x")?, case.row_leaf(&[case.number("alpha")?]));
            let y = ok(ok(Pact::new(case.bits("bit")?))?.quantize(x.clone(), alpha.clone()))?;
            case.value("y", &y)?;
            let gradients = case.backward(&y, "upstream_grad")?;
            case.gradient("grad_x", &x, &gradients)?;
            case.gradient("grad_alpha", &alpha, &gradients)
        }
        name if name.starts_with("dorefa_act") => {
            for (suffix, bound) in [("", Bound::Exclusive), ("_inclusive", Bound::Inclusive)] {
                let rule = DorefaActivation { bits: case.bits("bit")?, clip: Some(bound) };
                let x = case.leaf("x")?;
                // Activations are counted in units of the level at which they are clipped.
                let level = case.number("clip_val")?;
                let y = ok(rule.quantize(x.clone() / level))? * level;
                case.value("y", &y)?;
                let gradients = case.backward(&y, "upstream_grad")?;
                case.gradient(&format!("grad_x{suffix}"), &x, &gradients)?;
            }
            Ok(())
        }
        name if name.starts_with("dorefa_weight") => {
            let x = case.leaf("x")?;
            let y = ok(ok(DorefaWeight::new(case.bits("bit")?))?.quantize(x.clone()))?;
            case.value("y", &y)?;
            case.gradient("grad_x", &x, &case.backward(&y, "upstream_grad")?)
        }
        _ => unknown(case),
    }
}

fn parameters(case: &Case, row: &Json) -> Result<(), Failure> {
    let number = |key: &str| row.get(key).and_then(Json::as_f64).ok_or_else(|| format!("{row}: no {key}"));
    let flag = |key: &str| row.get(key).and_then(Json::as_bool).ok_or_else(|| format!("{row}: no {key}"));
    let single = |key: &str| number(key).map(|v| v as f32);
    let (got, wanted) = match case.name.as_str() {
        name if name.starts_with("distiller_mult_shift") => {
            let (scale, bits) = (number("scale")?, number("mult_bits")? as u32);
            let (m, shift) = ok(multiplier_and_shift(scale, bits, false))?;
            let (limited, limited_shift) = ok(multiplier_and_shift(scale, bits, true))?;
            (
                vec![f64::from(m), f64::from(shift), f64::from(limited), f64::from(limited_shift)],
                ["multiplier", "shift_bits", "multiplier_limited", "shift_bits_limited"].to_vec(),
            )
        }
        name if name.starts_with("distiller_symmetric_params") => {
            let (bits, restrict) = (number("bits")? as u32, flag("restrict_qrange")?);
            let found = ok(symmetric(bits, single("saturation")?, restrict))?;
            let grid = ok(if restrict { Grid::narrow(bits) } else { Grid::signed(bits) })?;
            if row.get("qrange_signed") != Some(&serde_json::json!([grid.min(), grid.max()])) {
                return Err(format!("{row}: the grid is {grid:?}"));
            }
            (vec![f64::from(found.scale), f64::from(found.zero_point)], ["scale", "zero_point"].to_vec())
        }
        name if name.starts_with("distiller_asymmetric_params") => {
            let bits = number("bits")? as u32;
            let (signed, integral) = (flag("signed")?, flag("integral_zero_point")?);
            let found = ok(asymmetric(bits, single("min")?, single("max")?, signed, integral))?;
            (vec![f64::from(found.scale), f64::from(found.zero_point)], ["scale", "zero_point"].to_vec())
        }
        _ => return unknown(case),
    };
    let wanted: Vec<f64> = wanted.into_iter().map(number).collect::<Result<_, _>>()?;
    close(&row.to_string(), &got, &wanted, 1e-6, 1.0)
}

fn aciq(case: &Case) -> Result<(), Failure> {
    let values: Vec<f32> = case.values("x")?.into_iter().map(|v| v as f32).collect();
    for row in case.expected_rows("rows")? {
        let distribution = match row.get("clip_type").and_then(Json::as_str) {
            Some("Laplace") => Distribution::Laplace,
            Some("Gauss") => Distribution::Gauss,
            _ => return Err(format!("{row}: no distribution")),
        };
        let number =
            |key: &str| row.get(key).and_then(Json::as_f64).ok_or_else(|| format!("{row}: no {key}"));
        let aciq = Aciq { bits: number("bits")? as u32, distribution };
        let (s, a) = (ok(aciq.symmetric(&values))?, ok(aciq.asymmetric(&values))?);
        let got = [s.min[0], s.max[0], a.min[0], a.max[0]].map(f64::from);
        let wanted = [number("sym_lo")?, number("sym_hi")?, number("asym_lo")?, number("asym_hi")?];
        close(&row.to_string(), &got, &wanted, 1e-6, 1.0)?;
    }
    Ok(())
}
