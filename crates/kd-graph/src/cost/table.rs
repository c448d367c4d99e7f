//! Costs as a table.

use std::fmt;

use super::{Cost, NodeCost};
use crate::display::{Align, Column, table};

impl fmt::Display for Cost {
    /// A row for every node that computes, then the totals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timed = self.nodes.iter().any(|node| node.milliseconds.is_some());
        let mut columns = vec![
            Column("node", Align::Left),
            Column("operation", Align::Left),
            Column("output", Align::Left),
            Column("params", Align::Right),
            Column("MACs", Align::Right),
            Column("FLOPs", Align::Right),
            Column("moved", Align::Right),
            Column("FLOPs/B", Align::Right),
            Column("alive", Align::Right),
        ];
        if timed {
            columns.push(Column("ms", Align::Right));
        }
        let row = |node: &NodeCost| {
            let mut row = vec![
                node.name.clone(),
                node.op.clone(),
                node.output.clone(),
                count(node.parameters),
                count(node.macs),
                count(node.flops),
                bytes(node.bytes_moved()),
                if node.bytes_moved() == 0 { String::new() } else { format!("{:.2}", node.intensity()) },
                bytes(node.alive_bytes),
            ];
            if timed {
                row.push(node.milliseconds.map_or_else(String::new, |ms| format!("{ms:.3}")));
            }
            row
        };
        writeln!(f, "{}\n", table(&columns, self.nodes.iter().map(row)))?;
        writeln!(f, "batch size                 {}", self.batch)?;
        writeln!(f, "parameters                 {}", or_zero(count(self.parameters)))?;
        writeln!(f, "buffers                    {}", or_zero(count(self.buffers)))?;
        writeln!(f, "bytes of weights           {}", bytes(self.weight_bytes))?;
        writeln!(f, "MACs                       {}", or_zero(count(self.macs)))?;
        writeln!(f, "FLOPs                      {}", or_zero(count(self.flops)))?;
        writeln!(f, "bytes moved                {}", bytes(self.bytes_moved))?;
        writeln!(f, "arithmetic intensity       {:.2} FLOPs a byte", self.intensity())?;
        write!(f, "peak activation memory     {} at {}", bytes(self.peak_activation_bytes), self.peak_at)?;
        if let Some(milliseconds) = self.milliseconds() {
            write!(f, "\nmeasured                   {milliseconds:.3} ms")?;
        }
        if !self.uncounted.is_empty() {
            write!(f, "\nnot counted                {}", self.uncounted.join(", "))?;
        }
        Ok(())
    }
}

/// Totals are never left empty.
fn or_zero(text: String) -> String {
    if text.is_empty() { "0".to_owned() } else { text }
}

/// `40551040` as `40.551 M`; nothing for zero.
fn count(number: u64) -> String {
    scaled(number, 1000.0, &["", " k", " M", " G", " T", " P", " E"])
}

/// `65536` as `64 KiB`; nothing for zero.
pub(super) fn bytes(number: u64) -> String {
    scaled(number, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"])
}

fn scaled(number: u64, base: f64, units: &[&str]) -> String {
    if number == 0 {
        return String::new();
    }
    let mut value = number as f64;
    let mut unit = "";
    for (place, name) in units.iter().enumerate() {
        unit = name;
        // Rounding to three decimals must not show a full unit as 1000.
        if value < base - 0.0005 || place + 1 == units.len() {
            break;
        }
        value /= base;
    }
    let text = format!("{value:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_scaled_without_losing_small_ones() {
        let counts: Vec<_> = [0, 7, 999, 1000, 40_551_040, 999_999_999].map(count).into();
        assert_eq!(counts, ["", "7", "999", "1 k", "40.551 M", "1 G"]);
        assert_eq!([1023, 65_536, 1_572_864].map(bytes), ["1023 B", "64 KiB", "1.5 MiB"]);
    }
}
