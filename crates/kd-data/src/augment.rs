//! Random changes to training images.

use serde::{Deserialize, Serialize};

use crate::seed::{Purpose, Stream};
use crate::{DataError, ImageShape, Pass};

/// Which random changes a training image undergoes; nothing by default.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `pad-crop` | 0 | pad with black on every side, cut out the original size at random | below the image's sides |
/// | `flip` | false | mirror left and right, half of the time | |
/// | `jitter` | 0 | shift by up to this many pixels in either direction, black moves in | below the image's sides |
/// | `cutout` | 0 | side of a square that is set to the mean, centred anywhere | up to twice the image's longer side |
/// | `mixup` | 0 | α of the Beta(α, α) weight of a second image | 0 to 100 |
///
/// Pad-crop (Lee et al., *Deeply-supervised nets*, 2015) and jitter (Hinton et al., *Distilling the knowledge in a neural
/// network*, 2015) are the same operation under the names of two literatures; given both, the shifts add up. Cutout: DeVries
/// and Taylor, 2017. Mixup: Zhang et al., *mixup: beyond empirical risk minimization*, 2018.
///
/// What happens to a sample is a function of (seed, view, sample id) only. The second image of mixup is therefore drawn
/// from the whole dataset rather than from the batch, whose members depend on the order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Augment {
    /// Padding of every side in pixels, before a random crop to the original size.
    pub pad_crop: usize,
    /// Whether half of the images are mirrored left to right.
    pub flip: bool,
    /// Largest shift in pixels, in each direction.
    pub jitter: usize,
    /// Side in pixels of the square that is set to the mean.
    pub cutout: usize,
    /// α of the Beta(α, α) distribution of mixup's weight; 0 for no mixup.
    pub mixup: f64,
}

impl Augment {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the ranges of the table above for images of `shape`.
    ///
    /// # Errors
    /// [`DataError::Setting`] names the setting, its value and the allowed range.
    pub fn validate(&self, shape: ImageShape) -> Result<(), DataError> {
        let short = shape.height.min(shape.width);
        for (key, value) in [("augment.pad-crop", self.pad_crop), ("augment.jitter", self.jitter)] {
            if value >= short {
                return Err(DataError::setting(key, value, format!("0 to {}", short.saturating_sub(1))));
            }
        }
        let long = 2 * shape.height.max(shape.width);
        if self.cutout > long {
            return Err(DataError::setting("augment.cutout", self.cutout, format!("0 to {long}")));
        }
        if !(0.0..=100.0).contains(&self.mixup) {
            return Err(DataError::setting("augment.mixup", self.mixup, "0 to 100"));
        }
        Ok(())
    }

    /// Decides what happens to one image.
    pub(crate) fn draw(&self, shape: ImageShape, id: usize, pass: Pass) -> Change {
        if !self.flip && self.pad_crop == 0 && self.jitter == 0 && self.cutout == 0 {
            return Change::default();
        }
        let mut stream = Stream::new(&[Purpose::Augment as u64, pass.seed, pass.view, id as u64]);
        // All are drawn, used or not, so that switching one on leaves the others as they were.
        let right = stream.around(self.pad_crop) + stream.around(self.jitter);
        let down = stream.around(self.pad_crop) + stream.around(self.jitter);
        let flip = stream.chance(0.5) && self.flip;
        let centre = (stream.below(shape.height), stream.below(shape.width));
        let hole = (self.cutout > 0).then(|| Hole::around(centre, self.cutout, shape));
        Change { right, down, flip, hole }
    }
}

/// What happens to one image: mirrored, then shifted, then holed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Change {
    right: isize,
    down: isize,
    flip: bool,
    hole: Option<Hole>,
}

/// A rectangle of rows `top..bottom` and columns `left..right`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hole {
    top: usize,
    bottom: usize,
    left: usize,
    right: usize,
}

impl Hole {
    /// A square clipped at the image's borders.
    fn around((row, column): (usize, usize), side: usize, shape: ImageShape) -> Self {
        let span = |centre: usize, end: usize| {
            let start = centre as isize - (side / 2) as isize;
            (start.max(0) as usize, ((start + side as isize).max(0) as usize).min(end))
        };
        let ((top, bottom), (left, right)) = (span(row, shape.height), span(column, shape.width));
        Self { top, bottom, left, right }
    }
}

impl Change {
    /// Writes the changed and normalised image to `out`; both have the shape's volume.
    pub(crate) fn apply(&self, shape: ImageShape, pixels: &[u8], tables: &[[f32; 256]], out: &mut [f32]) {
        let planes = pixels.chunks_exact(shape.area()).zip(out.chunks_exact_mut(shape.area()));
        for (table, (source, target)) in tables.iter().zip(planes) {
            if *self == Self::default() {
                for (value, &pixel) in target.iter_mut().zip(source) {
                    *value = table[usize::from(pixel)];
                }
                continue;
            }
            for (row, line) in target.chunks_exact_mut(shape.width).enumerate() {
                let from = row.checked_add_signed(-self.down).filter(|&from| from < shape.height);
                match from.and_then(|from| source.get(from * shape.width..(from + 1) * shape.width)) {
                    Some(source) => self.line(source, table, line),
                    None => line.fill(table[0]),
                }
            }
            if let Some(hole) = self.hole {
                // The mean is 0 after normalising.
                for line in target.chunks_exact_mut(shape.width).take(hole.bottom).skip(hole.top) {
                    line.iter_mut().take(hole.right).skip(hole.left).for_each(|value| *value = 0.0);
                }
            }
        }
    }

    fn line(&self, source: &[u8], table: &[f32; 256], line: &mut [f32]) {
        let width = line.len();
        let shift = self.right.unsigned_abs().min(width);
        let (black, kept, skipped) = if self.right >= 0 {
            let (black, kept) = line.split_at_mut(shift);
            (black, kept, 0)
        } else {
            let (kept, black) = line.split_at_mut(width - shift);
            (black, kept, shift)
        };
        black.fill(table[0]);
        let look_up = |(value, pixel): (&mut f32, &u8)| *value = table[usize::from(*pixel)];
        if self.flip {
            kept.iter_mut().zip(source.iter().rev().skip(skipped)).for_each(look_up);
        } else {
            kept.iter_mut().zip(source.iter().skip(skipped)).for_each(look_up);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Normalise;

    const SHAPE: ImageShape = ImageShape { channels: 1, height: 2, width: 3 };
    const PIXELS: [u8; 6] = [1, 2, 3, 4, 5, 6];

    fn applied(change: Change) -> Vec<u8> {
        let mut out = [f32::NAN; 6];
        change.apply(SHAPE, &PIXELS, Normalise::unit(1).unwrap().tables(), &mut out);
        out.iter().map(|value| (value * 255.0).round() as u8).collect()
    }

    #[test]
    fn a_shift_moves_black_in() {
        assert_eq!(applied(Change::default()), PIXELS);
        assert_eq!(applied(Change { right: 1, ..Default::default() }), [0, 1, 2, 0, 4, 5]);
        assert_eq!(applied(Change { right: -2, ..Default::default() }), [3, 0, 0, 6, 0, 0]);
        assert_eq!(applied(Change { down: 1, ..Default::default() }), [0, 0, 0, 1, 2, 3]);
        assert_eq!(applied(Change { down: -1, right: 1, ..Default::default() }), [0, 4, 5, 0, 0, 0]);
        assert_eq!(applied(Change { right: 9, ..Default::default() }), [0; 6]);
        assert_eq!(applied(Change { down: -9, right: -9, ..Default::default() }), [0; 6]);
    }

    #[test]
    fn a_flip_mirrors_before_the_shift() {
        assert_eq!(applied(Change { flip: true, ..Default::default() }), [3, 2, 1, 6, 5, 4]);
        assert_eq!(applied(Change { flip: true, right: 1, ..Default::default() }), [0, 3, 2, 0, 6, 5]);
        assert_eq!(applied(Change { flip: true, right: -1, ..Default::default() }), [2, 1, 0, 5, 4, 0]);
    }

    #[test]
    fn cutout_is_clipped_at_the_borders_and_set_to_the_mean() {
        let normalise = Normalise::new(&[0.5], &[0.5]).unwrap();
        let hole = Some(Hole::around((0, 2), 2, SHAPE));
        let mut out = [f32::NAN; 6];
        Change { hole, ..Default::default() }.apply(SHAPE, &PIXELS, normalise.tables(), &mut out);
        assert_eq!(out.map(|value| value == 0.0), [false, true, true, false, false, false]);
    }

    #[test]
    fn draws_depend_on_seed_view_and_id_alone() {
        let shape = ImageShape { channels: 1, height: 28, width: 28 };
        let augment = Augment { pad_crop: 4, jitter: 2, flip: true, cutout: 8, mixup: 0.0 };
        let draw = |seed, view, id| augment.draw(shape, id, Pass { seed, view });
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        for other in [draw(0, 2, 3), draw(1, 0, 3), draw(1, 2, 0)] {
            assert_ne!(draw(1, 2, 3), other);
        }
        let without = Augment { cutout: 0, ..augment.clone() }.draw(shape, 3, Pass { seed: 1, view: 2 });
        assert_eq!(without, Change { hole: None, ..draw(1, 2, 3) });
    }

    #[test]
    fn shifts_reach_both_ends_of_their_range() {
        let augment = Augment { jitter: 2, ..Default::default() };
        let shape = ImageShape { channels: 1, height: 28, width: 28 };
        let drawn: Vec<isize> =
            (0..500).map(|id| augment.draw(shape, id, Pass { seed: 0, view: 0 }).right).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&-2), Some(&2)));
    }

    #[test]
    fn settings_out_of_range_are_refused_with_key_value_and_range() {
        let message = |augment: Augment| augment.validate(SHAPE).unwrap_err().to_string();
        let none = Augment::default;
        assert_eq!(message(Augment { jitter: 2, ..none() }), "augment.jitter = 2 is not allowed; use 0 to 1");
        assert!(message(Augment { pad_crop: 2, ..none() }).contains("augment.pad-crop = 2"));
        assert!(message(Augment { cutout: 7, ..none() }).contains("0 to 6"));
        assert!(message(Augment { mixup: -0.1, ..none() }).contains("augment.mixup = -0.1"));
        assert!(message(Augment { mixup: f64::NAN, ..none() }).contains("NaN"));
        assert!(none().validate(SHAPE).is_ok());
        assert!(serde_json::from_str::<Augment>(r#"{"rotate": 3}"#).is_err());
    }
}
