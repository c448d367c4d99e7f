//! `kd report`: what a study found.

use std::path::PathBuf;

use anyhow::Result;
use kd::experiment::Results;

use super::{say, say_results};

/// Options of `kd report`.
#[derive(clap::Args)]
pub struct Options {
    /// The study's folder, which holds `results.json`.
    #[arg(value_name = "RUN")]
    folder: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Reports.
pub fn run(options: &Options) -> Result<()> {
    let results = Results::read(&options.folder)?;
    results.write(&options.folder)?;
    say_results(&results, options.json)?;
    if options.json {
        Ok(())
    } else {
        say(format!("report: {}", options.folder.join("report.html").display()))
    }
}
