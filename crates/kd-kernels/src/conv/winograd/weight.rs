use super::super::pack::{channel_blocks, lanes, padded_channels};
use super::super::plan::{BLOCK, Plan};
use super::super::weight_tile::{Tile, run_dense, split};
use super::POSITIONS;
use super::gather::Windows;
use super::transform::{Gradient, Input, kernel, kernel_gradient};
use crate::simd::{Level, dispatch};

/// Calls `visit(packed position of the first of the kernel's transforms, weight position)` for every kernel.
fn kernels(plan: &Plan, level: Level, mut visit: impl FnMut(usize, usize)) {
    let lanes = lanes(level);
    let mut at = 0;
    for (channels, vectors) in channel_blocks(plan, lanes) {
        for channel in 0..plan.source_channels {
            for (i, target) in channels.clone().enumerate() {
                visit(at + i, plan.kernel_index(target, channel));
            }
            at += vectors * lanes;
        }
    }
}

/// Numbers between the transforms of a kernel.
fn stride(plan: &Plan, level: Level) -> usize {
    plan.source_channels * padded_channels(plan, lanes(level))
}

/// The transformed weight, for a packed buffer of zeros.
pub(in super::super) fn pack(plan: &Plan, level: Level, weight: &[f32], packed: &mut [f32]) {
    let stride = stride(plan, level);
    kernels(plan, level, |to, from| {
        let g = &weight[from..from + 9];
        let g: [[f32; 3]; 3] = std::array::from_fn(|k| {
            std::array::from_fn(|l| if plan.flipped { g[8 - (3 * k + l)] } else { g[3 * k + l] })
        });
        for (position, u) in kernel(g).into_iter().enumerate() {
            packed[position * stride + to] = u;
        }
    });
}

/// The weight's gradient from that of its transforms.
pub(in super::super) fn unpack(plan: &Plan, level: Level, packed: &[f32], weight: &mut [f32]) {
    let stride = stride(plan, level);
    kernels(plan, level, |from, to| {
        let u: [f32; POSITIONS] = std::array::from_fn(|position| packed[position * stride + from]);
        for (g, weight) in kernel_gradient(u).into_iter().flatten().zip(&mut weight[to..to + 9]) {
            *weight = g;
        }
    });
}

/// Adds a strip's part of the gradient of the transformed weight to `sums`, in packed order.
///
/// # Safety
/// `source` is the scratch image at the strip's first window, `gradient` has the strip's outputs, rows `row`
/// numbers apart, `transforms` has [`scratch_len`](super::scratch_len) numbers.
pub(in super::super) unsafe fn add_gradient_strip(
    (plan, level): (&Plan, Level),
    windows: &Windows,
    source: *const f32,
    (gradient, row): (*const f32, usize),
    transforms: &mut [f32],
    sums: &mut [f32],
) {
    let (input, output) = transforms.split_at_mut(windows.input_len());
    dispatch(level, Input { windows, source, target: input.as_mut_ptr() });
    dispatch(level, Gradient { windows, source: gradient, row, target: output.as_mut_ptr() });
    let (lanes, stride) = (lanes(level), stride(plan, level));
    for position in 0..POSITIONS {
        let input = &input[position * windows.input_stride()..];
        let output = &output[position * windows.output_stride()..];
        let mut sums = &mut sums[position * stride..];
        for (channels, vectors) in channel_blocks(plan, lanes) {
            for block in 0..windows.blocks {
                let len = BLOCK.min(plan.source_channels - block * BLOCK);
                for (run, count) in split(level, len, vectors) {
                    let tile = Tile {
                        source: input[block * windows.capacity * BLOCK + run..].as_ptr(),
                        source_row: 0,
                        gradient: output[channels.start..].as_ptr(),
                        gradient_row: 0,
                        gradient_pixel: windows.padded,
                        rows: 1,
                        cols: windows.count(),
                        channels: vectors * lanes,
                        sums: sums[run * vectors * lanes..].as_mut_ptr(),
                    };
                    // SAFETY: every window has a block of each position's channels and the gradient's channels,
                    // padded to whole vectors; the packed order has `vectors` vectors for every channel.
                    unsafe { run_dense(level, tile, count, vectors) };
                }
                sums = &mut sums[len * vectors * lanes..];
            }
        }
    }
}
