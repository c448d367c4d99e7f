//! From curvature to bits.

use std::collections::BTreeMap;

use super::Sensitivity;
use crate::error::in_range;
use crate::plan::{QuantPlan, Quantizer, Uniform};
use crate::{Granularity, QuantError};

/// `high` bits for the `share` of the weights (counted as tensors, rounded to the nearest number) whose [`score`](Sensitivity::score) is greatest, `low`
/// bits for the others. Of equal ones the first by path comes first.
///
/// # Errors
/// [`QuantError::Setting`] unless both are from 2 to 8, `low` is at most `high`, and `share` from 0 to 1.
///
/// ```
/// use kd_quant::hessian::{Sensitivity, bits_by_sensitivity};
///
/// let of = |path: &str, mean| Sensitivity { path: path.into(), mean, deviation: 0.5, elements: 100 };
/// let bits = bits_by_sensitivity(&[of("query", 1.0), of("value", -9.0), of("key", 2.0)], 4, 2, 0.34)?;
/// assert_eq!((bits["query"], bits["value"], bits["key"]), (2, 4, 2));
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
pub fn bits_by_sensitivity(
    sensitivities: &[Sensitivity],
    high: u32,
    low: u32,
    share: f64,
) -> Result<BTreeMap<String, u32>, QuantError> {
    in_range("high", high, (2..=8).contains(&high), "from 2 to 8 bits")?;
    in_range("low", low, (2..=high).contains(&low), format!("from 2 to {high} bits"))?;
    in_range("share", share, (0.0..=1.0).contains(&share), "from 0 to 1")?;
    let mut order: Vec<&Sensitivity> = sensitivities.iter().collect();
    order.sort_by(|a, b| b.score().total_cmp(&a.score()).then_with(|| a.path.cmp(&b.path)));
    let many = (share * order.len() as f64).round() as usize;
    let bits = |(rank, of): (usize, &Sensitivity)| (of.path.clone(), if rank < many { high } else { low });
    Ok(order.into_iter().enumerate().map(bits).collect())
}

/// Gives weights of a plan so many bits each, in groups of `size` neighbours within an output channel that share a scale.
///
/// # Errors
/// [`QuantError::Plan`] for a weight that the plan doesn't have; [`QuantError::Setting`] unless bits are from 2 to 8.
pub fn set_bits(plan: &mut QuantPlan, bits: &BTreeMap<String, u32>, size: usize) -> Result<(), QuantError> {
    let mut changed = plan.weights.clone();
    for (path, &bits) in bits {
        let unknown = || QuantError::Plan {
            name: path.clone(),
            why: format!(
                "is not in it; it has {}",
                plan.weights.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        };
        let quantizer = changed.get_mut(path).ok_or_else(unknown)?;
        let granularity = Granularity::Group { axis: 0, size };
        *quantizer = Quantizer::Uniform(Uniform { granularity, ..Uniform::weight(bits)? });
    }
    plan.weights = changed;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(path: &str, mean: f64, deviation: f64) -> Sensitivity {
        Sensitivity { path: path.to_owned(), mean, deviation, elements: 1 }
    }

    #[test]
    fn a_mean_that_varies_counts_for_more() {
        let bits =
            bits_by_sensitivity(&[of("steady", 3.0, 0.0), of("varying", 2.0, 2.0)], 8, 4, 0.5).unwrap();
        assert_eq!((bits["steady"], bits["varying"]), (4, 8));
    }

    #[test]
    fn shares_of_none_and_all() {
        let two = [of("a", 1.0, 0.0), of("b", 1.0, 0.0)];
        assert!(bits_by_sensitivity(&two, 8, 4, 0.0).unwrap().values().all(|bits| *bits == 4));
        assert!(bits_by_sensitivity(&two, 8, 4, 1.0).unwrap().values().all(|bits| *bits == 8));
        assert_eq!(bits_by_sensitivity(&two, 8, 4, 0.5).unwrap()["a"], 8);
        let error = bits_by_sensitivity(&two, 4, 8, 0.5).unwrap_err().to_string();
        assert_eq!(error, "`low` is 8, but it must be from 2 to 4 bits");
    }
}
