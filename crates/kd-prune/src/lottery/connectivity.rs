//! Linear mode connectivity: is there a bump between two networks?

use kd_graph::Graph;

use super::floats;
use crate::subject::with_values;
use crate::{Array, Arrays, PruneError};

/// The network between two: $$(1 - \alpha) W_1 + \alpha W_2$$ for every float parameter and running statistic.
///
/// # Errors
/// [`PruneError::Architecture`] when the networks' parameters differ.
pub fn between(first: &Graph, second: &Graph, alpha: f64) -> Result<Graph, PruneError> {
    let (a, b) = (floats(first)?, floats(second)?);
    same(&a, &b)?;
    let mix = |a: f32, b: f32| ((1.0 - alpha) * f64::from(a) + alpha * f64::from(b)) as f32;
    let mut mixed = Arrays::new();
    for (path, a) in &a {
        if let Some(b) = b.get(path) {
            mixed.insert(path.clone(), a.zip(b, mix)?);
        }
    }
    with_values(first, &mixed)
}

/// How much worse networks on the straight line between two are than its ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Instability {
    /// Error at equal steps from the first network to the second, both included.
    pub curve: Vec<f64>,
    /// $$\max_\alpha \text{err}(\alpha) - \tfrac12 (\text{err}(0) + \text{err}(1))$$; below 0.02 the two count as connected.
    pub height: f64,
}

/// Measures the error along the line between two networks that were trained from the same point with different noise, at `steps` + 1 points.
///
/// Frankle et al., *Linear Mode Connectivity and the Lottery Ticket Hypothesis* (2020), with `steps` = 30.
///
/// # Errors
/// [`PruneError::Setting`] for fewer than 2 steps, [`PruneError::Architecture`] when the networks' parameters differ, whatever `error` returns.
pub fn instability<E: From<PruneError>>(
    first: &Graph,
    second: &Graph,
    steps: usize,
    mut error: impl FnMut(&Graph) -> Result<f64, E>,
) -> Result<Instability, E> {
    if steps < 2 {
        return Err(PruneError::setting("steps", steps, "2 or more").into());
    }
    let at = |step: usize| error(&between(first, second, step as f64 / steps as f64)?);
    let curve: Vec<f64> = (0..=steps).map(at).collect::<Result<_, _>>()?;
    let ends = curve.first().copied().unwrap_or(0.0) + curve.last().copied().unwrap_or(0.0);
    let height = curve.iter().fold(f64::NEG_INFINITY, |most, error| most.max(*error)) - ends / 2.0;
    Ok(Instability { curve, height })
}

fn same(a: &Arrays, b: &Arrays) -> Result<(), PruneError> {
    let alone = |path: &String| format!("`{path}` is in one of the networks only");
    let differs = |(path, array): (&String, &Array)| match b.get(path) {
        None => Some(alone(path)),
        Some(other) if other.shape() != array.shape() => {
            Some(format!("`{path}` has the shapes {:?} and {:?}", array.shape(), other.shape()))
        }
        Some(_) => None,
    };
    let missing = || b.keys().find(|path| !a.contains_key(*path)).map(alone);
    let difference = a.iter().find_map(differs).or_else(missing);
    difference.map_or(Ok(()), |difference| Err(PruneError::Architecture { difference }))
}
