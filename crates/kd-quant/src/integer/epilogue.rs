//! From accumulators to codes or numbers.

use serde::{Deserialize, Serialize};

use super::gemmlowp::FixedMultiplier;
use super::stairs::{Stairs, Thresholds};
use super::{LinearCodes, Requantize};
use crate::{Grid, QuantError};

/// Which codes a tensor has, and what they stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Format {
    /// Scale and code of zero.
    pub codes: LinearCodes,
    /// The codes.
    pub grid: Grid,
}

/// How accumulators are brought to codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requantization {
    /// Times an f32 multiplier, rounded half to even ([`Requantize`]).
    #[default]
    Float,
    /// gemmlowp's fixed point: no float between an accumulator and its code. Multipliers must lie between 0 and 1, so it is for 8 and 4 bits. Sums of
    /// different scales have no accumulator and stay in f32.
    FixedPoint,
}

/// What accumulators stand for: $y = a\,s_c + b_c$ in channel $c$.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scales {
    /// One, or one for each channel.
    pub step: Vec<f32>,
    /// None, or one for each channel.
    pub bias: Vec<f32>,
}

/// The codes that accumulators become, and a rectifier or clamp in front, as bounds on codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Target {
    pub format: Format,
    pub least: i32,
    pub most: i32,
    /// What decides the code; none: rounding.
    pub stairs: Option<Stairs>,
}

/// The greatest part of a code by which a bias that was rounded to the accumulator's step may move a result; a coarser step keeps its bias in f32.
const BIAS_ERROR: f32 = 1.0 / 16.0;
/// The greatest integer bias: far from the accumulator's end.
const GREATEST_BIAS: f32 = (1 << 28) as f32;

/// Of a list with one number for each channel, one for all or none.
fn at(values: &[f32], channel: usize, default: f32) -> f32 {
    match values {
        [] => default,
        [one] => *one,
        many => many[channel],
    }
}

impl Scales {
    /// Another affine map of every channel behind: $g_c y + d_c$.
    pub fn then(&self, gain: &[f32], shift: &[f32]) -> Self {
        let step = gain.iter().enumerate().map(|(c, gain)| at(&self.step, c, 1.0) * gain).collect();
        let bias = gain.iter().zip(shift).enumerate();
        Self { step, bias: bias.map(|(c, (gain, shift))| at(&self.bias, c, 0.0) * gain + shift).collect() }
    }

    /// The integer bias to start accumulators from, and what happens to them in the end.
    ///
    /// # Errors
    /// [`QuantError::Setting`] for a multiplier that fixed point can't hold.
    pub fn finish(
        &self,
        target: Option<Target>,
        requantization: Requantization,
    ) -> Result<(Vec<i32>, Epilogue), QuantError> {
        let Some(target) = target else {
            let end = End::Float;
            return Ok((
                Vec::new(),
                Epilogue { multiplier: self.step.clone(), offset: self.bias.clone(), end },
            ));
        };
        if let Some(stairs) = target.stairs {
            let channels = self.step.len().max(self.bias.len()).max(1);
            let of = |c: usize| Thresholds::new(stairs, at(&self.step, c, 1.0), at(&self.bias, c, 0.0));
            let end = End::Steps { target, thresholds: (0..channels).map(of).collect() };
            return Ok((Vec::new(), Epilogue { multiplier: Vec::new(), offset: Vec::new(), end }));
        }
        let multiplier: Vec<f32> = self.step.iter().map(|step| step / target.format.codes.scale).collect();
        let fixed = match requantization {
            Requantization::Float => Vec::new(),
            Requantization::FixedPoint => {
                let fixed: Result<_, _> = multiplier.iter().map(|&m| fixed(m)).collect();
                fixed?
            }
        };
        let in_steps: Vec<f32> = self.per_channel(|step, bias| (bias / step).round_ties_even());
        let fine = multiplier.iter().all(|m| m.abs() * 0.5 <= BIAS_ERROR);
        let holds = in_steps.iter().all(|bias| bias.abs() <= GREATEST_BIAS);
        let (bias, offset) = if holds && (fine || !fixed.is_empty()) {
            (in_steps.iter().map(|&bias| bias as i32).collect(), Vec::new())
        } else if fixed.is_empty() {
            (Vec::new(), self.per_channel(|_, bias| bias / target.format.codes.scale))
        } else {
            let key = "requantization";
            let allowed = "`float`: a bias of this network is too large for the accumulators".to_owned();
            return Err(QuantError::Setting { key, value: "fixed-point".to_owned(), allowed });
        };
        Ok((bias, Epilogue { multiplier, offset, end: End::Codes { target, fixed } }))
    }

    /// Of every bias and its step.
    fn per_channel(&self, of: impl Fn(f32, f32) -> f32) -> Vec<f32> {
        let step = |c: usize| if let [one] = self.step.as_slice() { *one } else { self.step[c] };
        self.bias.iter().enumerate().map(|(c, &bias)| of(step(c), bias)).collect()
    }
}

/// A multiplier whose shift an accumulator survives.
fn fixed(multiplier: f32) -> Result<FixedMultiplier, QuantError> {
    let fixed = FixedMultiplier::new(multiplier)?;
    fixed.apply(0)?;
    Ok(fixed)
}

/// What happens to accumulators in the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Epilogue {
    multiplier: Vec<f32>,
    offset: Vec<f32>,
    end: End,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    Float,
    Codes {
        target: Target,
        fixed: Vec<FixedMultiplier>,
    },
    /// One list of thresholds for each channel, or one for all.
    Steps {
        target: Target,
        thresholds: Vec<Thresholds>,
    },
}

/// Accumulators after their epilogue.
pub(super) enum Finished {
    Float(Vec<f32>),
    Codes(Vec<i32>, Format),
}

impl Epilogue {
    /// Of accumulators whose channel changes every `inner` elements.
    pub fn apply(&self, accumulators: &[i32], inner: usize) -> Result<Finished, QuantError> {
        let channels = self.multiplier.len().max(self.offset.len());
        let rows = accumulators.chunks(inner.max(1)).enumerate();
        let of = |values: &[f32], row: usize, default| at(values, row % channels.max(1), default);
        let (target, fixed) = match &self.end {
            End::Float => {
                let mut y = Vec::with_capacity(accumulators.len());
                for (row, accumulators) in rows {
                    let (m, b) = (of(&self.multiplier, row, 1.0), of(&self.offset, row, 0.0));
                    y.extend(accumulators.iter().map(|&a| a as f32 * m + b));
                }
                return Ok(Finished::Float(y));
            }
            End::Codes { target, fixed } => (target, fixed),
            End::Steps { target, thresholds } => {
                let mut y = Vec::with_capacity(accumulators.len());
                for ((_, accumulators), of_channel) in rows.zip(thresholds.iter().cycle()) {
                    let code = |&a: &i32| of_channel.code(a).clamp(target.least, target.most);
                    y.extend(accumulators.iter().map(code));
                }
                return Ok(Finished::Codes(y, target.format));
            }
        };
        let Format { codes: LinearCodes { zero_point, .. }, grid } = target.format;
        let mut y = Vec::with_capacity(accumulators.len());
        for (row, accumulators) in rows {
            let (multiplier, b) = (of(&self.multiplier, row, 1.0), of(&self.offset, row, 0.0));
            if let Some(fixed) = fixed.get(if fixed.len() == 1 { 0 } else { row % channels }) {
                for &a in accumulators {
                    let code = fixed.apply(a)?.saturating_add(zero_point);
                    y.push(code.clamp(grid.min(), grid.max()).clamp(target.least, target.most));
                }
            } else if self.offset.is_empty() {
                let rule = Requantize { multiplier, zero_point, grid };
                y.extend(accumulators.iter().map(|&a| rule.apply(a).clamp(target.least, target.most)));
            } else {
                let codes = LinearCodes { scale: 1.0, zero_point };
                let code = |&a: &i32| super::quantize(a as f32 * multiplier + b, codes, grid);
                y.extend(accumulators.iter().map(|a| code(a).clamp(target.least, target.most)));
            }
        }
        Ok(Finished::Codes(y, target.format))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn target(scale: f32) -> Target {
        let grid = Grid::unsigned(4).unwrap();
        Target {
            format: Format { codes: LinearCodes { scale, zero_point: 2 }, grid },
            least: 2,
            most: 15,
            stairs: None,
        }
    }

    fn codes(scales: &Scales, target: Target, accumulators: &[i32]) -> Vec<i32> {
        let (bias, epilogue) = scales.finish(Some(target), Requantization::Float).unwrap();
        let channels = scales.step.len().max(scales.bias.len());
        let with = |(i, a): (usize, &i32)| a + bias.get(i % channels).copied().unwrap_or(0);
        let sums: Vec<i32> = accumulators.iter().enumerate().map(with).collect();
        match epilogue.apply(&sums, 1).unwrap() {
            Finished::Codes(codes, _) => codes,
            Finished::Float(_) => panic!("codes were asked for"),
        }
    }

    #[test]
    fn a_fine_step_takes_its_bias_into_the_accumulator() {
        let scales = Scales { step: vec![0.01], bias: vec![0.5, -0.3] };
        let (bias, epilogue) = scales.finish(Some(target(0.1)), Requantization::Float).unwrap();
        assert_eq!((bias, epilogue.offset.is_empty()), (vec![50, -30], true));
        // 0.1·(0, 50) + 2 and 0.1·(100, 70) + 2.
        assert_eq!(codes(&scales, target(0.1), &[-50, 80]), [2, 7]);
    }

    #[test]
    fn a_coarse_step_keeps_its_bias_apart() {
        let scales = Scales { step: vec![1.0], bias: vec![0.4] };
        let (bias, epilogue) = scales.finish(Some(target(0.25)), Requantization::Float).unwrap();
        assert_eq!((bias.len(), epilogue.offset.as_slice()), (0, &[1.6][..]));
        assert_eq!(codes(&scales, target(0.25), &[1, 2, -9]), [8, 12, 2]);
    }

    #[test]
    fn an_affine_map_behind_is_part_of_the_multiplier() {
        let scales = Scales { step: vec![0.5], bias: vec![1.0, 2.0] }.then(&[2.0, -1.0], &[0.0, 0.5]);
        assert_eq!(scales, Scales { step: vec![1.0, -0.5], bias: vec![2.0, -1.5] });
    }

    #[test]
    fn fixed_point_refuses_what_it_cannot_hold() {
        let scales = Scales { step: vec![2.0], bias: vec![] };
        let error = scales.finish(Some(target(1.0)), Requantization::FixedPoint).unwrap_err();
        assert!(error.to_string().contains("above 0 and below 1"), "{error}");
        let scales = Scales { step: vec![0.25], bias: vec![1e9] };
        let error = scales.finish(Some(target(1.0)), Requantization::FixedPoint).unwrap_err();
        assert!(error.to_string().contains("`float`"), "{error}");
    }
}
