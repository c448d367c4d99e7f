//! What the README promises is there.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use kd::core::losses::METHODS;

/// Which family of golden vectors a loss is compared with; those not listed have gradient and property tests only.
const GOLDEN: &[(&str, &str)] = &[
    ("cross-entropy", "label_smoothing"),
    ("soft-targets", "kd_hinton"),
    ("logit-mse", "kd_hinton"),
    ("decoupled", "dkd"),
    ("dist", "dist"),
    ("logit-standardisation", "logit_std"),
    ("multi-level", "logit_std"),
    ("generalised-jsd", "gkd_jsd"),
    ("fitnets", "fitnet"),
    ("attention-transfer", "attention_transfer"),
    ("fsp", "fsp"),
    ("nst", "nst"),
    ("factor-transfer", "ft"),
    ("reviewkd", "reviewkd_hcl"),
    ("rkd", "rkd"),
    ("darkrank", "darkrank"),
    ("similarity-preserving", "sp"),
    ("correlation-congruence", "cc"),
    ("pkt", "pkt"),
    ("pixel-wise", "structured_kd"),
    ("pair-wise", "structured_kd"),
    ("overhaul", "ofd"),
    ("activation-boundaries", "ab"),
    ("vid", "vid"),
    ("crd", "crd"),
];

const COMMAND: &str = "cargo test --release --workspace";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn readme() -> String {
    fs::read_to_string(file("README.md")).unwrap()
}

/// The text between `<!-- name -->` and `<!-- /name -->`.
fn section(name: &str) -> String {
    let readme = readme();
    let (_, rest) = readme.split_once(&format!("<!-- {name} -->\n")).unwrap();
    rest.split_once(&format!("<!-- /{name} -->")).unwrap().0.trim().to_owned()
}

fn golden_cases(family: &str) -> usize {
    let text = fs::read_to_string(file(&format!("crates/kd-core/tests/golden/{family}.json"))).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    cases.len()
}

/// The table as it should be, from the losses, the golden vectors and the measured results there are.
fn methods() -> String {
    let results = fs::read_to_string(file("benchmarks/RESULTS.md")).unwrap_or_default();
    let mut table =
        "| loss | what it compares | published | golden family: cases | measured |\n|---|---|---|---|---|\n"
            .to_owned();
    for method in METHODS {
        let golden = GOLDEN.iter().find(|(name, _)| *name == method.name);
        let golden = golden.map(|(_, family)| format!("{family}: {}", golden_cases(family)));
        let measured = if results.contains(&format!("`{}`", method.name)) { "yes" } else { "not yet" };
        let golden = golden.as_deref().unwrap_or("none");
        writeln!(
            table,
            "| `{}` | {} | {} | {golden} | {measured} |",
            method.name, method.summary, method.paper
        )
        .unwrap();
    }
    table.trim().to_owned()
}

#[test]
fn the_table_of_methods_is_the_one_the_library_gives() {
    let expected = methods();
    assert!(
        section("methods") == expected,
        "in README.md, put between the marks of `methods`:\n\n{expected}\n"
    );
}

#[test]
fn every_golden_family_belongs_to_a_loss_that_exists() {
    for (name, family) in GOLDEN {
        assert!(METHODS.iter().any(|method| method.name == *name), "{name}");
        assert!(golden_cases(family) > 0, "{family}");
    }
}

#[test]
fn the_test_command_is_the_one_that_the_continuous_integration_runs() {
    assert_eq!(section("test command"), format!("```sh\n{COMMAND}\n```"));
}

#[test]
fn every_example_and_device_is_named() {
    let readme = readme();
    for entry in fs::read_dir(file("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("`{name}`")), "examples/{name}.rs is not in README.md");
    }
    for device in ["flex", "ndarray", "wgpu", "vulkan", "cuda"] {
        assert!(readme.contains(&format!("`{device}`")), "{device}");
    }
}

#[test]
fn every_file_that_the_readme_links_to_exists() {
    let readme = readme();
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(link.starts_with("http") || link.starts_with('#') || file(link).exists(), "{link}");
    }
}

#[test]
fn every_crate_carries_the_header_that_renders_its_formulas() {
    let header = fs::read(file("katex-header.html")).unwrap();
    for entry in fs::read_dir(file("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        if manifest.contains("publish = false") {
            continue;
        }
        assert!(
            manifest.contains(r#"rustdoc-args = ["--html-in-header", "katex-header.html"]"#),
            "{}",
            folder.display()
        );
        let copy = fs::read(folder.join("katex-header.html")).unwrap();
        assert!(
            copy == header,
            "{} is neither a link to nor a copy of the one in the root",
            folder.display()
        );
    }
}
