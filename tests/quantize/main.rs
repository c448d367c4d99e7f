//! `kd quantize`: a trained model in integers, recipes, the report on a model's layers, and input that is wrong.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod post;
mod recipe;
mod refused;

use common::{kd, stdout};
use kd::quant::plan::QuantPlan;
use tempfile::tempdir;

/// A model, untrained, and its data.
const MODEL: [&str; 9] =
    ["lenet5:4,8,20", "--data", "digits", "--validation", "100", "--limit", "256", "--calibration", "2"];

/// `kd quantize` of the model.
fn arguments<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [&["quantize"], command, &MODEL, &["-q"], more].concat()
}

#[test]
fn every_layer_is_analysed_and_bits_fit_a_budget() {
    let folder = tempdir().unwrap();
    let more = ["--budget", "4000", "--widths", "8,2", "--out", "report"];
    let text = stdout(kd(folder.path(), &arguments(&["analyse"], &more)));
    for part in ["SQNR", "fc1.weight", "costs most", "of 4000 bytes"] {
        assert!(text.contains(part), "no {part}: {text}");
    }
    let page = std::fs::read_to_string(folder.path().join("report/report.html")).unwrap();
    assert!(page.contains("Signal to quantisation noise") && page.contains("Packed bytes"));
    let plan = std::fs::read(folder.path().join("report/plan.json")).unwrap();
    let plan: QuantPlan = serde_json::from_slice(&plan).unwrap();
    assert!(plan.weights.values().any(|quantizer| quantizer.bits() == 2));
}
