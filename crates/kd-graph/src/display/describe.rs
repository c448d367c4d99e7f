//! An operation with its attributes in a few words.

use crate::{Activation, Conv, ConvTranspose, Graph, Node, Op, Pool, Scalar, Shape};

impl Graph {
    /// `conv2d 3x3, stride 2, padding 1`: what is as usual is left out.
    pub(super) fn describe(&self, node: &Node) -> String {
        let attributes = match node.op() {
            Op::Conv(Conv { stride, padding, dilation, groups }) => {
                let both: Vec<_> = padding.iter().map(|&(before, after)| before.max(after)).collect();
                let uneven = padding.iter().any(|(before, after)| before != after);
                let padding =
                    if uneven { format!("padding {padding:?}") } else { unless(&both, 0, "padding") };
                join([
                    self.window(node),
                    unless(stride, 1, "stride"),
                    padding,
                    unless(dilation, 1, "dilation"),
                    unless(&[*groups], 1, "groups"),
                ])
            }
            Op::ConvTranspose(ConvTranspose { stride, padding, padding_out, dilation, groups }) => join([
                self.window(node),
                unless(stride, 1, "stride"),
                unless(padding, 0, "padding"),
                unless(padding_out, 0, "at the end"),
                join([unless(dilation, 1, "dilation"), unless(&[*groups], 1, "groups")]),
            ]),
            Op::Pool(Pool { kernel, stride, padding, dilation, ceil, .. }) => join([
                times(kernel),
                unless(stride, 1, "stride"),
                unless(padding, 0, "padding"),
                unless(dilation, 1, "dilation"),
                if *ceil { "ceil".to_owned() } else { String::new() },
            ]),
            Op::AdaptiveAvgPool { size } => format!("to {}", times(size)),
            Op::Interpolate { size, mode, .. } => format!("to {}, {mode:?}", times(size)),
            Op::GroupNorm { groups, .. } => format!("groups {groups}"),
            Op::Activation(Activation::LeakyRelu { slope }) => format!("{slope}"),
            Op::Literal { value, .. } | Op::MaskFill { value } => number(*value),
            Op::Full { value, .. } => number(*value),
            Op::Clamp { min, max } => format!("{min} to {max}"),
            Op::Cast { kind, precision } => precision.clone().unwrap_or_else(|| kind.to_string()),
            Op::Dropout { rate } => format!("{rate}"),
            Op::Permute { axes } | Op::Flip { axes } => format!("{axes:?}"),
            Op::Repeat { axis, times } => format!("axis {axis}, {times} times"),
            Op::Cat { axis } | Op::Select { axis } | Op::Gather { axis } => format!("axis {axis}"),
            Op::Softmax { axis } | Op::LogSoftmax { axis } => format!("axis {axis}"),
            Op::Reduce { axes: Some(axes), .. } => format!("axes {axes:?}"),
            Op::Slice { ranges } | Op::SliceAssign { ranges } => {
                let shape =
                    node.inputs().first().and_then(|&id| self.node(id).ok()).map(|x| &x.output().shape);
                parts(ranges, shape)
            }
            Op::Pad { padding, .. } => {
                let sides: Vec<_> =
                    padding.iter().map(|(before, after)| format!("{before}+{after}")).collect();
                sides.join(", ")
            }
            Op::Attention(attention) => join([
                if attention.causal { "causal".to_owned() } else { String::new() },
                if attention.masked { "masked".to_owned() } else { String::new() },
                if attention.biased { "biased".to_owned() } else { String::new() },
                String::new(),
                String::new(),
            ]),
            Op::LayeredAttention(attention) if attention.masks > 0 => "masked".to_owned(),
            _ => String::new(),
        };
        if attributes.is_empty() { node.op().word() } else { format!("{} {attributes}", node.op().word()) }
    }

    /// Size of the weight's window.
    fn window(&self, node: &Node) -> String {
        let weight = node.inputs().get(1).and_then(|&id| self.node(id).ok());
        let sizes: Vec<_> =
            weight.map_or(&[][..], |weight| weight.output().shape.dims()).iter().skip(2).collect();
        sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
    }
}

fn join<const N: usize>(parts: [String; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn times(sizes: &[usize]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// `stride 2`, or `stride 2x1` where axes differ; nothing where all are as usual.
fn unless(sizes: &[usize], usual: usize, what: &str) -> String {
    match sizes {
        sizes if sizes.iter().all(|&size| size == usual) => String::new(),
        [first, rest @ ..] if rest.iter().all(|size| size == first) => format!("{what} {first}"),
        sizes => format!("{what} {}", times(sizes)),
    }
}

/// Large and long literals in few letters: masks are often filled with -1e9.
fn number(value: Scalar) -> String {
    match value {
        Scalar::Float(value) if value != 0.0 && !(1e-3..1e5).contains(&value.abs()) => format!("{value:e}"),
        value => value.to_string(),
    }
}

/// The ranges of a slice, whole axes as `:`.
fn parts(ranges: &[crate::Range], shape: Option<&Shape>) -> String {
    let part = |(axis, range): (usize, &crate::Range)| {
        let whole = shape.and_then(|shape| shape.dim(axis)).is_some_and(|size| range.is_all(size));
        match (whole, range.step) {
            (true, _) => ":".to_owned(),
            (false, 1) => format!("{}:{}", range.start, range.end),
            (false, step) => format!("{}:{}:{step}", range.start, range.end),
        }
    };
    format!("[{}]", ranges.iter().enumerate().map(part).collect::<Vec<_>>().join(", "))
}
