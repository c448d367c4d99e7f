//! What an integer network computes, node by node.

use burn::tensor::Device;
use kd_graph::NodeId;

use super::cell::{Cell, Codes, numbers};
use super::single::Single;
use crate::integer::epilogue::{Epilogue, Scales};
use crate::integer::{
    ConvCodes, Format, LinearCodes, PackedWeights, PoolCodes, Window, add, conv2d, matmul, max_pool2d,
    rescale, sum_pool2d,
};

/// One result.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The node that it is the result of.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What it reads.
    pub inputs: Vec<NodeId>,
    pub work: Work,
    /// What nobody reads any more.
    pub free: Vec<NodeId>,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A quantiser's own rule, on numbers.
    Quantise {
        rule: Single,
        format: Format,
    },
    /// From codes to codes, as bounds allow.
    Rescale {
        to: Format,
        least: i32,
        most: i32,
    },
    /// A convolution.
    Conv {
        product: Product,
        epilogue: Epilogue,
    },
    /// A linear layer.
    Linear {
        product: Product,
        epilogue: Epilogue,
    },
    /// A sum of codes of one scale.
    Add {
        epilogue: Epilogue,
    },
    /// A sum of codes of different scales, each brought to numbers in f32.
    AddRescaled {
        to: Format,
        least: i32,
        most: i32,
    },
    MaxPool {
        kernel: [usize; 2],
        window: Window,
    },
    /// Sums over windows; the epilogue divides.
    SumPool {
        kernel: [usize; 2],
        window: Window,
        epilogue: Epilogue,
    },
    /// An affine map of every channel.
    Affine {
        epilogue: Epilogue,
    },
    /// Codes of one scale, one after the other.
    Cat {
        axis: usize,
    },
    /// Codes kept within bounds: a rectifier.
    Bound {
        least: i32,
    },
    /// Movement of codes, done with their differences from zero, which floats hold exactly.
    Move {
        rule: Single,
    },
    /// An operation without integer form.
    Float {
        rule: Single,
    },
}

/// Products of codes, by definition or packed.
#[derive(Clone, Debug)]
pub(super) enum Product {
    Packed(PackedWeights),
    Reference { weight: Vec<i32>, shape: [usize; 4], bias: Vec<i32>, window: Window, groups: usize },
}

impl Product {
    fn conv(&self, x: &Codes) -> Result<(Vec<i32>, [usize; 4]), String> {
        let zero = x.format.codes.zero_point;
        let result = match self {
            Product::Packed(weights) => weights.conv2d(&x.values, x.images()?, zero),
            Product::Reference { weight, shape, bias, window, groups } => conv2d(&ConvCodes {
                x: &x.values,
                x_shape: x.images()?,
                x_zero: zero,
                w: weight,
                w_shape: *shape,
                w_zero: &[0],
                bias,
                window: *window,
                groups: *groups,
            }),
        };
        result.map_err(|error| error.to_string())
    }

    fn rows(&self, x: &Codes) -> Result<(Vec<i32>, usize), String> {
        let zero = x.format.codes.zero_point;
        match self {
            Product::Packed(weights) => {
                let y = weights.product(&x.values, zero).map_err(|error| error.to_string())?;
                Ok((y, weights.outputs()))
            }
            Product::Reference { weight, shape: [inputs, outputs, ..], bias, .. } => {
                let sizes = [x.values.len() / inputs, *inputs, *outputs];
                let mut y = matmul(&x.values, zero, weight, 0, sizes).map_err(|error| error.to_string())?;
                for row in y.chunks_mut((*outputs).max(1)) {
                    row.iter_mut().zip(bias).for_each(|(y, bias)| *y = y.wrapping_add(*bias));
                }
                Ok((y, *outputs))
            }
        }
    }
}

impl Work {
    pub fn run(&self, inputs: &[&Cell], device: &Device) -> Result<Cell, String> {
        let first = || inputs.first().copied().ok_or_else(|| "it reads nothing".to_owned());
        let x = || first()?.codes();
        let words = |error: crate::QuantError| error.to_string();
        Ok(match self {
            Work::Quantise { rule, format } => {
                let y = rule.run(vec![first()?.value(device)])?;
                // What it gives is on the lattice: the quotient is next to an integer.
                let Format { codes: LinearCodes { scale, zero_point }, .. } = *format;
                let code = |value: &f32| (value / scale).round_ties_even() as i32 + zero_point;
                let values = numbers(&y)?.iter().map(code).collect();
                Cell::Codes(Codes { values, shape: y.shape(), format: *format })
            }
            Work::Rescale { to, least, most } => {
                let Codes { values, shape, format } = x()?;
                let mut values = rescale(values, format.codes, to.codes, to.grid);
                values.iter_mut().for_each(|code| *code = (*code).clamp(*least, *most));
                Cell::Codes(Codes { values, shape: shape.clone(), format: *to })
            }
            Work::Conv { product, epilogue } => {
                let (y, shape) = product.conv(x()?)?;
                let finished = epilogue.apply(&y, shape[2] * shape[3]).map_err(words)?;
                Cell::finished(finished, shape.to_vec(), device)
            }
            Work::Linear { product, epilogue } => {
                let x = x()?;
                let (y, outputs) = product.rows(x)?;
                let finished = epilogue.apply(&y, 1).map_err(words)?;
                let mut shape = x.shape.clone();
                if let Some(last) = shape.last_mut() {
                    *last = outputs;
                }
                Cell::finished(finished, shape, device)
            }
            Work::Add { epilogue } => {
                let (a, b) = pair(inputs)?;
                let zero = a.format.codes.zero_point;
                let sums: Vec<i32> =
                    a.values.iter().zip(&b.values).map(|(a, b)| (a - zero) + (b - zero)).collect();
                let finished = epilogue.apply(&sums, pixels(&a.shape)).map_err(words)?;
                Cell::finished(finished, a.shape.clone(), device)
            }
            Work::AddRescaled { to, least, most } => {
                let (a, b) = pair(inputs)?;
                let (a_codes, b_codes) = ((&*a.values, a.format.codes), (&*b.values, b.format.codes));
                let mut values = add(a_codes, b_codes, to.codes, to.grid).map_err(words)?;
                values.iter_mut().for_each(|code| *code = (*code).clamp(*least, *most));
                Cell::Codes(Codes { values, shape: a.shape.clone(), format: *to })
            }
            Work::MaxPool { kernel, window } => {
                let x = x()?;
                let pool = PoolCodes { x: &x.values, x_shape: x.images()?, kernel: *kernel, window: *window };
                let (values, shape) = max_pool2d(&pool).map_err(words)?;
                Cell::Codes(Codes { values, shape: shape.to_vec(), format: x.format })
            }
            Work::SumPool { kernel, window, epilogue } => {
                let x = x()?;
                let pool = PoolCodes { x: &x.values, x_shape: x.images()?, kernel: *kernel, window: *window };
                let (sums, shape) = sum_pool2d(&pool, x.format.codes.zero_point).map_err(words)?;
                let finished = epilogue.apply(&sums, pixels(&shape)).map_err(words)?;
                Cell::finished(finished, shape.to_vec(), device)
            }
            Work::Affine { epilogue } => {
                let x = x()?;
                let zero = x.format.codes.zero_point;
                let differences: Vec<i32> = x.values.iter().map(|code| code - zero).collect();
                let finished = epilogue.apply(&differences, pixels(&x.shape)).map_err(words)?;
                Cell::finished(finished, x.shape.clone(), device)
            }
            Work::Cat { axis } => Cell::Codes(concatenate(inputs, *axis)?),
            Work::Bound { least } => {
                let Codes { values, shape, format } = x()?;
                let values = values.iter().map(|code| *code.max(least)).collect();
                Cell::Codes(Codes { values, shape: shape.clone(), format: *format })
            }
            Work::Move { rule } => {
                let x = x()?;
                let zero = x.format.codes.zero_point;
                let plain = Format { codes: LinearCodes { scale: 1.0, zero_point: zero }, ..x.format };
                let differences = Cell::Codes(Codes { format: plain, ..x.clone() });
                let y = rule.run(vec![differences.value(device)])?;
                let values = numbers(&y)?.iter().map(|difference| *difference as i32 + zero).collect();
                Cell::Codes(Codes { values, shape: y.shape(), format: x.format })
            }
            Work::Float { rule } => {
                Cell::Plain(rule.run(inputs.iter().map(|cell| cell.value(device)).collect())?)
            }
        })
    }
}

impl Work {
    /// The same on another device.
    pub fn moved_to(self, device: &Device) -> Self {
        match self {
            Work::Quantise { rule, format } => Work::Quantise { rule: rule.moved_to(device), format },
            Work::Move { rule } => Work::Move { rule: rule.moved_to(device) },
            Work::Float { rule } => Work::Float { rule: rule.moved_to(device) },
            integer => integer,
        }
    }
}

/// How many elements of a channel lie side by side: channels are in axis 1.
fn pixels(shape: &[usize]) -> usize {
    shape.iter().skip(2).product()
}

fn pair<'a>(inputs: &[&'a Cell]) -> Result<(&'a Codes, &'a Codes), String> {
    let [a, b] = inputs else { return Err(format!("a sum reads two tensors, not {}", inputs.len())) };
    let (a, b) = (a.codes()?, b.codes()?);
    if a.shape == b.shape {
        Ok((a, b))
    } else {
        Err(format!("{:?} and {:?} can't be added", a.shape, b.shape))
    }
}

fn concatenate(inputs: &[&Cell], axis: usize) -> Result<Codes, String> {
    let parts: Vec<&Codes> = inputs.iter().map(|cell| cell.codes()).collect::<Result<_, _>>()?;
    let Some(first) = parts.first() else { return Err("it reads nothing".to_owned()) };
    let outer: usize = first.shape.iter().take(axis).product();
    let rows = |part: &Codes| part.shape.iter().skip(axis).product::<usize>();
    let mut values = Vec::with_capacity(parts.iter().map(|part| part.values.len()).sum());
    for row in 0..outer {
        for part in &parts {
            let length = rows(part);
            values.extend(part.values.iter().skip(row * length).take(length));
        }
    }
    let mut shape = first.shape.clone();
    if let Some(size) = shape.get_mut(axis) {
        *size = parts.iter().filter_map(|part| part.shape.get(axis)).sum();
    }
    Ok(Codes { values, shape, format: first.format })
}

/// Accumulators of one scale.
pub(super) fn uniform(scale: f32) -> Scales {
    Scales { step: vec![scale], bias: Vec::new() }
}
