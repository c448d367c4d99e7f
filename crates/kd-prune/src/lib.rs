//! Pruning of networks that were traced from burn models: nothing in the model has to be written for it.
//!
//! A method is a [`Score`] × a [`Structure`] × an [`Allocation`] × a [`Schedule`]: what a weight is worth, what goes as one, how much of which
//! layer goes, and when.
//!
//! | Part | Choices |
//! |---|---|
//! | score | [`Magnitude`], [`Lamp`], [`Fpgm`], [`Random`]; with gradients [`Taylor`], [`Snip`], [`Grasp`], [`SynFlow`]; of channels [`ChannelImportance`], [`batch_norm_scales`] |
//! | structure | [`Structure`]: element, filter, channel, kernel, shape, layer, block; [`n_of_m`]; channel groups through the graph's dependencies |
//! | allocation | [`Allocation`]: uniform, global, Erdős–Rényi, per layer; [`Limits`]: rounding, ties, at least one, multiples; [`Budget`]: until so many MACs, parameters, bytes or milliseconds are left |
//! | schedule | [`Schedule`]: one shot, iterative, polynomial, cosine |
//!
//! Systems that train in a [`Run`](kd_train::Run) as hooks, each saved with the run and resumed bit for bit:
//!
//! | System | What |
//! |---|---|
//! | magnitude pruning with retraining, gradual pruning | [`GradualPruning`] with [`Schedule::OneShot`], [`Schedule::Iterative`] or [`Schedule::Polynomial`] |
//! | SNIP, GraSP, SynFlow at initialisation; 2:4 | masks by [`AtInitialisation`] or [`two_of_four`], kept by [`KeepMasks`]; SNIP without a graph: [`SnipTraining`] |
//! | SET, RigL, SNFS, DSR | [`SparseTraining`] with a [`SparseRule`] |
//! | dynamic network surgery | [`Surgery`] on a graph with [`insert_straight_through_masks`] |
//! | lottery tickets | [`LotteryTicket`], [`Snapshot`], [`instability`] |
//!
//! Weights are masked by nodes of the graph ([`insert_masks`]) and kept at exactly zero by a hook ([`KeepMasks`]); channels are removed physically, by a
//! [`PrunePlan`] that can be saved and replayed.

mod absorb;
mod allocation;
mod array;
mod at_initialisation;
mod branches;
mod budget;
mod channel_pruner;
mod channels;
mod cost_change;
mod error;
mod gradual;
mod group_lasso;
mod hard_concrete;
mod keep_masks;
mod lasso;
mod lasso_pruning;
mod lottery;
mod mask;
mod masked;
mod network_slimming;
mod optimizer;
mod plan;
mod pruner;
mod remove_channels;
mod sampled_layer;
mod schedule;
mod score;
mod select;
mod sensitivity;
mod shrink;
mod slimming;
mod snip_training;
mod sparse;
mod sparsify_groups;
mod stochastic;
mod stored;
mod structure;
mod subject;
mod surgery;
mod visit;
mod zeros;

pub use absorb::{Absorbed, Exactness};
pub use allocation::{Allocation, ErdosRenyi, LayerScores, LayerShape, Limits};
pub use array::Array;
pub use at_initialisation::AtInitialisation;
pub use branches::{has_shortcut, remove_constant_branches};
pub use budget::{Amount, Budget, Stopwatch};
pub use channel_pruner::ChannelPruner;
pub use channels::{ChannelImportance, ChannelLimits, ChannelNorm, GroupScores, Reduce, channel_positions};
pub use cost_change::CostChange;
pub use error::PruneError;
pub use gradual::GradualPruning;
pub use group_lasso::GroupLasso;
pub use hard_concrete::{HardConcrete, l0_penalty};
pub use keep_masks::KeepMasks;
pub use lasso::{lasso, lasso_channels, least_squares};
pub use lasso_pruning::{LassoLayer, LassoPruned, LassoPruning};
pub use lottery::{Instability, LotteryTicket, Snapshot, TicketRound, between, instability, rewound};
pub use mask::{Mask, Masks};
pub use masked::{fold_masks, insert_masks, insert_straight_through_masks, mask_kernels, masks_of};
pub use network_slimming::{NetworkSlimming, SlimPass, SlimStage, SlimTarget, slim_within};
pub use plan::PrunePlan;
pub use pruner::{Pruner, Rounds, iterate};
pub use remove_channels::RemoveChannels;
pub use schedule::{Polynomial, PolynomialConvention, Schedule};
pub use score::{
    Fpgm, Grasp, Lamp, Magnitude, Random, Score, Snip, SynFlow, Taylor, batch_norm_scales, masked,
};
pub use select::{Rounding, Ties, top_k};
pub use sensitivity::{LayerSensitivity, Sensitivity};
pub use shrink::shrink;
pub use slimming::{
    PruneReport, SparsifyScales, l1_subgradient, slim, slimming_channels, slimming_threshold,
};
pub use snip_training::SnipTraining;
pub use sparse::{
    Anneal, DropFraction, DropGrow, DsrThreshold, SparseRule, SparseTraining, SparseTrainingSettings,
    SparseView, redistribute, regrow,
};
pub use sparsify_groups::{SparsifyGroups, WeightGroup, zero_small_groups};
pub use stochastic::{
    AscendMultipliers, ClampGates, GateKernel, GateRule, Gates, L0Penalty, NoiseKernel, SizeLagrangian,
    VariationalPenalty, factorise, fold_gates, fold_noise, insert_gates, insert_noise, stochastic_kernels,
};
pub use stored::StoredSize;
pub use structure::{
    MaskSearch, Pooling, Structure, Units, n_of_m, n_of_m_square, transposable_two_of_four, two_of_four,
};
pub use subject::{Arrays, Subject};
pub use surgery::{Moments, Surgery, SurgerySettings, Thresholds, UpdateProbability};
pub use zeros::{plan_zeros, zero_positions};
