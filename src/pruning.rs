//! Networks trained, pruned, recovered, and compared with what was pruned and with the same size from scratch: what `kd prune` and the examples are
//! made of.
//!
//! A method is a [`PruneMethod`], an enum with a file for every variant; all else, that is training, recovery, the control, sensitivity and files, is the
//! same for all of them, in [`prune`].

mod allocation;
mod at_initialisation;
mod channels;
mod flop;
mod l0;
mod lasso;
mod last_epoch;
mod magnitude;
mod method;
mod pruned;
mod recovery;
mod sensitivity;
mod settings;
mod slimming;
mod snapshot;
mod sparse;
mod structured_sparsity;
mod study;
mod surgery;
mod variational_dropout;
mod zeros;

pub use allocation::{AllocationSettings, BySensitivity};
pub use at_initialisation::{AtInitialisation, InitialScore};
pub use channels::Channels;
pub use flop::Flop;
pub use l0::L0;
pub use lasso::Lasso;
pub use magnitude::MagnitudePruning;
pub use method::{Fresh, Method, Net, PRUNE_METHODS, PruneMethod, PruneMethodInfo, ToPrune};
pub use pruned::Pruned;
pub use recovery::Recovery;
pub use settings::PruneSettings;
pub use sparse::{GradualMagnitude, SparseFromScratch, TwoOfFour};
pub use structured_sparsity::StructuredSparsity;
pub use study::{PrunedNetwork, prune, zoo_graph};
pub use surgery::NetworkSurgery;
pub use variational_dropout::VariationalDropout;
