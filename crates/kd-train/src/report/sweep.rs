//! What a number becomes as something else is varied: accuracy by sparsity for every layer, say.

use maud::{Markup, html};

use super::chart::{Axis, Series, Unit, chart};
use super::curves::legend;
use super::{ReportError, Sweep, numbers};

/// A section for every sweep: a chart, and its numbers below.
pub(super) fn sections(sweeps: &[Sweep]) -> Result<Markup, ReportError> {
    let sections = sweeps.iter().map(section).collect::<Result<Vec<_>, _>>()?;
    Ok(html! { @for section in &sections { (section) } })
}

fn section(sweep: &Sweep) -> Result<Markup, ReportError> {
    let unit = |percent| if percent { Unit::Percent } else { Unit::Number };
    let axis = Axis::Numbers(&sweep.axis, unit(sweep.axis_is_share));
    let lines = sweep.lines.iter().enumerate();
    let series: Vec<_> = lines.map(|(place, (_, points))| Series { place, points: points.clone() }).collect();
    let drawn = chart(&sweep.title, axis, unit(sweep.value_is_share), &series)?;
    let names: Vec<_> = sweep.lines.iter().map(|(name, _)| name.as_str()).collect();
    let mut places: Vec<f64> =
        sweep.lines.iter().flat_map(|(_, points)| points.iter().map(|(place, _)| *place)).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let value = |points: &[(f64, f64)], place: f64| {
        let found = points.iter().find(|(at, _)| *at == place)?.1;
        written(found, sweep.value_is_share)
    };
    Ok(html! {
        section {
            h2 { (sweep.title) }
            (legend(&names))
            div.charts { (drawn.unwrap_or_default()) }
            table.comparison {
                thead {
                    tr {
                        th { (sweep.axis) }
                        @for place in &places { th scope="col" { (written(*place, sweep.axis_is_share).unwrap_or_default()) } }
                    }
                }
                tbody {
                    @for (name, points) in &sweep.lines {
                        tr {
                            th scope="row" { (name) }
                            @for place in &places { td { (value(points, *place).unwrap_or_default()) } }
                        }
                    }
                }
            }
            @if !sweep.note.is_empty() { p.small { (sweep.note) } }
        }
    })
}

fn written(value: f64, share: bool) -> Option<String> {
    if share { numbers::percent(&[value]) } else { Some(numbers::significant(value)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sweep_is_a_chart_and_a_table_of_its_numbers() {
        let line =
            |name: &str, values: [f64; 2]| (name.to_owned(), vec![(0.25, values[0]), (0.5, values[1])]);
        let sweep = Sweep {
            title: "Sensitivity".into(),
            axis: "sparsity".into(),
            axis_is_share: true,
            value_is_share: true,
            lines: vec![line("conv1 <weight>", [0.987, 0.5]), line("fc", [0.99, 0.985])],
            note: "One layer at a time.".into(),
        };
        let page = sections(&[sweep]).unwrap().into_string();
        for text in ["<svg", "25.00 %", "98.70 %", "98.50 %", "conv1 &lt;weight&gt;", "One layer at a time."]
        {
            assert!(page.contains(text), "{text} is missing: {page}");
        }
        assert_eq!(sections(&[]).unwrap().into_string(), "");
    }
}
