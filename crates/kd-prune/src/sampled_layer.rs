//! A layer that alone reads a set of channels, and samples of what it reads and makes of it.

use kd_graph::{Conv, Graph, NodeId, Op, Position, Side};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::subject::{readers, value};
use crate::{Array, PruneError};

/// Sampled inputs and responses, in rows.
#[derive(Default)]
pub(crate) struct Samples {
    pub columns: usize,
    pub inputs: Vec<f64>,
    pub responses: Vec<f64>,
}

impl Samples {
    pub fn rows(&self) -> usize {
        self.inputs.len() / self.columns.max(1)
    }

    pub fn row(&self, row: usize) -> Option<&[f64]> {
        self.inputs.get(row * self.columns..(row + 1) * self.columns)
    }

    /// Sum of squares of the responses around the mean of their output.
    pub fn variance(&self, outputs: usize) -> f64 {
        let of = |output: usize| {
            let responses = || self.responses.iter().skip(output).step_by(outputs);
            let mean = responses().sum::<f64>() / self.rows().max(1) as f64;
            responses().map(|response| (response - mean).powi(2)).sum::<f64>()
        };
        (0..outputs).map(of).sum::<f64>().max(f64::MIN_POSITIVE)
    }
}

/// A layer that alone reads a group of channels.
pub(crate) struct Layer {
    pub name: String,
    pub id: NodeId,
    pub source: NodeId,
    pub weight: NodeId,
    bias: Option<NodeId>,
    /// None for a linear layer.
    conv: Option<Conv>,
    /// Size of the kernel's axes; none for a linear layer.
    kernel: Vec<usize>,
    inputs: usize,
    pub outputs: usize,
    /// The positions of the group, and for each the features of a row that belong to it.
    pub positions: Vec<Position>,
    pub channels: Vec<Vec<usize>>,
}

impl Layer {
    /// None if the channels can't be pruned, or others read them as well.
    pub fn of(graph: &Graph, name: &str) -> Result<Option<Self>, PruneError> {
        let id = graph.find(name)?;
        let node = graph.node(id)?;
        let [source, weight, ref rest @ ..] = *node.inputs() else { return Ok(None) };
        let (conv, axis) = match node.op() {
            Op::Linear => (None, 0),
            Op::Conv(conv) if conv.groups == 1 && conv.axes() == 2 => (Some(conv.clone()), 1),
            _ => return Ok(None),
        };
        let shape = graph.node(weight)?.output().shape.at(1);
        let rank = graph.node(source)?.output().shape.rank();
        if graph.value(weight).is_none() || (conv.is_none() && rank != 2) {
            return Ok(None);
        }
        let dependencies = graph.dependencies();
        let groups = dependencies.groups_of(graph.node(weight)?.name(), axis)?;
        let [group] = groups.as_slice() else { return Ok(None) };
        let reads =
            |node: NodeId| readers(graph, node).iter().any(|(op, _)| matches!(op, Op::Linear | Op::Conv(_)));
        let others =
            group.members.iter().filter(|m| m.side == Side::Input && m.node != weight && reads(m.node));
        let free = group.fixed.iter().all(Option::is_none) && group.len() > 1 && group.crosses.is_empty();
        let Some(member) = group.member(weight, axis).filter(|_| free && others.count() == 0) else {
            return Ok(None);
        };
        let kernel: Vec<usize> =
            if conv.is_some() { shape.iter().skip(2).copied().collect() } else { Vec::new() };
        let elements: usize = kernel.iter().product();
        let features = |indices: &Vec<usize>| {
            indices.iter().flat_map(|index| index * elements..(index + 1) * elements).collect()
        };
        let (inputs, outputs) = match conv {
            Some(_) => (shape.get(1), shape.first()),
            None => (shape.first(), shape.get(1)),
        };
        Ok(Some(Self {
            name: name.to_owned(),
            id,
            source,
            weight,
            bias: rest.first().copied(),
            conv,
            inputs: inputs.copied().unwrap_or(0),
            outputs: outputs.copied().unwrap_or(0),
            positions: (0..group.len()).map(|index| group.position(index)).collect(),
            channels: member.indices.iter().map(features).collect(),
            kernel,
        }))
    }

    /// Numbers that a response is a sum over.
    pub fn features(&self) -> usize {
        self.inputs * self.kernel.iter().product::<usize>()
    }

    /// For every output, the weights in the order of the features.
    pub fn rows(&self, graph: &Graph) -> Result<Vec<Vec<f64>>, PruneError> {
        let weight = value(graph, graph.node(self.weight)?.name())?;
        let mut rows = vec![Vec::with_capacity(self.features()); self.outputs];
        let outputs = weight.along(usize::from(self.conv.is_none())).into_iter().flatten();
        for (output, w) in outputs.zip(weight.values()) {
            if let Some(row) = rows.get_mut(output) {
                row.push(f64::from(*w));
            }
        }
        Ok(rows)
    }

    /// The reverse of [`rows`](Self::rows), in the shape that the weight has in a graph.
    pub fn weight_of(&self, rows: &[f64], columns: usize, graph: &Graph) -> Result<Array, PruneError> {
        let shape = graph.node(self.weight)?.output().shape.at(1);
        let numbers: Vec<f32> = match self.conv {
            Some(_) => rows.iter().map(|w| *w as f32).collect(),
            None => (0..rows.len())
                .filter_map(|flat| rows.get(flat % self.outputs * columns + flat / self.outputs))
                .map(|w| *w as f32)
                .collect(),
        };
        Array::new(shape, numbers)
    }

    pub fn bias(&self, graph: &Graph) -> Result<Vec<f64>, PruneError> {
        let Some(bias) = self.bias else { return Ok(vec![0.0; self.outputs]) };
        let bias = value(graph, graph.node(bias)?.name())?;
        Ok(bias.values().iter().map(|b| f64::from(*b)).collect())
    }

    /// Adds rows for a batch.
    pub fn sample(&self, x: &Array, y: &Array, positions: usize, rng: &mut ChaCha8Rng, into: &mut Samples) {
        let images = x.shape().first().copied().unwrap_or(0);
        let (Some(conv), &[_, _, rows, columns], &[_, _, height, width]) = (&self.conv, y.shape(), x.shape())
        else {
            into.inputs.extend(x.values().iter().map(|x| f64::from(*x)));
            into.responses.extend(y.values().iter().map(|y| f64::from(*y)));
            return;
        };
        let (&[down, right], &[kernel_rows, kernel_columns]) =
            (conv.stride.as_slice(), self.kernel.as_slice())
        else {
            return;
        };
        let at = |values: &Array, index: usize| values.values().get(index).copied().map_or(0.0, f64::from);
        let padding = |axis: usize| conv.padding.get(axis).map_or(0, |(before, _)| *before);
        let dilation = |axis: usize| conv.dilation.get(axis).copied().unwrap_or(1);
        for image in 0..images {
            for _ in 0..positions {
                let (row, column) = (rng.random_range(0..rows), rng.random_range(0..columns));
                for channel in 0..self.inputs {
                    for i in 0..kernel_rows {
                        for j in 0..kernel_columns {
                            let top = (row * down + i * dilation(0)).checked_sub(padding(0));
                            let left = (column * right + j * dilation(1)).checked_sub(padding(1));
                            into.inputs.push(match (top, left) {
                                (Some(top), Some(left)) if top < height && left < width => {
                                    at(x, ((image * self.inputs + channel) * height + top) * width + left)
                                }
                                _ => 0.0,
                            });
                        }
                    }
                }
                let response =
                    |output| at(y, ((image * self.outputs + output) * rows + row) * columns + column);
                into.responses.extend((0..self.outputs).map(response));
            }
        }
    }
}
