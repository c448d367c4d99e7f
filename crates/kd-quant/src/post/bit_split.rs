//! Bit-Split: codes as ternary planes, each found in closed form.

use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::in_range;
use crate::grid::Bits;

/// When the change of the scales counts as none.
const CONVERGED: f64 = 1e-9;

/// Bit-Split and stitching, in f64.
///
/// A symmetric `b`-bit weight $\alpha q$ is a sum of $b - 1$ ternary planes, $\alpha \sum_t 2^{-t} B_t$ with $B_t \in \{-1, 0, 1\}$. Scale and planes are found
/// in turn, each plane in closed form while the others stay; then, if inputs and outputs of the layer are at hand, by coordinate descent on the output's
/// error ([`reconstruct`](Self::reconstruct)).
///
/// | Setting | Default | Purpose |
/// |---|---|---|
/// | `bits` | | $b$, from 2 to 8 |
/// | `sweeps` | 50 | how often scale and planes are gone through at most; they end earlier when no scale changes. 0 keeps the codes of [`fixed_point_weights`] |
///
/// Wang et al., *Towards Accurate Post-training Network Quantization via Bit-Split and Stitching*, ICML 2020.
///
/// ```
/// use kd_quant::post::BitSplit;
///
/// let weight = BitSplit::new(3)?.quantize(&[vec![0.9, -0.6, 0.3, 0.0]])?;
/// let quantised = &weight.values()[0];
/// assert!(quantised.iter().zip([0.9, -0.6, 0.3, 0.0]).all(|(q, w)| (q - w).abs() < 1e-9));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitSplit {
    bits: Bits<2>,
    #[serde(default = "sweeps")]
    sweeps: usize,
}

fn sweeps() -> usize {
    50
}

/// Rows of weights as a scale and planes.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitWeight {
    /// $\alpha$ of every row; with the most significant plane's weight 1.
    pub scale: Vec<f64>,
    /// `[plane][row][element]`, each -1, 0 or 1, the most significant plane first.
    pub planes: Vec<Vec<Vec<f64>>>,
}

impl SplitWeight {
    /// $\sum_t 2^{-t} B_t$ of every row, without the planes that `skip` names.
    fn sum_but(&self, row: usize, skip: Option<usize>) -> Vec<f64> {
        let mut sum = vec![0.0; self.planes.first().map_or(0, |plane| plane[row].len())];
        for (t, plane) in self.planes.iter().enumerate().filter(|(t, _)| Some(*t) != skip) {
            let weight = 0.5_f64.powi(t as i32);
            sum.iter_mut().zip(&plane[row]).for_each(|(s, b)| *s += b * weight);
        }
        sum
    }

    /// The stitched planes of every row, without the scale.
    pub fn sums(&self) -> Vec<Vec<f64>> {
        (0..self.scale.len()).map(|row| self.sum_but(row, None)).collect()
    }

    /// The quantised weights.
    pub fn values(&self) -> Vec<Vec<f64>> {
        let scaled = |(sum, scale): (Vec<f64>, &f64)| sum.into_iter().map(|s| s * scale).collect();
        self.sums().into_iter().zip(&self.scale).map(scaled).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The least-squares scale of codes; what it was, where all codes are zero.
fn fitted(w: &[f64], q: &[f64], before: f64) -> f64 {
    let square = dot(q, q);
    if square > 0.0 { dot(w, q) / square } else { before }
}

fn change(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// Symmetric codes and scales of rows of weights, found in turn: $q = \mathrm{clamp}(\mathrm{round}(w/\alpha))$ and $\alpha = \langle w, q \rangle / \langle
/// q, q \rangle$, from $\alpha = \max|w|/(2^{b-1} - 1)$ on, until no row's scale changes. A row of zeros has the scale 0.
///
/// # Errors
/// [`QuantError::Setting`] unless `bits` is from 2 to 8; [`QuantError::Empty`] and [`QuantError::NonFinite`] for weights that can't be used.
pub fn fixed_point_weights(rows: &[Vec<f64>], bits: u32) -> Result<(Vec<Vec<f64>>, Vec<f64>), QuantError> {
    in_range("bits", bits, (2..=8).contains(&bits), "from 2 to 8")?;
    check(rows)?;
    let max = f64::from((1 << (bits - 1)) - 1);
    let largest = |row: &Vec<f64>| row.iter().fold(0.0_f64, |m, w| m.max(w.abs()));
    let mut scales: Vec<f64> = rows.iter().map(|row| largest(row) / max).collect();
    loop {
        let codes: Vec<Vec<f64>> = rows
            .iter()
            .zip(&scales)
            .map(|(row, &scale)| {
                let code = |w: &f64| {
                    if scale == 0.0 { 0.0 } else { (w / scale).round_ties_even().clamp(-max, max) }
                };
                row.iter().map(code).collect()
            })
            .collect();
        let next: Vec<f64> =
            rows.iter().zip(&codes).zip(&scales).map(|((w, q), &before)| fitted(w, q, before)).collect();
        let done = change(&next, &scales) <= CONVERGED;
        scales = next;
        if done {
            return Ok((codes, scales));
        }
    }
}

fn check(rows: &[Vec<f64>]) -> Result<(), QuantError> {
    const WHAT: &str = "the weight";
    let values: Vec<f32> = rows.iter().flatten().map(|&w| w as f32).collect();
    crate::data::check_finite(WHAT, &values)
}

impl BitSplit {
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 2 to 8.
    pub fn new(bits: u32) -> Result<Self, QuantError> {
        Ok(Self { bits: bits.try_into()?, sweeps: sweeps() })
    }

    /// With another greatest number of sweeps.
    pub fn with_sweeps(self, sweeps: usize) -> Self {
        Self { sweeps, ..self }
    }

    /// Integer codes as planes, most significant first; each plane's elements have the code's sign.
    pub fn split(&self, codes: &[Vec<f64>]) -> Vec<Vec<Vec<f64>>> {
        let plane = |bit: u32| {
            let digit = |q: &f64| if (q.abs() as u32 >> bit) & 1 == 1 { q.signum() } else { 0.0 };
            codes.iter().map(|row| row.iter().map(digit).collect()).collect()
        };
        (0..self.bits.get() - 1).rev().map(plane).collect()
    }

    /// Scale and planes of every row (output channel), by the weights alone.
    ///
    /// # Errors
    /// As [`fixed_point_weights`].
    pub fn quantize(&self, rows: &[Vec<f64>]) -> Result<SplitWeight, QuantError> {
        let (codes, scales) = fixed_point_weights(rows, self.bits.get())?;
        let stretch = 2.0_f64.powi(self.bits.get() as i32 - 2);
        let mut weight =
            SplitWeight { scale: scales.iter().map(|s| s * stretch).collect(), planes: self.split(&codes) };
        for _ in 0..self.sweeps {
            let sums = weight.sums();
            let fit = |((w, sum), &before): ((&Vec<f64>, &Vec<f64>), &f64)| fitted(w, sum, before);
            let next: Vec<f64> = rows.iter().zip(&sums).zip(&weight.scale).map(fit).collect();
            let done = change(&next, &weight.scale) <= CONVERGED;
            weight.scale = next;
            if done {
                break;
            }
            for t in 0..weight.planes.len() {
                for (row, w) in rows.iter().enumerate() {
                    let (others, alpha) = (weight.sum_but(row, Some(t)), weight.scale[row]);
                    let weight_of_plane = 2.0_f64.powi(t as i32);
                    for ((b, w), other) in weight.planes[t][row].iter_mut().zip(w).zip(&others) {
                        *b = nearest((w - alpha * other) * weight_of_plane, alpha);
                    }
                }
            }
        }
        Ok(weight)
    }

    /// Refines scale and planes to reproduce outputs: coordinate descent on $\lVert Y - X (\alpha B)^\top \rVert^2$.
    ///
    /// `inputs [samples][in]` are the (quantised) inputs of the layer, `outputs [samples][out]` what the float layer gave for the float inputs. The scales
    /// are those from before the last epoch's planes.
    ///
    /// # Errors
    /// [`QuantError::Empty`] without samples; [`QuantError::Shape`] for rows of other lengths.
    pub fn reconstruct(
        &self,
        start: SplitWeight,
        inputs: &[Vec<f64>],
        outputs: &[Vec<f64>],
        epochs: usize,
    ) -> Result<SplitWeight, QuantError> {
        let mut weight = start;
        let channels = weight.scale.len();
        let width = weight.planes.first().and_then(|plane| plane.first()).map_or(0, Vec::len);
        if inputs.is_empty() {
            return Err(QuantError::Empty { what: "the calibration set" });
        }
        let fits = |rows: &[Vec<f64>], len| rows.iter().all(|row| row.len() == len);
        if outputs.len() != inputs.len() || !fits(inputs, width) || !fits(outputs, channels) {
            return Err(QuantError::Shape {
                what: "the calibration set",
                got: vec![inputs.len(), outputs.len()],
                wanted: format!("as many outputs of {channels} as inputs of {width}"),
            });
        }
        let column = |rows: &[Vec<f64>], i: usize| rows.iter().map(|row| row[i]).collect::<Vec<_>>();
        let columns: Vec<Vec<f64>> = (0..width).map(|i| column(inputs, i)).collect();
        let gram: Vec<Vec<f64>> =
            columns.iter().map(|a| columns.iter().map(|b| dot(a, b)).collect()).collect();
        let correlation: Vec<Vec<f64>> = (0..channels)
            .map(|j| {
                let output = column(outputs, j);
                columns.iter().map(|x| dot(x, &output)).collect()
            })
            .collect();
        for _ in 0..epochs {
            for (j, correlation) in correlation.iter().enumerate() {
                refine(&mut weight, j, &gram, correlation);
            }
        }
        Ok(weight)
    }
}

/// The ternary digit nearest to `r` in units of `alpha`.
fn nearest(r: f64, alpha: f64) -> f64 {
    if 2.0 * r.abs() < alpha || alpha == 0.0 {
        0.0
    } else if r >= 0.0 {
        1.0
    } else {
        -1.0
    }
}

/// One epoch of one row: with $A = X^\top X$ and $c = X^\top y$, the scale is $\langle c, b \rangle / b^\top A b$, and every digit of every plane is the best
/// while all else stays.
fn refine(weight: &mut SplitWeight, j: usize, gram: &[Vec<f64>], correlation: &[f64]) {
    let product = |b: &[f64]| -> Vec<f64> { gram.iter().map(|row| dot(row, b)).collect() };
    let sum = weight.sum_but(j, None);
    let energy = dot(&sum, &product(&sum));
    if energy > 0.0 {
        weight.scale[j] = dot(correlation, &sum) / energy;
    }
    let alpha = weight.scale[j];
    for t in 0..weight.planes.len() {
        let others: Vec<f64> = weight.sum_but(j, Some(t)).into_iter().map(|b| b * alpha).collect();
        let explained = product(&others);
        let step = alpha * 0.5_f64.powi(t as i32);
        for n in 0..gram.len() {
            let digits = &weight.planes[t][j];
            let neighbours = dot(&gram[n], digits) - gram[n][n] * digits[n];
            let pull = 2.0 * (neighbours * step - (correlation[n] - explained[n]));
            weight.planes[t][j][n] =
                if pull.abs() < step * gram[n][n] || pull == 0.0 { 0.0 } else { -pull.signum() };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The squared error of the quantised rows.
    fn error(rows: &[Vec<f64>], weight: &SplitWeight) -> f64 {
        rows.iter().zip(weight.values()).map(|(w, q)| change(w, &q).powi(2)).sum()
    }

    #[test]
    fn without_sweeps_the_codes_stay_and_sweeps_bring_them_nearer() {
        let rows: Vec<Vec<f64>> =
            (0..6).map(|r| (0..40).map(|i| f64::from((i * i + 7 * r) % 31) / 10.0 - 1.3).collect()).collect();
        let (codes, scales) = fixed_point_weights(&rows, 3).unwrap();
        let rule = BitSplit::new(3).unwrap();
        let none = rule.with_sweeps(0).quantize(&rows).unwrap();
        assert_eq!(none.planes, rule.split(&codes));
        assert_eq!(none.scale, scales.iter().map(|s| s * 2.0).collect::<Vec<_>>());
        let found = [0, 1, 50].map(|sweeps| error(&rows, &rule.with_sweeps(sweeps).quantize(&rows).unwrap()));
        assert!(found[0] >= found[1] && found[1] >= found[2], "{found:?}");
    }

    #[test]
    fn sweeps_are_a_setting_with_a_default() {
        let rule: BitSplit = serde_json::from_str(r#"{"bits": 4}"#).unwrap();
        assert_eq!(rule, BitSplit::new(4).unwrap());
        let rule: BitSplit = serde_json::from_str(r#"{"bits": 4, "sweeps": 3}"#).unwrap();
        assert_eq!(rule, BitSplit::new(4).unwrap().with_sweeps(3));
    }
}
