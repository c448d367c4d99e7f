//! The command line: one file a command.

mod data;
mod distill;
mod eval;
mod graph;
mod list;
mod prune;
mod quantize;
mod report;
mod train;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use kd::experiment::Results;
use kd::program::Verbosity;
use serde::Serialize;

/// Makes networks small: trains, distils, prunes, quantises, measures.
#[derive(Parser)]
#[command(name = "kd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch, list and verify datasets.
    #[command(subcommand)]
    Data(data::Command),
    /// Train a network from labels, as a recipe says.
    Train(train::Options),
    /// Train a student from a teacher, as a recipe says, and the same student alone beside it.
    Distill(distill::Options),
    /// Make a network smaller: as a recipe says, trained, pruned and recovered; or a model as it is, by `--target macs=0.5`.
    Prune(prune::Options),
    /// Give a network few bits: as a recipe says, in training, beside the float network; a trained model as it is with `--post`; `analyse` says what that
    /// does to every layer.
    Quantize(Box<quantize::Options>),
    /// Measure a trained network.
    Eval(eval::Options),
    /// Look at a model as a graph: what it does, what it costs, a picture.
    #[command(subcommand)]
    Graph(graph::Command),
    /// Print a study's table and write its report again.
    Report(report::Options),
    /// List what there is.
    List(list::Options),
}

/// Reads the command line and runs the command.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let verbosity = match &arguments.command {
        Command::Data(command) => command.verbosity(),
        Command::Train(options) => options.recipe.common.verbosity,
        Command::Distill(options) => options.recipe.common.verbosity,
        Command::Prune(options) => options.common.verbosity,
        Command::Quantize(options) => options.verbosity(),
        Command::Eval(options) => options.verbosity,
        Command::Graph(command) => command.verbosity(),
        Command::Report(_) | Command::List(_) => Verbosity::default(),
    };
    kd::program::main(verbosity, |program| match arguments.command {
        Command::Data(command) => data::run(&command),
        Command::Train(options) => train::run(program, &options),
        Command::Distill(options) => distill::run(program, &options),
        Command::Prune(options) => prune::run(program, &options),
        Command::Quantize(options) => quantize::run(program, &options),
        Command::Eval(options) => eval::run(&options),
        Command::Graph(command) => graph::run(&command),
        Command::Report(options) => report::run(&options),
        Command::List(options) => list::run(&options),
    })
}

/// Prints a line to standard output. A reader that has gone away, as `head` does, is no error.
fn say(text: impl AsRef<str>) -> Result<()> {
    match writeln!(std::io::stdout(), "{}", text.as_ref()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a value for a script.
fn say_json(value: &impl Serialize) -> Result<()> {
    say(serde_json::to_string_pretty(value)?)
}

/// Prints results as a table or for a script.
fn say_results(results: &Results, json: bool) -> Result<()> {
    if json { say_json(results) } else { say(results.table()) }
}
