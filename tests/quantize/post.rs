//! `kd quantize --post`.

use kd::graph::Graph;
use kd::quant::integer::IntegerNetwork;
use kd::quant::observer::RangeMethod;
use kd::quant::plan::{QuantPlan, Quantizer};
use tempfile::tempdir;

use crate::arguments;
use crate::common::{kd, stderr, stdout};

#[test]
fn a_model_is_quantised_after_training_and_its_graph_loads_and_runs_in_integers() {
    let folder = tempdir().unwrap();
    let command = arguments(&["--post"], &["--bits", "4", "--out", "small"]);
    let text = stdout(kd(folder.path(), &command));
    for part in [
        "conv2.weight",
        "uniform 4 bit",
        "nearest",
        "bias moved by",
        "weights packed at their bits",
        "beside the form that trains",
        "in integers",
        "plan.json",
    ] {
        assert!(text.contains(part), "no {part}: {text}");
    }
    assert!(!text.contains("in float:"), "{text}");
    let graph = Graph::load(folder.path().join("small/quantised.json")).unwrap();
    let device = burn::tensor::Device::flex();
    let network = IntegerNetwork::<burn::tensor::Tensor<4>>::new(&graph, &device).unwrap();
    assert!(network.integer_nodes() > 4 && network.float_nodes().is_empty());

    // What was written is evaluated as it is.
    let data = ["--data", "digits", "--validation", "100", "--limit", "256", "-q"];
    let evaluated = stdout(kd(folder.path(), &[&["eval", "small/quantised.json"], &data[..]].concat()));
    assert!(evaluated.contains("accuracy") && evaluated.contains("0 in float"), "{evaluated}");
    let both = [&["eval", "small/quantised.json", "--model", "lenet5:4,8,20"], &data[..]].concat();
    assert!(stderr(&kd(folder.path(), &both)).contains("leave out --model"));

    // Nothing is overwritten unless asked for.
    let before = std::fs::read(folder.path().join("small/plan.json")).unwrap();
    let again = stderr(&kd(folder.path(), &arguments(&["--post"], &["--bits", "8", "--out", "small"])));
    assert!(again.contains("is there already"), "{again}");
    assert_eq!(std::fs::read(folder.path().join("small/plan.json")).unwrap(), before);

    for name in ["quantised.json", "quantised.safetensors", "plan.json"] {
        let out = folder.path().join("taken");
        std::fs::create_dir_all(&out).unwrap();
        std::fs::write(out.join(name), "mine").unwrap();
        let error = stderr(&kd(folder.path(), &arguments(&["--post"], &["--out", "taken"])));
        assert!(error.contains(&format!("{name} is there already")), "{error}");
        assert_eq!(std::fs::read_to_string(out.join(name)).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "nothing beside {name}");
        std::fs::remove_dir_all(&out).unwrap();
    }

    // A plan that was written is followed.
    let plan = ["--plan", "small/plan.json", "--out", "again"];
    assert!(stdout(kd(folder.path(), &arguments(&["--post"], &plan))).contains("uniform 4 bit"));
    assert_eq!(std::fs::read(folder.path().join("again/plan.json")).unwrap(), before);
}

fn plan(folder: &std::path::Path, more: &[&str]) -> (QuantPlan, String) {
    let text =
        stdout(kd(folder, &arguments(&["--post"], &[more, &["--out", "run", "--overwrite"]].concat())));
    let plan = std::fs::read(folder.join("run/plan.json")).unwrap();
    (serde_json::from_slice(&plan).unwrap(), text)
}

fn range(quantizer: &Quantizer) -> RangeMethod {
    match quantizer {
        Quantizer::Uniform(uniform) => uniform.range,
        other => unreachable!("{other}"),
    }
}

#[test]
fn every_choice_of_ranges_and_rounding_can_be_made() {
    let folder = tempdir().unwrap();
    for (name, method) in [
        ("min-max", RangeMethod::MinMax {}),
        ("moving-average", RangeMethod::MovingAverage { constant: 0.01 }),
        ("percentile", RangeMethod::Percentile { tail: 0.001 }),
        ("histogram", RangeMethod::Histogram { bins: 2048 }),
        ("kl", RangeMethod::Entropy { bins: 2048 }),
        ("mse", RangeMethod::LeastError { power: 2.0 }),
    ] {
        let (plan, _) = plan(folder.path(), &["--ranges", name]);
        assert!(plan.activations.values().all(|point| range(&point.quantizer) == method), "{name}");
        assert!(plan.weights.values().all(|weight| range(weight) == RangeMethod::MinMax {}), "{name}");
    }
    let choices = ["--bits", "4", "--rounding", "adaround", "--weight-ranges", "mse", "--exclude", "fc1"];
    let (learned, text) = plan(folder.path(), &choices);
    assert!(text.contains("ada-round") && !learned.weights.contains_key("fc1.weight"), "{text}");
    let least = RangeMethod::LeastError { power: 2.0 };
    assert!(learned.weights.values().all(|weight| range(weight) == least));
    let choices = ["--bits", "3", "--rounding", "bit-split", "--equalise", "--bias-correction", "false"];
    let (_, text) = plan(folder.path(), &choices);
    assert!(text.contains("bit-split"), "{text}");
}

#[test]
fn without_data_ranges_follow_from_the_model_alone() {
    let folder = tempdir().unwrap();
    let command = ["quantize", "--post", "resnet8", "--data-free", "--equalise", "--out", "free", "-q"];
    let text = stdout(kd(folder.path(), &command));
    assert!(text.contains("accuracy was not measured"), "{text}");
    let graph = Graph::load(folder.path().join("free/quantised.json")).unwrap();
    let network =
        IntegerNetwork::<burn::tensor::Tensor<4>>::new(&graph, &burn::tensor::Device::flex()).unwrap();
    assert!(network.float_nodes().is_empty());
    let learned = [&command[..4], &["--rounding", "adaround"]].concat();
    let error = kd(folder.path(), &learned);
    assert_eq!(error.status.code(), Some(2));
    assert!(stderr(&error).contains("must be `nearest` without data"), "{}", stderr(&error));
}
