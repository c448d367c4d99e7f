//! The report on a network's layers.

use std::fmt;

use comfy_table::{LineStyle, Table, presets};
use kd_train::report::Sweep;

use super::Distortion;

/// What quantisation does to one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReport {
    /// Path of the weight.
    pub weight: String,
    /// Name of the layer.
    pub layer: String,
    /// The weight's quantiser.
    pub quantizer: String,
    /// Bits of a packed weight.
    pub bits: u32,
    /// Of the weight.
    pub weight_error: Distortion,
    /// Of the layer's result, if only this layer is quantised.
    pub output_error: Distortion,
    /// The part of weights that are cut off at an end of the grid, from 0 to 1; none for a table of levels.
    pub saturated_weights: Option<f64>,
    /// The same of the activations that the layer reads, if they are quantised.
    pub saturated_inputs: Option<f64>,
    /// The score if only this layer is quantised, its weight and what it reads.
    pub alone: f64,
    /// Packed size of the weight and its scales.
    pub bytes: usize,
    /// The same at 1 to 8 bits.
    pub bytes_at: Vec<usize>,
}

/// What quantisation does to a network, layer by layer in execution order. Displayed as a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Analysis {
    /// The score of the float network.
    pub float: f64,
    /// That of the quantised one, in its training form.
    pub quantised: f64,
    /// The layers.
    pub layers: Vec<LayerReport>,
}

impl Analysis {
    /// Packed bytes of all quantised weights.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// The layer whose quantisation alone costs most.
    pub fn worst(&self) -> Option<&LayerReport> {
        self.layers.iter().min_by(|a, b| a.alone.total_cmp(&b.alone))
    }

    /// Charts for a report: error of weights and results, the score of each layer alone, bytes at every width.
    pub fn sweeps(&self) -> Vec<Sweep> {
        let by_layer = |of: &dyn Fn(&LayerReport) -> f64| -> Vec<(f64, f64)> {
            let points = self.layers.iter().enumerate().map(|(i, layer)| ((i + 1) as f64, of(layer)));
            points.filter(|(_, value)| value.is_finite()).collect()
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
            ("weights".to_owned(), by_layer(&|layer| layer.weight_error.sqnr)),
            ("results".to_owned(), by_layer(&|layer| layer.output_error.sqnr)),
        ];
        let alone = vec![
            ("only this layer quantised".to_owned(), by_layer(&|layer| layer.alone)),
            ("float".to_owned(), by_layer(&|_| self.float)),
            ("all layers quantised".to_owned(), by_layer(&|_| self.quantised)),
        ];
        let total =
            |bits: usize| self.layers.iter().filter_map(|layer| layer.bytes_at.get(bits)).sum::<usize>();
        let sizes = (0..8).map(|bits| ((bits + 1) as f64, total(bits) as f64)).collect();
        vec![
            sweep("Signal to quantisation noise, dB", noise),
            sweep("Score", alone),
            Sweep {
                title: "Packed bytes of all weights".to_owned(),
                axis: "bits".to_owned(),
                lines: vec![("weights with their scales".to_owned(), sizes)],
                ..Sweep::default()
            },
        ]
    }
}

impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
        table.set_header([
            "weight",
            "quantiser",
            "SQNR dB",
            "cosine",
            "result dB",
            "cosine",
            "cut off",
            "inputs",
            "alone",
            "bytes",
        ]);
        let percent =
            |part: Option<f64>| part.map_or_else(|| "–".to_owned(), |part| format!("{:.2} %", 100.0 * part));
        for layer in &self.layers {
            table.add_row([
                layer.weight.clone(),
                layer.quantizer.clone(),
                format!("{:.1}", layer.weight_error.sqnr),
                format!("{:.5}", layer.weight_error.cosine),
                format!("{:.1}", layer.output_error.sqnr),
                format!("{:.5}", layer.output_error.cosine),
                percent(layer.saturated_weights),
                percent(layer.saturated_inputs),
                format!("{:.4}", layer.alone),
                layer.bytes.to_string(),
            ]);
        }
        writeln!(f, "{table}")?;
        let Self { float, quantised, .. } = self;
        write!(
            f,
            "float {float:.4}, all layers quantised {quantised:.4}, weights {} bytes packed",
            self.bytes()
        )?;
        match self.worst() {
            Some(worst) => write!(f, "; {} costs most, {:.4} alone", worst.weight, worst.alone),
            None => Ok(()),
        }
    }
}
