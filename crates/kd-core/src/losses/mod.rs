//! Distillation losses, one module each, and the table that names them.
//!
//! A loss's module states its formula, its paper and where public code differs. It has settings that a recipe can hold ([`LossSettings`]), a checked type
//! with the mathematics as plain methods on tensors, and an implementation of [`Term`]; all types are also found here. [`METHODS`] lists the losses by
//! name; a new loss is a new file and a new row.
//!
//! Every method called `per_example` returns one value per example (or row, query, anchor), unreduced; its mean over a batch is the formula.

pub mod ab;
pub mod attention_transfer;
pub mod correlation_congruence;
pub mod crd;
pub mod cross_entropy;
pub mod darkrank;
pub mod dist;
pub mod dkd;
pub mod factor_transfer;
pub mod fitnets;
pub mod fsp;
pub mod generalised_jsd;
pub mod gradient_attention;
pub mod holistic;
pub mod large_margin_softmax;
pub mod logit_mse;
pub mod logit_standardisation;
pub mod multi_level;
pub mod nst;
pub mod ofd;
pub mod pair_wise;
pub mod pixel_wise;
pub mod pkt;
pub mod reviewkd;
pub mod rkd;
pub mod similarity_preserving;
pub mod soft_targets;
pub mod squared_error;
pub mod triplet;
pub mod verification;
pub mod vid;

mod adapter;
mod connector;
mod elements;
#[cfg(test)]
mod gradient;
mod labels;
mod math;
mod methods;
mod pairs;
mod pooling;
mod relations;

use serde::de::DeserializeOwned;

use crate::settings::SettingsError;
use crate::term::Term;

#[doc(inline)]
pub use ab::{ActivationBoundaries, ActivationBoundariesSettings};
#[doc(inline)]
pub use attention_transfer::{
    AttentionConvention, AttentionMapping, AttentionNormalizer, AttentionPooling, AttentionTransfer,
    AttentionTransferSettings,
};
#[doc(inline)]
pub use correlation_congruence::{Congruence, CorrelationCongruence, CorrelationCongruenceSettings, Kernel};
#[doc(inline)]
pub use crd::{Crd, CrdSettings};
#[doc(inline)]
pub use cross_entropy::{CrossEntropy, CrossEntropySettings};
#[doc(inline)]
pub use darkrank::{DarkRank, DarkRankSettings, Transfer};
#[doc(inline)]
pub use dist::{Dist, DistSettings};
#[doc(inline)]
pub use dkd::{Dkd, DkdSettings};
pub use elements::Elements;
#[doc(inline)]
pub use factor_transfer::{Factor, FactorDistance, FactorTransfer, FactorTransferSettings};
#[doc(inline)]
pub use fitnets::{FitNets, FitNetsSettings};
#[doc(inline)]
pub use fsp::{Fsp, FspDistance, FspPooling, FspSettings};
#[doc(inline)]
pub use generalised_jsd::{GeneralisedJsd, GeneralisedJsdSettings};
#[doc(inline)]
pub use gradient_attention::{GradientAttention, GradientAttentionSettings, GradientComparison};
#[doc(inline)]
pub use holistic::Adversarial;
#[doc(inline)]
pub use large_margin_softmax::{LargeMarginSoftmax, LargeMarginSoftmaxSettings};
#[doc(inline)]
pub use logit_mse::{LogitMse, LogitMseSettings};
#[doc(inline)]
pub use logit_standardisation::{LogitStandardisationSettings, Standardize};
pub use methods::{METHODS, Method, by_name};
#[doc(inline)]
pub use multi_level::{MultiLevel, MultiLevelSettings};
#[doc(inline)]
pub use nst::{Nst, NstKernel, NstSettings};
#[doc(inline)]
pub use ofd::{Margin, Ofd, OfdSettings};
#[doc(inline)]
pub use pair_wise::{PairWise, PairWiseSettings, RegionPool, VectorNorm};
#[doc(inline)]
pub use pixel_wise::{PixelWise, PixelWiseSettings};
#[doc(inline)]
pub use pkt::{Neighbours, Pkt, PktSettings};
#[doc(inline)]
pub use reviewkd::{ReviewKd, ReviewKdSettings};
#[doc(inline)]
pub use rkd::{Rkd, RkdSettings, Tuples};
#[doc(inline)]
pub use similarity_preserving::{RowNorm, SimilarityPreserving, SimilarityPreservingSettings};
#[doc(inline)]
pub use soft_targets::{Divergence, Ensemble, SoftTargets, SoftTargetsSettings, TemperatureScale};
#[doc(inline)]
pub use squared_error::{SquaredError, SquaredErrorSettings};
#[doc(inline)]
pub use triplet::{Triplet, TripletSettings, Triplets};
#[doc(inline)]
pub use verification::{Verification, VerificationSettings};
#[doc(inline)]
pub use vid::{Vid, VidSettings};

/// Settings of a loss as a recipe writes them: unknown keys are refused, missing ones have defaults.
pub trait LossSettings: DeserializeOwned {
    /// The checked loss.
    type Loss: Term + 'static;

    /// Checks every value.
    ///
    /// # Errors
    /// [`SettingsError`], with key, value and allowed range.
    fn build(self) -> Result<Self::Loss, SettingsError>;
}
