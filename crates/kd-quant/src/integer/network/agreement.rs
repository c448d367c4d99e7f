//! How far the training form and the integer form agree.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{LineStyle, Table, presets};
use kd_graph::{Graph, GraphModule, NodeId, Value};
use serde::Serialize;

use super::IntegerNetwork;
use super::cell::{Cell, numbers};
use super::compile::run;
use crate::plan::kernels;
use crate::{QuantError, integer::Format};

/// Codes that differ between the two forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// How many codes were compared.
    pub codes: u64,
    /// How many differ.
    pub different: u64,
    /// The greatest difference, in codes.
    pub greatest: u32,
}

impl Differences {
    /// The part that differs, from 0 to 1.
    pub fn rate(&self) -> f64 {
        if self.codes == 0 { 0.0 } else { self.different as f64 / self.codes as f64 }
    }

    fn compare(&mut self, integer: &[i32], training: &Value, format: Format) -> Result<(), QuantError> {
        let values = numbers(training).map_err(run)?;
        if values.len() != integer.len() {
            let (got, wanted) = (values.len(), integer.len());
            return Err(QuantError::Length { what: "the training form's result", got, wanted });
        }
        for (value, code) in values.iter().zip(integer) {
            let other = (value / format.codes.scale).round_ties_even() as i32 + format.codes.zero_point;
            self.codes += 1;
            self.different += u64::from(other != *code);
            self.greatest = self.greatest.max(other.abs_diff(*code));
        }
        Ok(())
    }

    fn add(&mut self, other: Self) {
        self.codes += other.codes;
        self.different += other.different;
        self.greatest = self.greatest.max(other.greatest);
    }
}

/// Where training form and integer form give different codes, for every quantised activation in execution order.
///
/// A step fed with the integer form's own codes differs by one code at most: both round the same sum, which float arithmetic and the rounded bias move by
/// less than a code. Through the whole network such differences add up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Name, differences of the step alone, differences through the network.
    pub points: Vec<(String, Differences, Differences)>,
    /// How many rows of the first result were compared, and how many have their greatest value elsewhere.
    pub rows: (u64, u64),
}

impl Agreement {
    /// All steps together.
    pub fn steps(&self) -> Differences {
        self.points.iter().fold(Differences::default(), |mut sum, point| {
            sum.add(point.1);
            sum
        })
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
        table.set_header([
            "activation",
            "codes",
            "differ",
            "by at most",
            "through the network",
            "by at most",
        ]);
        let percent = |d: &Differences| format!("{:.4} %", 100.0 * d.rate());
        for (name, step, through) in &self.points {
            table.add_row([
                name.clone(),
                step.codes.to_string(),
                percent(step),
                step.greatest.to_string(),
                percent(through),
                through.greatest.to_string(),
            ]);
        }
        let (rows, other) = self.rows;
        write!(f, "{table}\n{other} of {rows} rows have their greatest value elsewhere")
    }
}

impl<I> IntegerNetwork<I> {
    /// Compares with the training form, the graph that this network was made of, on some batches.
    ///
    /// # Errors
    /// [`QuantError::Empty`] without batches, [`QuantError::Run`] when either form does not take one.
    pub fn agreement(&self, batches: impl IntoIterator<Item = Vec<Value>>) -> Result<Agreement, QuantError> {
        let graph = &self.shared.training;
        let kernels = kernels(graph)?;
        let module = |graph: Graph| {
            let module = GraphModule::with_kernels(graph, &self.device, &kernels);
            module.map_err(|error| run(error.to_string()))
        };
        let quantisers: Vec<NodeId> = {
            let sites = crate::plan::sites(graph)?.into_iter().map(|site| site.node);
            sites.filter(|node| self.shared.formats.contains_key(node)).collect()
        };
        let whole = module(graph.clone())?;
        let apart = module(cut(graph, &quantisers)?)?;
        let mut found: BTreeMap<NodeId, (Differences, Differences)> = BTreeMap::new();
        let (mut rows, mut shown) = ((0, 0), false);
        for batch in batches {
            shown = true;
            let mut codes = BTreeMap::new();
            let failed = |error: kd_graph::RunError| run(error.to_string());
            let integer = self
                .run_observed(batch.clone(), |node, cell| {
                    if let Cell::Codes(found) = cell {
                        codes.insert(node, found.clone());
                    }
                })
                .map_err(failed)?;
            let (results, through) = whole.run_tapped(batch.clone(), &quantisers).map_err(failed)?;
            let fed = quantisers
                .iter()
                .filter_map(|node| Some(Cell::Codes(codes.get(node)?.clone()).value(&self.device)));
            let alone = apart.run(batch.into_iter().chain(fed).collect()).map_err(failed)?;
            for ((node, alone), through) in quantisers.iter().zip(&alone).zip(&through) {
                let Some(integer) = codes.get(node) else { continue };
                let (step, all) = found.entry(*node).or_default();
                step.compare(&integer.values, alone, integer.format)?;
                all.compare(&integer.values, through, integer.format)?;
            }
            if let (Some(integer), Some(training)) = (integer.first(), results.first()) {
                let (count, other) = rows_apart(integer, training)?;
                rows = (rows.0 + count, rows.1 + other);
            }
        }
        if !shown {
            return Err(QuantError::Empty { what: "the list of batches to compare on" });
        }
        let mut points = Vec::new();
        for node in quantisers {
            let (step, through) = found.remove(&node).unwrap_or_default();
            points.push((graph.node(node)?.name().to_owned(), step, through));
        }
        Ok(Agreement { points, rows })
    }
}

/// The graph with its readers of quantisers reading inputs instead, behind its own; its results are the quantisers'.
fn cut(graph: &Graph, quantisers: &[NodeId]) -> Result<Graph, QuantError> {
    let mut cut = graph.clone();
    cut.edit(|edit| {
        for &node in quantisers {
            let (name, ty) = {
                let of = edit.graph().node(node)?;
                (edit.graph().free_name(&format!("{}.codes", of.name())), of.output().clone())
            };
            let fed = edit.add_input(&name, ty)?;
            edit.replace_uses(node, fed)?;
        }
        edit.set_outputs(quantisers)
    })?;
    Ok(cut)
}

/// How many rows two results have, and how many with their greatest value elsewhere.
fn rows_apart(a: &Value, b: &Value) -> Result<(u64, u64), QuantError> {
    let width = a.shape().last().copied().unwrap_or(1).max(1);
    let (a, b) = (numbers(a).map_err(run)?, numbers(b).map_err(run)?);
    let greatest =
        |row: &[f32]| row.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1)).map(|(index, _)| index);
    let pairs = a.chunks(width).zip(b.chunks(width));
    Ok(pairs.fold((0, 0), |(rows, other), (a, b)| (rows + 1, other + u64::from(greatest(a) != greatest(b)))))
}
