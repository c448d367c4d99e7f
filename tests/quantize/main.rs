//! `kd quantize`: a trained model in integers, recipes, the report on a model's layers, and input that is wrong.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod post;
mod recipe;
mod refused;

use common::{kd, stdout};
use kd::graph::Graph;
use kd::quant::plan::{PlanSettings, QuantPlan};
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
    // Its weights and the same weights rounded otherwise.
    stdout(kd(
        folder.path(),
        &arguments(&["--post"], &["--bits", "4", "--rounding", "adaround", "--out", "post"]),
    ));
    let against = ["--plan", "post/plan.json", "--against", "post/quantised.json"];
    let more = ["--budget", "4000", "--widths", "8,2", "--images", "50", "--out", "report"];
    let text = stdout(kd(folder.path(), &arguments(&["analyse"], &[&against[..], &more].concat())));
    for part in
        ["SQNR", "fc1.weight", "costs most", "of 4000 bytes", "flips", "2 bit", "in integers", "elsewhere"]
    {
        assert!(text.contains(part), "no {part}: {text}");
    }
    let read = |name: &str| std::fs::read_to_string(folder.path().join("report").join(name)).unwrap();
    let page = read("report.html");
    for part in ["Signal to quantisation noise", "Packed bytes", "Flips", "training form and integer form"] {
        assert!(page.contains(part), "no {part}");
    }
    let plan: QuantPlan = serde_json::from_str(&read("plan.json")).unwrap();
    assert!(plan.weights.values().any(|quantizer| quantizer.bits() == 2));
    let analysis: serde_json::Value = serde_json::from_str(&read("analysis.json")).unwrap();
    let layers = analysis["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 4);
    let flips: Vec<f64> = layers.iter().map(|layer| layer["flips"].as_f64().unwrap()).collect();
    assert!(flips.iter().all(|rate| *rate < 0.6) && flips.iter().any(|rate| *rate > 0.0), "{flips:?}");
    // Of 50 images.
    let accuracy = analysis["quantised"].as_f64().unwrap() * 50.0;
    assert!((accuracy - accuracy.round()).abs() < 1e-9, "{accuracy}");
}

#[test]
fn a_plan_of_training_is_measured_with_the_normalisations_that_it_folds() {
    let folder = tempdir().unwrap();
    stdout(kd(folder.path(), &["graph", "show", "mlp-bn:20,10", "--save", "float.json"]));
    let graph = Graph::load(folder.path().join("float.json")).unwrap();
    let settings = PlanSettings { fold_batch_norm: true, ..PlanSettings::lsq(4).unwrap() };
    let plan = QuantPlan::new(&graph, &settings).unwrap();
    assert_eq!(plan.folded.len(), 2);
    std::fs::write(folder.path().join("plan.json"), serde_json::to_vec(&plan).unwrap()).unwrap();
    let data = ["--data", "digits", "--validation", "100", "--limit", "256", "--calibration", "2", "-q"];
    let command = ["quantize", "analyse", "float.json", "--plan", "plan.json"];
    let text = stdout(kd(folder.path(), &[&command[..], &data].concat()));
    assert_eq!(text.lines().filter(|line| line.contains(".weight  ")).count(), 3, "{text}");
    assert!(text.contains("lsq 4 bit"), "{text}");
}
