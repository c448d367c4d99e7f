//! Convolutions.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use burn_flex::FlexTensor;
use kd_kernels::conv::{self, Epilogue, Sums};
use kd_kernels::norm::statistics_from_sums;
use kd_kernels::{Conv2d, Geometry, KernelError};

use super::{Window, channels_last, dense, dims, filled, images, numbers};
use crate::kernels::pooled::{Buffer, POOL};

/// Checked sizes with the kernels' plans. A net has a few dozen at a few batch sizes; making one is worth a small convolution's time.
static GEOMETRIES: LazyLock<Mutex<HashMap<Conv2d, Arc<Geometry>>>> = LazyLock::new(Mutex::default);

/// More than this many are forgotten, all at once.
const KEPT: usize = 1024;

/// The geometry of a convolution over `x [n, c, h, w]`.
pub(super) fn geometry(
    x: [usize; 4],
    weight: [usize; 4],
    window: Window,
) -> Result<Arc<Geometry>, KernelError> {
    let [batch, in_channels, height, width] = x;
    let [out_channels, _, kernel_height, kernel_width] = weight;
    let Window { stride, padding, dilation, groups } = window;
    let settings = Conv2d {
        batch,
        input: [height, width],
        in_channels,
        out_channels,
        kernel: [kernel_height, kernel_width],
        stride,
        padding,
        dilation,
        groups,
    };
    let mut kept = GEOMETRIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(geometry) = kept.get(&settings) {
        return Ok(geometry.clone());
    }
    let geometry = Arc::new(Geometry::new(settings)?);
    if kept.len() >= KEPT {
        kept.clear();
    }
    kept.insert(settings, geometry.clone());
    Ok(geometry)
}

/// Sizes of the result; 0 where the geometry is impossible.
pub(super) fn output(
    geometry: &Result<Arc<Geometry>, KernelError>,
    x: [usize; 4],
    weight: [usize; 4],
) -> [usize; 4] {
    let [height, width] = geometry.as_ref().map_or([0, 0], |geometry| geometry.output());
    let ([batch, ..], [out, ..]) = (x, weight);
    [batch, out, height, width]
}

pub(super) fn forward(
    x: FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
    window: Window,
    relu: bool,
) -> FlexTensor {
    let (sizes, kernel) = (dims(&x), dims(weight));
    let geometry = geometry(sizes, kernel, window);
    let shape = output(&geometry, sizes, kernel);
    let (x, weight, bias) = (channels_last(x), weight.to_contiguous(), bias.map(FlexTensor::to_contiguous));
    let y = filled(shape.iter().product(), |y| {
        let epilogue = Epilogue { bias: bias.as_ref().map(numbers), relu, ..Epilogue::default() };
        conv::forward(&*geometry?, numbers(&x), numbers(&weight), epilogue, y, &POOL)
    });
    images(y, shape)
}

/// The convolution, and mean and biased variance of every channel. `near` should be near the mean.
pub(super) fn forward_with_moments(
    x: FlexTensor,
    weight: &FlexTensor,
    near: &FlexTensor,
    window: Window,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let (sizes, kernel) = (dims(&x), dims(weight));
    let geometry = geometry(sizes, kernel, window);
    let shape = output(&geometry, sizes, kernel);
    let [batch, channels, height, width] = shape;
    let (x, weight, near) = (channels_last(x), weight.to_contiguous(), near.to_contiguous());
    let (mut sum, mut square_sum) = (vec![0.0; channels], vec![0.0; channels]);
    let y = filled(shape.iter().product(), |y| {
        let sums = Sums { shift: numbers(&near), sum: &mut sum, square_sum: &mut square_sum };
        let epilogue = Epilogue { sums: Some(sums), ..Epilogue::default() };
        conv::forward(&*geometry?, numbers(&x), numbers(&weight), epilogue, y, &POOL)
    });
    let mut variance = Buffer::new(channels);
    let mean = filled(channels, |mean| {
        let rows = batch * height * width;
        statistics_from_sums(rows, numbers(&near), &sum, &square_sum, mean, variance.slice())
    });
    (images(y, shape), dense(mean, [channels]), dense(variance, [channels]))
}

pub(super) fn gradients(
    x: FlexTensor,
    weight: &FlexTensor,
    dy: FlexTensor,
    window: Window,
    [wants_x, wants_weight, wants_bias]: [bool; 3],
) -> [Option<FlexTensor>; 3] {
    let (sizes, kernel) = (dims(&x), dims(weight));
    let [out, ..] = kernel;
    let geometry = geometry(sizes, kernel, window);
    let (x, weight, dy) = (channels_last(x), weight.to_contiguous(), channels_last(dy));

    let dx = wants_x.then(|| {
        let dx = filled(sizes.iter().product(), |dx| {
            conv::input_gradient(&*geometry.clone()?, numbers(&dy), numbers(&weight), dx, &POOL)
        });
        images(dx, sizes)
    });
    let mut db = wants_bias.then(|| Buffer::new(out));
    let dw = (wants_weight || wants_bias).then(|| {
        let dw = filled(kernel.iter().product(), |dw| {
            let db = db.as_mut().map(Buffer::slice);
            conv::weight_gradient(&*geometry.clone()?, numbers(&x), numbers(&dy), dw, db, &POOL)
        });
        dense(dw, kernel)
    });
    [dx, dw.filter(|_| wants_weight), db.map(|db| dense(db, [out]))]
}
