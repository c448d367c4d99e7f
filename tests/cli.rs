//! What the program says, where it says it, and how it exits.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{TINY, kd, stderr, stdout, write_tiny};
use tempfile::tempdir;

#[test]
fn a_typo_in_a_recipe_exits_with_2_and_names_key_and_alternatives() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("r.toml"), TINY.replace("clip-norm", "clip-nrom")).unwrap();
    let output = kd(folder.path(), &["distill", "r.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.starts_with("error: r.toml: unknown field `clip-nrom`, expected one of "), "{text}");
    assert!(text.contains("`clip-norm`") && text.contains("run.optimizer"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_setting_on_the_command_line_is_refused_like_one_in_the_file() {
    let folder = tempdir().unwrap();
    write_tiny(folder.path());
    for (set, expected) in [
        ("run.optimizer.lr=0.1", "unknown field `lr`"),
        ("run.epochs=0", "`epochs` is 0, but it must be 1 or more"),
        ("objective.terms.9.weight=1", "`9` is none of the 3 elements"),
        ("run.epochs", "write it as key.of.the.value=VALUE"),
    ] {
        let output = kd(folder.path(), &["distill", "tiny.toml", "--set", set]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn an_unknown_loss_lists_the_losses() {
    let folder = tempdir().unwrap();
    write_tiny(folder.path());
    let output = kd(folder.path(), &["distill", "tiny.toml", "--set", "objective.terms.0.loss=soft"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("there is no loss `soft`; the losses are: cross-entropy, "), "{text}");
}

#[test]
fn a_missing_dataset_exits_with_1_and_says_where_it_was_looked_for_and_how_to_fetch_it() {
    let folder = tempdir().unwrap();
    write_tiny(folder.path());
    let elsewhere = folder.path().join("my-data");
    let sets = ["--set", "data.name=mnist", "--data-dir", elsewhere.to_str().unwrap()];
    let output = kd(folder.path(), &[&["distill", "tiny.toml"][..], &sets].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("kd data fetch mnist") && text.contains("my-data/mnist"), "{text}");
    assert!(text.contains("train-images-idx3-ubyte"), "{text}");
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn a_recipe_that_is_not_there_and_a_device_that_is_none_exit_with_2() {
    let folder = tempdir().unwrap();
    write_tiny(folder.path());
    let output = kd(folder.path(), &["train", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cannot read the recipe nowhere.toml"));
    let output = kd(folder.path(), &["distill", "tiny.toml", "--device", "abacus"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("the devices are: flex, ndarray, wgpu[:INDEX]"));
    let output = kd(folder.path(), &["distil", "tiny.toml"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn lists_have_a_line_each_and_the_same_rows_as_json() {
    let folder = tempdir().unwrap();
    for (what, name) in
        [("losses", "soft-targets"), ("models", "lenet5"), ("datasets", "digits"), ("pruning", "channels")]
    {
        let text = stdout(kd(folder.path(), &["list", what]));
        let json: serde_json::Value =
            serde_json::from_str(&stdout(kd(folder.path(), &["list", what, "--json"]))).unwrap();
        let rows = json.as_array().unwrap();
        assert_eq!(rows.len(), text.lines().count());
        assert!(rows.iter().any(|row| row["name"] == name), "{text}");
        for (row, line) in rows.iter().zip(text.lines()) {
            assert!(line.starts_with(row["name"].as_str().unwrap()), "{line}");
            assert!(!row["summary"].as_str().unwrap().is_empty());
        }
    }
}

#[test]
fn drawn_digits_can_be_verified_and_are_said_to_be_drawn() {
    let folder = tempdir().unwrap();
    assert!(
        stdout(kd(folder.path(), &["data", "verify", "digits"]))
            .starts_with("digits drawn, drawn by this program")
    );
    let output = kd(folder.path(), &["data", "verify", "cifar10"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("kd data fetch cifar10"));
    let listed = stdout(kd(folder.path(), &["data", "list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert!(listed[0]["form"].is_object() && listed[1]["form"].is_null());
}

#[test]
fn train_writes_a_run_that_eval_and_report_agree_with_and_starts_no_second_time() {
    let folder = tempdir().unwrap();
    let recipe = r#"
        data = { name = "digits", validation = 200, limit = 512 }
        student.model = "mlp:32"
        run.epochs = 1
    "#;
    std::fs::write(folder.path().join("r.toml"), recipe).unwrap();
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&stdout(kd(folder.path(), arguments))).unwrap()
    };
    let trained = json(&["train", "r.toml", "--json", "-q", "--out", "run"]);
    assert_eq!(trained["data"], "digits (drawn by the program)");
    let best = &trained["candidates"][0]["seeds"][0]["best"];
    let run = trained["candidates"][0]["seeds"][0]["folder"].as_str().unwrap();
    let weights = format!("run/{run}");
    let options =
        ["--model", "mlp:32", "--data", "digits", "--validation", "200", "--limit", "512", "--json"];
    let evaluated = json(&[&["eval", &weights][..], &options].concat());
    assert_eq!(evaluated["candidates"][0]["seeds"][0]["best"], *best);
    assert_eq!(json(&["report", "run", "--json"])["candidates"], trained["candidates"]);
    let page = std::fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(page.contains("digits (drawn by the program)"));

    let again = kd(folder.path(), &["train", "r.toml", "-q", "--out", "run"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("holds a run already"));
    let options = ["--model", "mlp:33", "--data", "digits"];
    let misfit = kd(folder.path(), &[&["eval", &weights][..], &options].concat());
    assert_eq!(misfit.status.code(), Some(1));
}

#[test]
fn train_and_distill_send_a_recipe_to_each_other() {
    let folder = tempdir().unwrap();
    write_tiny(folder.path());
    let output = kd(folder.path(), &["train", "tiny.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("use `kd distill`"));
    std::fs::write(folder.path().join("r.toml"), "data.name = \"digits\"\nstudent.model = \"mlp:8\"\n")
        .unwrap();
    let output = kd(folder.path(), &["distill", "r.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("use `kd train`"));
}

#[test]
fn a_model_can_be_shown_counted_and_drawn_as_a_graph() {
    let folder = tempdir().unwrap();
    let shown = stdout(kd(folder.path(), &["graph", "show", "lenet5", "--save", "lenet5.json"]));
    assert!(shown.contains("conv2d 5x5") && shown.contains("weight [20, 1, 5, 5]"), "{shown}");
    assert_eq!(stdout(kd(folder.path(), &["graph", "show", "lenet5.json"])), shown);

    let machine = ["--gflops", "100", "--bandwidth", "10", "--memory", "64", "--no-times"];
    let options = [&["graph", "cost", "lenet5", "--batch", "2"][..], &machine].concat();
    let json: serde_json::Value =
        serde_json::from_str(&stdout(kd(folder.path(), &[&options[..], &["--json"]].concat()))).unwrap();
    assert_eq!(json["macs"], 2 * 2_293_000);
    assert_eq!(json["parameters"], 431_080);
    assert_eq!(json["roofline"]["bottleneck"], "size");
    let text = stdout(kd(folder.path(), &options));
    assert!(text.contains("4.586 M") && text.contains("bottleneck: size"), "{text}");

    assert!(stdout(kd(folder.path(), &["graph", "dot", "lenet5"])).starts_with("digraph {"));
    stdout(kd(folder.path(), &["graph", "dot", "lenet5", "--svg", "--out", "net.svg"]));
    let picture = std::fs::read_to_string(folder.path().join("net.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.contains("conv2d 5x5"));
}

#[test]
fn a_graph_of_a_model_that_there_is_not_names_the_nearest_and_exits_with_2() {
    let folder = tempdir().unwrap();
    for (arguments, code, expected) in [
        (&["graph", "show", "resent20"][..], 2, "did you mean `resnet20`?"),
        (&["graph", "cost", "lenet5", "--image", "28x28"], 2, "write channels, height and width as 3x32x32"),
        (&["graph", "cost", "lenet5", "--batch", "0"], 2, "--batch"),
        (&["graph", "cost", "lenet5", "--gflops", "1"], 2, "--bandwidth"),
        (&["graph", "show", "lenet5", "--image", "1x3x3"], 2, "too small"),
        (&["graph", "show", "nowhere.json"], 1, "cannot read nowhere.json"),
    ] {
        let output = kd(folder.path(), arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
