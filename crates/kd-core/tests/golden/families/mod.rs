//! One file per family: which function of ours a case's source and name stand for.

use crate::case::{Case, Failure};

mod ab;
mod attention_transfer;
mod cc;
mod crd;
mod darkrank;
mod dist;
mod dkd;
mod fitnet;
mod fsp;
mod ft;
mod gkd_jsd;
mod kd_hinton;
mod label_smoothing;
mod layers;
mod logit_std;
mod nst;
mod ofd;
mod pkt;
mod reviewkd_hcl;
mod rkd;
mod sp;
mod structured_kd;
mod vid;

/// Runs one case.
pub type Run = fn(&Case) -> Result<(), Failure>;

/// Every covered family: its file and the function that runs a case.
pub const FAMILIES: &[(&str, Run)] = &[
    ("reviewkd_hcl", reviewkd_hcl::run),
    ("nst", nst::run),
    ("ft", ft::run),
    ("fsp", fsp::run),
    ("attention_transfer", attention_transfer::run),
    ("dist", dist::run),
    ("dkd", dkd::run),
    ("gkd_jsd", gkd_jsd::run),
    ("logit_std", logit_std::run),
    ("ab", ab::run),
    ("crd", crd::run),
    ("ofd", ofd::run),
    ("vid", vid::run),
    ("fitnet", fitnet::run),
    ("structured_kd", structured_kd::run),
    ("sp", sp::run),
    ("rkd", rkd::run),
    ("pkt", pkt::run),
    ("darkrank", darkrank::run),
    ("cc", cc::run),
    ("kd_hinton", kd_hinton::run),
    ("label_smoothing", label_smoothing::run),
];
