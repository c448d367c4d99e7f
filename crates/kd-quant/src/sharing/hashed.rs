//! HashedNets: a matrix whose elements are drawn from few parameters by a hash.

use burn::tensor::{Int, Tensor};
use kd_graph::Scalar;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash32;

use crate::QuantError;
use crate::data::tensor;
use crate::error::in_range;

/// A linear layer whose weight is hashed: $W_{ij} = \xi(i, j)\,w_{h(i,j)}$.
///
/// $h$ is the xxh32 of the eight bytes of $i$ and $j$ (32 bits each, little-endian) modulo the number of parameters; $\xi = \pm 1$ is the lowest bit of
/// another such hash, 1 for $-1$. Collisions then cancel on average. The matrix is made in tiles of output rows while it is used.
///
/// Chen et al., *Compressing Neural Networks with the Hashing Trick*, ICML 2015.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::sharing::Hashed;
///
/// let device = Device::flex();
/// let layer = Hashed::new(3, 5, 4)?;
/// let w = Tensor::from_floats([0.1, 0.2, 0.3, 0.4], &device);
/// assert_eq!(layer.linear(Tensor::ones([2, 3], &device), w)?.dims(), [2, 5]);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hashed {
    inputs: usize,
    outputs: usize,
    parameters: usize,
    #[serde(default)]
    seed: u32,
    #[serde(default = "tile")]
    tile: usize,
}

fn tile() -> usize {
    64
}

impl Hashed {
    /// From `inputs` to `outputs` numbers by `parameters` parameters, with seed 0 and tiles of 64 rows.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless all are positive and at most $2^{32}$.
    pub fn new(inputs: usize, outputs: usize, parameters: usize) -> Result<Self, QuantError> {
        for (key, value) in [("inputs", inputs), ("outputs", outputs), ("parameters", parameters)] {
            in_range(key, value, value > 0 && u32::try_from(value).is_ok(), "positive, below 2^32")?;
        }
        Ok(Self { inputs, outputs, parameters, seed: 0, tile: tile() })
    }

    /// With another seed.
    pub fn with_seed(self, seed: u32) -> Self {
        Self { seed, ..self }
    }

    /// With tiles of so many output rows, at least one.
    pub fn with_tile(self, rows: usize) -> Self {
        Self { tile: rows.max(1), ..self }
    }

    /// Which parameter element (`row`, `column`) of the `[outputs, inputs]` matrix is, and its sign.
    pub fn element(&self, row: usize, column: usize) -> (usize, f32) {
        let mut key = [0; 8];
        let (high, low) = key.split_at_mut(4);
        high.copy_from_slice(&(row as u32).to_le_bytes());
        low.copy_from_slice(&(column as u32).to_le_bytes());
        let index = XxHash32::oneshot(self.seed, &key) as usize % self.parameters.max(1);
        let sign = XxHash32::oneshot(self.seed ^ 0x5bd1_e995, &key) & 1;
        (index, if sign == 1 { -1.0 } else { 1.0 })
    }

    /// Rows `from..to` of the matrix, `[to - from, inputs]`, on the tape if the parameters are.
    fn rows(&self, parameters: &Tensor<1>, from: usize, to: usize) -> Tensor<2> {
        let elements = (from..to).flat_map(|row| (0..self.inputs).map(move |column| (row, column)));
        let (indices, signs): (Vec<i64>, Vec<f32>) = elements
            .map(|(row, column)| self.element(row, column))
            .map(|(index, sign)| (index as i64, sign))
            .unzip();
        let device = parameters.device();
        let shape = [to - from, self.inputs];
        let indices = Tensor::<1, Int>::from_ints(indices.as_slice(), &device);
        parameters.clone().select(0, indices).reshape(shape) * tensor(signs, shape, &device)
    }

    /// The whole matrix, `[outputs, inputs]`.
    ///
    /// # Errors
    /// [`QuantError::Length`] for another number of parameters.
    pub fn weight(&self, parameters: &Tensor<1>) -> Result<Tensor<2>, QuantError> {
        self.check(parameters)?;
        Ok(self.rows(parameters, 0, self.outputs))
    }

    /// $x W^\top$, tile by tile. `x [batch, inputs]`, result `[batch, outputs]`.
    ///
    /// # Errors
    /// [`QuantError::Length`] for another number of parameters; [`QuantError::Shape`] for another number of inputs.
    pub fn linear(&self, x: Tensor<2>, parameters: Tensor<1>) -> Result<Tensor<2>, QuantError> {
        self.check(&parameters)?;
        if x.dims()[1] != self.inputs {
            let wanted = format!("[batch, {}]", self.inputs);
            return Err(QuantError::Shape { what: "the input", got: x.dims().to_vec(), wanted });
        }
        let tile = self.tile.max(1);
        let of_tile = |from: usize| {
            let to = (from + tile).min(self.outputs);
            x.clone().matmul(self.rows(&parameters, from, to).transpose())
        };
        Ok(Tensor::cat((0..self.outputs).step_by(tile).map(of_tile).collect(), 1))
    }

    /// All settings, as numbers.
    pub(super) fn attributes(&self) -> [usize; 5] {
        [self.inputs, self.outputs, self.parameters, self.seed as usize, self.tile]
    }

    /// The way back from [`attributes`](Self::attributes).
    pub(super) fn from_attributes(attributes: &[Scalar]) -> Option<Self> {
        let number = |scalar: &Scalar| match scalar {
            Scalar::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        };
        let numbers: Vec<usize> = attributes.iter().map(number).collect::<Option<_>>()?;
        let [inputs, outputs, parameters, seed, tile] = numbers.try_into().ok()?;
        let hashed = Self::new(inputs, outputs, parameters).ok()?;
        Some(hashed.with_seed(u32::try_from(seed).ok()?).with_tile(tile))
    }

    fn check(&self, parameters: &Tensor<1>) -> Result<(), QuantError> {
        let (got, wanted) = (parameters.dims()[0], self.parameters);
        if got == wanted { Ok(()) } else { Err(QuantError::Length { what: "the parameters", got, wanted }) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_hash_is_xxh32() {
        assert_eq!(XxHash32::oneshot(0, b""), 0x02cc_5d05);
        assert_eq!(XxHash32::oneshot(0, b"abc"), 0x32d1_53ff);
    }

    #[test]
    fn tiles_give_the_whole_and_parameters_sum_their_gradients() {
        let device = Device::flex().autodiff();
        let layer = Hashed::new(7, 5, 6).unwrap().with_tile(2).with_seed(3);
        let w = Tensor::<1>::from_floats([0.1, -0.4, 0.3, 0.9, -1.0, 0.2], &device).require_grad();
        let x = Tensor::<2>::from_floats([[1.0, 2.0, -1.0, 0.5, 0.0, 3.0, 1.5]], &device);
        let whole = x.clone().matmul(layer.weight(&w).unwrap().transpose());
        let tiled = layer.linear(x.clone(), w.clone()).unwrap();
        let difference = (whole - tiled.clone()).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-6, "{difference}");

        let gradient = w.grad(&tiled.sum().backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
        let x = x.into_data().try_to_vec::<f32>().unwrap();
        let mut wanted = [0.0_f32; 6];
        for row in 0..5 {
            for (column, x) in x.iter().enumerate() {
                let (index, sign) = layer.element(row, column);
                wanted[index] += sign * x;
            }
        }
        for (g, w) in gradient.iter().zip(wanted) {
            assert!((g - w).abs() < 1e-5, "{gradient:?} {wanted:?}");
        }
    }

    #[test]
    fn wrong_sizes_are_errors() {
        let device = Device::flex();
        let layer = Hashed::new(3, 5, 4).unwrap();
        assert!(layer.linear(Tensor::ones([2, 4], &device), Tensor::ones([4], &device)).is_err());
        assert!(layer.linear(Tensor::ones([2, 3], &device), Tensor::ones([5], &device)).is_err());
        assert!(Hashed::new(0, 5, 4).is_err());
    }
}
