//! The numbers of one sample as bytes, and back.

use half::f16;

use super::CacheError;
use super::header::{CacheSettings, Precision};

/// Turns one sample's output into a record of fixed size.
///
/// Whole outputs are written number by number. With `top_k`, every row of classes becomes `k` numbers, the logit that the others share,
/// and `k` class numbers of 4 bytes.
#[derive(Clone, Debug)]
pub(super) struct Codec {
    rows: usize,
    classes: usize,
    kept: Option<usize>,
    precision: Precision,
}

impl Codec {
    pub(super) fn new(output: &[usize], settings: &CacheSettings) -> Self {
        let classes = output.last().copied().unwrap_or(1);
        let rows = output.iter().rev().skip(1).product();
        Self { rows, classes, kept: settings.top_k, precision: settings.precision }
    }

    /// Numbers of one sample.
    pub(super) fn numbers(&self) -> usize {
        self.rows * self.classes
    }

    /// Bytes of one record.
    pub(super) fn bytes(&self) -> usize {
        match self.kept {
            None => self.numbers() * self.width(),
            Some(kept) => self.rows * ((kept + 1) * self.width() + kept * 4),
        }
    }

    fn width(&self) -> usize {
        match self.precision {
            Precision::F16 => 2,
            Precision::F32 => 4,
        }
    }

    pub(super) fn encode(&self, numbers: &[f32]) -> Result<Vec<u8>, CacheError> {
        let mut bytes = Vec::with_capacity(self.bytes());
        for row in numbers.chunks_exact(self.classes.max(1)) {
            match self.kept {
                None => row.iter().try_for_each(|&value| self.put(value, &mut bytes))?,
                Some(kept) => {
                    let mut order: Vec<usize> = (0..row.len()).collect();
                    let value = |class: usize| row.get(class).copied().unwrap_or(f32::NEG_INFINITY);
                    order.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
                    let (top, rest) = order.split_at(kept.min(order.len()));
                    top.iter().try_for_each(|&class| self.put(value(class), &mut bytes))?;
                    self.put(mean_logit(rest.iter().map(|&class| value(class))), &mut bytes)?;
                    top.iter().for_each(|&class| bytes.extend((class as u32).to_le_bytes()));
                }
            }
        }
        Ok(bytes)
    }

    /// Appends the sample's numbers.
    pub(super) fn decode(&self, bytes: &[u8], numbers: &mut Vec<f32>) {
        let Some(kept) = self.kept else {
            return numbers.extend(bytes.chunks_exact(self.width()).map(|bytes| self.get(bytes)));
        };
        let (values, row) = ((kept + 1) * self.width(), (kept + 1) * self.width() + kept * 4);
        for record in bytes.chunks_exact(row) {
            let (values, classes) = record.split_at(values);
            let mut values =
                values.chunks_exact(self.width()).map(|bytes| self.get(bytes)).collect::<Vec<_>>();
            let rest = values.pop().unwrap_or(f32::NEG_INFINITY);
            let mut logits = vec![rest; self.classes];
            for (value, class) in values.into_iter().zip(classes.chunks_exact(4)) {
                let class = class.try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX);
                if let Some(logit) = logits.get_mut(class as usize) {
                    *logit = value;
                }
            }
            numbers.extend(logits);
        }
    }

    fn put(&self, value: f32, bytes: &mut Vec<u8>) -> Result<(), CacheError> {
        match self.precision {
            Precision::F32 => bytes.extend(value.to_le_bytes()),
            Precision::F16 => {
                let half = f16::from_f32(value);
                if half.is_infinite() && value.is_finite() {
                    return Err(CacheError::Range { value });
                }
                bytes.extend(half.to_le_bytes());
            }
        }
        Ok(())
    }

    /// Reads a number of this codec's width; the slice has it by construction.
    fn get(&self, bytes: &[u8]) -> f32 {
        match self.precision {
            Precision::F32 => bytes.try_into().map(f32::from_le_bytes).unwrap_or(f32::NAN),
            Precision::F16 => {
                bytes.try_into().map(|bytes| f16::from_le_bytes(bytes).to_f32()).unwrap_or(f32::NAN)
            }
        }
    }
}

/// The logit that gives each of `n` classes the `n`-th part of their joint probability: the log of the mean of their exponentials.
fn mean_logit(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let largest = values.clone().fold(f32::NEG_INFINITY, f32::max);
    if !largest.is_finite() {
        return largest;
    }
    let count = values.clone().count() as f64;
    let sum: f64 = values.map(|value| f64::from(value - largest).exp()).sum();
    largest + (sum / count).ln() as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn codec(output: &[usize], precision: Precision, top_k: Option<usize>) -> Codec {
        Codec::new(output, &CacheSettings { precision, top_k, views: 1 })
    }

    fn round_trip(codec: &Codec, numbers: &[f32]) -> Vec<f32> {
        let bytes = codec.encode(numbers).unwrap();
        assert_eq!(bytes.len(), codec.bytes());
        let mut decoded = Vec::new();
        codec.decode(&bytes, &mut decoded);
        decoded
    }

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let exponentials: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
        exponentials.iter().map(|value| value / exponentials.iter().sum::<f64>()).collect()
    }

    #[test]
    fn single_precision_keeps_every_bit() {
        let numbers = [0.1, -3.7e-30, 65_505.0, f32::INFINITY, -0.0, f32::MIN_POSITIVE];
        let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&round_trip(&codec(&[2, 3], Precision::F32, None), &numbers)), bits(&numbers));
    }

    #[test]
    fn a_finite_number_that_half_precision_cannot_hold_is_an_error() {
        let codec = codec(&[2], Precision::F16, None);
        assert_eq!(round_trip(&codec, &[f32::NEG_INFINITY, 65_504.0]), [f32::NEG_INFINITY, 65_504.0]);
        assert!(matches!(codec.encode(&[0.0, -7e4]), Err(CacheError::Range { value }) if value == -7e4));
    }

    #[test]
    fn top_k_keeps_the_largest_and_the_probability_of_the_rest() {
        let logits = [0.5, 4.0, -2.0, 3.0, 1.0, -1.0, 2.5, 0.0, 4.5, -3.0];
        let decoded = round_trip(&codec(&[2, 5], Precision::F32, Some(2)), &logits);
        for (whole, kept) in logits.chunks(5).zip(decoded.chunks(5)) {
            let (whole, kept) = (softmax(whole), softmax(kept));
            let mut order: Vec<usize> = (0..5).collect();
            order.sort_by(|&a, &b| whole[b].total_cmp(&whole[a]));
            let rest: f64 = order[2..].iter().map(|&class| whole[class]).sum();
            order[..2].iter().for_each(|&class| assert!((whole[class] - kept[class]).abs() < 1e-6));
            order[2..].iter().for_each(|&class| assert!((kept[class] - rest / 3.0).abs() < 1e-6));
        }
    }

    #[test]
    fn top_k_of_all_classes_keeps_all() {
        let logits = [0.5, 4.0, -2.0];
        assert_eq!(round_trip(&codec(&[3], Precision::F32, Some(3)), &logits), logits);
    }
}
