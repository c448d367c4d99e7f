//! The confusion matrix as a heat table.

use maud::{Markup, html};

use super::{ConfusionMatrix, ReportError, numbers};

/// More classes than this do not fit on a page: then the commonest confusions are listed instead.
const LARGEST: usize = 20;

pub(super) fn section(matrix: &ConfusionMatrix) -> Result<Markup, ReportError> {
    check(matrix)?;
    let content = if matrix.classes.len() > LARGEST { commonest(matrix) } else { heat(matrix) };
    Ok(html! { section { h2 { "Confusion" } (content) } })
}

fn check(matrix: &ConfusionMatrix) -> Result<(), ReportError> {
    let classes = matrix.classes.len();
    let wrong = matrix.counts.iter().find(|row| row.len() != classes);
    let found = match wrong {
        Some(row) => format!("a row of {}", row.len()),
        None if matrix.counts.len() != classes => format!("{} rows", matrix.counts.len()),
        None => return Ok(()),
    };
    Err(ReportError::Confusion { classes, found })
}

fn heat(matrix: &ConfusionMatrix) -> Markup {
    let upright = matrix.classes.iter().all(|name| name.chars().count() <= 3);
    html! {
        div.wide {
            table.heat {
                thead {
                    tr {
                        th {}
                        @for name in &matrix.classes { th scope="col" .vertical[!upright] { span { (name) } } }
                        th scope="col" .vertical[!upright] { span { "right" } }
                    }
                }
                tbody {
                    @for (label, (name, row)) in matrix.classes.iter().zip(&matrix.counts).enumerate() {
                        tr {
                            th scope="row" { (name) }
                            @for (prediction, count) in row.iter().enumerate() {
                                td style=[shade(*count, row.iter().sum(), label == prediction)] {
                                    @if *count > 0 { (count) }
                                }
                            }
                            td.right { (recognised(label, row)) }
                        }
                    }
                }
            }
        }
        p.small { "Rows are labels, columns are predictions; the last column is the share of the row that is right." }
    }
}

/// The share of a class that is recognised, or a dash for a class without samples.
fn recognised(label: usize, row: &[u64]) -> String {
    let total: u64 = row.iter().sum();
    let right = row.get(label).copied().unwrap_or(0);
    if total == 0 {
        super::table::MISSING.to_owned()
    } else {
        format!("{:.1} %", 100.0 * right as f64 / total as f64)
    }
}

/// Errors are rare, so that their colour grows with the square root of their share.
fn shade(count: u64, total: u64, right: bool) -> Option<String> {
    let share = count as f64 / total.max(1) as f64;
    let opacity = if right { 0.45 * share } else { (0.15 + share.sqrt()).min(0.7) };
    let colour = if right { "0,158,115" } else { "213,94,0" };
    (count > 0).then(|| format!("background:rgba({colour},{opacity:.2})"))
}

fn commonest(matrix: &ConfusionMatrix) -> Markup {
    let names = &matrix.classes;
    let mut pairs: Vec<_> = names
        .iter()
        .zip(&matrix.counts)
        .enumerate()
        .flat_map(|(label, (name, row))| {
            let wrong = names.iter().zip(row).enumerate().filter(move |(prediction, _)| *prediction != label);
            wrong.map(move |(_, (prediction, count))| (*count, name, prediction))
        })
        .filter(|(count, ..)| *count > 0)
        .collect();
    pairs.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
    html! {
        ol.confusions {
            @for (count, label, prediction) in pairs.iter().take(LARGEST) {
                li { b { (label) } " taken for " b { (prediction) } ": " (numbers::thousands(*count)) }
            }
        }
        p.small { "The commonest of all confusions among " (names.len()) " classes." }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_count_has_a_cell_and_empty_ones_are_blank() {
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let page = section(&ConfusionMatrix { classes, counts: vec![vec![9, 1], vec![0, 0]] })
            .unwrap()
            .into_string();
        assert_eq!(page.matches("<td").count(), 6);
        assert!(
            page.contains(">9<") && page.contains(">1<") && page.contains("90.0 %") && page.contains(">–<")
        );
        assert!(!page.contains(">0<"));
    }

    #[test]
    fn a_matrix_that_is_not_square_is_an_error_that_says_how() {
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let error =
            |counts| section(&ConfusionMatrix { classes: classes.clone(), counts }).unwrap_err().to_string();
        assert!(error(vec![vec![1, 2]]).contains("has 1 rows"));
        assert!(error(vec![vec![1, 2], vec![3]]).contains("has a row of 1"));
    }

    #[test]
    fn many_classes_are_listed_by_their_commonest_confusions() {
        let classes: Vec<_> = (0..30).map(|class| format!("class {class}")).collect();
        let mut counts = vec![vec![0; 30]; 30];
        counts[3][3] = 1000;
        counts[3][7] = 5;
        counts[8][2] = 12;
        let page = section(&ConfusionMatrix { classes, counts }).unwrap().into_string();
        assert_eq!(page.matches("<li>").count(), 2);
        let (first, second) = (page.find("class 8").unwrap(), page.find("class 3").unwrap());
        assert!(first < second && page.contains("taken for <b>class 7</b>: 5"));
    }
}
