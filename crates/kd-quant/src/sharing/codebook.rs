//! A weight as codes and a trained codebook.

use burn::tensor::{Device, Int, Tensor};

use super::{Clusters, KMeans};
use crate::data::{numbers, tensor};
use crate::{Grid, QuantError};

/// A weight whose non-zero elements take one of a few trained values (Deep Compression, stage 2).
///
/// Zeros are no cluster: a pruned weight stays pruned, so `k` centroids give up to `k + 1` values. The gradient of a centroid is the sum over the weights
/// that share it.
///
/// Han et al., *Deep Compression*, ICLR 2016.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kd_quant::sharing::Codebook;
///
/// let w = Tensor::<1>::from_floats([0.0, 1.0, 1.2, -0.9], &Device::flex());
/// let book = Codebook::fit(&w, 1)?;
/// let shared = book.weight(book.centroids(&w.device()), [4])?.into_data().try_to_vec::<f32>().unwrap_or_default();
/// assert_eq!(shared, [0.0, 1.1, 1.1, -0.9]);
/// # Ok::<(), kd_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Codebook {
    clusters: Clusters,
    /// The centroid of every element, or none for a zero.
    codes: Vec<Option<u32>>,
}

impl Codebook {
    /// $2^b$ centroids fitted to the non-zero elements, from an even start.
    ///
    /// # Errors
    /// [`QuantError::Setting`] unless `bits` is from 1 to 8, else as [`KMeans::fit`].
    pub fn fit<const D: usize>(w: &Tensor<D>, bits: u32) -> Result<Self, QuantError> {
        let clusters = Grid::unsigned(bits)?.max() as usize + 1;
        Self::fit_by(w, KMeans::new(clusters))
    }

    /// As [`fit`](Self::fit), by a k-means of one's own.
    ///
    /// # Errors
    /// As [`KMeans::fit`].
    pub fn fit_by<const D: usize>(w: &Tensor<D>, kmeans: KMeans) -> Result<Self, QuantError> {
        Self::of(&numbers("the weight to share", w.clone().detach())?, kmeans)
    }

    /// As [`fit_by`](Self::fit_by), of plain numbers.
    ///
    /// # Errors
    /// As [`KMeans::fit`].
    pub fn of(values: &[f32], kmeans: KMeans) -> Result<Self, QuantError> {
        let kept: Vec<f32> = values.iter().copied().filter(|&v| v != 0.0).collect();
        let clusters = kmeans.fit(&kept)?;
        let mut assigned = clusters.assignment.iter();
        let code = |v: &f32| if *v == 0.0 { None } else { assigned.next().map(|&c| c as u32) };
        let codes = values.iter().map(code).collect();
        Ok(Self { clusters, codes })
    }

    /// What k-means found of the non-zero elements.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// The centroid of every element, row-major, or none for a zero.
    pub fn codes(&self) -> &[Option<u32>] {
        &self.codes
    }

    /// The centroids as a parameter to train, `[k]`.
    pub fn centroids(&self, device: &Device) -> Tensor<1> {
        let values: Vec<f32> = self.clusters.centroids.iter().map(|&c| c as f32).collect();
        let len = values.len();
        tensor(values, [len], device)
    }

    /// The weight of these centroids, on the tape if they are.
    ///
    /// # Errors
    /// [`QuantError::Length`] for another number of centroids or a shape of another number of elements.
    pub fn weight<const D: usize>(
        &self,
        centroids: Tensor<1>,
        shape: [usize; D],
    ) -> Result<Tensor<D>, QuantError> {
        let count = |what, got, wanted| {
            if got == wanted { Ok(()) } else { Err(QuantError::Length { what, got, wanted }) }
        };
        count("the centroids", centroids.dims()[0], self.clusters.centroids.len())?;
        count("the weight's elements", shape.iter().product(), self.codes.len())?;
        let device = centroids.device();
        let codes: Vec<i64> = self.codes.iter().map(|code| i64::from(code.unwrap_or(0))).collect();
        let mask: Vec<f32> = self.codes.iter().map(|code| if code.is_some() { 1.0 } else { 0.0 }).collect();
        let mask = tensor(mask, [self.codes.len()], &device);
        let codes = Tensor::<1, Int>::from_ints(codes.as_slice(), &device);
        Ok((centroids.select(0, codes) * mask).reshape(shape))
    }

    /// Bytes of the codes, packed at the bits that centroids and the zero need, and of the codebook in f32.
    pub fn bytes(&self) -> usize {
        let values = self.clusters.centroids.len() + usize::from(self.codes.contains(&None));
        let bits = (usize::BITS - values.saturating_sub(1).leading_zeros()) as usize;
        (self.codes.len() * bits).div_ceil(8) + 4 * self.clusters.centroids.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_centroid_sums_the_gradients_of_the_weights_that_share_it() {
        let device = Device::flex().autodiff();
        let w = Tensor::<2>::from_floats([[0.0, 1.0, 1.2], [-0.9, -1.1, 0.0]], &device);
        let book = Codebook::fit(&w, 1).unwrap();
        let centroids = book.centroids(&device).require_grad();
        let upstream = Tensor::<2>::from_floats([[9.0, 1.0, 2.0], [3.0, 5.0, 9.0]], &device);
        let loss = (book.weight(centroids.clone(), [2, 3]).unwrap() * upstream).sum();
        let gradient = centroids.grad(&loss.backward()).unwrap();
        assert_eq!(gradient.into_data().try_to_vec::<f32>().unwrap(), [8.0, 3.0]);
    }

    #[test]
    fn bytes_are_those_of_packed_codes() {
        let device = Device::flex();
        let dense = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0], &device);
        assert_eq!(Codebook::fit(&dense, 2).unwrap().bytes(), 2 + 16);
        let pruned = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0, 0.0, 2.0, 3.0, 4.0], &device);
        assert_eq!(Codebook::fit(&pruned, 2).unwrap().bytes(), 3 + 16);
    }
}
