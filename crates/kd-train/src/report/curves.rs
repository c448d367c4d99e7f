//! Learning curves: validation, loss, and the loss by term.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::chart::{Series, Unit, lines, swatch};
use super::{Curve, ReportError};
use crate::log::EpochRecord;

/// The section; empty without curves.
pub(super) fn section(curves: &[Curve]) -> Result<Markup, ReportError> {
    let metric = validation_metric(curves);
    let validation = match &metric {
        Some(name) => {
            let unit = if name == "accuracy" { Unit::Percent } else { Unit::Number };
            lines(&format!("Validation {name}"), unit, &per_run(curves, |r| r.validation.get(name).copied()))?
        }
        None => None,
    };
    let loss = lines("Training loss", Unit::Number, &per_run(curves, |record| Some(record.loss)))?;
    if validation.is_none() && loss.is_none() {
        return Ok(html! {});
    }
    let names: Vec<_> = curves.iter().map(|curve| curve.name.as_str()).collect();
    let terms = by_term(curves)?;
    Ok(html! {
        section {
            h2 { "Learning curves" }
            (legend(&names))
            div.charts { (validation.unwrap_or_default()) (loss.unwrap_or_default()) }
            p.small { "Runs with different objectives have losses that cannot be compared." }
        }
        (terms)
    })
}

/// A chart for every run with several terms: what each adds to the loss.
fn by_term(curves: &[Curve]) -> Result<Markup, ReportError> {
    let terms = |curve: &Curve| {
        curve.records.iter().flat_map(|record| record.terms.keys().cloned()).collect::<BTreeSet<_>>()
    };
    let several: Vec<_> = curves.iter().filter(|curve| terms(curve).len() > 1).collect();
    let names: BTreeSet<_> = several.iter().flat_map(|curve| terms(curve)).collect();
    let mut charts = Vec::new();
    for curve in several {
        let series: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(place, name)| Series { place, points: points(curve, |record| weighted(record, name)) })
            .collect();
        charts.extend(lines(&curve.name, Unit::Number, &series)?);
    }
    if charts.is_empty() {
        return Ok(html! {});
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    Ok(html! {
        section {
            h2 { "Loss by term" }
            (legend(&names))
            div.charts { @for chart in &charts { (chart) } }
            p.small { "Every term times its weight, for the runs that have more than one." }
        }
    })
}

fn weighted(record: &EpochRecord, term: &str) -> Option<f64> {
    Some(record.terms.get(term)? * record.weights.get(term)?)
}

fn per_run(curves: &[Curve], value: impl Fn(&EpochRecord) -> Option<f64>) -> Vec<Series> {
    let series = |(place, curve)| Series { place, points: points(curve, &value) };
    curves.iter().enumerate().map(series).collect()
}

fn points(curve: &Curve, value: impl Fn(&EpochRecord) -> Option<f64>) -> Vec<(f64, f64)> {
    curve.records.iter().filter_map(|record| Some(((record.epoch + 1) as f64, value(record)?))).collect()
}

/// Accuracy if any run measured it, else the first metric there is.
fn validation_metric(curves: &[Curve]) -> Option<String> {
    let records = || curves.iter().flat_map(|curve| &curve.records);
    let accuracy = records().any(|record| record.validation.contains_key("accuracy"));
    let first = || records().find_map(|record| record.validation.keys().next().cloned());
    if accuracy { Some("accuracy".to_owned()) } else { first() }
}

pub(super) fn legend(names: &[&str]) -> Markup {
    html! {
        ul.legend {
            @for (place, name) in names.iter().enumerate() {
                li { i style=(swatch(place)) {} (name) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(epoch: usize, terms: &[(&str, f64)], validation: &[(&str, f64)]) -> EpochRecord {
        let map = |pairs: &[(&str, f64)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let weights = terms.iter().map(|(name, _)| ((*name).to_owned(), 0.5)).collect();
        EpochRecord { epoch, terms: map(terms), weights, validation: map(validation), ..Default::default() }
    }

    #[test]
    fn accuracy_is_shown_before_other_metrics() {
        let records = vec![record(0, &[], &[("a", 1.0)]), record(1, &[], &[("a", 1.0), ("accuracy", 0.5)])];
        let curves = [Curve { name: "run".into(), records }];
        assert_eq!(validation_metric(&curves).as_deref(), Some("accuracy"));
        let other = [Curve { name: "run".into(), records: vec![record(0, &[], &[("mae", 1.0)])] }];
        assert_eq!(validation_metric(&other).as_deref(), Some("mae"));
    }

    #[test]
    fn terms_are_shown_with_their_weight_and_only_where_there_are_several() {
        let single = Curve { name: "single".into(), records: vec![record(0, &[("hard", 2.0)], &[])] };
        let double = vec![record(0, &[("hard", 2.0), ("soft", 4.0)], &[])];
        let double = Curve { name: "double".into(), records: double };
        assert_eq!(weighted(&double.records[0], "soft"), Some(2.0));
        assert_eq!(by_term(std::slice::from_ref(&single)).unwrap().into_string(), "");
        let page = by_term(&[single, double]).unwrap().into_string();
        assert!(page.contains("double") && page.contains("soft") && !page.contains("single"));
    }

    #[test]
    fn no_curves_make_no_section() {
        assert_eq!(section(&[]).unwrap().into_string(), "");
    }
}
