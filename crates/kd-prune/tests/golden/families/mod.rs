//! The families, one file each.

mod groups;
mod l0;
mod lasso;
mod nm_dns_grouplasso;
mod saliency;
mod slimming;
mod sparse_training;

use crate::case::{Case, Failure};

/// Whether a case of the file belongs to the family.
pub type Covers = fn(&Case) -> bool;

/// Runs a case.
pub type Run = fn(&Case) -> Result<(), Failure>;

/// Name of the file, which of its cases belong here, and what runs one.
pub const FAMILIES: &[(&str, Covers, Run)] = &[
    ("prune_slimming", all, slimming::run),
    ("prune_saliency", all, saliency::run),
    ("prune_sparse_training", all, sparse_training::run),
    ("prune_l0", all, l0::run),
    ("prune_nm_dns_grouplasso", all, nm_dns_grouplasso::run),
    ("factorization", |case| case.name.starts_with("lasso"), lasso::run),
    // The groups themselves are compared by the crate that finds them.
    ("prune_groups", |case| case.expected.get("kept").is_some(), groups::run),
];

fn all(_: &Case) -> bool {
    true
}
