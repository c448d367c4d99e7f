//! Bits for every layer under a budget of bytes.

use crate::QuantError;
use crate::error::in_range;

/// Into how many parts the budget is cut.
const PARTS: usize = 10_000;

/// One way to quantise a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// What it is: the layer's bits.
    pub bits: u32,
    /// The packed size of the layer.
    pub bytes: usize,
    /// What it costs: the measured loss with only this layer quantised so, above that of the float model.
    pub loss: f64,
}

/// The index of one choice per layer, with the least sum of losses whose bytes stay within the budget.
///
/// A knapsack by dynamic programming over the budget in ten-thousandths, sizes rounded up to them: the budget is never exceeded, and the best allocation is
/// missed only if it leaves less than a ten-thousandth per layer unused. Losses are taken to add up, which holds for small ones.
///
/// # Errors
/// [`QuantError::Empty`] for a layer without choices; [`QuantError::Setting`] for a budget that the smallest choices exceed, or a loss that is no number.
///
/// ```
/// use kd_quant::analysis::{Choice, allocate};
///
/// let layer = |loss8, loss4| vec![
///     Choice { bits: 8, bytes: 800, loss: loss8 },
///     Choice { bits: 4, bytes: 400, loss: loss4 },
/// ];
/// // The first layer suffers from four bits, the second hardly.
/// assert_eq!(allocate(&[layer(0.0, 0.5), layer(0.0, 0.01)], 1250)?, [0, 1]);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
pub fn allocate(layers: &[Vec<Choice>], budget: usize) -> Result<Vec<usize>, QuantError> {
    let mut least = 0;
    for layer in layers {
        let smallest = layer.iter().map(|choice| choice.bytes).min();
        least += smallest.ok_or(QuantError::Empty { what: "a layer's choices" })?;
        for choice in layer {
            in_range("loss", choice.loss, choice.loss.is_finite(), "a finite number")?;
        }
    }
    in_range("budget", budget, least <= budget, format!("at least {least} bytes, the smallest choices"))?;

    // Small budgets are exact: a part is then a byte.
    let unit = budget.div_ceil(PARTS).max(1);
    let parts = |bytes: usize| bytes.div_ceil(unit);
    let capacity = budget / unit;
    let mut best = vec![0.0; capacity + 1];
    let mut taken: Vec<Vec<Option<usize>>> = Vec::with_capacity(layers.len());
    for layer in layers {
        let choose = |left: usize| {
            let fits = layer.iter().enumerate().filter_map(|(i, choice)| {
                let rest = left.checked_sub(parts(choice.bytes))?;
                Some((i, best[rest] + choice.loss)).filter(|(_, loss): &(usize, f64)| loss.is_finite())
            });
            fits.reduce(|a, b| if b.1 < a.1 { b } else { a })
        };
        let chosen: Vec<Option<(usize, f64)>> = (0..=capacity).map(choose).collect();
        taken.push(chosen.iter().map(|c| c.map(|(i, _)| i)).collect());
        best = chosen.into_iter().map(|c| c.map_or(f64::INFINITY, |(_, loss)| loss)).collect();
    }

    let mut left = capacity;
    let mut choices = vec![0; layers.len()];
    for ((layer, taken), choice) in layers.iter().zip(&taken).zip(&mut choices).rev() {
        let Some(i) = taken[left] else { return Ok(smallest(layers)) };
        *choice = i;
        left -= parts(layer[i].bytes);
    }
    Ok(choices)
}

/// The smallest choice of every layer: what is left when rounding up alone exceeds the budget.
fn smallest(layers: &[Vec<Choice>]) -> Vec<usize> {
    let of = |layer: &Vec<Choice>| (0..layer.len()).min_by_key(|&i| layer[i].bytes).unwrap_or(0);
    layers.iter().map(of).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every(layers: &[Vec<Choice>]) -> Vec<Vec<usize>> {
        layers.iter().fold(vec![vec![]], |all, layer| {
            all.iter()
                .flat_map(|head| (0..layer.len()).map(move |i| [head.clone(), vec![i]].concat()))
                .collect()
        })
    }

    fn totals(layers: &[Vec<Choice>], choices: &[usize]) -> (usize, f64) {
        let chosen = layers.iter().zip(choices).map(|(layer, &i)| layer[i]);
        chosen.fold((0, 0.0), |(bytes, loss), c| (bytes + c.bytes, loss + c.loss))
    }

    proptest! {
        #[test]
        fn no_other_allocation_within_the_budget_is_better(
            sizes in prop::collection::vec(prop::collection::vec((1_usize..200, 0.0_f64..1.0), 1..4), 1..5),
            budget in 0_usize..600,
        ) {
            let of = |&(bytes, loss): &(usize, f64)| Choice { bits: 8, bytes, loss };
            let layers: Vec<Vec<Choice>> = sizes.iter().map(|layer| layer.iter().map(of).collect()).collect();
            let fitting = every(&layers).into_iter().map(|c| totals(&layers, &c)).filter(|t| t.0 <= budget);
            let best = fitting.map(|t| t.1).reduce(f64::min);
            match (allocate(&layers, budget), best) {
                (Ok(choices), Some(best)) => {
                    let (bytes, loss) = totals(&layers, &choices);
                    prop_assert!(bytes <= budget && loss <= best + 1e-12, "{bytes} {loss} {best}");
                }
                (Err(_), None) => (),
                (found, best) => prop_assert!(false, "{found:?} {best:?}"),
            }
        }
    }

    #[test]
    fn large_budgets_are_kept_too() {
        let layer = |i: usize| {
            [8, 4, 2].map(|bits| Choice {
                bits,
                bytes: 12_345 * bits as usize + i,
                loss: 1.0 / f64::from(bits),
            })
        };
        let layers: Vec<Vec<Choice>> = (0..20).map(|i| layer(i).to_vec()).collect();
        let choices = allocate(&layers, 1_000_000).unwrap();
        let (bytes, _) = totals(&layers, &choices);
        assert!((950_000..=1_000_000).contains(&bytes), "{bytes}");
        assert!(allocate(&layers, 100).unwrap_err().to_string().contains("at least 493990 bytes"));
    }
}
