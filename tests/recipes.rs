//! The recipes that come with the program.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

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
