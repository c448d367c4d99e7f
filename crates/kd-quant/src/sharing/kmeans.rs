//! k-means in one dimension.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::data::check_finite;
use crate::error::in_range;

/// Where the centroids start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Initial {
    /// Evenly from the least to the greatest value: large weights, few but telling, have centroids of their own. Best in the paper.
    #[default]
    Linear,
    /// At evenly spaced quantiles.
    Density,
    /// k-means++: drawn with a probability that grows with the squared distance from those drawn before.
    PlusPlus {
        /// The draw's seed.
        seed: u64,
    },
}

/// Lloyd's algorithm in f64, until the assignment stays, or the centroids move by less than `tolerance` times the variance.
///
/// An empty cluster takes the value farthest from its centroid. A value midway belongs to the lower centroid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KMeans {
    /// How many centroids.
    pub clusters: usize,
    /// Where they start.
    #[serde(default)]
    pub initial: Initial,
    /// The squared shift of all centroids, in variances, at which to stop; default 1e-4.
    #[serde(default = "tolerance")]
    pub tolerance: f64,
    /// The most iterations; default 300.
    #[serde(default = "iterations")]
    pub iterations: usize,
}

fn tolerance() -> f64 {
    1e-4
}

fn iterations() -> usize {
    300
}

/// What k-means found.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// Ascending.
    pub centroids: Vec<f64>,
    /// The centroid of every value.
    pub assignment: Vec<usize>,
    /// The sum of squared distances.
    pub error: f64,
}

impl KMeans {
    /// That many centroids, all else by default.
    pub fn new(clusters: usize) -> Self {
        Self { clusters, initial: Initial::default(), tolerance: tolerance(), iterations: iterations() }
    }

    /// Where the centroids start for these values, ascending.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn start(&self, values: &[f32]) -> Result<Vec<f64>, QuantError> {
        check_finite("the weights to share", values)?;
        in_range("clusters", self.clusters, (1..=65536).contains(&self.clusters), "from 1 to 65536")?;
        let mut sorted: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
        if low == high && self.clusters > 1 {
            return Err(QuantError::Constant { what: "the weight to share", value: low });
        }
        let k = self.clusters;
        let part = |i: usize| if k == 1 { 0.5 } else { i as f64 / (k - 1) as f64 };
        let mut centroids: Vec<f64> = match self.initial {
            Initial::Linear => (0..k).map(|i| low + (high - low) * part(i)).collect(),
            Initial::Density => {
                let rank = |i: usize| ((i as f64 + 0.5) / k as f64 * sorted.len() as f64) as usize;
                (0..k).map(|i| sorted[rank(i).min(sorted.len() - 1)]).collect()
            }
            Initial::PlusPlus { seed } => plus_plus(&sorted, k, seed),
        };
        centroids.sort_by(f64::total_cmp);
        Ok(centroids)
    }

    /// The clusters of some values.
    ///
    /// # Errors
    /// [`QuantError::Empty`], [`QuantError::NonFinite`] and [`QuantError::Constant`] for values that can't be clustered; [`QuantError::Setting`] without
    /// clusters.
    pub fn fit(&self, values: &[f32]) -> Result<Clusters, QuantError> {
        let mut centroids = self.start(values)?;
        let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let mut assignment = assign(&values, &centroids);
        for _ in 0..self.iterations {
            let next = means(&values, &assignment, &centroids);
            let shift: f64 = next.iter().zip(&centroids).map(|(a, b)| (a - b).powi(2)).sum();
            centroids = next;
            let again = assign(&values, &centroids);
            let same = again == assignment;
            assignment = again;
            if same || shift <= self.tolerance * variance {
                break;
            }
        }
        let error = values.iter().zip(&assignment).map(|(v, &c)| (v - centroids[c]).powi(2)).sum();
        Ok(Clusters { centroids, assignment, error })
    }
}

/// The nearest of ascending centroids to every value.
fn assign(values: &[f64], centroids: &[f64]) -> Vec<usize> {
    let borders: Vec<f64> = centroids.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
    values.iter().map(|v| borders.partition_point(|border| border < v)).collect()
}

/// The mean of every cluster, ascending. Empty ones take the values farthest from their centroids, one each.
fn means(values: &[f64], assignment: &[usize], centroids: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; centroids.len()];
    let mut counts = vec![0_usize; centroids.len()];
    for (v, &c) in values.iter().zip(assignment) {
        sums[c] += v;
        counts[c] += 1;
    }
    let empty: Vec<usize> = (0..counts.len()).filter(|&c| counts[c] == 0).collect();
    if !empty.is_empty() {
        let distance = |i: usize| (values[i] - centroids[assignment[i]]).abs();
        let mut far: Vec<usize> = (0..values.len()).collect();
        far.sort_by(|&a, &b| distance(b).total_cmp(&distance(a)));
        for (cluster, i) in empty.into_iter().zip(far) {
            sums[assignment[i]] -= values[i];
            counts[assignment[i]] -= 1;
            sums[cluster] = values[i];
            counts[cluster] = 1;
        }
    }
    let mean = |(c, (sum, &count)): (usize, (&f64, &usize))| {
        if count == 0 { centroids[c] } else { sum / count as f64 }
    };
    let mut means: Vec<f64> = sums.iter().zip(&counts).enumerate().map(mean).collect();
    means.sort_by(f64::total_cmp);
    means
}

fn plus_plus(values: &[f64], k: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut centroids = vec![values[rng.random_range(0..values.len())]];
    let mut distances: Vec<f64> = values.iter().map(|v| (v - centroids[0]).powi(2)).collect();
    while centroids.len() < k {
        let mut rest = rng.random::<f64>() * distances.iter().sum::<f64>();
        let drawn = distances.iter().position(|d| {
            rest -= d;
            rest < 0.0
        });
        let centroid = values[drawn.unwrap_or(values.len() - 1)];
        centroids.push(centroid);
        distances.iter_mut().zip(values).for_each(|(d, v)| *d = d.min((v - centroid).powi(2)));
    }
    centroids
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const VALUES: [f32; 8] = [-1.0, -0.9, -1.1, 0.1, 0.0, 2.0, 2.1, 1.9];

    #[test]
    fn every_start_finds_clear_clusters() {
        for initial in [Initial::Linear, Initial::Density, Initial::PlusPlus { seed: 7 }] {
            let found = KMeans { initial, ..KMeans::new(3) }.fit(&VALUES).unwrap();
            for (centroid, wanted) in found.centroids.iter().zip([-1.0, 0.05, 2.0]) {
                assert!((centroid - wanted).abs() < 1e-6, "{initial:?} {found:?}");
            }
            assert_eq!(found.assignment, [0, 0, 0, 1, 1, 2, 2, 2]);
        }
    }

    #[test]
    fn an_empty_cluster_is_filled() {
        // Linear starts put no value near the middle.
        let found = KMeans::new(3).fit(&[0.0, 0.1, 0.2, 10.0, 10.1]).unwrap();
        let mut used = found.assignment.clone();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), 3, "{found:?}");
    }

    #[test]
    fn constant_and_broken_weights_are_refused() {
        assert!(matches!(KMeans::new(2).fit(&[0.5; 4]), Err(QuantError::Constant { .. })));
        assert!(matches!(KMeans::new(2).fit(&[0.5, f32::NAN]), Err(QuantError::NonFinite { .. })));
        assert!(matches!(KMeans::new(2).fit(&[]), Err(QuantError::Empty { .. })));
        assert!(matches!(KMeans::new(0).fit(&[1.0]), Err(QuantError::Setting { .. })));
    }
}
