//! Elements that live and die together.

use serde::{Deserialize, Serialize};

use crate::{Array, Mask, PruneError};

/// How the score of a unit follows from those of its elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Their sum.
    #[default]
    Sum,
    /// Their mean; a unit at a ragged edge has fewer elements.
    Mean,
    /// The largest.
    Max,
}

/// What is removed as one within a tensor.
///
/// Names of the field, for a convolution's weight `[out, in, height, width]`: a filter is `axes: [0]`, a channel `[1]`, a kernel `[0, 1]`, a
/// shape (the same place in all filters, as in structured sparsity learning) `[1, 2, 3]`, the whole layer `[]`. Groups of channels
/// that layers share are found in the graph, see [`ChannelImportance`](crate::ChannelImportance).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Structure {
    /// Every element alone.
    #[default]
    Element,
    /// Elements with the same indices along these axes.
    Slices {
        /// The axes.
        axes: Vec<usize>,
        /// How their scores are combined.
        #[serde(default)]
        pooling: Pooling,
    },
    /// Boxes of this size, one number for every axis; at the edges they may be smaller.
    Blocks {
        /// The size.
        size: Vec<usize>,
        /// How their scores are combined.
        #[serde(default)]
        pooling: Pooling,
    },
}

/// The units of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    /// For every element, its unit.
    pub of: Vec<usize>,
    /// Number of units.
    pub count: usize,
    shape: Vec<usize>,
    pooling: Pooling,
}

impl Structure {
    /// The units of a tensor.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for an axis that the tensor doesn't have, a box of another rank or of size 0.
    pub fn units(&self, shape: &[usize]) -> Result<Units, PruneError> {
        // Every element's unit is a mixed-radix number: its coordinates divided by the box, along the axes that matter.
        let (boxes, pooling) = match self {
            Self::Element => (vec![1; shape.len()], Pooling::Sum),
            Self::Slices { axes, pooling } => {
                if let Some(axis) = axes.iter().find(|axis| **axis >= shape.len()) {
                    return Err(PruneError::setting("axes", axis, &format!("below {}", shape.len())));
                }
                let along =
                    |(axis, size): (usize, &usize)| if axes.contains(&axis) { 1 } else { (*size).max(1) };
                (shape.iter().enumerate().map(along).collect(), *pooling)
            }
            Self::Blocks { size, pooling } => {
                if size.len() != shape.len() || size.contains(&0) {
                    let allowed = format!("one positive size for each of {} axes", shape.len());
                    return Err(PruneError::setting("size", format!("{size:?}"), &allowed));
                }
                (size.clone(), *pooling)
            }
        };
        let counts: Vec<usize> = shape.iter().zip(&boxes).map(|(size, part)| size.div_ceil(*part)).collect();
        let unit = |mut flat: usize| {
            let (mut unit, mut step) = (0, 1);
            for ((size, part), count) in shape.iter().zip(&boxes).zip(&counts).rev() {
                unit += flat % size / part * step;
                flat /= size;
                step *= count;
            }
            unit
        };
        let of = (0..shape.iter().product()).map(unit).collect();
        Ok(Units { of, count: counts.iter().product(), shape: shape.to_vec(), pooling })
    }
}

impl Units {
    /// The score of every unit.
    pub fn pool(&self, scores: &Array) -> Vec<f32> {
        let mut pooled = vec![if self.pooling == Pooling::Max { f64::NEG_INFINITY } else { 0.0 }; self.count];
        let mut sizes = vec![0u32; self.count];
        for (unit, score) in self.of.iter().zip(scores.values()) {
            if let (Some(sum), Some(size)) = (pooled.get_mut(*unit), sizes.get_mut(*unit)) {
                let score = f64::from(*score);
                *sum = if self.pooling == Pooling::Max { sum.max(score) } else { *sum + score };
                *size += 1;
            }
        }
        let settle = |(sum, size): (f64, u32)| match self.pooling {
            Pooling::Mean => (sum / f64::from(size.max(1))) as f32,
            Pooling::Sum | Pooling::Max => sum as f32,
        };
        pooled.into_iter().zip(sizes).map(settle).collect()
    }

    /// The mask that keeps some units.
    ///
    /// # Errors
    /// [`PruneError::Shape`] when there are more or fewer truth values than units.
    pub fn mask(&self, keep: &[bool]) -> Result<Mask, PruneError> {
        if keep.len() != self.count {
            let reason = format!("has {} units, not {}", self.count, keep.len());
            return Err(PruneError::Shape { what: "a tensor".to_owned(), shape: self.shape.clone(), reason });
        }
        let kept = self.of.iter().map(|unit| keep.get(*unit).copied().unwrap_or(true)).collect();
        Mask::new(self.shape.clone(), kept)
    }

    /// Number of elements of every unit.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.count];
        for unit in &self.of {
            if let Some(size) = sizes.get_mut(*unit) {
                *size += 1;
            }
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn slices(axes: &[usize]) -> Structure {
        Structure::Slices { axes: axes.to_vec(), pooling: Pooling::Sum }
    }

    #[test]
    fn filters_channels_shapes_and_layers_are_slices() {
        let shape = [2, 3, 2];
        let of = |axes: &[usize]| slices(axes).units(&shape).unwrap();
        assert_eq!(of(&[0]).of, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
        assert_eq!(of(&[1]).of, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
        assert_eq!(of(&[1, 2]).of, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
        assert_eq!(of(&[]).of, [0; 12]);
        assert_eq!(of(&[]).count, 1);
        assert_eq!(Structure::Element.units(&shape).unwrap().of, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_ragged_edge_has_smaller_blocks() {
        let blocks = Structure::Blocks { size: vec![2, 2], pooling: Pooling::Mean };
        let units = blocks.units(&[3, 3]).unwrap();
        assert_eq!(units.sizes(), [4, 2, 2, 1]);
        let scores = Array::new([3, 3], (0u8..9).map(f32::from).collect()).unwrap();
        assert_eq!(units.pool(&scores), [2.0, 3.5, 6.5, 8.0]);
        let mask = units.mask(&[true, false, true, false]).unwrap();
        assert_eq!(mask.keep(), [true, true, false, true, true, false, true, true, false]);
    }

    #[test]
    fn an_axis_that_is_not_there_and_a_box_of_another_rank_are_refused() {
        assert!(slices(&[2]).units(&[3, 3]).is_err());
        let blocks = Structure::Blocks { size: vec![2], pooling: Pooling::Sum };
        assert!(
            blocks.units(&[3, 3]).unwrap_err().to_string().contains("one positive size for each of 2 axes")
        );
    }
}
