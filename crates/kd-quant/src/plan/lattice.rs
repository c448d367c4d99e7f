//! The codes behind a quantiser's values.

use burn::tensor::{Device, Tensor, TensorData};
use kd_graph::{Binary, Graph, NodeId, Op, Value};

use super::apply::host;
use super::compute::{tensor, vector};
use super::{Quantizer, Site};
use crate::binary::SibnnActivation;
use crate::data::numbers;
use crate::{Granularity, Grid, QuantError};

/// Evenly spaced values: $y = s\,(q - z)$ with codes $q$ on a grid, one $s$ and $z$ for each block. This is what integer arithmetic needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Lattice {
    /// The codes.
    pub grid: Grid,
    /// Which elements share a scale; axis 0 is that of output channels.
    pub granularity: Granularity,
    /// One scale for each block.
    pub scale: Vec<f32>,
    /// One code of zero for each block.
    pub zero_point: Vec<i32>,
}

impl Lattice {
    fn symmetric(grid: Grid, granularity: Granularity, scale: Vec<f32>) -> Self {
        let zero_point = vec![0; scale.len()];
        Self { grid, granularity, scale, zero_point }
    }
}

impl Site {
    /// The lattice on which the values lie, as the graph's parameters have it now, or none where levels are not evenly spaced: TTQ, powers of two,
    /// ABC-Net's sums, and DoReFa's weights of 8 bits, which would need nine.
    ///
    /// # Errors
    /// [`QuantError::Plan`] for a weight that is computed by other nodes than masks.
    pub fn lattice(&self, graph: &Graph) -> Result<Option<Lattice>, QuantError> {
        let device = host();
        let mut parameters = Vec::new();
        for &id in &self.parameters {
            let data = held(graph, id)?;
            parameters.push(match (data.shape().len(), self.weight) {
                (1, _) | (_, None) => Tensor::<1>::from_data(data, &device).into(),
                _ => rows(&data, self.turned, &device).into(),
            });
        }
        let weight =
            self.weight.map(|_| Ok::<_, QuantError>(rows(&held(graph, self.source)?, self.turned, &device)));
        self.quantizer.lattice(&parameters, weight.transpose()?)
    }
}

/// The tensor of a parameter, times its mask.
pub(super) fn held(graph: &Graph, id: NodeId) -> Result<TensorData, QuantError> {
    let node = graph.node(id)?;
    if let Some(value) = graph.value(id) {
        return Ok((**value).clone());
    }
    match (node.op(), node.inputs()) {
        (Op::Binary(Binary::Mul), &[a, b]) => {
            let (a, b) = (held(graph, a)?, held(graph, b)?);
            let product = a.iter::<f32>().zip(b.iter::<f32>()).map(|(a, b)| a * b).collect();
            Ok(TensorData::new(product, a.shape().clone()))
        }
        (op, _) => {
            let why = format!("is computed by {}: materialise it first", op.word());
            Err(QuantError::Plan { name: node.name().to_owned(), why })
        }
    }
}

/// A weight as `[out, elements]`.
fn rows(data: &TensorData, turned: bool, device: &Device) -> Tensor<2> {
    let shape = data.shape();
    let elements: usize = shape.iter().product();
    let channels = shape.get(usize::from(turned)).copied().unwrap_or(1).max(1);
    let flat = Tensor::<1>::from_data(TensorData::new(data.iter::<f32>().collect(), [elements]), device);
    if turned {
        // Axis 1 to the front, the order of the others as it is.
        let first = shape.first().copied().unwrap_or(1);
        let rest = elements / (first * channels).max(1);
        return flat.reshape([first, channels, rest]).swap_dims(0, 1).reshape([channels, first * rest]);
    }
    flat.reshape([channels, elements / channels])
}

impl Quantizer {
    /// The lattice for these parameters. Scales of binary and ternary weights follow from the `weight`, `[out, elements]`.
    fn lattice(
        &self,
        parameters: &[Value],
        weight: Option<Tensor<2>>,
    ) -> Result<Option<Lattice>, QuantError> {
        let p = |index| numbers("a scale", vector(parameters, index)?.detach());
        let channels = Granularity::Channel { axis: 0 };
        Ok(match self {
            Quantizer::Uniform(uniform) => Some(Lattice {
                grid: uniform.grid,
                granularity: uniform.granularity,
                scale: p(0)?,
                zero_point: p(1)?.into_iter().map(|code| code as i32).collect(),
            }),
            Quantizer::Lsq(lsq) => Some(Lattice::symmetric(lsq.grid, lsq.granularity, p(0)?)),
            Quantizer::Pact(pact) => {
                let grid = Grid::unsigned(pact.bits())?;
                let scale = p(0)?.into_iter().map(|clip| clip / grid.max() as f32).collect();
                Some(Lattice::symmetric(grid, Granularity::Tensor, scale))
            }
            Quantizer::DorefaActivation(method) => {
                let grid = Grid::unsigned(method.bits)?;
                Some(Lattice::symmetric(grid, Granularity::Tensor, vec![1.0 / grid.max() as f32]))
            }
            // Odd multiples of 1/n.
            Quantizer::DorefaWeight(method) if (2..8).contains(&method.bits) => {
                let n = Grid::unsigned(method.bits)?.max();
                Some(Lattice::symmetric(Grid::new(-n, n)?, Granularity::Tensor, vec![1.0 / n as f32]))
            }
            Quantizer::DorefaWeight(method) if method.bits == 1 => match weight {
                Some(weight) => {
                    let scale = numbers("a weight", weight.abs().mean())?;
                    Some(Lattice::symmetric(Grid::new(-1, 1)?, Granularity::Tensor, scale))
                }
                None => None,
            },
            Quantizer::BinaryConnect(_) | Quantizer::Sign(_) | Quantizer::SttnActivation(_) => {
                Some(Lattice::symmetric(Grid::new(-1, 1)?, Granularity::Tensor, vec![1.0]))
            }
            Quantizer::Sibnn(SibnnActivation { .. }) => {
                Some(Lattice::symmetric(Grid::unsigned(1)?, Granularity::Tensor, vec![1.0]))
            }
            Quantizer::Xnor(xnor) => match weight {
                Some(weight) => {
                    let scale = numbers("a weight", xnor.scale(weight))?;
                    Some(Lattice::symmetric(Grid::new(-1, 1)?, channels, scale))
                }
                None => None,
            },
            Quantizer::SttnWeight(_) => match (weight, parameters.first()) {
                (Some(weight), Some(_)) => {
                    let second: Tensor<2> = tensor(parameters, 0)?;
                    let scale = (weight.abs() + second.abs()).mean_dim(1);
                    Some(Lattice::symmetric(Grid::new(-1, 1)?, channels, numbers("a weight", scale)?))
                }
                _ => None,
            },
            Quantizer::Twn(twn) => match weight {
                Some(weight) => {
                    let scale = match twn.scaled {
                        true => numbers("a weight", twn.threshold_and_scale(weight)?.1)?,
                        false => vec![1.0; twn.granularity.blocks(&weight.dims())?],
                    };
                    Some(Lattice::symmetric(Grid::new(-1, 1)?, twn.granularity, scale))
                }
                None => None,
            },
            _ => None,
        })
    }
}
