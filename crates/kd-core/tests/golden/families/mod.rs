//! One file per family: which function of ours a case's source and name stand for.

use crate::case::{Case, Failure};

mod fitnet;
mod kd_hinton;
mod label_smoothing;

/// Every covered family: its file and the function that runs a case.
pub const FAMILIES: &[(&str, fn(&Case) -> Result<(), Failure>)] =
    &[("fitnet", fitnet::run), ("kd_hinton", kd_hinton::run), ("label_smoothing", label_smoothing::run)];
