//! The comparison, column by column.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};

use super::{ReportError, Row, numbers};

/// The row that every other row's accuracy is compared with.
pub const BASELINE: &str = "student alone";

/// What stands where a row has no value.
pub(super) const MISSING: &str = "–";

/// A column of the comparison: title, what it means, and a cell per row.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) meaning: &'static str,
    pub(super) cells: Vec<Option<String>>,
}

/// All columns in which some row has a value.
pub(super) fn columns(rows: &[Row]) -> Vec<Column> {
    let baseline = rows.iter().find(|row| row.name == BASELINE).and_then(|row| numbers::mean(&row.best));
    let versus = |row: &Row| {
        let difference = numbers::mean(&row.best)? - baseline?;
        (row.name != BASELINE).then(|| numbers::points(difference))
    };
    let one = |share: Option<f64>| share.and_then(|share| numbers::percent(&[share]));
    let known = |number: u64| (number > 0).then_some(number);
    let column = |title, meaning, cell: &dyn Fn(&Row) -> Option<String>| Column {
        title,
        meaning,
        cells: rows.iter().map(cell).collect(),
    };
    let all = [
        column("accuracy", "test accuracy at the epoch that was best on validation", &|row| {
            numbers::percent(&row.best)
        }),
        column("vs alone", "difference to the student alone, in percentage points", &versus),
        column("last", "test accuracy after the last epoch", &|row| numbers::percent(&row.last)),
        column("errors", "wrong predictions on the test split at the best epoch", &|row| {
            numbers::counts(&row.errors)
        }),
        column("agree", "share of equal predictions with the teacher", &|row| one(row.agreement)),
        column("ECE", "expected calibration error, 15 bins", &|row| one(row.calibration_error)),
        column("params", "learnable numbers", &|row| known(row.parameters).map(numbers::thousands)),
        column("MACs", "multiply-accumulates per sample", &|row| row.macs.map(numbers::operations)),
        column("size", "weights as a file", &|row| known(row.bytes).map(numbers::bytes)),
        column("ms at 1", "forward pass of one image", &|row| {
            row.milliseconds_single.map(numbers::significant)
        }),
        column("ms/image", "forward pass, divided by the batch size", &|row| {
            row.milliseconds_per_image.map(numbers::significant)
        }),
    ];
    all.into_iter().filter(|column| column.cells.iter().any(Option::is_some)).collect()
}

/// The comparison as aligned text for a terminal, without a final newline. Columns that no row fills are left out.
///
/// ```
/// use kd_train::report::{Row, table};
///
/// let row = |name: &str, best: f64| Row { name: name.into(), best: vec![best], ..Row::default() };
/// let text = table(&[row("student alone", 0.981), row("soft targets", 0.986)]);
/// let last = text.lines().last().unwrap_or_default();
/// assert_eq!(last.split_whitespace().collect::<Vec<_>>(), ["soft", "targets", "98.60", "%", "+0.50"]);
/// ```
pub fn table(rows: &[Row]) -> String {
    let columns = columns(rows);
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(std::iter::once("").chain(columns.iter().map(|column| column.title)));
    for (index, row) in rows.iter().enumerate() {
        let cell = |column: &Column| column.cells.get(index).cloned().flatten();
        let cells = columns.iter().map(|column| cell(column).unwrap_or_else(|| MISSING.to_owned()));
        table.add_row(std::iter::once(row.name.clone()).chain(cells));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        let alignment = if index == 0 { CellAlignment::Left } else { CellAlignment::Right };
        column.set_cell_alignment(alignment);
    }
    table.trim_fmt()
}

/// The rows as a JSON array, for scripts.
///
/// # Errors
/// [`ReportError::Json`].
pub fn json(rows: &[Row]) -> Result<String, ReportError> {
    Ok(serde_json::to_string_pretty(rows)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |name: &str, best: &[f64]| Row { name: name.into(), best: best.to_vec(), ..Row::default() };
        let teacher = Row { parameters: 431_080, macs: Some(2_293_000), ..row("teacher", &[0.992]) };
        vec![teacher, row(BASELINE, &[0.98, 0.982]), row("soft targets", &[0.985, 0.986])]
    }

    #[test]
    fn text_is_aligned_and_compares_with_the_student_alone() {
        let text = table(&rows());
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(words(lines[0]), "accuracy vs alone params MACs");
        assert_eq!(words(lines[2]), "teacher 99.20 % +1.10 431,080 2.29 M");
        assert_eq!(words(lines[3]), "student alone 98.10 ± 0.14 % – – –");
        assert_eq!(words(lines[4]), "soft targets 98.55 ± 0.07 % +0.45 – –");
        let ends: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
        assert!(ends.iter().skip(2).all(|end| *end == ends[2]), "{text}");
    }

    #[test]
    fn columns_that_nobody_fills_are_left_out() {
        let titles: Vec<_> = columns(&rows()).iter().map(|column| column.title).collect();
        assert_eq!(titles, ["accuracy", "vs alone", "params", "MACs"]);
        let alone: Vec<_> = columns(&rows()[..1]).iter().map(|column| column.title).collect();
        assert_eq!(alone, ["accuracy", "params", "MACs"]);
        assert_eq!(columns(&[]).len(), 0);
    }

    #[test]
    fn rows_come_back_from_json_as_they_were() {
        let back: Vec<Row> = serde_json::from_str(&json(&rows()).unwrap()).unwrap();
        assert_eq!(back, rows());
    }
}
