//! The page around tables and charts.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::table::{Column, MISSING, columns};
use super::{Report, ReportError, Row, attention, confusion, curves, sweep};

const STYLE: &str = include_str!("page.css");

pub(super) fn page(report: &Report) -> Result<String, ReportError> {
    let curves = curves::section(&report.curves)?;
    let sweeps = sweep::sections(&report.sweeps)?;
    let confusion = report.confusion.as_ref().map(confusion::section).transpose()?;
    let attention = attention::section(&report.attention)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (report.title) }
                    @if !report.dataset.is_empty() { p.dataset { (report.dataset) } }
                    @if !report.command.is_empty() { pre { code { (report.command) } } }
                    @for note in &report.notes { p { (note) } }
                }
                main {
                    (comparison(&report.rows))
                    (curves)
                    (sweeps)
                    (confusion.unwrap_or_default())
                    (attention)
                }
            }
        }
    };
    Ok(page.into_string())
}

/// On a narrow screen every row becomes a card, whose cells name their column.
fn comparison(rows: &[Row]) -> Markup {
    if rows.is_empty() {
        return html! {};
    }
    let columns = columns(rows);
    let cell = |column: &Column, index: usize| column.cells.get(index).cloned().flatten();
    html! {
        section {
            h2 { "Comparison" }
            table.comparison {
                thead {
                    tr { th {} @for column in &columns { th scope="col" title=(column.meaning) { (column.title) } } }
                }
                tbody {
                    @for (index, row) in rows.iter().enumerate() {
                        tr {
                            th scope="row" { (row.name) }
                            @for column in &columns {
                                td data-title=(column.title) {
                                    (cell(column, index).unwrap_or_else(|| MISSING.to_owned()))
                                }
                            }
                        }
                    }
                }
            }
            p.small {
                @for (index, column) in columns.iter().enumerate() {
                    @if index > 0 { "; " }
                    b { (column.title) } ": " (column.meaning)
                }
                ". ± is the sample standard deviation over seeds."
            }
        }
    }
}
