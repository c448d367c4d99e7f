//! The weight in the order in which the micro-kernels read it.
//!
//! Dense: group, phase, block of target channels, step, value of the run, channel of the block.
//! Winograd: position, then as dense with the channels as one run.
//! Depthwise: block of channels, phase, step, channel of the block.

use super::plan::{BLOCK, Kind, Plan};
use super::winograd::{self, POSITIONS};
use crate::error::length;
use crate::simd::{Kernel, Level, Simd, dispatch};
use crate::{Geometry, KernelError};
use std::ops::Range;

/// Vectors of target channels that a micro-kernel computes at once.
pub(crate) const VECTORS: usize = 2;

struct Lanes;

impl Kernel for Lanes {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::LANES
    }
}

/// Lanes of the vectors that `level` computes with.
pub(crate) fn lanes(level: Level) -> usize {
    dispatch(level, Lanes)
}

/// Target channels of a group, filled up to whole vectors.
pub(crate) fn padded_channels(plan: &Plan, lanes: usize) -> usize {
    plan.target_channels.next_multiple_of(lanes)
}

/// Blocks of target channels with the vectors in each.
pub(crate) fn channel_blocks(
    plan: &Plan,
    lanes: usize,
) -> impl Iterator<Item = (Range<usize>, usize)> + use<> {
    let channels = plan.target_channels;
    (0..channels).step_by(VECTORS * lanes).map(move |from| {
        let to = channels.min(from + VECTORS * lanes);
        (from..to, (to - from).div_ceil(lanes))
    })
}

/// Numbers in the packed weight.
pub(crate) fn packed_len(plan: &Plan, lanes: usize) -> usize {
    match plan.kind {
        Kind::Depthwise => plan.groups.div_ceil(BLOCK) * plan.depth(),
        Kind::Winograd => POSITIONS * plan.depth() * padded_channels(plan, lanes),
        _ => plan.groups * plan.depth() * padded_channels(plan, lanes),
    }
}

/// Calls `visit(packed position, weight position)` for every number of the packed weight that isn't filling.
fn visit(plan: &Plan, lanes: usize, mut visit: impl FnMut(usize, usize)) {
    if plan.kind == Kind::Depthwise {
        for channel in 0..plan.groups {
            let block = channel / BLOCK * plan.depth() + channel % BLOCK;
            for (i, step) in plan.phases.iter().flat_map(|phase| &phase.steps).enumerate() {
                visit(block + i * BLOCK, plan.weight_index(channel, 0, step, 0));
            }
        }
        return;
    }
    let padded = padded_channels(plan, lanes);
    for group in 0..plan.groups {
        for phase in &plan.phases {
            let mut at = (group * plan.depth() + phase.start) * padded;
            for (channels, vectors) in channel_blocks(plan, lanes) {
                for step in &phase.steps {
                    for run in 0..step.len {
                        for (i, target) in channels.clone().enumerate() {
                            visit(at + i, plan.weight_index(group, target, step, run));
                        }
                        at += vectors * lanes;
                    }
                }
            }
        }
    }
}

/// Fills `packed` from the weight; the filling becomes zero.
pub(crate) fn pack(plan: &Plan, level: Level, weight: &[f32], packed: &mut [f32]) {
    packed.fill(0.0);
    if plan.kind == Kind::Winograd {
        return winograd::pack(plan, level, weight, packed);
    }
    visit(plan, lanes(level), |to, from| packed[to] = weight[from]);
}

/// The weight's gradient from one in packed order.
pub(crate) fn unpack(plan: &Plan, level: Level, packed: &[f32], weight: &mut [f32]) {
    weight.fill(0.0);
    if plan.kind == Kind::Winograd {
        return winograd::unpack(plan, level, packed, weight);
    }
    visit(plan, lanes(level), |from, to| weight[to] = packed[from]);
}

/// A weight that has been rearranged for [`forward_packed`](super::forward_packed): worth it where it stays
/// the same for many calls, as in inference.
#[derive(Clone, Debug)]
pub struct PackedWeight {
    pub(super) data: Vec<f32>,
    pub(super) level: Level,
}

impl PackedWeight {
    /// Rearranges a weight `[out_channels, in_channels / groups, height, width]`.
    ///
    /// # Errors
    /// [`KernelError::Length`] if the weight isn't as long as the geometry says.
    pub fn new(geometry: &Geometry, weight: &[f32]) -> Result<Self, KernelError> {
        length("weight", weight.len(), geometry.weight_len())?;
        let (plan, level) = (geometry.forward_plan(), Level::current());
        let mut data = vec![0.0; packed_len(plan, lanes(level))];
        pack(plan, level, weight, &mut data);
        Ok(Self { data, level })
    }
}
