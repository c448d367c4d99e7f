//! What a quantiser's node computes.

use burn::tensor::Tensor;
use kd_graph::Value;

use super::Quantizer;
use crate::QuantError;
use crate::binary::AbcActivation;

impl Quantizer {
    /// The quantised tensor with the method's gradient. `x` is a weight with its output channels in front, or an activation; `parameters` are those
    /// of [`parameters`](Self::parameters).
    ///
    /// # Errors
    /// [`QuantError::Length`] for missing parameters, and what the method refuses.
    pub fn quantize<const D: usize>(
        &self,
        x: Tensor<D>,
        parameters: &[Value],
    ) -> Result<Tensor<D>, QuantError> {
        let p = |index| vector(parameters, index);
        Ok(match self {
            Quantizer::Uniform(method) => method.affine().quantize(x, p(0)?, p(1)?)?,
            Quantizer::Lsq(method) => method.quantize(x, p(0)?)?,
            Quantizer::Pact(method) => method.quantize(x, p(0)?)?,
            Quantizer::DorefaWeight(method) => method.quantize(x)?,
            Quantizer::DorefaActivation(method) => method.quantize(x)?,
            Quantizer::DorefaGradient(method) => method.pass(x)?,
            Quantizer::BinaryConnect(method) => method.quantize(x),
            Quantizer::Xnor(method) => method.quantize(x),
            Quantizer::Sign(method) => method.quantize(x),
            Quantizer::AbcWeight(method) => method.quantize(x)?,
            Quantizer::AbcActivation(_) => AbcActivation::default().quantize(x, p(0)?, p(1)?)?,
            Quantizer::Sibnn(method) => method.quantize(x),
            Quantizer::SttnWeight(method) => {
                let (first, second) = method.quantize_pair(x, tensor(parameters, 0)?)?;
                first + second
            }
            Quantizer::SttnActivation(method) => method.quantize(x),
            Quantizer::Twn(method) => method.quantize(x)?,
            Quantizer::Ttq(method) => method.quantize(x, p(0)?, p(1)?)?,
            Quantizer::PowerOfTwo(method) => method.quantize(x),
            Quantizer::ApotWeight(_) | Quantizer::ApotActivation(_) => match self.apot()? {
                Some(apot) => {
                    let weight = matches!(self, Quantizer::ApotWeight(_));
                    let x = if weight { apot.normalise(x) } else { x };
                    apot.quantize(x, p(0)?)?
                }
                None => x,
            },
            // No node of theirs is a quantiser.
            Quantizer::KMeans(_) | Quantizer::Hashed(_) | Quantizer::Adder(_) => x,
        })
    }
}

/// Parameter number `index`, a vector.
pub(super) fn vector(parameters: &[Value], index: usize) -> Result<Tensor<1>, QuantError> {
    tensor(parameters, index)
}

/// Parameter number `index`.
pub(super) fn tensor<const D: usize>(parameters: &[Value], index: usize) -> Result<Tensor<D>, QuantError> {
    let what = "the quantiser's parameters";
    let got = parameters.len();
    let value = parameters.get(index).ok_or(QuantError::Length { what, got, wanted: index + 1 })?;
    value.float().map_err(|error| QuantError::Run { why: error.to_string() })
}
