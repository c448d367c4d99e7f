use burn::tensor::Tensor;
use kd_quant::observer::{Histogram, MinMax, MovingAverage, Observer, Symmetry};
use kd_quant::{Affine, Granularity, Grid, Scaling};

use super::unknown;
use crate::case::{Case, Failure, ok, read, wide};

fn grid(case: &Case) -> Result<Grid, Failure> {
    ok(Grid::new(case.number("quant_min")? as i32, case.number("quant_max")? as i32))
}

fn granularity(case: &Case, key: &str) -> Granularity {
    match case.number(key) {
        Ok(axis) if axis >= 0.0 => Granularity::Channel { axis: axis as usize },
        _ => Granularity::Tensor,
    }
}

/// torch multiplies by the inverse.
fn torch(case: &Case) -> Result<Affine, Failure> {
    Ok(Affine {
        granularity: granularity(case, "axis"),
        scaling: Scaling::MultiplyByInverse,
        ..Affine::new(grid(case)?)
    })
}

pub fn run(case: &Case) -> Result<(), Failure> {
    if case.name.starts_with("observer_") {
        observer(case)
    } else if case.name.starts_with("learnable_") {
        let rule = Affine { gradient_scale: case.number("grad_factor")? as f32, ..torch(case)? };
        let leaf = |name| case.values(name).map(|values| case.row_leaf(&values));
        let (x, scale, zero) = (case.leaf("x")?, leaf("scale")?, leaf("zero_point")?);
        let integral = rule.integral_zero_point(zero.clone());
        let y = ok(rule.quantize(x.clone(), scale.clone(), integral))?;
        case.value("y", &y)?;
        let gradients = case.backward(&y, "upstream_grad")?;
        case.gradient("grad_x", &x, &gradients)?;
        case.gradient("grad_scale", &scale, &gradients)?;
        case.gradient("grad_zero_point", &zero, &gradients)
    } else if case.name.starts_with("fake_quant_") {
        let (scale, zero): (Tensor<1>, Tensor<1>) = if case.has("scale") {
            (case.flat("scale")?, case.flat("zero_point")?)
        } else {
            (case.row(&[case.number("scale")?]), case.row(&[case.number("zero_point")?]))
        };
        let x = case.leaf("x")?;
        let y = ok(torch(case)?.quantize(x.clone(), scale, zero))?;
        case.value("y", &y)?;
        case.gradient("grad_x", &x, &case.backward(&y, "upstream_grad")?)
    } else {
        unknown(case)
    }
}

fn watch(case: &Case, mut observer: impl Observer) -> Result<(), Failure> {
    for batch in ["batch0", "batch1", "batch2"] {
        ok(observer.observe(case.tensor(batch)?))?;
    }
    let ranges = ok(observer.ranges())?;
    let histogram = case.name.contains("histogram");
    if !histogram {
        case.near("min_val", &wide(&ranges.min), 1e-6)?;
        case.near("max_val", &wide(&ranges.max), 1e-6)?;
    }
    let scheme = case.param("qscheme").and_then(|scheme| scheme.as_str()).unwrap_or_default();
    let symmetry = if scheme.ends_with("symmetric") { Symmetry::Symmetric } else { Symmetry::Affine };
    let found = ok(ranges.parameters(grid(case)?, symmetry))?;
    case.relative("scale", &wide(&found.scale), if histogram { 1e-5 } else { 1e-6 })?;
    case.near("zero_point", &wide(&found.zero_point), 0.0)?;
    let (scale, _) = found.tensors(&case.device());
    case.relative("scale", &read(&scale), 1e-5)
}

fn observer(case: &Case) -> Result<(), Failure> {
    let granularity = granularity(case, "ch_axis");
    match case.param("class").and_then(|class| class.as_str()) {
        Some("MinMaxObserver" | "PerChannelMinMaxObserver") => watch(case, MinMax::new(granularity)),
        Some("MovingAverageMinMaxObserver" | "MovingAveragePerChannelMinMaxObserver") => {
            let constant = case.number("averaging_constant")? as f32;
            watch(case, ok(MovingAverage::new(granularity, constant))?)
        }
        Some("HistogramObserver") => {
            let mut histogram = ok(Histogram::new(grid(case)?, case.number("bins")? as usize))?;
            for batch in ["batch0", "batch1", "batch2"] {
                ok(histogram.observe(case.tensor(batch)?))?;
            }
            let (low, high) = histogram.extremes().ok_or("nothing was observed")?;
            case.near("min_val", &[f64::from(low)], 1e-6)?;
            case.near("max_val", &[f64::from(high)], 1e-6)?;
            watch(case, ok(Histogram::new(grid(case)?, case.number("bins")? as usize))?)
        }
        _ => unknown(case),
    }
}
