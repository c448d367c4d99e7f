//! Where boxes and edges go: the layered drawing of Sugiyama, Tagawa and Toda (1981, *Methods for visual understanding of hierarchical system
//! structures*).
//!
//! A node's layer is the length of the longest path to it. An edge that skips layers passes a bend in each. Boxes and bends of a layer are ordered
//! by the mean position of their neighbours, then moved as close to it as their widths allow, by least squares.

use std::collections::HashMap;

use crate::{Graph, NodeId};

/// A place for everything, in pixels.
pub(super) struct Picture {
    /// Middle of the upper edge, and width, of every box.
    pub boxes: Vec<(NodeId, [f64; 2], f64)>,
    /// Points from a box's lower edge to another's upper edge.
    pub edges: Vec<Vec<[f64; 2]>>,
    pub size: [f64; 2],
}

/// Height of a box, and of a layer with the space below it.
pub(super) const BOX: f64 = 36.0;
const LAYER: f64 = 58.0;
/// Space between neighbours, and around everything.
const GAP: f64 = 16.0;
const MARGIN: f64 = 12.0;
/// Enough for the order to settle in the nets there are.
const SWEEPS: usize = 8;

/// A box or a bend.
struct Item {
    node: Option<NodeId>,
    layer: usize,
    width: f64,
    above: Vec<usize>,
    below: Vec<usize>,
    x: f64,
}

struct Layout {
    items: Vec<Item>,
    /// Items of every layer from left to right.
    layers: Vec<Vec<usize>>,
}

impl Picture {
    /// Draws the nodes that are shown; `width` is the width of a node's box.
    pub fn new(graph: &Graph, width: impl Fn(NodeId) -> f64) -> Self {
        let mut layout = Layout { items: Vec::new(), layers: Vec::new() };
        let mut chains = Vec::new();
        let mut item_of: HashMap<NodeId, usize> = HashMap::new();
        for (id, node) in graph.shown() {
            let sources: Vec<_> =
                node.inputs().iter().filter_map(|input| item_of.get(input).copied()).collect();
            let layer =
                sources.iter().filter_map(|&source| layout.items.get(source)).map(|item| item.layer + 1);
            let item = layout.add(Some(id), layer.max().unwrap_or(0), width(id));
            item_of.insert(id, item);
            chains.extend(sources.into_iter().map(|source| layout.connect(source, item)));
        }
        layout.arrange();
        layout.picture(&chains)
    }
}

impl Layout {
    fn add(&mut self, node: Option<NodeId>, layer: usize, width: f64) -> usize {
        let index = self.items.len();
        self.items.push(Item { node, layer, width, above: Vec::new(), below: Vec::new(), x: 0.0 });
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, Vec::new);
        }
        if let Some(items) = self.layers.get_mut(layer) {
            items.push(index);
        }
        index
    }

    /// Joins two items by bends in the layers between them.
    fn connect(&mut self, from: usize, to: usize) -> Vec<usize> {
        let layer = |layout: &Self, item: usize| layout.items.get(item).map_or(0, |item| item.layer);
        let mut chain = vec![from];
        for between in layer(self, from) + 1..layer(self, to) {
            chain.push(self.add(None, between, 0.0));
        }
        chain.push(to);
        for (&upper, &lower) in chain.iter().zip(chain.iter().skip(1)) {
            if let Some(item) = self.items.get_mut(upper) {
                item.below.push(lower);
            }
            if let Some(item) = self.items.get_mut(lower) {
                item.above.push(upper);
            }
        }
        chain
    }

    fn arrange(&mut self) {
        for layer in 0..self.layers.len() {
            self.place(layer, |item| item.x);
        }
        let all = |from: &[usize], items: &[Item]| -> Option<f64> {
            let places: Vec<_> = from.iter().filter_map(|&item| Some(items.get(item)?.x)).collect();
            (!places.is_empty()).then(|| places.iter().sum::<f64>() / places.len() as f64)
        };
        for sweep in 0..SWEEPS {
            let downwards = sweep % 2 == 0;
            let count = self.layers.len();
            for step in 0..count {
                let layer = if downwards { step } else { count - 1 - step };
                let wanted: HashMap<usize, f64> = self
                    .layers
                    .get(layer)
                    .into_iter()
                    .flatten()
                    .filter_map(|&index| {
                        let item = self.items.get(index)?;
                        let side = if downwards { &item.above } else { &item.below };
                        Some((index, all(side, &self.items).unwrap_or(item.x)))
                    })
                    .collect();
                if let Some(items) = self.layers.get_mut(layer) {
                    items.sort_by(|a, b| {
                        wanted.get(a).partial_cmp(&wanted.get(b)).unwrap_or(std::cmp::Ordering::Equal)
                    });
                }
                for (index, x) in wanted {
                    if let Some(item) = self.items.get_mut(index) {
                        item.x = x;
                    }
                }
                self.place(layer, |item| item.x);
            }
        }
    }

    /// Moves the items of a layer as near to their wanted places as their order and widths allow: isotonic regression by pooling adjacent violators.
    fn place(&mut self, layer: usize, wanted: fn(&Item) -> f64) {
        let Some(order) = self.layers.get(layer) else { return };
        let items: Vec<_> = order.iter().filter_map(|&index| self.items.get(index)).collect();
        let mut offsets = Vec::with_capacity(items.len());
        let mut offset = 0.0;
        for (place, item) in items.iter().enumerate() {
            if let Some(left) = place.checked_sub(1).and_then(|left| items.get(left)) {
                offset += f64::midpoint(left.width, item.width) + GAP;
            }
            offsets.push(offset);
        }
        // Sum of wanted places, weight, members: bends weigh more, so that long edges are straight.
        let mut pools: Vec<(f64, f64, usize)> = Vec::new();
        for (item, offset) in items.iter().zip(&offsets) {
            let weight = if item.node.is_some() { 1.0 } else { 4.0 };
            let mut pool = ((wanted(item) - offset) * weight, weight, 1);
            while let Some(last) = pools.pop_if(|last| last.0 / last.1 >= pool.0 / pool.1) {
                pool = (last.0 + pool.0, last.1 + pool.1, last.2 + pool.2);
            }
            pools.push(pool);
        }
        let places: Vec<f64> = pools
            .iter()
            .flat_map(|&(sum, weight, members)| std::iter::repeat_n(sum / weight, members))
            .collect();
        for ((&index, place), offset) in order.iter().zip(places).zip(offsets) {
            if let Some(item) = self.items.get_mut(index) {
                item.x = place + offset;
            }
        }
    }

    fn picture(&self, chains: &[Vec<usize>]) -> Picture {
        let left = self.items.iter().map(|item| item.x - item.width / 2.0).fold(f64::INFINITY, f64::min);
        let right = self.items.iter().map(|item| item.x + item.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
        let at = |item: &Item| [item.x - left + MARGIN, item.layer as f64 * LAYER + MARGIN];
        let boxes = self.items.iter().filter_map(|item| Some((item.node?, at(item), item.width))).collect();
        let edges = chains
            .iter()
            .map(|chain| {
                let points = chain.iter().filter_map(|&index| self.items.get(index)).map(at);
                let mut points: Vec<_> = points.collect();
                let last = points.len().saturating_sub(1);
                let mut path = Vec::with_capacity(2 * points.len());
                for (place, [x, y]) in points.drain(..).enumerate() {
                    // An edge enters every layer at the top and leaves it at the bottom.
                    if place > 0 {
                        path.push([x, y]);
                    }
                    if place < last {
                        path.push([x, y + BOX]);
                    }
                }
                path
            })
            .collect();
        let height = self.layers.len() as f64 * LAYER - (LAYER - BOX) + 2.0 * MARGIN;
        let width = if self.items.is_empty() { 0.0 } else { right - left } + 2.0 * MARGIN;
        Picture { boxes, edges, size: [width, height.max(2.0 * MARGIN)] }
    }
}
