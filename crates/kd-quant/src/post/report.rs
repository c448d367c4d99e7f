//! What was done to every layer.

use std::fmt;

use comfy_table::{LineStyle, Table, presets};

/// A layer after post-training quantisation.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReport {
    /// Its name.
    pub layer: String,
    /// The path of its weight.
    pub weight: String,
    /// The weight's quantiser.
    pub quantizer: String,
    /// How its weight was rounded.
    pub rounding: &'static str,
    /// Signal to noise of the weight, in decibel.
    pub weight_sqnr: f64,
    /// The same of the layer's output on the calibration set, noise that the network before it makes included; none without data.
    pub output_sqnr: Option<f64>,
    /// The largest change of a bias; none where it was not corrected.
    pub bias_shift: Option<f64>,
    /// What could not be done.
    pub note: Option<String>,
}

/// Every layer, in execution order. `Display` is a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PostReport {
    /// The layers.
    pub layers: Vec<LayerReport>,
    /// Batch normalisations that were folded.
    pub folded: Vec<String>,
    /// Batch normalisations that were not, and why.
    pub kept: Vec<(String, String)>,
    /// Layers whose channels were equalised with the next one's, by name.
    pub equalised: Vec<(String, String)>,
    /// Layers a part of whose bias the next one has absorbed, by name.
    pub absorbed: Vec<(String, String)>,
}

impl fmt::Display for PostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let decibel = |value: f64| if value.is_finite() { format!("{value:.1}") } else { "exact".to_owned() };
        let mut table = Table::new();
        let header = ["layer", "weight", "rounding", "weight dB", "output dB", "bias moved by", "note"];
        table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
        table.set_header(header);
        for of in &self.layers {
            table.add_row([
                of.layer.clone(),
                of.quantizer.clone(),
                of.rounding.to_owned(),
                decibel(of.weight_sqnr),
                of.output_sqnr.map_or_else(|| "-".to_owned(), decibel),
                number(of.bias_shift),
                of.note.clone().unwrap_or_default(),
            ]);
        }
        write!(f, "{table}")?;
        for (name, why) in &self.kept {
            write!(f, "\n{name} was not folded: {why}")?;
        }
        Ok(())
    }
}
