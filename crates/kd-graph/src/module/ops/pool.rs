//! Windows moved over images.

use burn::backend::Dispatch;
use burn::backend::ops::ModuleOps;
use burn::tensor::ops::{InterpolateMode as BurnMode, InterpolateOptions};

use super::super::Value;
use super::layer::array;
use super::{Args, Reason};
use crate::{InterpolateMode, Pool, PoolKind};

pub(super) fn pool(pool: &Pool, mut args: Args) -> Result<Value, Reason> {
    let x = args.float()?;
    Ok(Value::Float(match (pool.kernel.len(), pool.kind) {
        (1, PoolKind::Max) => {
            let [kernel] = array(&pool.kernel, "kernel")?;
            let [stride] = array(&pool.stride, "stride")?;
            let [padding] = array(&pool.padding, "padding")?;
            let [dilation] = array(&pool.dilation, "dilation")?;
            Dispatch::max_pool1d(x, kernel, stride, padding, dilation, pool.ceil)
        }
        (1, PoolKind::Average { count_padding }) => {
            let [kernel] = array(&pool.kernel, "kernel")?;
            let [stride] = array(&pool.stride, "stride")?;
            let [padding] = array(&pool.padding, "padding")?;
            Dispatch::avg_pool1d(x, kernel, stride, padding, count_padding, pool.ceil)
        }
        (2, PoolKind::Max) => Dispatch::max_pool2d(
            x,
            array(&pool.kernel, "kernel")?,
            array(&pool.stride, "stride")?,
            array(&pool.padding, "padding")?,
            array(&pool.dilation, "dilation")?,
            pool.ceil,
        ),
        (2, PoolKind::Average { count_padding }) => Dispatch::avg_pool2d(
            x,
            array(&pool.kernel, "kernel")?,
            array(&pool.stride, "stride")?,
            array(&pool.padding, "padding")?,
            count_padding,
            pool.ceil,
        ),
        (axes, _) => return Err(format!("burn does not pool over {axes} axes")),
    }))
}

pub(super) fn adaptive_avg(size: &[usize], mut args: Args) -> Result<Value, Reason> {
    let x = args.float()?;
    Ok(Value::Float(match *size {
        [size] => Dispatch::adaptive_avg_pool1d(x, size),
        [height, width] => Dispatch::adaptive_avg_pool2d(x, [height, width]),
        [depth, height, width] => Dispatch::adaptive_avg_pool3d(x, [depth, height, width]),
        _ => return Err(format!("burn does not pool over {} axes", size.len())),
    }))
}

pub(super) fn interpolate(
    size: [usize; 2],
    mode: InterpolateMode,
    align_corners: bool,
    mut args: Args,
) -> Result<Value, Reason> {
    let mode = match mode {
        InterpolateMode::Nearest => BurnMode::Nearest,
        InterpolateMode::NearestExact => BurnMode::NearestExact,
        InterpolateMode::Bilinear => BurnMode::Bilinear,
        InterpolateMode::Bicubic => BurnMode::Bicubic,
        InterpolateMode::Lanczos3 => BurnMode::Lanczos3,
    };
    let options = InterpolateOptions::new(mode).with_align_corners(align_corners).with_output_size(size);
    Ok(Value::Float(Dispatch::interpolate(args.float()?, size, options)))
}
