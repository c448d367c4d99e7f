//! The table of methods that a recipe can name.

/// A row of [`QUANT_METHODS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantMethodInfo {
    /// How a recipe writes it: a [`Preset`](super::Preset).
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
}

const fn row(name: &'static str, summary: &'static str, paper: &'static str) -> QuantMethodInfo {
    QuantMethodInfo { name, summary, paper }
}

/// Every method that a recipe can name.
pub const QUANT_METHODS: &[QuantMethodInfo] = &[
    row("int8", "8 bits over observed ranges, weights by channel", "Jacob et al., 2018, arXiv:1712.05877"),
    row("uniform", "the same with 2 to 8 `bits`", "Jacob et al., 2018, arXiv:1712.05877"),
    row("lsq", "2 to 8 `bits` with learned steps", "Esser et al., 2020, arXiv:1902.08153"),
    row("dorefa", "bits of `weights`, `activations` and `gradients`", "Zhou et al., 2016, arXiv:1606.06160"),
    row("pact", "`bits` up to a learned level of activations", "Choi et al., 2018, arXiv:1805.06085"),
    row("bnn", "signs of weights and activations", "Hubara et al., 2016, arXiv:1602.02830"),
    row("binary-connect", "signs of weights", "Courbariaux et al., 2015, arXiv:1511.00363"),
    row("bwn", "scaled signs of weights", "Rastegari et al., 2016, arXiv:1603.05279"),
    row("xnor", "scaled signs of weights, signs of activations", "Rastegari et al., 2016, arXiv:1603.05279"),
    row("abc-net", "sums of binary `weights` and `activations`", "Lin et al., 2017, arXiv:1711.11294"),
    row("sibnn", "scaled signs of weights, activations of 0 and 1", "Wang et al., AAAI 2020"),
    row("sttn", "ternary weights as two binaries, ternary activations", "Xu et al., IJCAI 2020"),
    row("twn", "ternary weights by a threshold", "Li et al., 2016, arXiv:1605.04711"),
    row("ttq", "ternary weights with learned scales", "Zhu et al., 2017, arXiv:1612.01064"),
    row(
        "power-of-two",
        "weights that are powers of two, in `bits`",
        "Elhoushi et al., 2019, arXiv:1905.13298",
    ),
    row("apot", "sums of powers of two, in `bits`", "Li et al., 2020, arXiv:1909.13144"),
    row("adder", "sums of absolute differences in place of products", "Chen et al., 2020, arXiv:1912.13200"),
    row("shared", "weights of 2^`bits` trained values", "Han et al., 2016, arXiv:1510.00149"),
    row("hashed", "`factor` times fewer parameters, drawn by a hash", "Chen et al., 2015, arXiv:1504.04788"),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::Preset;

    #[test]
    fn the_table_has_every_preset_in_its_order() {
        let error = serde_json::from_str::<Preset>("\"none\"").unwrap_err().to_string();
        let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        let listed: Vec<&str> = QUANT_METHODS.iter().map(|method| method.name).collect();
        assert_eq!(known, listed, "{error}");
    }
}
