//! Another program that runs steps when told to, over its standard input and output (`scripts/peers/protocol.py`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A running peer; it ends with this value.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it said of itself when it was ready.
    pub about: Value,
}

impl Peer {
    /// Starts `python script arguments` and waits until it is ready.
    ///
    /// # Errors
    /// A program that can't be started, or says something else than that it is ready.
    pub fn start(python: &Path, script: &Path, arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} can't be started", python.display()))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut peer = Self { child, input, output, about: Value::Null };
        peer.about = peer.answer().with_context(|| format!("{} did not start", script.display()))?;
        Ok(peer)
    }

    /// Milliseconds of each of `count` steps.
    ///
    /// # Errors
    /// A peer that has died or failed.
    pub fn steps(&mut self, count: usize) -> Result<Vec<f64>> {
        writeln!(self.input, "step {count}")?;
        self.input.flush()?;
        let answer = self.answer()?;
        let times = answer.get("ms").and_then(Value::as_array).context("an answer without times")?;
        Ok(times.iter().filter_map(Value::as_f64).collect())
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the program has ended; run it by hand to see why");
        }
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        if let Some(error) = answer.get("error") {
            bail!("the program says: {error}");
        }
        Ok(answer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
