//! Convolution and its transpose.

use super::arithmetic::Window;
use super::call::{Call, Inferred};
use crate::{Conv, ConvTranspose, Dim, Kind, TensorType};

/// Channels, windows and bias of either direction.
struct Layer<'a> {
    x: &'a TensorType,
    channels: usize,
    /// Both channel axes of the weight, then the window.
    weight: Vec<usize>,
    /// Sizes of the axes that the window moves along.
    space: Vec<usize>,
}

fn layer<'a>(call: &Call<'a>, axes: usize, lists: &[usize], groups: usize) -> Inferred<Layer<'a>> {
    let ([x, weight], bias) = call.optional(1, "2 or 3")?;
    call.ensure((1..=3).contains(&axes), || format!("a window over {axes} axes; 1 to 3 are supported"))?;
    call.ensure(lists.iter().all(|&length| length == axes), || {
        format!("stride, padding and dilation need one entry for each of {axes} axes")
    })?;
    call.ensure(groups > 0, || "groups must be at least 1")?;
    call.kind(x, "x", Kind::Float)?;
    call.kind(weight, "the weight", Kind::Float)?;
    call.rank(x, "x", axes + 2)?;
    call.rank(weight, "the weight", axes + 2)?;
    if let [bias] = bias {
        call.kind(bias, "the bias", Kind::Float)?;
        call.rank(bias, "the bias", 1)?;
    }
    let space = x.shape.dims().iter().skip(2);
    Ok(Layer {
        x,
        channels: call.fixed(call.axis(x, 1)?, "the number of channels")?,
        weight: weight
            .shape
            .dims()
            .iter()
            .map(|&dim| call.fixed(dim, "the weight"))
            .collect::<Result<_, _>>()?,
        space: space.map(|&dim| call.fixed(dim, "the size of the image")).collect::<Result<_, _>>()?,
    })
}

fn result(call: &Call, x: &TensorType, channels: usize, space: Vec<usize>) -> Inferred {
    if let Some(bias) = call.inputs.get(2) {
        call.vector(bias, "the bias", channels)?;
    }
    let sizes = [channels].into_iter().chain(space).map(Dim::Fixed);
    let shape = x.shape.dims().iter().take(1).copied().chain(sizes).collect();
    Ok(TensorType::float(shape))
}

pub(super) fn conv(call: &Call, conv: &Conv) -> Inferred {
    let Conv { stride, padding, dilation, groups } = conv;
    let axes = conv.axes();
    let Layer { x, channels, weight, space } = layer(call, axes, &[padding.len(), dilation.len()], *groups)?;
    let [out, within, kernel @ ..] = weight.as_slice() else {
        return Err(call.mismatch("the weight has too few axes"));
    };
    call.ensure(within.checked_mul(*groups) == Some(channels), || {
        format!("{channels} channels in {groups} groups do not fit a weight for {within} each")
    })?;
    call.ensure(out.is_multiple_of(*groups), || {
        format!("{out} output channels do not divide into {groups} groups")
    })?;
    let windows = kernel.iter().zip(stride).zip(dilation).zip(padding).zip(space);
    let space = windows
        .map(|((((&kernel, &stride), &dilation), &(before, after)), size)| {
            Window { kernel, stride, dilation, before, after, ceil: false }.count(call, size)
        })
        .collect::<Result<_, _>>()?;
    result(call, x, *out, space)
}

pub(super) fn transposed(call: &Call, conv: &ConvTranspose) -> Inferred {
    let ConvTranspose { stride, padding, padding_out, dilation, groups } = conv;
    let lists = [padding.len(), padding_out.len(), dilation.len()];
    let Layer { x, channels, weight, space } = layer(call, stride.len(), &lists, *groups)?;
    let [into, within, kernel @ ..] = weight.as_slice() else {
        return Err(call.mismatch("the weight has too few axes"));
    };
    call.ensure(*into == channels, || format!("{channels} channels do not fit a weight for {into}"))?;
    call.ensure(into.is_multiple_of(*groups), || {
        format!("{into} input channels do not divide into {groups} groups")
    })?;
    let sizes = space.iter().zip(kernel).zip(stride).zip(dilation).zip(padding).zip(padding_out);
    let space = sizes
        .map(|(((((&size, &kernel), &stride), &dilation), &padding), &end)| {
            call.ensure(kernel > 0 && stride > 0 && dilation > 0 && size > 0, || {
                format!(
                    "size {size}, window {kernel}, stride {stride} and dilation {dilation} must be at least 1"
                )
            })?;
            let spread = (size - 1).checked_mul(stride);
            let reach = (kernel - 1).checked_mul(dilation);
            spread
                .and_then(|spread| spread.checked_add(reach?)?.checked_add(end)?.checked_add(1))
                .and_then(|full| full.checked_sub(padding.checked_mul(2)?))
                .ok_or_else(|| call.mismatch(format!("a padding of {padding} cuts off more than there is")))
        })
        .collect::<Result<_, _>>()?;
    let out = within.checked_mul(*groups).ok_or_else(|| call.mismatch("the size overflows"))?;
    result(call, x, out, space)
}
