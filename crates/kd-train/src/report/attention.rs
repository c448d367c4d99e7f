//! Sample images and what networks look at in them, drawn as SVG.

use std::collections::BTreeMap;
use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::{AttentionSample, GrayMap, Map, ReportError};

/// Larger images are averaged down to this many pixels a side, to keep the page small.
const LARGEST: usize = 48;

/// Dark to bright, for maps.
const RAMP: [[f32; 3]; 5] =
    [[0., 0., 10.], [85., 15., 110.], [190., 55., 85.], [250., 140., 10.], [252., 255., 165.]];

pub(super) fn section(samples: &[AttentionSample]) -> Result<Markup, ReportError> {
    if samples.is_empty() {
        return Ok(html! {});
    }
    let samples = samples.iter().map(sample).collect::<Result<Vec<_>, _>>()?;
    Ok(html! {
        section {
            h2 { "Attention" }
            @for sample in &samples { (sample) }
            p.small { "Each map is scaled to its own smallest and largest value." }
        }
    })
}

fn sample(sample: &AttentionSample) -> Result<Markup, ReportError> {
    let mut pictures = vec![(sample.label.as_str(), image(&sample.label, &sample.image)?)];
    for (name, map) in &sample.maps {
        pictures.push((name, gray_map(name, map)?));
    }
    Ok(html! {
        div.maps {
            @for (name, picture) in &pictures {
                figure { (picture) figcaption { (name) } }
            }
        }
    })
}

/// Colours of a picture, row by row.
struct Picture {
    height: usize,
    width: usize,
    pixels: Vec<[f32; 3]>,
}

fn image(name: &str, map: &Map) -> Result<Markup, ReportError> {
    let Map { height, width, channels, pixels } = map;
    check(name, [*height, *width, *channels], pixels.len())?;
    let colour = |pixel: &[u8]| match *pixel {
        [r, g, b] => [r, g, b].map(f32::from),
        _ => [pixel.first().copied().map_or(0.0, f32::from); 3],
    };
    let pixels = pixels.chunks_exact(*channels).map(colour).collect();
    Ok(Picture { height: *height, width: *width, pixels }.draw(name))
}

fn gray_map(name: &str, map: &GrayMap) -> Result<Markup, ReportError> {
    let GrayMap { height, width, values } = map;
    check(name, [*height, *width, 1], values.len())?;
    if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
        return Err(ReportError::NotFinite { name: name.to_owned(), value });
    }
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let share = |value: f32| if high > low { (value - low) / (high - low) } else { 0.0 };
    let pixels = values.iter().map(|&value| ramp(share(value))).collect();
    Ok(Picture { height: *height, width: *width, pixels }.draw(name))
}

fn check(name: &str, [height, width, channels]: [usize; 3], values: usize) -> Result<(), ReportError> {
    let size = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels));
    if size == Some(values) && values > 0 && matches!(channels, 1 | 3) {
        return Ok(());
    }
    Err(ReportError::Size { name: name.to_owned(), height, width, channels, values })
}

/// The colour for a share between 0 and 1.
fn ramp(share: f32) -> [f32; 3] {
    let place = share * (RAMP.len() - 1) as f32;
    let below = (place as usize).min(RAMP.len() - 2);
    let part = place - below as f32;
    std::array::from_fn(|c| RAMP[below][c] * (1.0 - part) + RAMP[below + 1][c] * part)
}

impl Picture {
    /// One path per colour: pictures have few, and many pixels of each.
    fn draw(&self, name: &str) -> Markup {
        let block = self.height.max(self.width).div_ceil(LARGEST);
        let (height, width) = (self.height.div_ceil(block), self.width.div_ceil(block));
        let mut paths: BTreeMap<[u8; 3], String> = BTreeMap::new();
        for y in 0..height {
            for x in 0..width {
                let path = paths.entry(self.colour(y * block, x * block, block)).or_default();
                // Writing to a string cannot fail.
                let _ = write!(path, "M{x} {y}h1v1h-1z");
            }
        }
        let view = format!("0 0 {width} {height}");
        let paths = paths.iter().fold(String::new(), |mut svg, ([r, g, b], path)| {
            let _ = write!(svg, "<path fill=\"#{r:02x}{g:02x}{b:02x}\" d=\"{path}\"/>");
            svg
        });
        html! {
            svg viewBox=(view) role="img" aria-label=(name) shape-rendering="crispEdges" { (PreEscaped(paths)) }
        }
    }

    /// Mean of the block that begins here.
    fn colour(&self, top: usize, left: usize, block: usize) -> [u8; 3] {
        let rows = top..(top + block).min(self.height);
        let columns = left..(left + block).min(self.width);
        let inside = rows.flat_map(|y| columns.clone().map(move |x| y * self.width + x));
        let pixels: Vec<_> = inside.filter_map(|index| self.pixels.get(index)).collect();
        let mean = |c: usize| pixels.iter().map(|pixel| pixel[c]).sum::<f32>() / pixels.len() as f32;
        std::array::from_fn(|c| mean(c).round() as u8)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn grey_and_coloured_pixels_keep_their_colour_and_place() {
        let grey = Map { height: 1, width: 2, channels: 1, pixels: vec![0, 255] };
        let svg = image("grey", &grey).unwrap().into_string();
        assert!(
            svg.contains("viewBox=\"0 0 2 1\"") && svg.contains("fill=\"#ffffff\" d=\"M1 0h1v1h-1z\""),
            "{svg}"
        );
        let red = Map { height: 1, width: 1, channels: 3, pixels: vec![255, 16, 0] };
        assert!(image("red", &red).unwrap().into_string().contains("#ff1000"));
    }

    #[test]
    fn a_map_runs_from_the_dark_to_the_bright_end() {
        let map = GrayMap { height: 1, width: 3, values: vec![-2.0, 0.0, 2.0] };
        let svg = gray_map("map", &map).unwrap().into_string();
        assert!(svg.contains("#00000a") && svg.contains("#be3755") && svg.contains("#fcffa5"), "{svg}");
        let flat = GrayMap { height: 1, width: 1, values: vec![7.0] };
        assert!(gray_map("flat", &flat).unwrap().into_string().contains("#00000a"));
    }

    #[test]
    fn a_large_image_is_averaged_down() {
        let pixels = (0..100 * 60).map(|i| if i % 2 == 0 { 0 } else { 200 }).collect();
        let svg = image("large", &Map { height: 60, width: 100, channels: 1, pixels }).unwrap().into_string();
        assert!(svg.contains("viewBox=\"0 0 34 20\"") && svg.len() < 20_000, "{}", svg.len());
    }

    #[test]
    fn a_size_that_does_not_fit_or_a_number_that_is_none_is_an_error_that_names_the_map() {
        let map = GrayMap { height: 2, width: 2, values: vec![0.0; 3] };
        assert!(
            gray_map("stage 1", &map).unwrap_err().to_string().starts_with("`stage 1` of 2 x 2 x 1 has 3")
        );
        let map = GrayMap { height: 1, width: 1, values: vec![f32::NAN] };
        assert!(matches!(gray_map("stage 1", &map), Err(ReportError::NotFinite { .. })));
        let two = Map { height: 1, width: 1, channels: 2, pixels: vec![0, 0] };
        assert!(matches!(image("two", &two), Err(ReportError::Size { channels: 2, .. })));
        assert!(image("empty", &Map::default()).is_err());
        let huge = Map { height: usize::MAX, width: 2, channels: 1, pixels: vec![] };
        assert!(image("huge", &huge).is_err());
    }
}
