//! `kd list`: what there is, one line each.

use anyhow::Result;
use clap::ValueEnum;
use kd::core::losses::METHODS;
use kd::models::MODELS;
use kd::pruning::PRUNE_METHODS;
use kd::quant::plan::QUANT_METHODS;
use serde::Serialize;

use super::{say, say_json};

/// Options of `kd list`.
#[derive(clap::Args)]
pub struct Options {
    /// What to list.
    what: What,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Losses for `[[objective.terms]]`.
    Losses,
    /// Models for `student.model` and `teacher.model`.
    Models,
    /// Datasets for `data.name`.
    Datasets,
    /// Methods for `prune.method`.
    Pruning,
    /// Methods for `quantize.method`; with settings as in `method = { lsq = { bits = 4 } }`.
    Quantisation,
}

/// A row of any list.
#[derive(Serialize)]
struct Row {
    name: String,
    summary: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
}

/// Lists.
pub fn run(options: &Options) -> Result<()> {
    let rows = rows(options.what)?;
    if options.json {
        return say_json(&rows);
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for Row { name, summary, source, weight } in &rows {
        let weight = weight.map(|weight| format!("; weight {weight}")).unwrap_or_default();
        say(format!("{name:width$}  {summary} [{source}{weight}]"))?;
    }
    Ok(())
}

fn rows(what: What) -> Result<Vec<Row>> {
    let row = |name: &str, summary: &str, source: &str, weight| Row {
        name: name.to_owned(),
        summary: summary.to_owned(),
        source: source.to_owned(),
        weight,
    };
    Ok(match what {
        What::Losses => METHODS.iter().map(|m| row(m.name, m.summary, m.paper, Some(m.weight))).collect(),
        What::Models => MODELS.iter().map(|m| row(m.name, m.summary, m.paper, None)).collect(),
        What::Quantisation => QUANT_METHODS.iter().map(|m| row(m.name, m.summary, m.paper, None)).collect(),
        What::Pruning => PRUNE_METHODS.iter().map(|m| row(m.name, m.summary, m.paper, None)).collect(),
        What::Datasets => {
            kd::data::manifests()?.iter().map(|m| row(&m.name, &m.summary, &m.homepage, None)).collect()
        }
    })
}
