//! The report on a network's layers.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{LineStyle, Table, presets};
use kd_train::report::Sweep;
use serde::Serialize;

use super::Distortion;
use crate::integer::Agreement;

/// The bits beside the plan's own at which a table says what a weight takes.
const WIDTHS: [usize; 3] = [8, 4, 2];

/// What quantisation does to one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerReport {
    /// Path of the weight.
    pub weight: String,
    /// Name of the layer.
    pub layer: String,
    /// The weight's quantiser.
    pub quantizer: String,
    /// Bits of a packed weight; 32 if it is stored in float.
    pub bits: u32,
    /// Of the weight.
    pub weight_error: Distortion,
    /// Of the layer's result, if only this layer is quantised.
    pub output_error: Distortion,
    /// The part of weights that are cut off at an end of the grid, from 0 to 1; none for a table of levels.
    pub saturated_weights: Option<f64>,
    /// The same of the activations that the layer reads, if they are quantised.
    pub saturated_inputs: Option<f64>,
    /// The part of the weight's codes that differ in another state of the network, if one was compared: [`Analysis::set_flips`].
    pub flips: Option<f64>,
    /// The score in integers if only this layer is quantised, its weight and what it reads.
    pub alone: f64,
    /// Packed size of the weight with its scales or its codebook.
    pub bytes: usize,
    /// The same at 1 to 8 bits.
    pub bytes_at: Vec<usize>,
}

/// What quantisation does to a network, layer by layer in execution order. Displayed as a table with a summary below; serialised, an infinite ratio of signal
/// to noise is `null` in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Analysis {
    /// The score of the float network.
    pub float: f64,
    /// That of the quantised one, in integers.
    pub quantised: f64,
    /// How often training form and integer form differ, on a batch.
    pub agreement: Agreement,
    /// The layers.
    pub layers: Vec<LayerReport>,
}

impl Analysis {
    /// Packed bytes of all weights of the plan; [`packed_bytes`](super::packed_bytes) are those of the whole network.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// The layer whose quantisation alone costs most.
    pub fn worst(&self) -> Option<&LayerReport> {
        self.layers.iter().min_by(|a, b| a.alone.total_cmp(&b.alone))
    }

    /// Adds the part of codes that differ between two states of the network, by path, as [`flip_rates`](super::flip_rates) finds it.
    pub fn set_flips(&mut self, rates: &BTreeMap<String, f64>) {
        for layer in &mut self.layers {
            layer.flips = rates.get(&layer.weight).copied();
        }
    }

    /// What there is to say of the whole network: scores, bytes, the worst layer; how far the training form is from the integer form.
    pub fn summary(&self) -> [String; 2] {
        let Self { float, quantised, agreement, .. } = self;
        let bytes = self.bytes();
        let whole = format!(
            "float {float:.4}, all layers quantised {quantised:.4} in integers, weights {bytes} bytes packed"
        );
        let worst =
            self.worst().map(|worst| format!("; {} costs most, {:.4} alone", worst.weight, worst.alone));
        let (steps, (rows, other)) = (agreement.steps(), agreement.rows);
        let through = agreement.points.iter().max_by(|a, b| a.2.rate().total_cmp(&b.2.rate()));
        let through = through.map_or_else(String::new, |(name, _, all)| {
            let percent = 100.0 * all.rate();
            format!(
                "; through the whole network at most {percent:.2} %, at {name}, by {} or less",
                all.greatest
            )
        });
        let forms = format!(
            "training form and integer form: {:.4} % of a batch's codes differ, each step by itself, by at most {}{through}; \
             {other} of {rows} rows have their greatest value elsewhere",
            100.0 * steps.rate(),
            steps.greatest,
        );
        [whole + &worst.unwrap_or_default(), forms]
    }

    /// Charts for a report: error of weights and results, the score of each layer alone, bytes at every width and of every layer, flips if there are any.
    pub fn sweeps(&self) -> Vec<Sweep> {
        let by_layer = |of: &dyn Fn(&LayerReport) -> Option<f64>| -> Vec<(f64, f64)> {
            let points = self.layers.iter().enumerate().map(|(i, layer)| Some(((i + 1) as f64, of(layer)?)));
            points.flatten().filter(|(_, value)| value.is_finite()).collect()
        };
        let names: Vec<String> =
            self.layers.iter().enumerate().map(|(i, layer)| format!("{}: {}", i + 1, layer.layer)).collect();
        let sweep = |title: &str, lines| Sweep {
            title: title.to_owned(),
            axis: "layer".to_owned(),
            lines,
            note: names.join(", "),
            ..Sweep::default()
        };
        let noise = vec![
            ("weights".to_owned(), by_layer(&|layer| Some(layer.weight_error.sqnr))),
            ("results".to_owned(), by_layer(&|layer| Some(layer.output_error.sqnr))),
        ];
        let alone = vec![
            ("only this layer quantised".to_owned(), by_layer(&|layer| Some(layer.alone))),
            ("float".to_owned(), by_layer(&|_| Some(self.float))),
            ("all layers quantised".to_owned(), by_layer(&|_| Some(self.quantised))),
        ];
        let total =
            |bits: usize| self.layers.iter().filter_map(|layer| layer.bytes_at.get(bits)).sum::<usize>();
        let sizes = (0..8).map(|bits| ((bits + 1) as f64, total(bits) as f64)).collect();
        let planned = ("as planned".to_owned(), by_layer(&|layer| Some(layer.bytes as f64)));
        let at = WIDTHS.map(|bits| (format!("{bits} bits"), by_layer(&|layer| Some(layer.at(bits)? as f64))));
        let mut sweeps = vec![
            sweep("Signal to quantisation noise, dB", noise),
            sweep("Score", alone),
            Sweep {
                title: "Packed bytes of all weights".to_owned(),
                axis: "bits".to_owned(),
                lines: vec![("weights with their scales".to_owned(), sizes)],
                ..Sweep::default()
            },
            sweep("Packed bytes of each weight", [planned].into_iter().chain(at).collect()),
        ];
        if self.has_flips() {
            let flips = vec![("codes that differ".to_owned(), by_layer(&|layer| layer.flips))];
            sweeps.push(Sweep { value_is_share: true, ..sweep("Flips", flips) });
        }
        sweeps
    }

    fn has_flips(&self) -> bool {
        self.layers.iter().any(|layer| layer.flips.is_some())
    }
}

impl LayerReport {
    /// Bytes at so many bits.
    fn at(&self, bits: usize) -> Option<usize> {
        self.bytes_at.get(bits.checked_sub(1)?).copied()
    }
}

impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
        let flips = self.has_flips();
        let mut header =
            vec!["weight", "quantiser", "SQNR dB", "cosine", "result dB", "cosine", "cut off", "inputs"];
        header.extend(flips.then_some("flips"));
        header.extend(["alone", "bytes"]);
        let widths = WIDTHS.map(|bits| format!("at {bits} bit"));
        table.set_header(header.into_iter().chain(widths.iter().map(String::as_str)));
        let missing = || "–".to_owned();
        let percent = |part: Option<f64>| part.map_or_else(missing, |part| format!("{:.2} %", 100.0 * part));
        for layer in &self.layers {
            let mut row = vec![
                layer.weight.clone(),
                // Method and bits; the plan says the rest.
                layer.quantizer.split(',').next().unwrap_or_default().to_owned(),
                format!("{:.1}", layer.weight_error.sqnr),
                format!("{:.5}", layer.weight_error.cosine),
                format!("{:.1}", layer.output_error.sqnr),
                format!("{:.5}", layer.output_error.cosine),
                percent(layer.saturated_weights),
                percent(layer.saturated_inputs),
            ];
            row.extend(flips.then(|| percent(layer.flips)));
            row.extend([format!("{:.4}", layer.alone), layer.bytes.to_string()]);
            row.extend(WIDTHS.map(|bits| layer.at(bits).map_or_else(missing, |bytes| bytes.to_string())));
            table.add_row(row);
        }
        write!(f, "{table}\n{}", self.summary().join("\n"))
    }
}
