//! The recipes that come with the program.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kd::quantising::QuantizeSettings;
use kd::recipe::Recipe;

fn recipes(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { recipes(&path) } else { vec![path] }).collect()
}

#[test]
fn every_recipe_loads_and_its_objective_can_be_built() {
    let all = recipes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("configs"));
    assert!(all.len() >= 10, "{all:?}");
    for path in all {
        let recipe = Recipe::load(&path, &[]).unwrap_or_else(|error| unreachable!("{error}"));
        assert!(!recipe.objective.build().unwrap().names().is_empty());
        let folder = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
        assert!(folder.starts_with(format!("configs/{}", recipe.data.name)), "{}", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{} does not say what it is", path.display());
    }
}

/// The names that a key takes, as the error for another one lists them.
fn names(error: &str) -> BTreeSet<&str> {
    let (_, listed) = error.split_once("expected").unwrap();
    listed.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_method_of_quantisation_has_a_recipe() {
    let error = toml::from_str::<QuantizeSettings>("method = \"none\"").unwrap_err().to_string();
    let all = recipes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/mnist"));
    let settings = all.iter().filter_map(|path| Recipe::load(path, &[]).unwrap().quantize);
    let used: BTreeSet<String> = settings
        .map(|settings| match serde_json::to_value(settings.method).unwrap() {
            serde_json::Value::String(name) => name,
            table => table.as_object().unwrap().keys().next().unwrap().clone(),
        })
        .collect();
    assert_eq!(used.iter().map(String::as_str).collect::<BTreeSet<_>>(), names(&error), "{error}");
}
