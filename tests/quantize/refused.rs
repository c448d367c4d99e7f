//! Bad input to `kd quantize`: each is named, and nothing is overwritten.

use std::path::Path;

use burn::tensor::TensorData;
use kd::graph::Graph;
use tempfile::tempdir;

use crate::common::{kd, stderr, stdout};
use crate::{MODEL, arguments};

/// The files that a run has left behind.
fn contents(folder: &Path) -> Vec<Vec<u8>> {
    ["quantised.json", "quantised.safetensors", "plan.json"]
        .map(|name| std::fs::read(folder.join("run").join(name)).unwrap())
        .to_vec()
}

/// The model with other numbers in one parameter, as `model.json`.
fn changed(folder: &Path, path: &str, to: impl Fn(usize, f32) -> f32) {
    let mut graph = Graph::load(folder.join("plain.json")).unwrap();
    let id = graph.find(path).unwrap();
    let value = graph.value(id).unwrap();
    let numbers: Vec<f32> = value.iter::<f32>().enumerate().map(|(at, value)| to(at, value)).collect();
    let shape = value.shape().clone();
    graph.edit(|edit| edit.set_value(id, TensorData::new(numbers, shape))).unwrap();
    graph.save(folder.join("model.json")).unwrap();
}

#[test]
fn what_can_not_be_quantised_is_named_and_files_stay() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    stdout(kd(folder, &["graph", "show", MODEL[0], "--save", "plain.json"]));
    stdout(kd(folder, &arguments(&["--post"], &["--out", "run"])));
    let before = contents(folder);
    let refused = |model: &str, more: &[&str], code: i32, words: &[&str]| {
        let data = ["--data", "digits", "--validation", "100", "--limit", "256"];
        let calibration: &[&str] =
            if more.contains(&"--calibration") { &[] } else { &["--calibration", "2"] };
        let fixed = ["--out", "run", "--overwrite", "-q"];
        let command = [&["quantize", "--post", model], &data[..], calibration, &fixed, more].concat();
        let output = kd(folder, &command);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{more:?}: {error}");
        assert_eq!(contents(folder), before, "{more:?}");
    };

    refused(MODEL[0], &["--bits", "9"], 2, &["`bits` is 9", "from 2 to 8"]);
    refused(MODEL[0], &["--bits", "1"], 2, &["`bits` is 1"]);
    refused(MODEL[0], &["--calibration", "0"], 1, &["the calibration set is empty"]);
    refused(MODEL[0], &["--exclude", "cnov2"], 2, &["`cnov2` excludes no layer; the nearest are conv2"]);
    refused(MODEL[0], &["--rounding", "up"], 2, &["adaround"]);
    refused("run/quantised.json", &[], 1, &["is quantised already"]);

    changed(folder, "conv2.weight", |at, value| if at == 3 { f32::NAN } else { value });
    refused("model.json", &[], 2, &["`conv2.weight`", "NaN at index 3"]);
    changed(folder, "conv2.weight", |_, _| 0.25);
    refused("model.json", &[], 2, &["`conv2.weight`", "is constant, 0.25 everywhere"]);
    // Behind its rectifier the first layer gives nothing.
    changed(folder, "conv1.bias", |_, _| -1e6);
    refused("model.json", &[], 2, &["is constant: zero in all that was seen"]);

    let plan = std::fs::read_to_string(folder.join("run/plan.json")).unwrap();
    let other = r#"{"network": {}, "weights": {}, "activations": {}}"#;
    std::fs::write(folder.join("other.json"), other).unwrap();
    refused(MODEL[0], &["--plan", "other.json"], 2, &["another network"]);
    let mut unknown: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let weights = unknown["weights"].as_object_mut().unwrap();
    let weight = weights.remove("conv2.weight").unwrap();
    weights.insert("conv3.weight".to_owned(), weight);
    std::fs::write(folder.join("unknown.json"), unknown.to_string()).unwrap();
    refused(MODEL[0], &["--plan", "unknown.json"], 2, &["`conv3.weight`", "`conv2.weight`"]);
    std::fs::write(folder.join("broken.json"), &plan[..plan.len() / 2]).unwrap();
    refused(MODEL[0], &["--plan", "broken.json"], 1, &["broken.json is no plan"]);
}

#[test]
fn wrong_options_are_named() {
    let folder = tempdir().unwrap();
    let error = |command: &[&str], more: &[&str]| stderr(&kd(folder.path(), &arguments(command, more)));
    assert!(error(&[], &[]).contains("--post"));
    assert!(error(&[], &["--equalise"]).contains("--post"));
    assert!(error(&["--post"], &["--plan", "p.json", "--bits", "4"]).contains("--bits"));
    assert!(error(&["analyse"], &["--budget", "3"]).contains("`budget` is 3"));
    let no_data = stderr(&kd(folder.path(), &["quantize", "--post", MODEL[0], "-q"]));
    assert!(no_data.contains("name a dataset with --data"), "{no_data}");
}
