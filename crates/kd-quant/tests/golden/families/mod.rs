//! How each family's cases are run.

mod affine;
mod binary;
mod integer;
mod larq;
mod low_bits;
mod post;
mod power;
mod sharing;
mod ternary;

use crate::case::{Case, Failure};

pub struct Family {
    pub name: &'static str,
    /// Which cases of the file are of this crate.
    pub prefix: &'static str,
    pub run: fn(&Case) -> Result<(), Failure>,
}

const fn family(name: &'static str, run: fn(&Case) -> Result<(), Failure>) -> Family {
    Family { name, prefix: "", run }
}

pub const FAMILIES: &[Family] = &[
    family("quant_lsq", low_bits::lsq),
    family("quant_pact_dorefa", low_bits::pact_dorefa),
    family("quant_affine", affine::run),
    family("binarize", binary::run),
    family("binarize_larq_tensorpack", larq::run),
    family("ternary_ttq", ternary::ttq),
    family("ternary_twn", ternary::twn),
    family("pow2_adder", power::run),
    family("ptq_bitsplit_adaround", post::run),
    Family { name: "weight_sharing_huffman", prefix: "weight_share_", run: sharing::run },
    family("onnx_qdq", integer::onnx),
    family("gemmlowp_fixedpoint", integer::gemmlowp),
];

/// A case that no arm knows.
fn unknown(case: &Case) -> Result<(), Failure> {
    Err(format!("no function is known for `{}`", case.name))
}
