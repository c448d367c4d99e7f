//! What a layer reads and gives at a few places: its reconstruction as a product of matrices.

use kd_graph::{Conv, Op};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::reproduce::Behind;
use crate::QuantError;

/// The places of one group of a layer: a row of inputs and the row of outputs that belongs to it, each row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Patches {
    /// `[rows][width]`: what one output channel's weights are multiplied with, in their order.
    pub inputs: Vec<f32>,
    /// `[rows][channels]`: the group's outputs.
    pub outputs: Vec<f32>,
    /// Weights of an output channel.
    pub width: usize,
    /// Output channels of the group.
    pub channels: usize,
    /// Where the outputs are to be reproduced behind another function.
    pub behind: Option<Behind>,
}

impl Patches {
    pub fn rows(&self) -> usize {
        self.outputs.len() / self.channels.max(1)
    }
}

/// How a layer's outputs follow from its inputs.
pub(super) enum Geometry<'a> {
    /// Rows of features, the last axis.
    Linear {
        /// In and out.
        sizes: [usize; 2],
    },
    /// Windows of a feature map.
    Conv {
        /// Stride, padding, dilation, groups.
        conv: &'a Conv,
        /// `[out, in / groups, window..]`.
        weight: Vec<usize>,
    },
}

impl<'a> Geometry<'a> {
    /// Of a layer with a weight of this shape; none for operations that are neither.
    pub fn of(op: &'a Op, weight: &[usize]) -> Option<Self> {
        match (op, weight) {
            (Op::Linear, &[inputs, outputs]) => Some(Self::Linear { sizes: [inputs, outputs] }),
            (Op::Conv(conv), [_, _, ..]) => Some(Self::Conv { conv, weight: weight.to_vec() }),
            _ => None,
        }
    }

    pub fn groups(&self) -> usize {
        match self {
            Self::Linear { .. } => 1,
            Self::Conv { conv, .. } => conv.groups.max(1),
        }
    }

    /// Adds up to `places` places of every example, chosen by `seed`, to the groups' patches.
    ///
    /// `x [batch, channels, ..]` and `y [batch, channels, ..]` for a convolution, `[.., features]` for a linear layer.
    ///
    /// # Errors
    /// [`QuantError::Shape`] for tensors that do not fit the layer.
    pub fn collect(
        &self,
        x: (&[f32], &[usize]),
        y: (&[f32], &[usize]),
        places: usize,
        seed: u64,
        patches: &mut [Patches],
    ) -> Result<(), QuantError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        match self {
            Self::Linear { sizes: [inputs, outputs] } => {
                let fits = x.1.last() == Some(inputs) && y.1.last() == Some(outputs);
                let (rows, patch) = match patches.first_mut() {
                    Some(patch) if fits => (x.0.len() / (*inputs).max(1), patch),
                    _ => return Err(misfit(x.1, format!("[.., {inputs}]"))),
                };
                (patch.width, patch.channels) = (*inputs, *outputs);
                let examples = x.1.first().copied().unwrap_or(1);
                for row in index::sample(&mut rng, rows, (places * examples).min(rows)).into_iter() {
                    patch.inputs.extend(part(x.0, row * inputs, *inputs));
                    patch.outputs.extend(part(y.0, row * outputs, *outputs));
                }
                Ok(())
            }
            Self::Conv { conv, weight } => {
                let window = Window { conv, weight };
                window.collect(x, y, places, &mut rng, patches)
            }
        }
    }
}

fn part(values: &[f32], from: usize, len: usize) -> &[f32] {
    values.get(from..from + len).unwrap_or_default()
}

fn misfit(got: &[usize], wanted: String) -> QuantError {
    QuantError::Shape { what: "the layer's input", got: got.to_vec(), wanted }
}

struct Window<'a> {
    conv: &'a Conv,
    weight: &'a [usize],
}

impl Window<'_> {
    fn collect(
        &self,
        (x, x_shape): (&[f32], &[usize]),
        (y, y_shape): (&[f32], &[usize]),
        places: usize,
        rng: &mut ChaCha8Rng,
        patches: &mut [Patches],
    ) -> Result<(), QuantError> {
        let groups = self.conv.groups.max(1);
        let (
            &[out, inputs, ref kernel @ ..],
            &[batch, channels, ref size @ ..],
            &[_, _, ref places_shape @ ..],
        ) = (self.weight, x_shape, y_shape)
        else {
            return Err(misfit(x_shape, "[batch, channels, ..]".to_owned()));
        };
        if channels != inputs * groups || size.len() != kernel.len() || patches.len() != groups {
            return Err(misfit(x_shape, format!("[batch, {}, ..]", inputs * groups)));
        }
        let (area, all): (usize, usize) = (size.iter().product(), places_shape.iter().product());
        let of_group = out / groups;
        for example in 0..batch {
            for place in index::sample(rng, all, places.min(all)).into_iter() {
                let taps = self.taps(place, size, kernel, places_shape);
                for (group, patch) in patches.iter_mut().enumerate() {
                    (patch.width, patch.channels) = (inputs * taps.len(), of_group);
                    for channel in 0..inputs {
                        let plane = part(x, (example * channels + group * inputs + channel) * area, area);
                        let read =
                            |tap: &Option<usize>| tap.and_then(|at| plane.get(at)).copied().unwrap_or(0.0);
                        patch.inputs.extend(taps.iter().map(read));
                    }
                    let output = |channel: usize| {
                        let plane = (example * out + group * of_group + channel) * all;
                        y.get(plane + place).copied().unwrap_or(0.0)
                    };
                    patch.outputs.extend((0..of_group).map(output));
                }
            }
        }
        Ok(())
    }

    /// Where every weight of the window looks when the window is at a place; none is padding.
    fn taps(&self, place: usize, size: &[usize], kernel: &[usize], places: &[usize]) -> Vec<Option<usize>> {
        let at = coordinates(place, places);
        let window: usize = kernel.iter().product();
        let tap = |index: usize| {
            let mut offset = 0;
            for (axis, k) in coordinates(index, kernel).into_iter().enumerate() {
                let of = |list: &[usize], default| list.get(axis).copied().unwrap_or(default);
                let before = self.conv.padding.get(axis).map_or(0, |padding| padding.0);
                let start = at.get(axis).copied().unwrap_or(0) * of(&self.conv.stride, 1);
                let place = (start + k * of(&self.conv.dilation, 1)).checked_sub(before)?;
                let length = of(size, 0);
                if place >= length {
                    return None;
                }
                offset = offset * length + place;
            }
            Some(offset)
        };
        (0..window).map(tap).collect()
    }
}

/// A row-major index by axis.
fn coordinates(mut index: usize, sizes: &[usize]) -> Vec<usize> {
    let mut at = vec![0; sizes.len()];
    for (slot, &size) in at.iter_mut().zip(sizes).rev() {
        *slot = index % size.max(1);
        index /= size.max(1);
    }
    at
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{Device, Distribution, Tensor, module};

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn rows_times_weights_are_the_convolution() {
        let device = Device::flex();
        device.seed(2);
        let draw = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        for (groups, stride, padding, dilation) in [(1, 1, 0, 1), (2, 2, 1, 1), (1, 2, 2, 2), (4, 1, 1, 1)] {
            let (x, w) = (draw([2, 4, 7, 6]), draw([8, 4 / groups, 3, 2]));
            let options = ConvOptions::new([stride, 1], [padding, 1], [dilation, 1], groups);
            let y = module::conv2d(x.clone(), w.clone(), None, options);
            let conv = Conv {
                stride: vec![stride, 1],
                padding: vec![(padding, padding), (1, 1)],
                dilation: vec![dilation, 1],
                groups,
            };
            let op = Op::Conv(conv);
            let geometry = Geometry::of(&op, &w.dims()).unwrap();
            let mut patches = vec![Patches::default(); groups];
            let (x_shape, y_shape) = (x.dims(), y.dims());
            let (x, y) = (numbers(x), numbers(y));
            geometry.collect((&x, &x_shape), (&y, &y_shape), 5, 9, &mut patches).unwrap();
            let rows = numbers(w);
            for (group, patch) in patches.iter().enumerate() {
                assert_eq!(patch.rows(), 10);
                for (input, output) in
                    patch.inputs.chunks(patch.width).zip(patch.outputs.chunks(patch.channels))
                {
                    for (channel, &wanted) in output.iter().enumerate() {
                        let row = &rows[(group * patch.channels + channel) * patch.width..][..patch.width];
                        let sum: f32 = row.iter().zip(input).map(|(a, b)| a * b).sum();
                        assert!((sum - wanted).abs() < 1e-4, "{groups} {stride}: {sum} {wanted}");
                    }
                }
            }
        }
    }

    #[test]
    fn places_are_a_function_of_the_seed() {
        let op = Op::Linear;
        let geometry = Geometry::of(&op, &[2, 1]).unwrap();
        let x: Vec<f32> = (0..40).map(|i| i as f32).collect();
        let y: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let collect = |seed| {
            let mut patches = vec![Patches::default()];
            geometry.collect((&x, &[4, 5, 2]), (&y, &[4, 5, 1]), 2, seed, &mut patches).unwrap();
            patches
        };
        assert_eq!(collect(1), collect(1));
        assert_ne!(collect(1), collect(2));
        assert_eq!(collect(1)[0].rows(), 8);
        // A row of inputs stays beside its outputs.
        assert!(
            collect(1)[0].outputs.iter().zip(collect(1)[0].inputs.chunks(2)).all(|(y, x)| x[0] == 2.0 * y)
        );
        let mut patches = vec![Patches::default()];
        assert!(geometry.collect((&x, &[4, 10]), (&y, &[20, 1]), 2, 0, &mut patches).is_err());
    }
}
