//! How much of a network is to be left.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use kd_graph::{Graph, GraphModule};
use serde::{Deserialize, Serialize};

use crate::PruneError;

/// How much may be left: a share of the network as it is, or an amount.
///
/// In a recipe a number is a share, `{ at-most = 2e6 }` an amount.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// A share, above 0 and below 1.
    Share(f64),
    /// So many, above 0.
    AtMost {
        /// The number.
        #[serde(rename = "at-most")]
        at_most: f64,
    },
}

impl From<f64> for Amount {
    fn from(share: f64) -> Self {
        Self::Share(share)
    }
}

/// What is to be left of a network, and of which quantity.
///
/// ```
/// use kd_prune::{Amount, Budget};
///
/// assert_eq!("macs=0.5".parse::<Budget>()?, Budget::Macs(Amount::Share(0.5)));
/// assert_eq!("milliseconds<=0.4".parse::<Budget>()?, Budget::Milliseconds(Amount::AtMost { at_most: 0.4 }));
/// let error = "macs=1.5".parse::<Budget>().unwrap_err().to_string();
/// assert_eq!(error, "`macs` is 1.5; allowed is a share above 0 and below 1");
/// # Ok::<(), kd_prune::PruneError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Channels that could be removed.
    Channels(Amount),
    /// Multiply-accumulates for one sample.
    Macs(Amount),
    /// Learned parameters.
    Parameters(Amount),
    /// Bytes of all weights and buffers.
    Bytes(Amount),
    /// Measured milliseconds of a pass in evaluation, on the device and at the batch size of a [`Stopwatch`].
    Milliseconds(Amount),
}

/// Makes a budget of a quantity.
type Of = fn(Amount) -> Budget;

/// All quantities.
const QUANTITIES: [Of; 5] =
    [Budget::Channels, Budget::Macs, Budget::Parameters, Budget::Bytes, Budget::Milliseconds];

impl Budget {
    /// The quantity's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Channels(_) => "channels",
            Self::Macs(_) => "macs",
            Self::Parameters(_) => "parameters",
            Self::Bytes(_) => "bytes",
            Self::Milliseconds(_) => "milliseconds",
        }
    }

    /// How much of it.
    pub fn amount(self) -> Amount {
        let (Self::Channels(amount)
        | Self::Macs(amount)
        | Self::Parameters(amount)
        | Self::Bytes(amount)
        | Self::Milliseconds(amount)) = self;
        amount
    }

    /// The same budget if it is one.
    ///
    /// # Errors
    /// [`PruneError::Setting`] for a share outside `(0, 1)` or an amount that is not positive.
    pub fn validate(self) -> Result<Self, PruneError> {
        match self.amount() {
            Amount::Share(share) if !(share > 0.0 && share < 1.0) => {
                Err(PruneError::setting(self.name(), share, "a share above 0 and below 1"))
            }
            Amount::AtMost { at_most } if !(at_most > 0.0 && at_most.is_finite()) => {
                Err(PruneError::setting(self.name(), at_most, "an amount above 0"))
            }
            _ => Ok(self),
        }
    }

    /// What may be left of an amount after pass `pass` of `passes`, from 1: the share of the whole falls by the same factor in every pass.
    pub(crate) fn left(self, before: f64, pass: usize, passes: usize) -> f64 {
        let share = match self.amount() {
            Amount::Share(share) => share,
            Amount::AtMost { at_most } => at_most / before,
        };
        before * share.powf(pass as f64 / passes.max(1) as f64)
    }

    /// The quantity of a network; of channels those in groups of which something can be removed.
    ///
    /// # Errors
    /// From counting, compiling or running it.
    pub fn of(self, graph: &Graph, stopwatch: &Stopwatch) -> Result<f64, PruneError> {
        Ok(match self {
            Self::Channels(_) => {
                let dependencies = graph.dependencies();
                let free = dependencies.groups().iter().flat_map(|group| &group.fixed);
                free.filter(|fixed| fixed.is_none()).count() as f64
            }
            Self::Macs(_) => graph.cost(1)?.macs as f64,
            Self::Parameters(_) => graph.cost(1)?.parameters as f64,
            Self::Bytes(_) => graph.cost(1)?.weight_bytes as f64,
            Self::Milliseconds(_) => stopwatch.milliseconds(graph)?,
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.amount() {
            Amount::Share(share) => write!(f, "{}={share}", self.name()),
            Amount::AtMost { at_most } => write!(f, "{}<={at_most}", self.name()),
        }
    }
}

impl FromStr for Budget {
    type Err = PruneError;

    /// `macs=0.5` for a share, `macs<=2e6` for an amount.
    fn from_str(text: &str) -> Result<Self, PruneError> {
        const FORM: &str = "QUANTITY=SHARE or QUANTITY<=AMOUNT, the quantity one of channels, macs, parameters, bytes, milliseconds";
        let wrong = || PruneError::setting("target", text, FORM);
        let (name, number) = text.split_once('=').ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let (name, amount) = match name.strip_suffix('<') {
            Some(name) => (name, Amount::AtMost { at_most: number }),
            None => (name, Amount::Share(number)),
        };
        let budgets = QUANTITIES.iter().map(|of| of(amount));
        budgets.into_iter().find(|budget| budget.name() == name.trim()).ok_or_else(wrong)?.validate()
    }
}

/// Where and how milliseconds are measured.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    /// The device.
    pub device: Device,
    /// Images of a pass; 1.
    pub batch: usize,
    /// Passes of which the median counts; 9.
    pub passes: usize,
}

impl Stopwatch {
    /// Of one image at a time.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone().without_autodiff(), batch: 1, passes: 9 }
    }

    /// The median time of a pass in evaluation, on our kernels where the device has them.
    ///
    /// # Errors
    /// From compiling or running the network.
    pub fn milliseconds(&self, graph: &Graph) -> Result<f64, PruneError> {
        let module = GraphModule::new(graph.clone(), &self.device)?;
        Ok(module.time_pass(self.batch, self.passes)?.as_secs_f64() * 1e3)
    }

    /// The median milliseconds of several networks, a pass of each in turn, so that whatever else the machine does is shared among them.
    ///
    /// # Errors
    /// As [`milliseconds`](Self::milliseconds).
    pub fn compare<const N: usize>(&self, graphs: [&Graph; N]) -> Result<[f64; N], PruneError> {
        let modules = graphs.map(|graph| GraphModule::new(graph.clone(), &self.device));
        let mut times: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
        for _ in 0..self.passes.max(1) {
            for (module, times) in modules.iter().zip(&mut times) {
                let module = module.as_ref().map_err(Clone::clone)?;
                times.push(module.time_pass(self.batch, 1)?.as_secs_f64() * 1e3);
            }
        }
        Ok(times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_budget_reads_what_it_writes_and_the_form_of_a_recipe() {
        for text in ["channels=0.3", "macs=0.5", "parameters<=21000", "bytes<=100000", "milliseconds<=0.25"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
        let read = |text: &str| serde_json::from_str::<Budget>(text).unwrap();
        assert_eq!(read(r#"{"macs": 0.5}"#), Budget::Macs(0.5.into()));
        assert_eq!(read(r#"{"macs": {"at-most": 7.0}}"#), Budget::Macs(Amount::AtMost { at_most: 7.0 }));
    }

    #[test]
    fn a_budget_of_nothing_of_everything_or_of_no_quantity_is_refused() {
        for text in
            ["macs=0", "macs=1", "macs=-0.5", "macs=NaN", "bytes<=0", "flops=0.5", "macs", "macs=half"]
        {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }

    #[test]
    fn passes_end_at_the_budget_and_fall_by_the_same_factor() {
        let left = |pass| Budget::Macs(0.25.into()).left(800.0, pass, 2);
        assert_eq!((left(1), left(2)), (400.0, 200.0));
    }
}
