//! `kd quantize RECIPE`: from training to a network on codes.

use std::path::{Path, PathBuf};

use kd::graph::Graph;
use kd::quant::plan::{QuantPlan, sites};
use kd::recipe::Recipe;
use tempfile::tempdir;

use crate::common::{kd, stderr, stdout};

/// A few seconds: a small LeNet-5 at 4 bits, taught by its float self.
const RECIPE: &str = r#"
data = { name = "digits", validation = 100, limit = 256, batch-size = 32 }
student.model = "lenet5:4,8,20"
run = { epochs = 1 }
quantize = { method = { lsq = { bits = 4 } }, temperature = 1.0 }
"#;

fn plan(folder: &Path) -> QuantPlan {
    serde_json::from_slice(&std::fs::read(folder.join("plan-seed-0.json")).unwrap()).unwrap()
}

#[test]
fn a_recipe_trains_quantises_and_leaves_table_report_plan_and_network() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let text = stdout(kd(folder.path(), &["quantize", "recipe.toml", "-q", "--out", "run"]));
    for row in ["float ", "float, trained on", "quantised ", "quantised, on codes"] {
        assert!(text.contains(row), "no row {row}: {text}");
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
    let mnist = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/mnist");
    let mut recipes: Vec<PathBuf> = std::fs::read_dir(mnist)
        .unwrap()
        .flat_map(|method| std::fs::read_dir(method.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    recipes.sort();
    let mut run = 0;
    for path in recipes {
        let Some(settings) = Recipe::load(&path, &[]).unwrap().quantize else { continue };
        let text = path.to_str().unwrap();
        let out = format!("run-{run}");
        let sets = [
            "data.name=digits",
            "data.validation=100",
            "data.limit=256",
            "data.batch-size=32",
            "student.model=lenet5:4,8,20",
            "run.epochs=1",
            "quantize.control=false",
        ];
        let mut command = vec!["quantize", text, "-q", "--out", &out];
        command.extend(sets.iter().flat_map(|set| ["--set", set]));
        let table = stdout(kd(folder.path(), &command));
        assert!(table.contains("quantised, on codes"), "{text}: {table}");
        let (method, out) = (settings.plan().unwrap().weights.method(), folder.path().join(out));
        assert!(plan(&out).weights.values().any(|quantizer| quantizer.method() == method), "{text}");
        Graph::load(out.join("quantised-seed-0.json")).unwrap();
        run += 1;
    }
    assert!(run >= 18, "{run} recipes");
}

#[test]
fn values_out_of_range_and_a_recipe_without_the_table_exit_with_2() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    for (set, expected) in [
        ("quantize.method.lsq.bits=9", "`bits` is 9, but it must be from 1 to 8"),
        ("quantize.temperature=0.0", "`temperature` is 0"),
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
