//! One file per family: which function of ours a case's source and name stand for.

use crate::case::{Case, Failure};

mod dist;
mod dkd;
mod gkd_jsd;
mod logit_std;
mod ab;
mod crd;
mod ofd;
mod vid;
mod fitnet;
mod kd_hinton;
mod attention_transfer;
mod fsp;
mod ft;
mod nst;
mod reviewkd_hcl;
mod label_smoothing;
mod layers;
mod structured_kd;
mod sp;
mod rkd;
mod pkt;
mod darkrank;
mod cc;

/// Every covered family: its file and the function that runs a case.
pub const FAMILIES: &[(&str, fn(&Case) -> Result<(), Failure>)] =
    &[("reviewkd_hcl", reviewkd_hcl::run), ("nst", nst::run), ("ft", ft::run), ("fsp", fsp::run), ("attention_transfer", attention_transfer::run), ("dist", dist::run), ("dkd", dkd::run), ("gkd_jsd", gkd_jsd::run), ("logit_std", logit_std::run), ("ab", ab::run), ("crd", crd::run), ("ofd", ofd::run), ("vid", vid::run), ("fitnet", fitnet::run), ("structured_kd", structured_kd::run), ("sp", sp::run), ("rkd", rkd::run), ("pkt", pkt::run), ("darkrank", darkrank::run), ("cc", cc::run), ("kd_hinton", kd_hinton::run), ("label_smoothing", label_smoothing::run)];
