//! Windows over the last axes that read no parameters, and images at another size.

use super::arithmetic::Window;
use super::call::{Call, Inferred};
use crate::{Dim, Kind, Pool, PoolKind, TensorType};

fn image(call: &Call, x: &TensorType, axes: usize, most: usize) -> Inferred<()> {
    call.kind(x, "x", Kind::Float)?;
    call.ensure((1..=most).contains(&axes), || format!("{axes} axes; 1 to {most} are supported"))?;
    call.rank(x, "x", axes + 2)
}

pub(super) fn pool(call: &Call, pool: &Pool) -> Inferred {
    let [x] = call.exactly()?;
    let Pool { kind, kernel, stride, padding, dilation, ceil } = pool;
    let axes = kernel.len();
    image(call, x, axes, 3)?;
    call.ensure([stride.len(), padding.len(), dilation.len()] == [axes; 3], || {
        format!("stride, padding and dilation need one entry for each of {axes} axes")
    })?;
    let average = matches!(kind, PoolKind::Average { .. });
    call.ensure(!average || dilation.iter().all(|&step| step == 1), || "an average has no dilation")?;
    let mut shape = x.shape.clone();
    let windows = kernel.iter().zip(stride).zip(padding).zip(dilation).enumerate();
    for (axis, (((&kernel, &stride), &padding), &dilation)) in windows {
        let size = call.fixed(call.axis(x, axis + 2)?, "the size of the image")?;
        let window = Window { kernel, stride, dilation, before: padding, after: padding, ceil: *ceil };
        shape = shape.with(axis + 2, Dim::Fixed(window.count(call, size)?));
    }
    Ok(TensorType::float(shape))
}

pub(super) fn adaptive(call: &Call, size: &[usize]) -> Inferred {
    let [x] = call.exactly()?;
    image(call, x, size.len(), 2)?;
    resized(call, x, size)
}

pub(super) fn interpolate(call: &Call, size: [usize; 2]) -> Inferred {
    let [x] = call.exactly()?;
    image(call, x, 2, 2)?;
    resized(call, x, &size)
}

fn resized(call: &Call, x: &TensorType, size: &[usize]) -> Inferred {
    let mut shape = x.shape.clone();
    for (axis, &size) in size.iter().enumerate() {
        call.ensure(size > 0, || "a size of 0")?;
        call.fixed(call.axis(x, axis + 2)?, "the size of the image")?;
        shape = shape.with(axis + 2, Dim::Fixed(size));
    }
    Ok(TensorType::float(shape))
}
