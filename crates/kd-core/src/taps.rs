//! Named intermediate values of a forward pass.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Int, Tensor};

use crate::value::{Value, ValueError};

/// The name under which a network's output can be read like any other tap.
pub const OUTPUT: &str = "output";

/// Why a tap could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    /// The forward pass recorded no tap of this name.
    #[error("there is no tap `{name}`; the network has: {}", known.join(", "))]
    Missing {
        /// The name asked for.
        name: String,
        /// The names that the network recorded.
        known: Vec<String>,
    },
    /// The network could not give the tap.
    #[error("tap `{name}`: {reason}")]
    Refused {
        /// The tap's name.
        name: String,
        /// The network's reason.
        reason: String,
    },
    /// The tap holds a tensor of another rank or kind.
    #[error("tap `{name}`: {source}")]
    Value {
        /// The tap's name.
        name: String,
        /// What was asked for and what is there.
        source: ValueError,
    },
}

/// Collects the intermediate values that somebody asked for, and only those.
///
/// A network offers a value with [`tap`](Taps::tap) and goes on with what it returns. What was not asked for costs one look-up.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_core::Taps;
///
/// let mut taps = Taps::only(["stage1"]);
/// let hidden = Tensor::<2>::ones([2, 8], &Device::flex());
/// let hidden = taps.tap("stage1", hidden);
/// taps.tap("stage2", hidden * 2.0);
/// assert_eq!(taps.get::<2>("stage1")?.dims(), [2, 8]);
/// assert!(taps.get::<2>("stage2").is_err()); // nobody asked for it
/// # Ok::<(), kd_core::TapError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Taps {
    wanted: Wanted,
    values: BTreeMap<String, Value>,
    offered: Vec<String>,
    refused: BTreeMap<String, String>,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) enum Wanted {
    #[default]
    None,
    All,
    Only(BTreeSet<String>),
}

impl Taps {
    /// Records nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Records every tap the network offers.
    pub fn all() -> Self {
        Self { wanted: Wanted::All, ..Self::default() }
    }

    /// Records the named taps.
    pub fn only<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { wanted: Wanted::Only(names), ..Self::default() }
    }

    /// Whether `name` was asked for: lets a network skip work that only a tap needs.
    pub fn wants(&self, name: &str) -> bool {
        match &self.wanted {
            Wanted::None => false,
            Wanted::All => true,
            Wanted::Only(names) => names.contains(name),
        }
    }

    /// What was asked for.
    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Offers a tensor; returns it unchanged.
    pub fn tap<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if self.wants(name) {
            self.insert(name, tensor.clone());
        } else {
            self.offer(name);
        }
        tensor
    }

    /// Says that there is a tap of this name, for networks that only make what was asked for.
    pub fn offer(&mut self, name: impl Into<String>) {
        if !matches!(self.wanted, Wanted::None) {
            self.offered.push(name.into());
        }
    }

    /// Records a value under `name` whether or not it was asked for.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.values.insert(name.into(), value.into());
    }

    /// Says why a tap cannot be given: who reads it gets the reason. For networks whose forward pass can fail.
    pub fn refuse(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.refused.insert(name.into(), reason.into());
    }

    /// The names of everything that the forward pass offered, recorded or not.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.values.keys().chain(&self.offered).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// The recorded value.
    ///
    /// # Errors
    /// [`TapError::Missing`], which lists the taps that exist, or [`TapError::Refused`] with the network's reason.
    pub fn value(&self, name: &str) -> Result<&Value, TapError> {
        let missing = || match self.refused.get(name) {
            Some(reason) => TapError::Refused { name: name.to_owned(), reason: reason.clone() },
            None => TapError::Missing { name: name.to_owned(), known: self.names() },
        };
        self.values.get(name).ok_or_else(missing)
    }

    /// The recorded float tensor of rank `D`.
    ///
    /// # Errors
    /// [`TapError::Missing`], or [`TapError::Value`] when the rank or kind is another one.
    pub fn get<const D: usize>(&self, name: &str) -> Result<Tensor<D>, TapError> {
        self.value(name)?.float().map_err(|source| TapError::Value { name: name.to_owned(), source })
    }

    /// The recorded integer tensor of rank `D`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_int<const D: usize>(&self, name: &str) -> Result<Tensor<D, Int>, TapError> {
        self.value(name)?.int().map_err(|source| TapError::Value { name: name.to_owned(), source })
    }

    /// Recorded names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Every value off the autodiff device: what a teacher hands to a loss.
    #[must_use]
    pub fn inner(self) -> Self {
        let values = self.values.into_iter().map(|(name, value)| (name, value.inner())).collect();
        Self { values, ..self }
    }

    /// Every value on the autodiff device, as constants: losses mix them with the student's tensors.
    #[must_use]
    pub fn autodiff(self) -> Self {
        let values = self.values.into_iter().map(|(name, value)| (name, value.autodiff())).collect();
        Self { values, ..self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::Device;

    fn forward(taps: &mut Taps) {
        let x = taps.tap("a", Tensor::<2>::ones([1, 2], &Device::flex()));
        taps.tap("b", x);
    }

    #[test]
    fn a_misspelt_tap_is_an_error_that_lists_the_taps_that_exist() {
        let mut taps = Taps::only(["a", "typo"]);
        forward(&mut taps);
        let error = taps.get::<2>("typo").unwrap_err();
        assert_eq!(error.to_string(), "there is no tap `typo`; the network has: a, b");
    }

    #[test]
    fn a_refused_tap_is_an_error_with_the_networks_reason() {
        let mut taps = Taps::only(["a"]);
        taps.refuse("a", "it has no number");
        let taps = taps.inner().autodiff();
        assert_eq!(taps.get::<2>("a").unwrap_err().to_string(), "tap `a`: it has no number");
    }

    #[test]
    fn only_what_was_asked_for_is_kept() {
        let mut taps = Taps::only(["b"]);
        forward(&mut taps);
        assert_eq!(taps.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_wrong_rank_is_an_error_that_names_the_tap() {
        let mut taps = Taps::all();
        forward(&mut taps);
        assert!(taps.get::<4>("a").unwrap_err().to_string().starts_with("tap `a`: asked for"));
    }
}
