//! One update of a layer's connections: some are dropped, as many are grown.

use serde::{Deserialize, Serialize};

use crate::{Array, Mask, PruneError, Ties, top_k};

/// How many are dropped; public implementations differ, by one at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropGrow {
    /// `floor(connections * share)` are dropped (RigL's own code).
    #[default]
    Truncated,
    /// `round(connections * (1 - share))`, at least one, are left (JaxPruner).
    Rounded,
}

impl DropGrow {
    /// Drops the connections of the smallest magnitude and grows as many where `grow` is largest among those that are not connected,
    /// the just dropped included. The number of connections stays.
    ///
    /// With the magnitude of the dense gradient as `grow` this is RigL (Evci et al., *Rigging the Lottery*, 2020); with random numbers it
    /// is SET (Mocanu et al., 2018).
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a share outside `[0, 1]`, [`PruneError::Shape`] when the shapes differ.
    pub fn update(self, weight: &Array, mask: &Mask, grow: &Array, share: f64) -> Result<Mask, PruneError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(PruneError::setting("share", share, "0 to 1"));
        }
        let connections = mask.kept();
        let left = match self {
            // In single precision, as in the reference: the product decides what the truncation sees.
            Self::Truncated => connections - (connections as f32 * share as f32) as usize,
            Self::Rounded => {
                let left = (connections as f32 * (1.0 - share as f32)).round_ties_even() as usize;
                left.max(1).min(connections)
            }
        };
        regrow(weight, mask, grow, left, connections)
    }
}

/// Keeps the `left` largest connections and grows until there are `total`.
///
/// # Errors
/// [`PruneError::Shape`] when the shapes differ.
pub fn regrow(
    weight: &Array,
    mask: &Mask,
    grow: &Array,
    left: usize,
    total: usize,
) -> Result<Mask, PruneError> {
    // Below every magnitude: what is not connected is never among those that stay, not even beside a weight of 0.
    let magnitudes = weight.zip(&mask.to_array(), |w, m| if m == 0.0 { -1.0 } else { w.abs() })?;
    let stays = top_k(magnitudes.values(), left.min(mask.kept()), Ties::LowerIndex);
    let kept = stays.iter().filter(|stays| **stays).count();
    let mut open = stays.iter();
    let grow = grow.zip(&magnitudes, |grow, _| grow)?;
    let scores =
        grow.map_in_order(|score| if open.next() == Some(&true) { f32::NEG_INFINITY } else { score });
    let grown = top_k(scores.values(), total.saturating_sub(kept).min(weight.len() - kept), Ties::LowerIndex);
    Mask::new(mask.shape(), stays.iter().zip(grown).map(|(stays, grown)| *stays || grown).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn array(values: &[f32]) -> Array {
        Array::new([values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn the_number_of_connections_stays_and_the_largest_growth_is_connected() {
        let weight = array(&[5.0, 0.1, 3.0, 0.0, 0.0, 0.2]);
        let mask = Mask::new([6], vec![true, true, true, false, false, true]).unwrap();
        let grow = array(&[9.0, 0.0, 9.0, 2.0, 7.0, 0.5]);
        let next = DropGrow::Truncated.update(&weight, &mask, &grow, 0.5).unwrap();
        assert_eq!(next.keep(), [true, false, true, true, true, false]);
        assert_eq!(next.kept(), mask.kept());
    }

    #[test]
    fn a_connection_of_weight_zero_is_kept_before_one_that_is_not_there() {
        let mask = Mask::new([3], vec![false, false, true]).unwrap();
        let next = regrow(&array(&[0.0, 0.0, 0.0]), &mask, &array(&[1.0, 2.0, 0.0]), 1, 1).unwrap();
        assert_eq!(next.keep(), [false, false, true]);
    }
}
