//! A picture of the graph.

use std::fmt::Write;

use super::picture::{BOX, Picture};
use crate::{Graph, Node, NodeId, Op};

/// Mean width of a letter at the size of the text, and space beside the text.
const LETTER: f64 = 6.4;
const PADDING: f64 = 18.0;

const HEAD: &str = "<style>text{font:11px sans-serif;text-anchor:middle;fill:#222}\
.name{font-weight:bold}.edge{fill:none;stroke:#888;stroke-width:1.2}\
.box{stroke:#666;stroke-width:1}.result{stroke-width:2.5}</style>\
<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
<path d=\"M0 0 8 4 0 8z\" fill=\"#888\"/></marker></defs>";

impl Graph {
    /// A picture in SVG, top to bottom: a box for every node that computes or is given, with its name, its operation and the shape of its result.
    /// Colours tell layers, normalisations, non-linearities and combinations apart; results have thick borders.
    pub fn to_svg(&self) -> String {
        let lines = |id: NodeId| match self.node(id) {
            Ok(node) => [node.name().to_owned(), format!("{}  {}", self.describe(node), node.output())],
            Err(_) => [String::new(), String::new()],
        };
        let picture = Picture::new(self, |id| {
            let longest = lines(id).iter().map(|line| line.chars().count()).max().unwrap_or(0);
            longest as f64 * LETTER + PADDING
        });
        let [width, height] = picture.size.map(f64::ceil);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>{HEAD}\n"
        );
        // Writing to a string cannot fail.
        for points in &picture.edges {
            let _ = writeln!(svg, "<path class=\"edge\" marker-end=\"url(#tip)\" d=\"{}\"/>", path(points));
        }
        for &(id, [x, y], width) in &picture.boxes {
            let Ok(node) = self.node(id) else { continue };
            let [name, what] = lines(id).map(|line| escaped(&line));
            let result = if self.outputs().contains(&id) { " result" } else { "" };
            let left = x - width / 2.0;
            let _ = writeln!(
                svg,
                "<rect class=\"box{result}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BOX}\" rx=\"6\" fill=\"{}\"/>\
                 <text class=\"name\" x=\"{x:.1}\" y=\"{:.1}\">{name}</text><text x=\"{x:.1}\" y=\"{:.1}\">{what}</text>",
                colour(node),
                y + 15.0,
                y + 29.0
            );
        }
        svg + "</svg>\n"
    }
}

/// Straight through the boxes' layers, curved between them.
fn path(points: &[[f64; 2]]) -> String {
    let mut path = String::new();
    let mut previous: Option<[f64; 2]> = None;
    for (place, &[x, y]) in points.iter().enumerate() {
        let _ = match previous {
            None => write!(path, "M{x:.1} {y:.1}"),
            Some([from, above]) if place % 2 == 1 && (from - x).abs() > 0.05 => {
                let middle = f64::midpoint(above, y);
                write!(path, "C{from:.1} {middle:.1} {x:.1} {middle:.1} {x:.1} {y:.1}")
            }
            Some(_) => write!(path, "L{x:.1} {y:.1}"),
        };
        previous = Some([x, y]);
    }
    path
}

fn colour(node: &Node) -> &'static str {
    match node.op() {
        Op::Input | Op::Parameter { .. } | Op::Constant | Op::Full { .. } => "#e8e8e8",
        Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Linear
        | Op::Matmul
        | Op::Embedding
        | Op::Attention(_)
        | Op::LayeredAttention(_) => "#cfe2f7",
        Op::BatchNorm(_)
        | Op::LayerNorm { .. }
        | Op::GroupNorm { .. }
        | Op::InstanceNorm { .. }
        | Op::RmsNorm { .. } => "#d8f0d3",
        Op::Activation(_) | Op::Softmax { .. } | Op::LogSoftmax { .. } => "#fde3c4",
        Op::Binary(_) | Op::Cat { .. } | Op::Where => "#e6d9f5",
        _ => "#fafafa",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
