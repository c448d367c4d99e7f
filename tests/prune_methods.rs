//! Every method of `kd prune` at its smallest: it trains, prunes, recovers and saves, and what was saved is the network of the table.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use common::{kd, stderr, stdout};
use kd::core::Traced;
use kd::data::Search;
use kd::experiment::{Data, measure};
use kd::graph::{Graph, GraphModule};
use kd::pruning::PRUNE_METHODS;
use kd::recipe::Recipe;
use tempfile::tempdir;

/// A small LeNet-5, eight steps an epoch.
const DATA: &str = r#"
data = { name = "digits", validation = 100, limit = 256, batch-size = 32 }
student.model = "lenet5:4,8,20"
"#;

const SGD: &str = "epochs = 2\noptimizer = { learning-rate = 0.02, clip-norm = 2.0 }";

/// Adam with a rate of its own for what methods add.
const ADAM: &str = r#"epochs = 3
optimizer = { kind = "adam", learning-rate = 0.005, groups = [{ pattern = '(_log_alpha|_log_variance|\.multipliers)$', learning-rate = 0.2 }] }"#;

fn written(folder: &Path, run: &str, prune: &str) {
    let text = format!("{DATA}\n[run]\n{run}\n[prune]\n{prune}\n");
    std::fs::write(folder.join("recipe.toml"), text).unwrap();
}

fn pruned(folder: &Path, out: &str) -> Graph {
    Graph::load(folder.join(out).join("pruned-seed-0.json")).unwrap()
}

/// The weights of a layer, or all weights of layers.
fn weights(graph: &Graph) -> Vec<(String, Vec<f32>)> {
    let layers = graph.parameters().filter(|(_, node)| node.output().shape.rank() > 1);
    let read = |id| graph.value(id).unwrap().try_to_vec::<f32>().unwrap();
    layers.map(|(id, node)| (node.name().to_owned(), read(id))).collect()
}

fn nonzero(graph: &Graph) -> usize {
    weights(graph).iter().flat_map(|(_, weight)| weight).filter(|weight| **weight != 0.0).count()
}

fn results(run: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(run.join("results.json")).unwrap()).unwrap()
}

/// The epoch after which the first network of a study was taken.
fn best_epoch(run: &Path) -> usize {
    results(run)["candidates"][0]["seeds"][0]["best-epoch"].as_u64().unwrap() as usize
}

/// Test accuracy of a network that was saved, and that of a row of the table.
fn accuracies(recipe: &Recipe, run: &Path, row: &str) -> [f64; 2] {
    let device = Device::flex();
    let graph = Graph::load(run.join("pruned-seed-0.json")).unwrap();
    let network: Traced<Tensor<4>> = GraphModule::new(graph, &device).unwrap().into();
    let test = Data::open(&recipe.data, &Search::default()).unwrap().test().unwrap();
    let loaded = measure(&network, &test, None, &device).unwrap().accuracy;
    let results = results(run);
    let rows = results["candidates"].as_array().unwrap();
    let row = rows.iter().find(|candidate| candidate["name"] == row).unwrap();
    [loaded, row["seeds"][0]["best"]["accuracy"].as_f64().unwrap()]
}

#[test]
fn every_method_prunes_recovers_and_saves_the_network_of_the_table() {
    let folder = tempdir().unwrap();
    stdout(kd(folder.path(), &["graph", "show", "lenet5:4,8,20", "--save", "dense.json"]));
    let dense = nonzero(&Graph::load(folder.path().join("dense.json")).unwrap());
    let mut methods = BTreeSet::new();
    for (method, settings, run) in [
        ("at-initialisation", "score = \"snip\"\nsparsity = 0.8\nbatches = 2", SGD),
        ("at-initialisation", "score = \"grasp\"\nsparsity = 0.8", SGD),
        ("at-initialisation", "score = \"synflow\"\nsparsity = 0.8\nrounds = 5", SGD),
        ("at-initialisation", "score = \"random\"\nsparsity = 0.8", SGD),
        ("surgery", "c = 0.5\nbegin = 6\nlayers = { \"conv1.weight\" = 0.0 }", SGD),
        ("l0", "group = \"filter\"\nlambda = 2.0\nopen = 0.6", ADAM),
        ("l0", "lambda = 2.0\nopen = 0.6", ADAM),
        ("variational-dropout", "log-variance = -5.0\nthreshold = 1.0", ADAM),
        ("flop", "sparsity = 0.7\nwarm-up = 0.2\nopen = 0.6", ADAM),
        ("sparse-training", "training = { rule = \"set\", every = 2, drop.end = 6 }", SGD),
        ("sparse-training", "training = { rule.snfs.momentum = 0.9, every = 2, drop.end = 6 }", SGD),
        (
            "sparse-training",
            "training = { rule.dsr = { threshold = 1e-3, target = 9, tolerance = 0.1 }, every = 2, drop.end = 6 }",
            SGD,
        ),
        ("structured-sparsity", "group = \"channel\"\nlambda = 0.01\nthreshold = 0.9", SGD),
        ("magnitude", "allocation = { sensitivity = { max-drop = 0.5 } }\nsensitivity = [0.25, 0.5]", SGD),
        (
            "channels",
            "target = { macs = 0.5 }\nallocation = { sensitivity = { max-drop = 0.5 } }\nsensitivity = [0.25]\npasses = 2",
            SGD,
        ),
    ] {
        methods.insert(method);
        let prune =
            format!("method = \"{method}\"\nrecovery = \"fine-tune\"\n{settings}\n[prune.run]\nepochs = 1");
        written(folder.path(), run, &prune);
        let out = format!("run{}", std::fs::read_dir(folder.path()).unwrap().count());
        let text = stdout(kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", &out]));
        assert!(text.contains("same size from scratch"), "{prune}: {text}");
        let recipe = Recipe::load(&folder.path().join("recipe.toml"), &[]).unwrap();
        let [loaded, told] = accuracies(&recipe, &folder.path().join(&out), "pruned, fine-tuned");
        assert_eq!(loaded, told, "{prune}");
        if run == ADAM {
            assert_eq!(
                best_epoch(&folder.path().join(&out)),
                recipe.run.epochs - 1,
                "{prune}: gates still close"
            );
        }
        let left = nonzero(&pruned(folder.path(), &out));
        assert!(left < dense * 9 / 10, "{prune}: {left} of {dense} weights are left");
    }
    let new = ["at-initialisation", "surgery", "l0", "variational-dropout", "flop"];
    assert!(new.iter().all(|method| methods.contains(method)));
}

#[test]
fn layers_beside_shortcuts_go_physically() {
    let folder = tempdir().unwrap();
    let prune = "method = \"structured-sparsity\"\ngroup = \"layer\"\nlambda = 0.05\nthreshold = 0.9\nrecovery = \"fine-tune\"";
    written(folder.path(), "epochs = 1\noptimizer = { learning-rate = 0.02, clip-norm = 2.0 }", prune);
    let model = "student.model=resnet8";
    stdout(kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", "run", "--set", model]));
    let recipe = Recipe::load(&folder.path().join("recipe.toml"), &[model.to_owned()]).unwrap();
    let [loaded, told] = accuracies(&recipe, &folder.path().join("run"), "pruned, fine-tuned");
    assert_eq!(loaded, told);
    stdout(kd(folder.path(), &["graph", "show", "resnet8", "--image", "1x28x28", "--save", "dense.json"]));
    let dense = Graph::load(folder.path().join("dense.json")).unwrap();
    let small = pruned(folder.path(), "run");
    let layers = |graph: &Graph| weights(graph).iter().filter(|(path, _)| path.contains("conv")).count();
    assert!(layers(&small) < layers(&dense), "{} of {} are left", layers(&small), layers(&dense));
    assert!(small.cost(1).unwrap().macs < dense.cost(1).unwrap().macs);
    // A network without shortcuts is told so before it is trained.
    let output = kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", "none"]);
    assert!(stderr(&output).contains("`group` is layer"), "{}", stderr(&output));
}

#[test]
fn a_lottery_ticket_goes_back_to_its_initial_weights_after_every_pass() {
    let folder = tempdir().unwrap();
    // A rate so small that no weight moves.
    let still = "optimizer = { learning-rate = 1e-30, momentum = 0.0 }";
    let run = |out: &str, first: &str, prune: &str| {
        written(folder.path(), first, &format!("method = \"magnitude\"\ncontrol = false\n{prune}\n"));
        stdout(kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", out]));
        weights(&pruned(folder.path(), out))
    };
    let initial =
        run("initial", &format!("epochs = 1\n{still}"), "sparsity = 1e-4\nrecovery = \"from-scratch\"");
    let mut left = Vec::new();
    for passes in [1, 2] {
        let prune = format!(
            "sparsity = 0.75\npasses = {passes}\nrecovery = {{ rewind = 0 }}\n[prune.run]\nepochs = 1\n{still}"
        );
        let ticket = run(&format!("ticket{passes}"), SGD, &prune);
        let pairs = ticket.iter().zip(&initial).flat_map(|(ticket, initial)| ticket.1.iter().zip(&initial.1));
        let kept: Vec<_> = pairs.filter(|(ticket, _)| **ticket != 0.0).collect();
        // A weight may have gone from the file that the initial ones were read from.
        let moved = kept.iter().filter(|(ticket, initial)| ticket != initial).count();
        assert!(moved <= 1, "{passes} passes: {moved} of {} weights are not the initial ones", kept.len());
        left.push(kept.len());
    }
    let all: usize = initial.iter().map(|(_, weight)| weight.len()).sum();
    assert!(left.iter().all(|left| left.abs_diff(all / 4) <= 2), "{left:?} of {all}");
}

#[test]
fn a_method_on_a_network_that_it_cannot_prune_says_what_it_needs() {
    let folder = tempdir().unwrap();
    for (prune, model, expected) in [
        ("method = \"l0\"\ngroup = \"filter\"", "resnet8", "channel"),
        ("method = \"flop\"\nlayers = [\"conv1.weight\"]", "lenet5:4,8,20", "linear"),
        ("method = \"surgery\"\nlayers = { \"conv1.wieght\" = 1.0 }", "lenet5:4,8,20", "`conv1.weight`"),
        (
            "method = \"channels\"\ntarget = { macs = 0.5 }\nallocation = { sensitivity = { max-drop = 0.1 } }",
            "lenet5:4,8,20",
            "`sensitivity` is []",
        ),
    ] {
        written(folder.path(), SGD, prune);
        let model = format!("student.model={model}");
        let output = kd(folder.path(), &["prune", "recipe.toml", "-q", "--out", "run", "--set", &model]);
        let text = stderr(&output);
        assert!(!output.status.success() && text.contains(expected), "{prune}: {text}");
    }
}

fn recipes(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { recipes(&path) } else { vec![path] }).collect()
}

#[test]
fn every_method_has_a_recipe_and_every_recipe_runs_at_its_smallest() {
    let folder = tempdir().unwrap();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut methods = BTreeSet::new();
    for path in recipes(&configs) {
        let Some(prune) = Recipe::load(&path, &[]).unwrap().prune else { continue };
        let settings: toml::Table = prune.into();
        let method = settings["method"].as_str().unwrap().to_owned();
        // Those that take a while are other sizes of what the others do.
        if path.starts_with(configs.join("cifar10")) && method != "structured-sparsity" {
            continue;
        }
        let mut sets = vec![
            "data.name=\"digits\"",
            "data.limit=128",
            "data.validation=32",
            "data.batch-size=32",
            "run.epochs=1",
            "prune.run.epochs=1",
            "prune.control=false",
            "prune.sensitivity-images=32",
        ];
        sets.extend_from_slice(match method.as_str() {
            "surgery" => &["prune.begin=2"],
            "sparse-training" => &["prune.training.every=2", "prune.training.drop.end=3"],
            "gradual-magnitude" => &["prune.schedule.polynomial.begin=1", "prune.schedule.polynomial.end=2"],
            "at-initialisation" => &["prune.rounds=3"],
            "magnitude" | "channels" if settings.contains_key("sensitivity") => &["prune.sensitivity=[0.5]"],
            _ => &[],
        });
        if settings.get("passes").and_then(toml::Value::as_integer).is_some_and(|passes| passes > 2) {
            sets.push("prune.passes=2");
        }
        let name = path.strip_prefix(&configs).unwrap().to_string_lossy().replace('/', "-");
        let path = path.to_string_lossy().into_owned();
        let mut arguments = vec!["prune", &path, "-q", "--out", &name];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        stdout(kd(folder.path(), &arguments));
        assert!(nonzero(&pruned(folder.path(), &name)) > 0, "{name}");
        methods.insert(method);
    }
    let all: BTreeSet<_> = PRUNE_METHODS.iter().map(|method| method.name.to_owned()).collect();
    assert_eq!(methods, all);
}
