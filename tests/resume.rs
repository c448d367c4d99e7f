//! A distillation that is killed or interrupted goes on as if nothing had happened.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{command, kd, stderr, stdout, write_tiny};
use tempfile::tempdir;

const RUN: &str = "distilled-seed-0";

/// All files below `folder` that are to be the same in every repetition.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.file_name().unwrap() != "timing.jsonl" {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Starts `kd distill --resume` into `out` and waits until its student has passed `step`.
fn start(folder: &Path, out: &str, step: usize) -> Child {
    let arguments = ["distill", "tiny.toml", "--skip-alone", "--resume", "--out", out];
    let mut child = command(folder, &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoints = folder.join(out).join(RUN).join("checkpoints");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let names = std::fs::read_dir(&checkpoints).into_iter().flatten().flatten();
        let steps = names
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse::<usize>().ok());
        if steps.max().is_some_and(|newest| newest >= step) {
            return child;
        }
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.wait_with_output().unwrap();
            panic!("ended with {status} before step {step}: {}", stderr(&output));
        }
        assert!(Instant::now() < deadline, "no checkpoint at step {step}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_distillation_resumes_to_the_same_bytes() {
    let folder = tempdir().unwrap();
    write_tiny(folder.path());
    let distil = |out: &str, option: &str| {
        stdout(kd(folder.path(), &["distill", "tiny.toml", "--skip-alone", "-q", "--out", out, option]));
    };
    distil("whole", "--overwrite");
    // Killed in the middle of its first epoch, and again in the middle of its second.
    for step in [20, 90] {
        let mut child = start(folder.path(), "killed", step);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it ended before it was killed");
        if step == 20 {
            // A start anew in the folder is refused.
            let output = kd(folder.path(), &["distill", "tiny.toml", "--out", "killed"]);
            assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
            assert!(stderr(&output).contains("holds a run already"));
        }
    }
    distil("killed", "--resume");
    for run in [RUN, "teacher-seed-0"] {
        let whole = contents(&folder.path().join("whole").join(run));
        let killed = contents(&folder.path().join("killed").join(run));
        assert!(
            ["metrics.jsonl", "student.safetensors", "student.bpk"]
                .iter()
                .all(|name| whole.contains_key(*name))
        );
        assert!(whole.keys().any(|name| name.ends_with("optimizer.bpk")));
        assert_eq!(whole.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>());
        for (name, bytes) in &whole {
            assert!(killed[name] == *bytes, "{run}/{name} differs");
        }
    }
}

#[test]
fn an_interrupted_distillation_exits_with_130_and_leaves_a_checkpoint_to_resume_from() {
    let folder = tempdir().unwrap();
    write_tiny(folder.path());
    let child = start(folder.path(), "run", 10);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("error: distilled: stopped at step") && text.contains("resume from"), "{text}");
    let arguments = ["distill", "tiny.toml", "--skip-alone", "-q", "--out", "run", "--resume"];
    assert!(stdout(kd(folder.path(), &arguments)).contains("distilled"));
}
