//! SNFS: growth goes to the layers whose momentum is largest.

use std::collections::BTreeMap;

use crate::PruneError;

/// Shares `total` new connections out among layers in proportion to the mean magnitude of the momentum of their connections; what a layer has
/// no room for goes to the others. Dettmers and Zettlemoyer, *Sparse Networks from Scratch* (2019). The sum of the result is `total`, or the
/// room there is; remainders go to the layers with the largest fraction, then by path.
///
/// `layers` gives the mean and the number of places without connection.
///
/// # Errors
/// [`PruneError::NotFinite`] for a mean that is negative or not finite.
pub fn redistribute(
    layers: &BTreeMap<String, (f64, usize)>,
    total: usize,
) -> Result<BTreeMap<String, usize>, PruneError> {
    if let Some((path, (mean, _))) = layers.iter().find(|(_, (mean, _))| !(mean.is_finite() && *mean >= 0.0))
    {
        return Err(PruneError::NotFinite { parameter: path.clone(), value: *mean as f32 });
    }
    let mut given: BTreeMap<String, usize> = layers.keys().map(|path| (path.clone(), 0)).collect();
    let mut left = total.min(layers.values().map(|(_, room)| room).sum());
    while left > 0 {
        let room = |path: &String, room: usize| room - given.get(path).copied().unwrap_or(0).min(room);
        let open: Vec<_> = layers
            .iter()
            .map(|(path, (mean, all))| (path, *mean, room(path, *all)))
            .filter(|l| l.2 > 0)
            .collect();
        let sum: f64 = open.iter().map(|(_, mean, _)| mean).sum();
        // Without any momentum, all are alike.
        let share = |mean: f64| if sum > 0.0 { mean / sum } else { 1.0 / open.len() as f64 };
        let mut wanted: Vec<_> = open
            .iter()
            .map(|(path, mean, room)| ((*path).clone(), left as f64 * share(*mean), *room))
            .collect();
        wanted.sort_by(|a, b| b.1.fract().total_cmp(&a.1.fract()).then(a.0.cmp(&b.0)));
        let floor: usize = wanted.iter().map(|(_, wanted, room)| (*wanted as usize).min(*room)).sum();
        let mut extra =
            if floor == 0 { left } else { left.saturating_sub(wanted.iter().map(|w| w.1 as usize).sum()) };
        for (path, wanted, room) in wanted {
            let more = usize::from(extra > 0 && (wanted as usize) < room);
            let new = (wanted as usize).min(room) + more;
            extra -= more;
            left -= new;
            if let Some(given) = given.get_mut(&path) {
                *given += new;
            }
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layers(all: &[(&str, f64, usize)]) -> BTreeMap<String, (f64, usize)> {
        all.iter().map(|(path, mean, room)| ((*path).to_owned(), (*mean, *room))).collect()
    }

    #[test]
    fn growth_is_in_proportion_and_overflows_to_the_others() {
        let given = redistribute(&layers(&[("a", 3.0, 100), ("b", 1.0, 100)]), 20).unwrap();
        assert_eq!((given["a"], given["b"]), (15, 5));
        let given = redistribute(&layers(&[("a", 3.0, 4), ("b", 1.0, 100)]), 20).unwrap();
        assert_eq!((given["a"], given["b"]), (4, 16));
    }

    #[test]
    fn every_connection_finds_a_place_as_long_as_there_is_one() {
        for total in 0..40 {
            let given =
                redistribute(&layers(&[("a", 0.0, 7), ("b", 0.3, 9), ("c", 0.2, 11)]), total).unwrap();
            assert_eq!(given.values().sum::<usize>(), total.min(27));
        }
        assert!(redistribute(&layers(&[("a", f64::NAN, 7)]), 1).is_err());
    }
}
