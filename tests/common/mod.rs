//! Runs the `kd` program in a folder of its own, with no data and no way to the network.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

/// The program, to be run in `folder`.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kd"));
    command
        .current_dir(folder)
        .args(arguments)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("HOME", folder);
    for name in ["KD_DATA_DIR", "RUST_LOG"] {
        command.env_remove(name);
    }
    // Nothing listens there: every download fails at once.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:9");
    }
    command.env_remove("no_proxy").env_remove("NO_PROXY");
    command
}

/// What the program does with these arguments.
pub fn kd(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

/// Standard output, of a program that ended well.
pub fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A distillation that takes a second or two: dropout in teacher and student, a checkpoint every five steps.
pub const TINY: &str = r#"
data = { name = "digits", validation = 200, limit = 512, batch-size = 8, augment = { jitter = 2 } }
student.model = "mlp:32;dropout=0.1,0.3"
teacher.model = "mlp:64;dropout=0.1,0.3"
teacher.run.epochs = 1

[run]
epochs = 4
checkpoint-steps = 5

[run.optimizer]
schedule = { kind = "cosine" }
clip-norm = 2.0

[[objective.terms]]
loss = "soft-targets"

[[objective.terms]]
loss = "fitnets"
student = ["features"]
teacher = ["features"]
weight = { kind = "linear", from = 1.0, to = 0.1 }

[[objective.terms]]
loss = "cross-entropy"
weight = 0.1
"#;

/// Writes [`TINY`] as `tiny.toml` into `folder`.
pub fn write_tiny(folder: &Path) {
    std::fs::write(folder.join("tiny.toml"), TINY).unwrap();
}
