//! Binary and ternary activations of accumulators: one comparison of integers for every step.

use crate::binary::{SibnnActivation, SignActivation, SttnActivation, Zero};
use crate::plan::Quantizer;

/// A rising function of few values: the last code whose bound a number reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stairs {
    /// The code below all bounds.
    lowest: i32,
    /// From which number on (inclusive) there is which code, rising.
    steps: [Option<(f32, i32)>; 2],
}

impl Stairs {
    /// What an activation's quantiser does; none for one that rounds, and for one that gives a value between two codes at a bound.
    pub fn of(quantizer: &Quantizer) -> Option<Self> {
        match quantizer {
            Quantizer::Sign(SignActivation { zero: Zero::Plus, .. }) => {
                Some(Self { lowest: -1, steps: [Some((0.0, 1)), None] })
            }
            Quantizer::Sibnn(SibnnActivation { zero: Zero::Plus, .. }) => {
                Some(Self { lowest: 0, steps: [Some((0.0, 1)), None] })
            }
            Quantizer::SttnActivation(SttnActivation { zero: Zero::Plus, threshold, .. }) => {
                let threshold = threshold.abs();
                Some(Self { lowest: -1, steps: [Some((-threshold, 0)), Some((threshold, 1))] })
            }
            _ => None,
        }
    }

    /// The code of a number.
    pub fn code(&self, value: f32) -> i32 {
        let reached = |(bound, _): &&(f32, i32)| value >= *bound;
        self.steps.iter().flatten().rev().find(reached).map_or(self.lowest, |(_, code)| *code)
    }
}

/// The code that $a\,m + b$ in f32 would have, of accumulators $a$ of one channel, by comparing $a$ alone.
///
/// $a\,m + b$, rounded as f32 rounds, never falls as $a$ rises if $m > 0$, and never rises if $m < 0$. So every step of the stairs is one place among the
/// accumulators, found by bisection with that very expression: the codes are those of the float arithmetic, bit for bit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Thresholds {
    lowest: i32,
    /// Whether codes rise with the accumulator.
    rising: bool,
    /// Where the codes begin: from this accumulator upwards, or downwards where codes fall. Beyond all accumulators for a code that none has.
    steps: Vec<(i64, i32)>,
}

impl Thresholds {
    /// For the multiplier $m$ and the offset $b$.
    pub fn new(stairs: Stairs, multiplier: f32, offset: f32) -> Self {
        let rising = multiplier >= 0.0;
        // Counted from the end where codes are lowest.
        let (first, last) = (i64::from(i32::MIN), i64::from(i32::MAX));
        let accumulator = |count: i64| if rising { first + count } else { last - count };
        let number = |accumulator: i64| accumulator as i32 as f32 * multiplier + offset;
        let step = |&(bound, code): &(f32, i32)| {
            let (mut below, mut from) = (0, last - first + 1);
            while below < from {
                let middle = (below + from) / 2;
                if number(accumulator(middle)) >= bound { from = middle } else { below = middle + 1 }
            }
            (accumulator(from), code)
        };
        Self { lowest: stairs.lowest, rising, steps: stairs.steps.iter().flatten().map(step).collect() }
    }

    /// The code of an accumulator.
    pub fn code(&self, accumulator: i32) -> i32 {
        let a = i64::from(accumulator);
        let reached = |&&(from, _): &&(i64, i32)| if self.rising { a >= from } else { a <= from };
        self.steps.iter().rev().find(reached).map_or(self.lowest, |(_, code)| *code)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};
    use kd_graph::Value;

    fn quantizers() -> [Quantizer; 5] {
        let ternary = |threshold| SttnActivation { threshold, ..SttnActivation::default() };
        [
            Quantizer::Sign(SignActivation::default()),
            Quantizer::Sibnn(SibnnActivation::default()),
            Quantizer::SttnActivation(ternary(0.5)),
            Quantizer::SttnActivation(ternary(0.05)),
            Quantizer::SttnActivation(ternary(-3.0)),
        ]
    }

    #[test]
    fn thresholds_give_the_quantisers_codes_of_every_accumulator() {
        // A filter of 5x5x40 elements has accumulators from -1000 to 1000; the last ones are the ends of i32.
        let mut accumulators: Vec<i32> = (-1000..=1000).collect();
        accumulators.extend([i32::MIN, i32::MIN + 1, -16_777_217, 16_777_217, i32::MAX - 1, i32::MAX]);
        let multipliers = [0.013_f32, 1.0, 1.5e-3, 7.3e4, 1e-30, 0.0];
        let offsets = [0.0_f32, 0.5, -0.37, 1e-20, 13.0, -250.25, 3e8];
        for quantizer in quantizers() {
            let stairs = Stairs::of(&quantizer).unwrap();
            for multiplier in multipliers.iter().flat_map(|m| [*m, -*m]) {
                // Such that accumulators meet the bounds exactly.
                let exact = [-7.0 * multiplier, 0.5 - 3.0 * multiplier];
                for &offset in offsets.iter().chain(&exact) {
                    let thresholds = Thresholds::new(stairs, multiplier, offset);
                    let numbers: Vec<f32> =
                        accumulators.iter().map(|&a| a as f32 * multiplier + offset).collect();
                    let x = Tensor::<1>::from_floats(numbers.as_slice(), &Device::flex());
                    let y: Value = quantizer.quantize(x, &[]).unwrap().into();
                    for (&a, y) in accumulators.iter().zip(y.data().unwrap().iter::<f32>()) {
                        assert_eq!(thresholds.code(a) as f32, y, "{quantizer}: {a}·{multiplier} + {offset}");
                    }
                }
            }
        }
    }

    #[test]
    fn values_between_two_codes_are_left_to_the_quantiser() {
        let quantizer = Quantizer::Sign(SignActivation { zero: Zero::Zero, ..SignActivation::default() });
        assert_eq!(Stairs::of(&quantizer), None);
    }
}
