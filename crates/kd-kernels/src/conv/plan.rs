//! How a pass over a convolution walks its source.
//!
//! Forward and input gradient are the same computation: every output position gathers, for a list of
//! steps, runs of source channels. The source image is first copied into a scratch image which
//!
//! - has its zero padding, so that no step needs a bound,
//! - has blocks of [`BLOCK`] channels, so that neighbouring columns are a constant distance apart,
//! - has its rows and columns sorted by their remainder modulo the stride, so that neighbouring output
//!   positions always read neighbouring columns.
//!
//! The input gradient of a strided convolution falls into phases: input positions with the same
//! remainder modulo the stride see the same part of the kernel, a small dense convolution of its own.

use crate::geometry::Conv2d;
use std::ops::Range;

/// Channels that lie together in the scratch image: a cache line.
pub(crate) const BLOCK: usize = 16;

/// One spatial dimension.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// Length of the source.
    pub source: usize,
    /// Zeros before it.
    pub before: usize,
    /// Remainders that positions are sorted by.
    pub interleave: usize,
    /// Slots for each remainder.
    pub slots: usize,
    phases: Vec<AxisPhase>,
}

/// Outputs `first + step * i`, `i < count`; tap `k` reads slot `slot + i`.
#[derive(Clone, Debug)]
struct AxisPhase {
    span: Span,
    taps: Vec<(usize, usize)>,
}

/// Positions `first + step * i`, `i < count`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

impl Span {
    /// The `i` whose positions lie in `from..to`.
    pub fn within(&self, from: usize, to: usize) -> Range<usize> {
        let index = |position: usize| position.saturating_sub(self.first).div_ceil(self.step).min(self.count);
        index(from)..index(to)
    }
}

impl Axis {
    fn forward(
        source: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        dilation: usize,
        output: usize,
    ) -> Self {
        let slots = (kernel - 1) * dilation / stride + output;
        let slot = |k: usize| (k * dilation % stride) * slots + k * dilation / stride;
        let phase = AxisPhase {
            span: Span { first: 0, step: 1, count: output },
            taps: (0..kernel).map(|k| (k, slot(k))).collect(),
        };
        Self { source, before: padding, interleave: stride, slots, phases: vec![phase] }
    }

    /// `source` is the output of the forward pass, `target` its input.
    fn backward(
        source: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        dilation: usize,
        target: usize,
    ) -> Self {
        let before = (kernel - 1) * dilation / stride;
        let phases: Vec<AxisPhase> = (0..stride)
            .map(|remainder| {
                // Target position `stride * m + remainder - padding`, from the first `m` where it exists.
                let m = padding.saturating_sub(remainder).div_ceil(stride);
                let first = stride * m + remainder - padding;
                let count = target.saturating_sub(first).div_ceil(stride);
                let taps = (0..kernel)
                    .filter(|k| k * dilation % stride == remainder)
                    .map(|k| (k, m + before - (k * dilation - remainder) / stride))
                    .collect();
                AxisPhase { span: Span { first, step: stride, count }, taps }
            })
            .filter(|phase| phase.span.count > 0)
            .collect();
        let ends = phases.iter().flat_map(|p| p.taps.iter().map(|(_, slot)| slot + p.span.count));
        let slots = ends.max().unwrap_or(0);
        Self { source, before, interleave: 1, slots, phases }
    }

    /// Slots of every remainder that targets in `from..to` read.
    pub fn needed(&self, from: usize, to: usize) -> Range<usize> {
        let mut needed = self.slots..0;
        for phase in &self.phases {
            let targets = phase.span.within(from, to);
            for (_, slot) in phase.taps.iter().filter(|_| !targets.is_empty()) {
                let slot = slot % self.slots;
                needed = needed.start.min(slot + targets.start)..needed.end.max(slot + targets.end);
            }
        }
        needed
    }

    /// The `i < count` for which slot `slot + i` holds a source position.
    fn inside(&self, slot: usize, count: usize) -> Range<usize> {
        let (filled, _) = self.filled(slot / self.slots);
        let index = |end: usize| end.saturating_sub(slot % self.slots).min(count);
        index(filled.start)..index(filled.end)
    }

    /// Slots of all remainders.
    pub fn total(&self) -> usize {
        self.interleave * self.slots
    }

    /// Slots of `remainder` that hold source positions (the others hold zeros), and the first of them.
    pub fn filled(&self, remainder: usize) -> (Range<usize>, usize) {
        let slot = |position: usize| {
            (position + self.before).saturating_sub(remainder).div_ceil(self.interleave).min(self.slots)
        };
        let range = slot(0)..slot(self.source);
        let first = (range.start * self.interleave + remainder).saturating_sub(self.before);
        (range, first)
    }
}

/// A run of source values, the same distance from every output position.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Numbers from the output position's slot to the run.
    pub offset: usize,
    /// Values in the run, at most [`BLOCK`].
    pub len: usize,
    /// The kernel's row and column.
    tap: [usize; 2],
    /// Source channel of the first value.
    channel: usize,
    /// Rows and columns of the phase where it reads more than padding.
    pub rows: Range<usize>,
    pub cols: Range<usize>,
}

/// Neighbouring rows of a phase which read more than padding in the same steps.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    pub rows: Range<usize>,
    pub steps: Range<usize>,
    /// Values in the steps before.
    pub start: usize,
}

/// Outputs that share their steps.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub rows: Span,
    pub cols: Span,
    pub steps: Vec<Step>,
    pub bands: Vec<Band>,
    /// Values in all steps.
    pub depth: usize,
    /// Values in the phases before.
    pub start: usize,
}

/// What is computed from the scratch image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sums over source channels.
    Dense,
    /// Dense, and a run holds a whole row of the kernel: for few channels.
    Merged,
    /// Every channel by itself.
    Depthwise,
    /// Windows that are transformed before and after the products.
    Winograd,
}

/// A pass: the scratch image and what is gathered from it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub kind: Kind,
    pub rows: Axis,
    pub cols: Axis,
    /// Channels of the source and the target in a group.
    pub source_channels: usize,
    pub target_channels: usize,
    pub groups: usize,
    pub phases: Vec<Phase>,
    /// Columns of the kernel, and the stride along a row.
    pub merged: [usize; 2],
    /// Whether the kernel is turned by half a turn.
    pub flipped: bool,
    /// Distance in the weight between target channels, source channels, and kernel rows.
    weight_strides: [usize; 3],
}

impl Plan {
    pub fn forward(c: &Conv2d, output: [usize; 2]) -> Self {
        let axis = |i: usize| {
            Axis::forward(c.input[i], c.kernel[i], c.stride[i], c.padding[i], c.dilation[i], output[i])
        };
        let (channels, area) = (c.in_channels / c.groups, c.kernel[0] * c.kernel[1]);
        let merges = c.kernel[1] > 1 && c.dilation[1] == 1 && channels * c.kernel[1] <= BLOCK;
        let mut plan = Self {
            kind: if is_depthwise(c) {
                Kind::Depthwise
            } else if merges {
                Kind::Merged
            } else {
                Kind::Dense
            },
            rows: axis(0),
            cols: axis(1),
            source_channels: channels,
            target_channels: c.out_channels / c.groups,
            groups: c.groups,
            phases: Vec::new(),
            merged: [c.kernel[1], c.stride[1]],
            flipped: false,
            weight_strides: [channels * area, area, c.kernel[1]],
        };
        if plan.kind == Kind::Merged {
            plan.cols.slots = output[1];
            plan.cols.interleave = 1;
        }
        plan.with_phases()
    }

    pub fn backward(c: &Conv2d, output: [usize; 2]) -> Self {
        let axis = |i: usize| {
            Axis::backward(output[i], c.kernel[i], c.stride[i], c.padding[i], c.dilation[i], c.input[i])
        };
        let (channels, area) = (c.in_channels / c.groups, c.kernel[0] * c.kernel[1]);
        Self {
            kind: if is_depthwise(c) { Kind::Depthwise } else { Kind::Dense },
            rows: axis(0),
            cols: axis(1),
            source_channels: c.out_channels / c.groups,
            target_channels: channels,
            groups: c.groups,
            phases: Vec::new(),
            merged: [1, 1],
            flipped: true,
            weight_strides: [area, channels * area, c.kernel[1]],
        }
        .with_phases()
    }

    /// The forward pass, or the input gradient, by minimal filtering; none where the convolution isn't of its kind
    /// or has too few channels to gain.
    pub fn winograd(c: &Conv2d, output: [usize; 2], backward: bool) -> Option<Self> {
        let fits = c.kernel == [3, 3] && c.stride == [1, 1] && c.dilation == [1, 1] && c.groups == 1;
        let wide = c.in_channels.min(c.out_channels) >= BLOCK;
        let large = c.input.into_iter().chain(output).min() >= Some(4);
        if !fits || !wide || !large || (backward && c.padding.into_iter().max() > Some(2)) {
            return None;
        }
        let (channels, area) = ([c.in_channels, c.out_channels], 9);
        let (sizes, padding, channels) = if backward {
            ([output, c.input], c.padding.map(|p| 2 - p), [channels[1], channels[0]])
        } else {
            ([c.input, output], c.padding, channels)
        };
        // One output more than there is, for the last window may reach beyond.
        let axis = |i: usize| Axis::forward(sizes[0][i], 3, 1, padding[i], 1, sizes[1][i] + 1);
        let by_channel = [area, c.in_channels * area];
        let mut plan = Self {
            kind: Kind::Winograd,
            rows: axis(0),
            cols: axis(1),
            source_channels: channels[0],
            target_channels: channels[1],
            groups: 1,
            phases: Vec::new(),
            merged: [1, 1],
            flipped: backward,
            weight_strides: if backward {
                [by_channel[0], by_channel[1], 3]
            } else {
                [by_channel[1], by_channel[0], 3]
            },
        };
        let capacity = winograd_strip(sizes[1][1]) / 2 * sizes[1][1].div_ceil(2);
        let none = AxisPhase { span: Span { first: 0, step: 1, count: 0 }, taps: vec![(0, 0)] };
        let mut steps = plan.steps(&none, &none);
        for (block, step) in steps.iter_mut().enumerate() {
            step.offset = block * capacity * BLOCK;
        }
        let depth = plan.source_channels;
        plan.phases.push(Phase {
            rows: none.span,
            cols: none.span,
            steps,
            bands: Vec::new(),
            depth,
            start: 0,
        });
        Some(plan)
    }

    /// Where the weight has the kernel between two channels; its elements follow one another.
    pub fn kernel_index(&self, target: usize, channel: usize) -> usize {
        target * self.weight_strides[0] + channel * self.weight_strides[1]
    }

    fn with_phases(mut self) -> Self {
        let mut start = 0;
        for rows in &self.rows.phases {
            for cols in &self.cols.phases {
                let steps = self.steps(rows, cols);
                let depth = steps.iter().map(|step| step.len).sum();
                let bands = bands(&steps, rows.span.count);
                self.phases.push(Phase { rows: rows.span, cols: cols.span, steps, bands, depth, start });
                start += depth;
            }
        }
        self
    }

    fn steps(&self, rows: &AxisPhase, cols: &AxisPhase) -> Vec<Step> {
        let row = self.cols.total() * BLOCK;
        let runs: Vec<(usize, usize)> = match self.kind {
            Kind::Dense | Kind::Winograd => (0..self.source_channels)
                .step_by(BLOCK)
                .map(|c| (c, BLOCK.min(self.source_channels - c)))
                .collect(),
            Kind::Merged => vec![(0, self.source_channels * self.merged[0])],
            Kind::Depthwise => vec![(0, BLOCK)],
        };
        let taps = if self.kind == Kind::Merged { &cols.taps[..1] } else { &cols.taps[..] };
        let mut steps = Vec::new();
        // Rows of the kernel outermost, so that a band's steps follow one another.
        for &(k, row_slot) in &rows.taps {
            for &(channel, len) in &runs {
                for &(l, col_slot) in taps {
                    let offset = channel / BLOCK * self.block_len() + row_slot * row + col_slot * BLOCK;
                    let columns = match self.kind {
                        Kind::Merged => 0..cols.span.count,
                        _ => self.cols.inside(col_slot, cols.span.count),
                    };
                    let rows = self.rows.inside(row_slot, rows.span.count);
                    steps.push(Step { offset, len, tap: [k, l], channel, rows, cols: columns });
                }
            }
        }
        steps
    }

    /// Numbers in the scratch image of one block of channels.
    pub fn block_len(&self) -> usize {
        self.rows.total() * self.cols.total() * BLOCK
    }

    /// Blocks in the scratch image, which holds a group at a time, or all channels of a depthwise pass.
    pub fn blocks(&self) -> usize {
        match self.kind {
            Kind::Dense | Kind::Winograd => self.source_channels.div_ceil(BLOCK),
            Kind::Merged => 1,
            Kind::Depthwise => self.groups.div_ceil(BLOCK),
        }
    }

    /// Values in the steps of all phases.
    pub fn depth(&self) -> usize {
        self.phases.last().map_or(0, |phase| phase.start + phase.depth)
    }

    /// Where the weight has what multiplies value `run` of `step` for a target channel of a group.
    pub fn weight_index(&self, group: usize, target: usize, step: &Step, run: usize) -> usize {
        let (channel, column) = match self.kind {
            Kind::Merged => (run % self.source_channels, run / self.source_channels),
            _ => (step.channel + run, step.tap[1]),
        };
        let [by_target, by_channel, by_row] = self.weight_strides;
        let per_group = self.source_channels * self.target_channels * by_channel.min(by_target);
        group * per_group + target * by_target + channel * by_channel + step.tap[0] * by_row + column
    }
}

/// Rows of outputs whose windows are transformed together, where a row is `width` wide: enough windows to be split
/// among tiles, few enough to stay in the cache.
pub(crate) fn winograd_strip(width: usize) -> usize {
    2 * (128 / width.div_ceil(2)).max(1)
}

fn bands(steps: &[Step], rows: usize) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    for row in 0..rows {
        let reads = |step: &Step| step.rows.contains(&row);
        let first = steps.iter().position(reads).unwrap_or(0);
        let steps_of_row = first..steps.iter().rposition(reads).map_or(first, |last| last + 1);
        match bands.last_mut() {
            Some(band) if band.steps == steps_of_row => band.rows.end = row + 1,
            _ => {
                let start = steps[..first].iter().map(|step| step.len).sum();
                bands.push(Band { rows: row..row + 1, steps: steps_of_row, start });
            }
        }
    }
    bands
}

fn is_depthwise(c: &Conv2d) -> bool {
    c.groups > 1 && c.groups == c.in_channels && c.groups == c.out_channels
}
