//! `kd prune`: a recipe from training to a small network, a model as it is, and input that is wrong.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{command, kd, stderr, stdout};
use kd::graph::Graph;
use tempfile::tempdir;

/// A few seconds: a small LeNet-5, channels in two passes.
const RECIPE: &str = r#"
data = { name = "digits", validation = 100, limit = 256, batch-size = 32 }
student.model = "lenet5:4,8,20"

[run]
epochs = 2
optimizer = { learning-rate = 0.02, clip-norm = 2.0 }

[prune]
method = "channels"
target = { macs = 0.5 }
passes = 2
sensitivity = [0.5]
sensitivity-images = 50
run = { epochs = 1 }
"#;

fn recipe(folder: &Path, text: &str) {
    std::fs::write(folder.join("recipe.toml"), text).unwrap();
}

#[test]
fn a_recipe_trains_prunes_recovers_and_leaves_table_report_plan_and_a_small_network() {
    let folder = tempdir().unwrap();
    recipe(folder.path(), RECIPE);
    let text = stdout(kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", "run"]));
    for row in
        ["dense", "pruned, distilled, pass 1", "pruned ", "pruned, distilled ", "same size from scratch"]
    {
        assert!(text.contains(row), "no row {row}: {text}");
    }
    let run = folder.path().join("run");
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["Sensitivity", "conv1.weight", "Altogether: macs", "measured in turns"] {
        assert!(report.contains(part), "{part} is not in the report");
    }
    let small = Graph::load(run.join("pruned-seed-0.json")).unwrap();
    let plans: Vec<kd::prune::PrunePlan> =
        serde_json::from_slice(&std::fs::read(run.join("plan-seed-0.json")).unwrap()).unwrap();
    assert_eq!(plans.len(), 2);
    let results: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.join("results.json")).unwrap()).unwrap();
    let macs = |name: &str| {
        let rows = results["candidates"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap()["macs"].as_u64().unwrap()
    };
    assert_eq!(macs("pruned, distilled"), small.cost(1).unwrap().macs);
    assert_eq!(macs("same size from scratch"), small.cost(1).unwrap().macs);
    assert!(2 * macs("pruned, distilled") <= macs("dense"));
    // Every run is there: the same again is refused, and going on with it changes nothing.
    let again = kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", "run"]);
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
    // The plans are those of a model of the same architecture.
    stdout(kd(
        folder.path(),
        &["prune", "--plan", "run/plan-seed-0.json", "lenet5:4,8,20", "--out", "replayed"],
    ));
    let replayed = Graph::load(folder.path().join("replayed/pruned.json")).unwrap();
    assert_eq!(replayed.cost(1).unwrap(), small.cost(1).unwrap());
    // The small network is one that other commands take.
    let shown = stdout(kd(folder.path(), &["graph", "show", "run/pruned-seed-0.json"]));
    assert!(shown.contains("conv1"), "{shown}");
}

#[test]
fn every_recovery_of_every_method_runs() {
    let folder = tempdir().unwrap();
    let method = |method: &str, recovery: &str| {
        let head = RECIPE.split("[prune]").next().unwrap().replace("epochs = 2", "epochs = 1");
        format!("{head}[prune]\nmethod = {method}\nrecovery = {recovery}\ncontrol = false\n")
    };
    for (index, (what, recovery)) in [
        ("\"channels\"\ntarget = { parameters = 0.4 }", "\"fine-tune\""),
        ("\"channels\"\ntarget = { channels = 0.5 }", "{ rewind = 1 }"),
        ("\"magnitude\"\nsparsity = 0.8\npasses = 2", "\"distil\""),
        (
            "\"gradual-magnitude\"\nschedule.iterative = { target = 0.8, rounds = 2, every = 3 }",
            "\"fine-tune\"",
        ),
        ("\"at-initialisation\"\nsparsity = 0.8", "\"fine-tune\""),
        ("\"sparse-training\"\ntraining = { every = 2, drop.end = 6 }", "\"fine-tune\""),
        ("\"two-of-four\"", "\"distil\""),
        ("\"magnitude\"", "{ rewind = 0 }"),
        ("\"channels\"\ntarget = { bytes = 0.5 }", "\"from-scratch\""),
        ("\"structured-sparsity\"\nlambda = 0.01\nthreshold = 0.9", "\"fine-tune\""),
        ("\"structured-sparsity\"\ngroup = \"shape\"\nthreshold = 0.5", "\"distil\""),
        ("\"lasso\"\nkeep = 0.5\nbatches = 2", "\"fine-tune\""),
    ]
    .into_iter()
    .enumerate()
    {
        recipe(folder.path(), &method(what, recovery));
        let out = format!("run{index}");
        let text = stdout(kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", &out]));
        assert!(text.contains("dense") || text.contains("trained sparse"), "{text}");
        let small = Graph::load(folder.path().join(&out).join("pruned-seed-0.json")).unwrap();
        if what.contains("magnitude") {
            let weight = small.value(small.find("fc1.weight").unwrap()).unwrap().try_to_vec::<f32>().unwrap();
            let zeros = weight.iter().filter(|weight| **weight == 0.0).count();
            assert!(zeros > weight.len() / 2, "{what}: {zeros} of {} are zero", weight.len());
        }
    }
}

#[test]
fn a_model_is_made_smaller_as_it_is_and_a_plan_is_replayed_on_another_checkpoint() {
    let folder = tempdir().unwrap();
    let run = |arguments: &[&str]| kd(folder.path(), arguments);
    stdout(run(&["graph", "show", "lenet5-tenth", "--save", "dense.json"]));
    let before = std::fs::read(folder.path().join("dense.json")).unwrap();
    let text = stdout(run(&["prune", "--target", "macs=0.5", "dense.json", "--out", "small"]));
    assert!(text.contains("macs ") && text.contains("milliseconds at batch 128"), "{text}");
    let small = Graph::load(folder.path().join("small/pruned.json")).unwrap();
    let dense = Graph::load(folder.path().join("dense.json")).unwrap();
    assert!(2 * small.cost(1).unwrap().macs <= dense.cost(1).unwrap().macs);
    assert_eq!(std::fs::read(folder.path().join("dense.json")).unwrap(), before);

    stdout(run(&["prune", "--plan", "small/plan.json", "lenet5-tenth", "--out", "again"]));
    let again = Graph::load(folder.path().join("again/pruned.json")).unwrap();
    assert_eq!(again.cost(1).unwrap(), small.cost(1).unwrap());

    let text = stdout(run(&["prune", "--target", "macs=0.5", "dense.json", "--json"]));
    let change: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(change["after"]["macs"], small.cost(1).unwrap().macs);
    assert!(change["milliseconds"]["128"][0].as_f64().unwrap() > 0.0);

    // What is there is not overwritten, and another architecture is refused.
    let refused = run(&["prune", "--target", "macs=0.5", "dense.json", "--out", "small"]);
    assert!(
        !refused.status.success() && stderr(&refused).contains("is there already"),
        "{}",
        stderr(&refused)
    );
    for file in ["pruned.json", "pruned.safetensors", "plan.json"] {
        let out = format!("with-{file}");
        std::fs::create_dir(folder.path().join(&out)).unwrap();
        std::fs::write(folder.path().join(&out).join(file), "mine").unwrap();
        let refused = run(&["prune", "--target", "macs=0.5", "dense.json", "--out", &out]);
        assert!(stderr(&refused).contains(&format!("{file} is there already")), "{}", stderr(&refused));
        assert_eq!(std::fs::read(folder.path().join(&out).join(file)).unwrap(), b"mine");
    }
    let refused = run(&["prune", "--plan", "small/plan.json", "lenet5", "--out", "other"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("another architecture"), "{}", stderr(&refused));
    assert!(!folder.path().join("other").exists());
}

#[test]
fn input_that_is_wrong_is_refused_in_a_line_and_leaves_no_files() {
    let folder = tempdir().unwrap();
    recipe(folder.path(), RECIPE);
    let original = std::fs::read(folder.path().join("recipe.toml")).unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["prune", "--target", "macs=0.5", "lenet5-tenth", "--set", "run.epochs=1"], "is for recipes"),
        (&["prune", "--target", "macs=1.5", "lenet5-tenth"], "a share above 0 and below 1"),
        (&["prune", "--target", "macs=0.0001", "lenet5-tenth"], "can't be reached"),
        (&["prune", "--target", "macs=0.5", "lenet6"], "lenet5"),
        (&["prune", "lenet5-tenth"], "--target macs=0.5"),
        (&["prune", "recipe.toml", "--set", "prune.target.macs=2"], "`macs` is 2"),
        (&["prune", "recipe.toml", "--set", "prune.method=slimming"], "`network-slimming`"),
        (&["prune", "recipe.toml", "--set", "prune.recovery=destil"], "`distil`"),
        (&["prune", "recipe.toml", "--set", "teacher.model=lenet5"], "take it out"),
    ];
    for (arguments, expected) in cases {
        let output = kd(folder.path(), &[arguments, &["--out", "run"]].concat());
        let text = stderr(&output);
        assert!(!output.status.success() && text.contains(expected), "{arguments:?}: {text}");
        assert!(!folder.path().join("run").exists(), "{arguments:?}");
    }
    let unknown = "prune.allocation={ per-layer = { \"conv1.wieght\" = 0.5 } }";
    let arguments = ["prune", "recipe.toml", "-q", "--set", unknown, "--set", "run.epochs=1", "--out", "run"];
    let text = stderr(&kd(folder.path(), &arguments));
    assert!(text.contains("`conv1.wieght`") && text.contains("`conv1.weight`"), "{text}");
    assert_eq!(std::fs::read(folder.path().join("recipe.toml")).unwrap(), original);
}

#[test]
fn a_study_that_is_killed_between_training_and_recovery_resumes_to_the_same_networks() {
    let folder = tempdir().unwrap();
    recipe(folder.path(), RECIPE);
    stdout(kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", "whole"]));
    let arguments = ["prune", "recipe.toml", "-q", "--out", "killed"];
    let mut child =
        command(folder.path(), &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The dense network is trained, and the first pass of recovery has begun.
    let begun = folder.path().join("killed/pruned--distilled--pass-1-seed-0");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !begun.exists() {
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "it did not get there");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    stdout(kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", "killed", "--resume"]));
    for file in [
        "plan-seed-0.json",
        "pruned-seed-0.json",
        "pruned-seed-0.safetensors",
        "dense-seed-0/student.safetensors",
        "pruned--distilled-seed-0/student.safetensors",
        "same-size-from-scratch-seed-0/student.safetensors",
    ] {
        let read = |run: &str| std::fs::read(folder.path().join(run).join(file)).unwrap();
        assert!(read("whole") == read("killed"), "{file} differs");
    }
}
