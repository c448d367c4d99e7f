//! Line charts as inline SVG.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ReportError;

/// Size of the drawing; the page scales it to its column.
const SIZE: (u32, u32) = (480, 280);

/// Colours that can be told apart in light and dark, also by the colour-blind (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 131, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 95, 150),
    RGBColor(86, 180, 233),
    RGBColor(213, 70, 0),
    RGBColor(140, 120, 90),
];

/// One line of a chart.
pub(super) struct Series {
    /// Its place in the legend, which gives it its colour.
    pub(super) place: usize,
    /// Place along the axis and value; numbers that are not finite leave a gap.
    pub(super) points: Vec<(f64, f64)>,
}

/// What runs along the bottom.
#[derive(Clone, Copy)]
pub(super) enum Axis<'a> {
    /// Whole epochs, from 1.
    Epochs,
    /// Any numbers, in a unit.
    Numbers(&'a str, Unit),
}

/// What is measured up the side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Plain numbers.
    Number,
    /// Shares of one.
    Percent,
}

/// What a legend shows for the line in this place: a colour, dashed when all colours have been used.
pub(super) fn swatch(place: usize) -> String {
    let RGBColor(r, g, b) = colour(place);
    let style = if dashed(place) { "dashed" } else { "solid" };
    format!("border-top: 3px {style} rgb({r},{g},{b})")
}

fn colour(place: usize) -> RGBColor {
    COLOURS.get(place % COLOURS.len()).copied().unwrap_or(BLUE)
}

fn dashed(place: usize) -> bool {
    (place / COLOURS.len()) % 2 == 1
}

/// A chart over epochs; none when there is nothing to draw.
pub(super) fn lines(caption: &str, unit: Unit, series: &[Series]) -> Result<Option<Markup>, ReportError> {
    chart(caption, Axis::Epochs, unit, series)
}

/// A chart over anything; none when there is nothing to draw.
pub(super) fn chart(
    caption: &str,
    axis: Axis<'_>,
    unit: Unit,
    series: &[Series],
) -> Result<Option<Markup>, ReportError> {
    let points = || series.iter().flat_map(|line| &line.points).filter(|(_, value)| value.is_finite());
    let Some((first, last)) = span(points().map(|(place, _)| *place)) else { return Ok(None) };
    let Some((low, high)) = span(points().map(|(_, value)| *value)) else { return Ok(None) };
    let margin = if high > low { 0.05 * (high - low) } else { 0.05 * high.abs().max(0.01) };
    let ceiling = if unit == Unit::Percent { (high + margin).min(high.max(1.0)) } else { high + margin };
    let values = low - margin..ceiling;
    let mut text = String::new();
    let failed = |message| ReportError::Chart { chart: caption.to_owned(), message };
    let drawn = match axis {
        Axis::Epochs => {
            let epochs = first as i64..last.max(first + 1.0) as i64;
            let area = Drawing { label: "epoch", values, unit, series };
            area.draw(&mut text, epochs, |place| place as i64, &ToString::to_string)
        }
        Axis::Numbers(label, across) => {
            let places = if last > first { first..last } else { first..first + first.abs().max(1.0) };
            let area = Drawing { label, values, unit, series };
            area.draw(&mut text, places.clone(), |place| place, &labels(&places, across))
        }
    };
    drawn.map_err(|error| failed(error.to_string()))?;
    // The page's own element scales and needs no name space; black follows the page's ink.
    let inner = text.split_once('>').and_then(|(_, rest)| rest.trim_end().strip_suffix("</svg>"));
    let inner = inner.ok_or_else(|| failed("not an svg element".to_owned()))?;
    let inner = inner.replace("#000000", "currentColor");
    let view = format!("0 0 {} {}", SIZE.0, SIZE.1);
    Ok(Some(html! {
        figure {
            figcaption { (caption) }
            svg viewBox=(view) role="img" aria-label=(caption) { (PreEscaped(inner)) }
        }
    }))
}

/// What is drawn, but for the axis along the bottom.
struct Drawing<'a> {
    label: &'a str,
    values: Range<f64>,
    unit: Unit,
    series: &'a [Series],
}

impl Drawing<'_> {
    fn draw<X>(
        self,
        text: &mut String,
        places: Range<X>,
        place: impl Fn(f64) -> X,
        format_place: &dyn Fn(&X) -> String,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>>
    where
        X: Clone + std::fmt::Debug + 'static,
        Range<X>: AsRangedCoord<Value = X>,
        <Range<X> as AsRangedCoord>::CoordDescType: ValueFormatter<X>,
    {
        let Self { label: description, values, unit, series } = self;
        let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
        let label = ("sans-serif", 18).into_font().color(&BLACK);
        let format = labels(&values, unit);
        let mut chart = ChartBuilder::on(&area)
            .margin_top(10)
            .margin_right(14)
            .x_label_area_size(48)
            .y_label_area_size(66)
            .build_cartesian_2d(places, values)?;
        chart
            .configure_mesh()
            .x_labels(8)
            .y_labels(6)
            .label_style(label.clone())
            .axis_desc_style(label.pos(Pos::new(HPos::Center, VPos::Bottom)))
            .x_desc(description)
            .x_label_formatter(&format_place)
            .y_label_formatter(&format)
            .axis_style(BLACK.mix(0.5))
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for line in series {
            let style = colour(line.place).stroke_width(2);
            for piece in line.points.split(|(_, value)| !value.is_finite()) {
                let points = piece.iter().map(|&(at, value)| (place(at), value));
                match piece {
                    [] => {}
                    [_] => {
                        chart.draw_series(points.map(|point| Circle::new(point, 3, style.filled())))?;
                    }
                    _ if dashed(line.place) => {
                        chart.draw_series(DashedLineSeries::new(points, 6, 4, style))?;
                    }
                    _ => {
                        chart.draw_series(LineSeries::new(points, style))?;
                    }
                }
            }
        }
        area.present()
    }
}

/// Writes the numbers of an axis with as many decimals as tell neighbours apart.
fn labels(values: &Range<f64>, unit: Unit) -> impl Fn(&f64) -> String + use<> {
    let scale = if unit == Unit::Percent { 100.0 } else { 1.0 };
    let step = (values.end - values.start) * scale / 5.0;
    let largest = values.start.abs().max(values.end.abs()) * scale;
    let decimals = (-step.log10()).ceil().clamp(0.0, 6.0) as usize;
    let scientific = !(1e-3..1e5).contains(&largest);
    move |value| {
        let value = value * scale;
        match unit {
            Unit::Percent => format!("{value:.decimals$} %"),
            Unit::Number if scientific => format!("{value:.1e}"),
            Unit::Number => format!("{value:.decimals$}"),
        }
    }
}

/// Smallest and largest.
fn span<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> Option<(T, T)> {
    values.fold(None, |span, value| match span {
        None => Some((value, value)),
        Some((low, high)) => {
            Some((if value < low { value } else { low }, if value > high { value } else { high }))
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn svg(points: &[(u32, f64)]) -> Option<String> {
        let points = points.iter().map(|&(epoch, value)| (f64::from(epoch), value)).collect();
        let series = [Series { place: 0, points }];
        lines("a < b", Unit::Number, &series).unwrap().map(Markup::into_string)
    }

    #[test]
    fn a_chart_is_one_svg_with_an_escaped_name_and_no_address() {
        let svg = svg(&[(1, 0.5), (2, 0.25)]).unwrap();
        assert_eq!((svg.matches("<svg").count(), svg.matches("</svg>").count()), (1, 1));
        assert!(svg.contains("a &lt; b") && !svg.contains("http") && !svg.contains("#000000"));
        assert_eq!(svg.matches("<polyline").count(), svg.matches("<polyline fill=\"none\"").count());
    }

    #[test]
    fn what_is_not_finite_leaves_a_gap_and_nothing_draws_nothing() {
        let lines = |svg: &str| svg.matches("#0072B2").count();
        assert_eq!(lines(&svg(&[(1, 1.0), (2, 2.0), (3, 3.0), (4, 2.0)]).unwrap()), 1);
        assert_eq!(lines(&svg(&[(1, 1.0), (2, 2.0), (3, f64::NAN), (4, 2.0)]).unwrap()), 2);
        assert!(svg(&[(1, f64::INFINITY)]).is_none());
        assert!(svg(&[]).is_none());
    }

    #[test]
    fn one_epoch_and_equal_values_can_be_drawn() {
        assert!(svg(&[(1, 0.0)]).unwrap().contains("<circle"));
        assert!(svg(&[(1, 3.0), (2, 3.0)]).is_some());
    }

    #[test]
    fn an_axis_of_shares_is_labelled_in_percent() {
        let series = [Series { place: 0, points: vec![(0.0, 1.0), (0.9, 0.5)] }];
        let svg = chart("c", Axis::Numbers("sparsity", Unit::Percent), Unit::Number, &series);
        let svg = svg.unwrap().unwrap().into_string();
        assert!(svg.contains("sparsity") && svg.contains("20 %") && !svg.contains("epoch"), "{svg}");
    }

    #[test]
    fn labels_tell_neighbours_apart() {
        assert_eq!(labels(&(0.98..0.99), Unit::Percent)(&0.984), "98.4 %");
        assert_eq!(labels(&(0.0..2.5), Unit::Number)(&0.5), "0.5");
        assert_eq!(labels(&(0.0..2e6), Unit::Number)(&1e6), "1.0e6");
    }

    #[test]
    fn the_eighth_line_is_dashed_in_the_first_colour() {
        assert_eq!(swatch(7), swatch(0).replace("solid", "dashed"));
    }
}
