//! `kd quantize`: a trained model in integers, the report on its layers, and input that is wrong.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{kd, stderr, stdout};
use kd::graph::Graph;
use kd::quant::integer::IntegerNetwork;
use kd::quant::plan::QuantPlan;
use tempfile::tempdir;

const MODEL: [&str; 9] =
    ["lenet5:4,8,20", "--data", "digits", "--validation", "100", "--limit", "256", "--calibration", "2"];

fn arguments<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [&["quantize"], command, &MODEL, &["-q"], more].concat()
}

#[test]
fn a_model_is_quantised_after_training_and_its_graph_loads_and_runs_in_integers() {
    let folder = tempdir().unwrap();
    let command = arguments(&["--post"], &["--bits", "4", "--out", "small"]);
    let text = stdout(kd(folder.path(), &command));
    for part in ["conv2.weight", "uniform 4 bit", "in integers", "plan.json"] {
        assert!(text.contains(part), "no {part}: {text}");
    }
    assert!(!text.contains("in float:"), "{text}");
    let graph = Graph::load(folder.path().join("small/quantised.json")).unwrap();
    let device = burn::tensor::Device::flex();
    let network = IntegerNetwork::<burn::tensor::Tensor<4>>::new(&graph, &device).unwrap();
    assert!(network.integer_nodes() > 4 && network.float_nodes().is_empty());

    // What was written is evaluated as it is.
    let data = ["--data", "digits", "--validation", "100", "--limit", "256", "-q"];
    let text = stdout(kd(folder.path(), &[&["eval", "small/quantised.json"], &data[..]].concat()));
    assert!(text.contains("accuracy") && text.contains("0 in float"), "{text}");
    let both = [&["eval", "small/quantised.json", "--model", "lenet5:4,8,20"], &data[..]].concat();
    assert!(stderr(&kd(folder.path(), &both)).contains("leave out --model"));

    // Nothing is overwritten unless asked for.
    let before = std::fs::read(folder.path().join("small/plan.json")).unwrap();
    let again = stderr(&kd(folder.path(), &arguments(&["--post"], &["--bits", "8", "--out", "small"])));
    assert!(again.contains("is there already"), "{again}");
    assert_eq!(std::fs::read(folder.path().join("small/plan.json")).unwrap(), before);
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

#[test]
fn wrong_input_is_named() {
    let folder = tempdir().unwrap();
    let refused = |command: &[&str], more: &[&str]| stderr(&kd(folder.path(), &arguments(command, more)));
    let nine = kd(folder.path(), &arguments(&["--post"], &["--bits", "9"]));
    assert_eq!(nine.status.code(), Some(2));
    assert!(stderr(&nine).contains("`bits` is 9"));
    assert!(refused(&[], &[]).contains("--post"));
    let none =
        [&["quantize", "--post"], &MODEL[..7], &["--calibration", "0", "--out", "none", "-q"]].concat();
    let empty = stderr(&kd(folder.path(), &none));
    assert!(empty.contains("is empty"), "{empty}");
    assert!(!folder.path().join("none").exists());
    std::fs::write(folder.path().join("plan.json"), r#"{"network": {}, "weights": {}, "activations": {}}"#)
        .unwrap();
    let other = refused(&["--post"], &["--plan", "plan.json"]);
    assert!(other.contains("another network"), "{other}");
    assert!(refused(&["analyse"], &["--budget", "3"]).contains("`budget` is 3"));
}
