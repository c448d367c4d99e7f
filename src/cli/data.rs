//! `kd data`: datasets on this machine.

use std::path::PathBuf;

use anyhow::Result;
use kd::data::{DataError, FormUsed, Search, fetch, manifests, open};
use kd::program::{Verbosity, search};
use serde::Serialize;

use super::{say, say_json};

/// What to do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Download a dataset and check it; what is there already stays.
    Fetch(Options),
    /// Say which datasets are on this machine and where. Checks every file, so it takes a moment.
    List(ListOptions),
    /// Read a dataset that is on this machine and compare it with the published checksums.
    Verify(Options),
}

/// Options of `kd data fetch` and `kd data verify`.
#[derive(clap::Args)]
pub struct Options {
    /// The dataset.
    name: String,
    #[command(flatten)]
    common: ListOptions,
}

/// Options of `kd data list`.
#[derive(clap::Args)]
pub struct ListOptions {
    /// Where datasets lie; otherwise $KD_DATA_DIR, then the user's cache folder.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    verbosity: Verbosity,
}

impl Command {
    /// How much to say.
    pub fn verbosity(&self) -> Verbosity {
        match self {
            Self::Fetch(options) | Self::Verify(options) => options.common.verbosity,
            Self::List(options) => options.verbosity,
        }
    }
}

impl ListOptions {
    fn search(&self, download: bool) -> Search {
        Search { download, ..search(self.data_dir.clone(), self.verbosity.shows_progress()) }
    }
}

/// Does it.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Fetch(options) => {
            let files = fetch(&options.name, &options.common.search(true))?;
            if options.common.json {
                return say_json(&files);
            }
            files.iter().try_for_each(|file| say(file.display().to_string()))
        }
        Command::Verify(options) => {
            let form = open(&options.name, &options.common.search(false))?.form;
            if options.common.json { say_json(&form) } else { say(form.to_string()) }
        }
        Command::List(options) => list(options),
    }
}

#[derive(Serialize)]
struct Listed {
    name: String,
    summary: String,
    licence: String,
    /// None: not on this machine.
    form: Option<FormUsed>,
}

fn list(options: &ListOptions) -> Result<()> {
    let search = options.search(false);
    let mut listed = Vec::new();
    for manifest in manifests()? {
        let form = match open(&manifest.name, &search) {
            Ok(opened) => Some(opened.form),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(DataError::into(error)),
        };
        listed.push(Listed {
            name: manifest.name,
            summary: manifest.summary,
            licence: manifest.licence,
            form,
        });
    }
    if options.json {
        return say_json(&listed);
    }
    for Listed { name, summary, form, .. } in listed {
        let place = form.map_or_else(|| format!("not here; kd data fetch {name}"), |form| form.to_string());
        say(format!("{name:14} {summary}\n{:14} {place}", ""))?;
    }
    Ok(())
}
