//! Networks trained, pruned, recovered, and compared with what was pruned and with the same size from scratch: what `kd prune` and the examples are
//! made of.
//!
//! A method is a [`PruneMethod`], an enum with a file for every variant; all else, that is training, recovery, the control, sensitivity and files, is the
//! same for all of them, in [`prune`].

mod channels;
mod lasso;
mod magnitude;
mod method;
mod recovery;
mod sensitivity;
mod settings;
mod slimming;
mod snapshot;
mod sparse;
mod structured_sparsity;
mod study;

pub use channels::Channels;
pub use lasso::Lasso;
pub use magnitude::MagnitudePruning;
pub use method::{Method, Net, PRUNE_METHODS, PruneMethod, PruneMethodInfo, Pruned, ToPrune};
pub use recovery::Recovery;
pub use settings::PruneSettings;
pub use sparse::{GradualMagnitude, SnipPruning, SparseFromScratch, TwoOfFour};
pub use structured_sparsity::StructuredSparsity;
pub use study::{PrunedNetwork, prune, zoo_graph};
