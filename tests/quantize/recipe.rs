//! `kd quantize RECIPE`: from training to a network on codes.

use std::path::{Path, PathBuf};

use kd::graph::{Graph, Op};
use kd::quant::plan::{QuantPlan, sites};
use kd::recipe::Recipe;
use tempfile::tempdir;

use crate::common::{kd, stderr, stdout};

/// A few seconds: a small LeNet-5 at 4 bits, taught by its float self.
const RECIPE: &str = r#"
data = { name = "digits", validation = 100, limit = 256, batch-size = 32 }
student.model = "lenet5:4,8,20"
run = { epochs = 1 }
quantize = { method = { lsq = { bits = 4 } }, distil = true }
"#;

/// The recipe, of a network with batch normalisation on observed ranges.
fn normalised() -> String {
    RECIPE.replace("lenet5:4,8,20", "mlp-bn:16,12").replace("lsq", "uniform")
}

fn plan(folder: &Path) -> QuantPlan {
    serde_json::from_slice(&std::fs::read(folder.join("plan-seed-0.json")).unwrap()).unwrap()
}

#[test]
fn a_recipe_trains_quantises_and_leaves_table_report_plan_and_network() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let text = stdout(kd(folder.path(), &["quantize", "recipe.toml", "-q", "--out", "run"]));
    for part in [
        "float ",
        "float, trained on",
        "quantised ",
        "quantised, on codes",
        "weights packed at their bits",
        "get another class",
    ] {
        assert!(text.contains(part), "no {part}: {text}");
    }
    let run = folder.path().join("run");
    assert!(std::fs::read_to_string(run.join("report.html")).unwrap().contains("conv2.weight"));
    let plan = plan(&run);
    assert_eq!((plan.weights["conv1.weight"].bits(), plan.weights["conv2.weight"].bits()), (8, 4));
    let quantised = Graph::load(run.join("quantised-seed-0.json")).unwrap();
    assert_eq!(sites(&quantised).unwrap().len(), plan.weights.len() + plan.activations.len());
    // The same again is refused.
    let again = kd(folder.path(), &["quantize", "recipe.toml", "-q", "--out", "run"]);
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
}

#[test]
fn the_recipe_of_every_method_runs_on_drawn_digits() {
    let folder = tempdir().unwrap();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut recipes: Vec<PathBuf> = ["mnist", "cifar10"]
        .iter()
        .flat_map(|data| std::fs::read_dir(configs.join(data)).unwrap())
        .flat_map(|method| std::fs::read_dir(method.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    recipes.sort();
    let mut run = 0;
    for path in recipes {
        let recipe = Recipe::load(&path, &[]).unwrap();
        let Some(settings) = recipe.quantize else { continue };
        let smallest = match recipe.student.model.to_string().starts_with("lenet5") {
            true => "student.model=lenet5:4,8,20",
            false => "student.model=resnet8",
        };
        let text = path.to_str().unwrap();
        let out = format!("run-{run}");
        let sets = [
            "data.name=digits",
            "data.validation=100",
            "data.limit=256",
            "data.batch-size=32",
            smallest,
            "run.epochs=1",
            "quantize.control=false",
        ];
        let mut command = vec!["quantize", text, "-q", "--out", &out];
        command.extend(sets.iter().flat_map(|set| ["--set", set]));
        if settings.run.is_some() {
            command.extend(["--set", "quantize.run.epochs=1"]);
        }
        let table = stdout(kd(folder.path(), &command));
        assert!(table.contains("quantised, on codes"), "{text}: {table}");
        let method = settings.plan_settings().unwrap().unwrap().weights.method();
        let out = folder.path().join(out);
        assert!(plan(&out).weights.values().any(|quantizer| quantizer.method() == method), "{text}");
        let graph = Graph::load(out.join("quantised-seed-0.json")).unwrap();
        let normalises = graph.nodes().any(|(_, node)| matches!(node.op(), Op::BatchNorm(_)));
        assert!(!(normalises && settings.fold_batch_norm), "{text}");
        run += 1;
    }
    assert!(run >= 20, "{run} recipes");
}

#[test]
fn values_out_of_range_and_a_recipe_without_the_table_exit_with_2() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    for (set, expected) in [
        ("quantize.method.lsq.bits=9", "`bits` is 9, but it must be from 1 to 8"),
        ("quantize.temperature=0.0", "`temperature` is 0"),
        ("quantize.fold-batch-norm=true", "`fold-batch-norm` is true, but it must be false"),
        ("quantize.plan=p.json", "`plan` is p.json, but it must be left out"),
        ("quantize.colour=1", "colour"),
        ("quantize.method=xnnor", "xnor"),
        ("quantize.exclude=[\"cnov2\"]", "the nearest are conv2"),
    ] {
        let output = kd(folder.path(), &["quantize", "recipe.toml", "--set", set, "-q", "--out", "run"]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let plain = RECIPE.lines().filter(|line| !line.starts_with("quantize")).collect::<Vec<_>>().join("\n");
    std::fs::write(folder.path().join("plain.toml"), plain).unwrap();
    let output = kd(folder.path(), &["quantize", "plain.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("quantize.method"), "{}", stderr(&output));
    let output = kd(folder.path(), &["train", "recipe.toml"]);
    assert!(stderr(&output).contains("use `kd quantize`"), "{}", stderr(&output));
}

#[test]
fn a_plan_goes_from_any_command_to_any_other() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("recipe.toml"), normalised()).unwrap();
    let recipe = |more: &[&str]| {
        let command = ["quantize", "recipe.toml", "-q", "--set", "quantize.control=false"];
        stdout(kd(folder, &[&command, more].concat()))
    };
    let model = [
        "mlp-bn:16,12",
        "-q",
        "--data",
        "digits",
        "--validation",
        "100",
        "--limit",
        "256",
        "--calibration",
        "2",
    ];
    let on_model = |command: &[&str], more: &[&str]| {
        stdout(kd(folder, &[&["quantize"], command, &model, more].concat()))
    };
    let read = |file: &str| -> QuantPlan {
        serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap()
    };

    recipe(&["--out", "recipe"]);
    on_model(&["--post"], &["--plan", "recipe/plan-seed-0.json", "--out", "post"]);
    let budget = ["--plan", "post/plan.json", "--budget", "9000", "--widths", "8,2", "--out", "analysed"];
    on_model(&["analyse"], &budget);
    recipe(&["--plan", "analysed/plan.json", "--set", "quantize.fold-batch-norm=true", "--out", "again"]);
    assert_eq!(read("post/plan.json"), read("recipe/plan-seed-0.json"));
    let (mixed, trained) = (read("analysed/plan.json"), read("again/plan-seed-0.json"));
    assert_eq!(trained, mixed);
    assert_ne!(mixed.weights, read("recipe/plan-seed-0.json").weights);
    // The recipe that was used names the plan.
    let used = Recipe::load(&folder.join("again/recipe.toml"), &[]).unwrap().quantize.unwrap();
    assert_eq!((used.method, used.plan), (None, Some(PathBuf::from("analysed/plan.json"))));
}

#[test]
fn options_of_models_and_of_recipes_are_told_apart() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    for (more, expected) in [
        (["--bits", "4"], "--bits belongs to a model; recipe.toml is a recipe"),
        (["--calibration", "4"], "--calibration belongs to a model"),
        (["--plan", "none.json"], "none.json"),
    ] {
        let error = stderr(&kd(
            folder.path(),
            &[&["quantize", "recipe.toml", "-q", "--out", "run"], &more[..]].concat(),
        ));
        assert!(error.contains(expected), "{error}");
        assert!(!folder.path().join("run/float-seed-0").exists());
    }
    let error = stderr(&kd(folder.path(), &["quantize", "--post", "lenet5", "--set", "a=1"]));
    assert!(error.contains("--post"), "{error}");
}

#[test]
fn a_network_of_signs_does_not_have_the_size_of_floats() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let sets = ["--set", "quantize.method=binary-connect", "--set", "quantize.control=false"];
    let command = [&["quantize", "recipe.toml", "-q", "--json", "--out", "run"], &sets[..]].concat();
    let results: serde_json::Value = serde_json::from_str(&stdout(kd(folder.path(), &command))).unwrap();
    let bytes = |row: &str| {
        let rows = results["candidates"].as_array().unwrap();
        rows.iter().find(|candidate| candidate["name"] == row).unwrap()["bytes"].as_u64().unwrap()
    };
    assert!(8 * bytes("quantised, on codes") < bytes("float"), "{results}");
}
