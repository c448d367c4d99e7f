//! The parameters that quantisers keep beside a tensor, and where they start.

use burn::tensor::{Device, Tensor};
use kd_graph::{Role, Value};

use super::Quantizer;
use crate::observer::Observer;
use crate::power::Apot;
use crate::{LEAST_STEP, Pact, QuantError};

impl Quantizer {
    /// Names and roles of the parameters beside the tensor, in the order in which the node reads them: `fc.weight_scale`, `relu.scale`.
    pub fn parameters(&self) -> &'static [(&'static str, Role)] {
        match self {
            Quantizer::Uniform(_) => &[("scale", Role::Buffer), ("zero_point", Role::Buffer)],
            Quantizer::Lsq(_) => &[("scale", Role::Weight)],
            Quantizer::Pact(_) | Quantizer::ApotWeight(_) | Quantizer::ApotActivation(_) => {
                &[("clip", Role::Weight)]
            }
            Quantizer::AbcActivation(_) => &[("shifts", Role::Weight), ("scales", Role::Weight)],
            Quantizer::SttnWeight(_) => &[("second", Role::Weight)],
            Quantizer::Ttq(_) => &[("positive", Role::Weight), ("negative", Role::Weight)],
            _ => &[],
        }
    }

    /// Where they start for a tensor: a weight with its output channels in front, or an activation's first batch.
    ///
    /// # Errors
    /// [`QuantError`] for a tensor that is not finite, or that can't be cut into blocks.
    pub fn initial<const D: usize>(&self, x: Tensor<D>) -> Result<Vec<Value>, QuantError> {
        let device = x.device();
        Ok(match self {
            Quantizer::Uniform(uniform) => {
                let mut observer = uniform.observer()?;
                observer.observe(x)?;
                let (scale, zero_point) = uniform.parameters(&observer)?.tensors(&device);
                vec![scale.into(), zero_point.into()]
            }
            Quantizer::Lsq(lsq) => {
                // Refuses what is not finite: a step of infinity would never recover.
                crate::data::finite("the tensor to quantise", x.clone())?;
                vec![lsq.initial_step(x)?.into()]
            }
            Quantizer::Pact(_) => vec![full(Pact::INITIAL, &device)],
            // The authors' starting points.
            Quantizer::ApotWeight(_) => vec![full(3.0, &device)],
            Quantizer::ApotActivation(_) => vec![full(8.0, &device)],
            Quantizer::Ttq(ttq) => ttq.initial_scales(x).map(Value::from).to_vec(),
            Quantizer::SttnWeight(_) => {
                // Of the other sign where the weight is small, so that the two add up to zero there.
                let threshold = (x.clone().abs().mean() * SMALL).reshape([1; D]).expand(x.dims());
                let small = x.clone().abs().lower(threshold);
                vec![x.clone().mask_where(small, -x).into()]
            }
            Quantizer::AbcActivation(abc) => {
                // Thresholds spread over the clipped range: 1/2 - v from 0 to 1, scales that add up to one.
                let count = abc.bases as f32;
                let shift = |i: usize| 0.5 - (i as f32 + 0.5) / count;
                let shifts: Vec<f32> = (0..abc.bases).map(shift).collect();
                let scales = vec![1.0 / count; abc.bases];
                [shifts, scales]
                    .map(|values| crate::data::tensor(values, [abc.bases], &device).into())
                    .to_vec()
            }
            _ => Vec::new(),
        })
    }

    /// The tensor after an optimizer step, as the method wants it: binary networks clip the real weights, say.
    pub fn project<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Quantizer::BinaryConnect(method) => method.project(x),
            Quantizer::Xnor(method) => method.project(x),
            Quantizer::SttnWeight(method) => method.project(x),
            Quantizer::PowerOfTwo(method) => method.project(x),
            _ => x,
        }
    }

    /// Parameter number `index` of [`parameters`](Self::parameters) after an optimizer step: scales stay positive.
    pub fn project_parameter<const D: usize>(&self, index: usize, parameter: Tensor<D>) -> Tensor<D> {
        match self {
            Quantizer::Lsq(_)
            | Quantizer::Pact(_)
            | Quantizer::ApotWeight(_)
            | Quantizer::ApotActivation(_)
            | Quantizer::Ttq(_) => parameter.clamp_min(LEAST_STEP),
            Quantizer::SttnWeight(method) => method.project(parameter),
            Quantizer::AbcActivation(_) if index == 1 => parameter.clamp_min(LEAST_STEP),
            _ => parameter,
        }
    }

    /// The additive powers of two behind, if it is those.
    pub(super) fn apot(&self) -> Result<Option<Apot>, QuantError> {
        match self {
            Quantizer::ApotWeight(apot) => Apot::weight(apot.bits).map(Some),
            Quantizer::ApotActivation(apot) => Apot::activation(apot.bits).map(Some),
            _ => Ok(None),
        }
    }
}

/// Below how many means of the magnitude a soft-threshold ternary weight starts at zero: the threshold of ternary weight networks.
const SMALL: f32 = 0.7;

fn full(value: f32, device: &Device) -> Value {
    Tensor::<1>::full([1], value, device).into()
}
